package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// TestBehind plays what a stream tells: b begins a transaction, k is a keepalive
// between two.
func TestBehind(t *testing.T) {
	for told, want := range map[string]bool{
		"":                    false,
		"b":                   false,
		"bbbbbbb":             false,
		"bbbbbbbb":            true,
		"bbbbbbbbbbb":         true,
		"bbbbbbbbk":           false,
		"kbbbbbbbb":           false, // the first had not been waiting
		"kbbbbbbbbb":          true,
		"kbkbkbkbkbkbkbkbkbk": false,
		"kbbkbbkbbkbbkbbkbb":  false,
		"bbbbbbbbkbbbbbbbb":   false,
		"bbbbbbbbkbbbbbbbbb":  true,
	} {
		var b behind
		for _, c := range told {
			if c == 'b' {
				b.begins()
			} else {
				b.caughtUp()
			}
		}
		if b.is() != want {
			t.Errorf("%q: it is behind: %t", told, b.is())
		}
	}
}

// lagging is a Sink that tells whether the server counted as behind: after each
// commit, and when there was nothing more.
type lagging struct {
	*recorder
	stream *Stream
	events chan lagged
}

type lagged struct{ committed, behind bool }

func (l *lagging) Commit(end viewlet.LSN) error {
	if l.begun == "" { // else nothing was in it
		l.events <- lagged{committed: true, behind: l.stream.behind.is()}
	}
	return l.recorder.Commit(end)
}

func (l *lagging) Idle(viewlet.LSN) { l.events <- lagged{behind: l.stream.behind.is()} }

// TestBehindIsTold: a server counts as behind while it streams what waited for it,
// and no more once it has, nor for single commits of several rows.
func TestBehindIsTold(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	db.publish(t, db.cfg(), "v")
	const waiting, single = 50, 20
	db.sql.exec(fmt.Sprintf("DO $$ BEGIN FOR i IN 1..%d LOOP INSERT INTO v VALUES (i); COMMIT; END LOOP; END $$", waiting))
	s, err := Open(t.Context(), db.cfg())
	if err != nil {
		t.Fatal(err)
	}
	sink := &lagging{recorder: newRecorder(), stream: s, events: make(chan lagged, 1<<16)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, sink) }()
	await := func(committed bool) (behind bool) {
		t.Helper()
		late := time.After(patience)
		for {
			select {
			case e := <-sink.events:
				if e.committed == committed {
					return e.behind
				}
			case <-late:
				t.Fatalf("waited in vain for a commit (%t), or that there is none", committed)
			}
		}
	}
	behind := false
	for range waiting {
		behind = await(true)
	}
	if !behind {
		t.Errorf("the server was not behind after %d transactions", waiting)
	}
	for i := range single {
		if await(false) {
			t.Error("the server is behind with nothing")
		}
		db.sql.exec(fmt.Sprintf("INSERT INTO v SELECT generate_series(%d, %d)", 1000*i+1000, 1000*i+1000+several))
		if await(true) {
			t.Errorf("the server was behind at single commit %d", i)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestReadsTogetherWhileBehind has a server send frames, and wants the read after
// them to be after a nap if they tell that it is behind.
func TestReadsTogetherWhileBehind(t *testing.T) {
	begin := "B" + strings.Repeat("\x00", 16) + "\x00\x00\x00\x01"
	commit := "C" + strings.Repeat("\x00", 25)
	transaction := frame("w"+strings.Repeat("\x00", 24)+begin) + frame("w"+strings.Repeat("\x00", 24)+commit)
	keepalive := frame("k" + strings.Repeat("\x00", 17))
	waiting := strings.Repeat(transaction, several)
	long := "d\x00\x01\x00\x00" // the head of a message of 64 KiB, and no more of it
	late := make(chan struct{})
	for _, c := range []struct {
		name   string
		frames string // at once, which one read takes
		next   func(send func(string))
		naps   bool
		behind bool // after the next read
	}{
		{"behind", waiting, func(send func(string)) { send(transaction) }, true, true},
		{"one short of that", waiting[len(transaction):], func(send func(string)) { send(keepalive) }, false, false},
		{"caught up", waiting + keepalive, func(send func(string)) { send(transaction) }, false, false},
		{"behind, within a long message", waiting + long, func(send func(string)) { send("x") }, false, true},
		{"behind, and then nothing", waiting, func(func(string)) {}, true, false},
		{"behind, and then nothing for a while", waiting, func(send func(string)) {
			go func() { time.Sleep(5 * lately); send(transaction); close(late) }()
		}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := loopback(t)
			send := func(frames string) {
				if _, err := far.Write([]byte(frames)); err != nil {
					t.Error(err)
				}
			}
			s := &Stream{wire: newWire(near), silence: time.Minute, interval: time.Hour, heard: time.Now(), sentAt: time.Now()}
			s.in = newFrames(s.wire)
			s.wire.stream()
			read := func(n int) {
				t.Helper()
				for before := s.in.w - s.in.r; s.in.w-s.in.r < before+n; {
					if err := s.read(); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.deliver(t.Context(), newRecorder()); err != nil {
					t.Fatal(err)
				}
			}
			send(c.frames)
			read(len(c.frames))
			c.next(send)
			if err := s.read(); err != nil {
				t.Fatal(err)
			}
			if naps := s.wire.gather.breath > 0; naps != c.naps {
				t.Errorf("it napped: %t", naps)
			}
			if err := s.deliver(t.Context(), newRecorder()); err != nil {
				t.Fatal(err)
			}
			if s.behind.is() != c.behind {
				t.Errorf("the server is behind after that: %t", s.behind.is())
			}
			if first := s.wire.gather.breath; c.naps && c.behind {
				send(transaction)
				if err := s.read(); err != nil {
					t.Fatal(err)
				}
				if s.wire.gather.breath == first {
					t.Error("it did not nap again")
				}
			}
		})
	}
	<-late
}

// frame is a CopyData message.
func frame(body string) string {
	return "d" + string(binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))) + body
}

// TestBacklogIsNotLeftWaiting: a nap that brought much is the last until the server
// has caught up, on a socket of any kind.
func TestBacklogIsNotLeftWaiting(t *testing.T) {
	var g gather
	rest := func(behind bool) bool {
		g.breath = 0
		g.rest(behind)
		return g.breath > 0
	}
	for i, c := range []struct {
		behind bool
		brings int
		naps   bool
	}{
		{true, deep - 1, true},
		{true, deep, true},
		{true, deep, false},
		{true, 100, false},
		{false, 100, false},
		{true, 100, true},
		{false, deep, false},
		{true, 100, true}, // and there is more to read for the same above
	} {
		if naps := rest(c.behind); naps != c.naps {
			t.Errorf("before read %d it napped: %t", i, naps)
		}
		g.note(time.Now(), c.brings)
	}
	first := g.breath
	if g.rest(true); g.breath != first {
		t.Error("it napped twice for one read above")
	}
}
