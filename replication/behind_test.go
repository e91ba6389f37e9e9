package replication

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
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
// them to be after a nap if they tell that it is behind. In the bubble a nap takes
// just as long as it should.
func TestReadsTogetherWhileBehind(t *testing.T) {
	begin := "B" + strings.Repeat("\x00", 16) + "\x00\x00\x00\x01"
	commit := "C" + strings.Repeat("\x00", 25)
	transaction := frame("w"+strings.Repeat("\x00", 24)+begin) + frame("w"+strings.Repeat("\x00", 24)+commit)
	keepalive := frame("k" + strings.Repeat("\x00", 17))
	waiting := strings.Repeat(transaction, several)
	long := "d\x00\x01\x00\x00" // the head of a message of 64 KiB, and no more of it
	for _, c := range []struct {
		name   string
		frames string
		after  time.Duration // until next is sent
		next   string        // nothing: that never comes
		naps   bool
		behind bool // after the next read
	}{
		{"behind", waiting, 0, transaction, true, true},
		{"one short of that", waiting[len(transaction):], 0, keepalive, false, false},
		{"caught up", waiting + keepalive, 0, transaction, false, false},
		{"behind, within a long message", waiting + long, 0, "x", false, true},
		{"behind, and then nothing", waiting, 0, "", true, false},
		{"behind, and then nothing for a while", waiting, breath + lately + 1, transaction, true, false},
		{"behind, and the nap is not counted as silence", waiting, breath + lately, transaction, true, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			s := &Stream{wire: newWire(near), silence: time.Minute, interval: time.Hour, heard: time.Now(), sentAt: time.Now()}
			s.in = newFrames(s.wire)
			s.wire.stream()
			// read is one read of what is sent after so long, and gives how long that took.
			read := func(after time.Duration, frames string) time.Duration {
				t.Helper()
				start, sent := time.Now(), make(chan error, 1)
				go func() {
					if time.Sleep(after); frames == "" {
						sent <- nil
						return
					}
					_, err := far.Write([]byte(frames))
					sent <- err
				}()
				if err := cmp.Or(s.read(), <-sent); err != nil {
					t.Fatal(err)
				}
				if err := s.deliver(t.Context(), newRecorder()); err != nil {
					t.Fatal(err)
				}
				return time.Since(start)
			}
			read(0, c.frames)
			took := read(c.after, c.next)
			if naps := s.wire.gather.breath > 0; naps != c.naps {
				t.Errorf("%s: it napped: %t", c.name, naps)
			}
			if c.after == 0 && c.next != "" && (took == breath) != c.naps {
				t.Errorf("%s: what was there was read after %s", c.name, took)
			}
			if s.behind.is() != c.behind {
				t.Errorf("%s: the server is behind after that: %t", c.name, s.behind.is())
			}
			if c.naps && c.behind {
				if took := read(0, transaction); took != breath {
					t.Errorf("%s: what came then was read after %s", c.name, took)
				}
			}
		})
	}
}

// frame is a CopyData message.
func frame(body string) string {
	return "d" + string(binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))) + body
}

// TestBacklogIsNotLeftWaiting: a nap that brought much is the last until the server
// has caught up, on a socket of any kind.
func TestBacklogIsNotLeftWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gather
		took := func(behind bool) time.Duration {
			start := time.Now()
			g.rest(behind)
			return time.Since(start)
		}
		for i, c := range []struct {
			behind bool
			brings int
			nap    time.Duration
		}{
			{true, deep - 1, breath},
			{true, deep, breath},
			{true, deep, 0},
			{true, 100, 0},
			{false, 100, 0},
			{true, 100, breath},
			{false, deep, 0},
			{true, 100, breath}, // and there is more to read for the same above
		} {
			g.breath = 0
			if nap := took(c.behind); nap != c.nap {
				t.Errorf("before read %d it napped for %s", i, nap)
			}
			g.note(time.Now(), c.brings)
		}
		if nap := took(true); nap != 0 {
			t.Errorf("it napped twice for one read above, %s then", nap)
		}
	})
}
