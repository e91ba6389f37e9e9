package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// recorder is a Sink that writes down what it is given, a line each. It leaves
// out transactions in which nothing is published: Postgres 14 tells of them.
type recorder struct {
	begun   string // the transaction's line, until something comes of it
	lines   chan string
	commits chan viewlet.LSN
	idle    atomic.Uint64
	confirm func(viewlet.LSN) // of an idle server's position; nil: it is not confirmed
	rels    []*viewlet.Relation

	mu   sync.Mutex
	room chan struct{} // nil: there is room
}

func newRecorder() *recorder {
	return &recorder{lines: make(chan string, 1<<18), commits: make(chan viewlet.LSN, 1<<16)}
}

func (r *recorder) Begin(tx viewlet.Tx) {
	line := "begin"
	if tx.XID == 0 || tx.FinalLSN == 0 || time.Since(tx.Committed).Abs() > time.Hour {
		line = fmt.Sprintf("begin with a wrong head: %+v", tx)
	}
	r.begun = line
}

// write writes a line down, below that of its transaction.
func (r *recorder) write(line string) {
	if r.begun != "" {
		r.lines <- r.begun
		r.begun = ""
	}
	r.lines <- line
}

func (r *recorder) Change(c *viewlet.Change) error {
	line := c.Op.String() + " " + c.Rel.String()
	if c.Old != nil {
		line += " old" + tuple(c.Rel, c.Old)
	}
	if c.New != nil {
		line += " new" + tuple(c.Rel, c.New)
	}
	r.rels = append(r.rels, c.Rel)
	r.write(line)
	return nil
}

func (r *recorder) Message(m viewlet.Message) error {
	r.write(fmt.Sprintf("message %s %s", m.Prefix, m.Content))
	return nil
}

func (r *recorder) Commit(end viewlet.LSN) error {
	if r.begun != "" {
		r.begun = ""
		return nil
	}
	r.write("commit")
	r.commits <- end
	return nil
}

func (r *recorder) Idle(end viewlet.LSN) {
	r.idle.Store(uint64(end))
	if r.confirm != nil {
		r.confirm(end)
	}
}

func (r *recorder) Room() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.room == nil {
		return nil
	}
	return r.room
}

// block takes the room away, and gives what gives it back.
func (r *recorder) block() (unblock func()) {
	room := make(chan struct{})
	r.mu.Lock()
	r.room = room
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		r.room = nil
		r.mu.Unlock()
		close(room)
	}
}

// tuple shows a row: id=1 name=NULL body=unchanged; what is not sent is left out.
func tuple(rel *viewlet.Relation, row viewlet.Tuple) string {
	var b strings.Builder
	for i, v := range row {
		switch v.Kind {
		case viewlet.Text:
			fmt.Fprintf(&b, " %s=%s", rel.Columns[i].Name, v.Text)
		case viewlet.Null:
			fmt.Fprintf(&b, " %s=NULL", rel.Columns[i].Name)
		case viewlet.Unchanged:
			fmt.Fprintf(&b, " %s=unchanged", rel.Columns[i].Name)
		case viewlet.NotSent:
		}
	}
	return b.String()
}

// want waits for the lines, and nothing else before or between them.
func (r *recorder) want(t testing.TB, lines ...string) {
	t.Helper()
	deadline := time.After(patience)
	for _, want := range lines {
		select {
		case got := <-r.lines:
			if got != want {
				t.Fatalf("got  %.300s\nwant %.300s", got, want)
			}
		case <-deadline:
			t.Fatalf("waited in vain for: %.300s", want)
		}
	}
}

// commit waits for the end of the next transaction.
func (r *recorder) commit(t testing.TB) viewlet.LSN {
	t.Helper()
	select {
	case end := <-r.commits:
		return end
	case <-time.After(patience):
		t.Fatal("waited in vain for a commit")
		return 0
	}
}

// running is a Stream that runs.
type running struct {
	*Stream
	*recorder
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Run, once done is closed
}

// publish sets up a publication of the tables and the slot.
func (db *database) publish(t testing.TB, cfg Config, tables ...string) State {
	t.Helper()
	state, err := Setup(t.Context(), cfg, db.tables(t, tables...))
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func (db *database) tables(t testing.TB, names ...string) []viewlet.Table {
	t.Helper()
	var list []viewlet.Table
	for _, name := range names {
		found, err := Tables(t.Context(), db.sql.conn, []viewlet.TableName{{Name: name}})
		if err != nil || len(found) != 1 {
			t.Fatalf("Tables(%s) = %v, %v", name, found, err)
		}
		list = append(list, found[viewlet.TableName{Name: name}])
	}
	return list
}

// open opens a stream and runs it until the test ends.
func open(t testing.TB, cfg Config, sink *recorder) *running {
	t.Helper()
	return run(t, cfg, sink, false)
}

// openIdle is open, with the positions of an idle server confirmed.
func openIdle(t testing.TB, cfg Config) *running {
	t.Helper()
	return run(t, cfg, newRecorder(), true)
}

func run(t testing.TB, cfg Config, sink *recorder, confirm bool) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if confirm {
		sink.confirm = s.Confirm
	}
	r := &running{Stream: s, recorder: sink, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.Run(ctx, sink)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
	})
	return r
}

// ended waits until Run has returned, and gives its error.
func (r *running) ended(t testing.TB) error {
	t.Helper()
	select {
	case <-r.done:
		return r.err
	case <-time.After(patience):
		t.Fatal("waited in vain for the stream's end")
		return nil
	}
}

// stop ends the stream in order.
func (r *running) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	if err := r.ended(t); !errors.Is(err, context.Canceled) {
		t.Fatalf("Run = %v, want context.Canceled", err)
	}
}
