package replication

import (
	"context"
	"net"
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

// TestLowWater plays reads at given times: the mark rises under load alone, and
// falls when nothing comes in time.
func TestLowWater(t *testing.T) {
	type read struct {
		after time.Duration
		n     int
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
		"idle":                                 {many(100, read{time.Second, 200}), 1},
		"5,000 commits a second":               {many(1000, read{200 * time.Microsecond, 300}), 1},
		"as many, of which some come together": {many(1000, read{50 * time.Microsecond, 150}), 1},
		"row by row":                           {many(busy+1, read{3 * time.Microsecond, 100}), highMark},
		"one short of load":                    {many(busy, read{3 * time.Microsecond, 100}), 1},
		"a reader that is behind":              {[]read{{time.Second, highMark / 2}}, highMark},
		"a large transaction's end":            {append(many(1000, read{3 * time.Microsecond, 100}), read{lull, 0}), 1},
		"load, and what was there":             {append(many(1000, read{3 * time.Microsecond, 100}), read{lull, 0}, read{time.Microsecond, highMark / 2}), highMark},
	} {
		near, _ := loopback(t)
		low := newLowWater(near)
		at := time.Now()
		for _, r := range c.reads {
			at = at.Add(r.after)
			low.note(at, r.n)
		}
		if got := markOf(t, low.raw); got != c.want || low.high != (got > 1) {
			t.Errorf("%s: the mark is %d, want %d; high is %t", name, got, c.want, low.high)
		}
	}
}

// TestLowWaterWakes wants whoever polls the socket not to be woken below the
// mark, and to be as soon as it is lowered.
func TestLowWaterWakes(t *testing.T) {
	near, far := loopback(t)
	low := newLowWater(near)
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(poll)
	var refused error
	err = low.raw.Control(func(fd uintptr) {
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
	low.note(time.Now(), highMark)
	if _, err := far.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if wakes(20 * time.Millisecond) {
		t.Error("100 bytes wake the reader though the mark is high")
	}
	low.lower()
	if !wakes(patience) {
		t.Error("what is there does not wake the reader though the mark is low")
	}
}

// watchingMark is a Sink that notes whether the mark was ever high.
type watchingMark struct {
	*counting
	low  *lowWater
	rose bool
}

func (w *watchingMark) Change(c *viewlet.Change) error {
	w.rose = w.rose || w.low.high
	return w.counting.Change(c)
}

// TestLowWaterFollowsTheLoad wants the mark to rise for a backlog, and to be
// low again when that has been read.
func TestLowWaterFollowsTheLoad(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY, n int)")
	db.sql.exec("INSERT INTO v SELECT i, 0 FROM generate_series(1, 100000) i")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	db.sql.exec("UPDATE v SET n = n + 1")
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	sink := &watchingMark{counting: &counting{recorder: newRecorder(), done: make(chan struct{})}, low: &s.low}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, sink) }()
	defer func() { cancel(); <-ended }()
	select {
	case <-sink.done:
	case <-time.After(patience):
		t.Fatal("waited in vain for the transaction")
	}
	if sink.n != 100_000 || !sink.rose {
		t.Errorf("%d rows came; the mark rose: %t", sink.n, sink.rose)
	}
	deadline := time.After(patience)
	for tick := time.NewTicker(lull); markOf(t, s.low.raw) != 1; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the mark stays high on an idle stream")
		}
	}
}
