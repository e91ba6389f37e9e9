package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// TestBehind plays what a stream tells: b begins a transaction, k is a keepalive
// between two.
func TestBehind(t *testing.T) {
	for told, want := range map[string]bool{
		"":              false,
		"b":             false,
		"bbb":           false,
		"bbbb":          true,
		"bbbbbbb":       true,
		"bbbbbbbk":      false,
		"kbbbb":         false, // the first had not been waiting
		"kbbbbb":        true,
		"kbkbkbkbkbkbk": false,
		"kbbkbbkbbkbb":  false,
		"bbbbkbbbb":     false,
		"bbbbkbbbbb":    true,
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
// and no more once it has, nor for single commits.
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
		db.sql.exec(fmt.Sprintf("INSERT INTO v VALUES (%d)", 1000+i))
		if await(true) {
			t.Errorf("the server was behind at single commit %d", i)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestBreath has one end write small pieces, and wants the other to read many of
// them at once while it is told that the first is behind; on any kind of socket.
func TestBreath(t *testing.T) {
	const pieces, size = 20_000, 80
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	sent := make(chan error, 1)
	go func() {
		var err error
		for range pieces {
			_, failed := far.Write(make([]byte, size))
			err = cmp.Or(err, failed)
		}
		sent <- err
	}()
	w := newWire(near)
	w.stream()
	buf := make([]byte, frameBuffer)
	reads, taken := 0, 0
	for ; taken < pieces*size; reads++ {
		w.begin(false, true)
		n, err := w.Read(buf)
		if err != nil && !isTimeout(err) {
			t.Fatal(err)
		}
		taken += n
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if each := taken / reads; each < 20*size {
		t.Errorf("a read brought %d bytes of %d a piece", each, size)
	}
}
