package replication

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// markOf is the low-water mark that the socket has now.
func markOf(t testing.TB, raw syscall.RawConn) int {
	t.Helper()
	mark := 0
	var refused error
	err := raw.Control(func(fd uintptr) {
		mark, refused = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT)
	})
	if err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	return mark
}

// tripOf is the socket's shortest round trip so far.
func tripOf(t testing.TB, raw syscall.RawConn) (trip time.Duration) {
	t.Helper()
	var refused error
	err := raw.Control(func(fd uintptr) { trip, refused = roundTrip(fd) })
	if err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	return trip
}

// loopback is a connection over TCP to ourselves.
func loopback(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// TestLowMark plays reads at given times: a distant socket's mark rises under load
// alone, and falls when nothing comes in time.
func TestLowMark(t *testing.T) {
	type read struct {
		after time.Duration
		n     int
		nap   time.Duration // of that
	}
	many := func(count int, r read) []read {
		reads := make([]read, count)
		for i := range reads {
			reads[i] = r
		}
		return reads
	}
	for name, c := range map[string]struct {
		reads []read
		want  int
	}{
		"idle":                                    {many(100, read{after: time.Second, n: 200}), 1},
		"5,000 commits a second":                  {many(1000, read{after: 200 * time.Microsecond, n: 300}), 1},
		"as many, of which some come together":    {many(1000, read{after: 50 * time.Microsecond, n: 150}), 1},
		"row by row":                              {many(busy+1, read{after: 3 * time.Microsecond, n: 100}), highMark},
		"one short of load":                       {many(busy, read{after: 3 * time.Microsecond, n: 100}), 1},
		"a reader that is behind":                 {[]read{{after: time.Second, n: highMark / 2}}, highMark},
		"a large transaction's end":               {append(many(1000, read{after: 3 * time.Microsecond, n: 100}), read{after: lull, n: 0}), 1},
		"load, and what was there":                {append(many(1000, read{after: 3 * time.Microsecond, n: 100}), read{after: lull, n: 0}, read{after: time.Microsecond, n: highMark / 2}), highMark},
		"a server that is behind with little":     {many(1000, read{after: breath + instant, n: 3000, nap: breath}), 1},
		"a server that is behind with much":       {many(busy+2, read{after: breath + instant, n: 5000, nap: breath}), highMark},
		"as much, that was waited for in between": {many(busy+2, read{after: breath + 2*soon, n: 5000, nap: breath}), 1},
	} {
		near, _ := loopback(t)
		g := newGather(near)
		at := time.Now()
		for _, r := range c.reads {
			at, g.breath = at.Add(r.after), r.nap
			g.note(at, r.n)
		}
		if got := markOf(t, g.raw); got != c.want || g.on != (got > 1) {
			t.Errorf("%s: the mark is %d, want %d; on is %t", name, got, c.want, g.on)
		}
	}
}

// TestLowMarkWakes wants whoever polls the socket not to be woken below the
// mark, and to be as soon as it is lowered.
func TestLowMarkWakes(t *testing.T) {
	near, far := loopback(t)
	g := newGather(near)
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(poll)
	var refused error
	err = g.raw.Control(func(fd uintptr) {
		refused = syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, int(fd), &syscall.EpollEvent{Events: syscall.EPOLLIN})
	})
	if err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	wakes := func(within time.Duration) bool {
		n, err := syscall.EpollWait(poll, make([]syscall.EpollEvent, 1), int(within.Milliseconds()))
		if err != nil && err != syscall.EINTR {
			t.Fatal(err)
		}
		return n > 0
	}
	g.note(time.Now(), highMark)
	if _, err := far.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if wakes(20 * time.Millisecond) {
		t.Error("100 bytes wake the reader though the mark is high")
	}
	g.end()
	if !wakes(patience) {
		t.Error("what is there does not wake the reader though the mark is low")
	}
}

// TestNapsBringMuch has one end send row by row, as the walsender does, and wants
// the other to read many of them at once, and to be there at once when it is over.
func TestNapsBringMuch(t *testing.T) {
	const rows, size = 100_000, 80
	near, far := loopback(t)
	w := newWire(near)
	w.stream()
	g := &w.gather
	if g.measure(); !g.near {
		t.Skip("a round trip on this machine's loopback takes longer than near allows")
	}
	sent := make(chan error, 1)
	go func() {
		row := make([]byte, size)
		for range rows {
			if _, err := far.Write(row); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	buf := make([]byte, frameBuffer)
	reads, taken := 0, 0
	for ; taken < rows*size; reads++ {
		w.begin(false, false)
		n, err := w.Read(buf)
		if err != nil && !isTimeout(err) {
			t.Fatal(err)
		}
		taken += n
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if each := taken / reads; each < 10*size {
		t.Errorf("a read brought %d bytes of %d a row", each, size)
	}
	if !g.on {
		t.Error("it never napped")
	}
	for range vain {
		g.note(time.Now(), size)
		g.rest(false)
	}
	if g.on {
		t.Error("it naps for single rows")
	}
}

// watching is a Sink that notes whether bytes were ever let gather. It takes its
// first change only when much more has come: how soon one comes after the other
// depends on what else the machine does.
type watching struct {
	*counting
	gather *gather
	did    bool
}

func (w *watching) Change(c *viewlet.Change) error {
	late := time.After(time.Minute)
	for came := 0; w.n == 0 && came < highMark; {
		select {
		case <-late:
			return fmt.Errorf("no more than %d bytes came", came)
		case <-time.After(instant):
		}
		err := w.gather.socket(func(fd uintptr) (err error) {
			came, err = unread(fd)
			return err
		})
		if err != nil {
			return err
		}
	}
	w.did = w.did || w.gather.on
	return w.counting.Change(c)
}

// TestGatherFollowsTheLoad wants bytes to gather for a backlog, and not when that
// has been read.
func TestGatherFollowsTheLoad(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY, n int)")
	db.sql.exec("INSERT INTO v SELECT i, 0 FROM generate_series(1, 100000) i")
	db.publish(t, db.cfg(), "v")
	db.sql.exec("UPDATE v SET n = n + 1")
	cert, key := selfSigned(t)
	overTLS := db.cfg("sslmode", "require", "sslnegotiation", "direct")
	overTLS.URL = strings.Replace(overTLS.URL, fmt.Sprintf("127.0.0.1:%d", db.port), newTLSProxy(t, cert, key, fmt.Sprintf("127.0.0.1:%d", shared.port)), 1)
	for name, c := range map[string]struct {
		cfg  Config
		near bool
	}{
		"near": {db.cfg(), true}, "distant": {db.cfg(), false}, "near, TLS": {overTLS, true}, "distant, TLS": {overTLS, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if trip := tripOf(t, s.wire.gather.raw); s.wire.gather.near != (trip <= near) {
				t.Errorf("with a round trip of %s it counts as near: %t", trip, s.wire.gather.near)
			}
			s.wire.gather.near = c.near
			sink := &watching{counting: &counting{recorder: newRecorder(), done: make(chan struct{})}, gather: &s.wire.gather}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx, sink) }()
			select {
			case <-sink.done:
			case <-time.After(patience):
				t.Error("waited in vain for the transaction")
			}
			if !c.near {
				awaitLowMark(t, s.wire.gather.raw)
			}
			cancel()
			<-ended
			if sink.n != 100_000 || !sink.did || s.wire.gather.on {
				t.Errorf("%d rows came; bytes gathered: %t, and do so still: %t", sink.n, sink.did, s.wire.gather.on)
			}
		})
	}
}

func awaitLowMark(t testing.TB, raw syscall.RawConn) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.NewTicker(lull); markOf(t, raw) != 1; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the mark stays high on an idle stream")
		}
	}
}
