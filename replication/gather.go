package replication

import (
	"net"
	"strings"
	"syscall"
	"time"
)

const (
	// highMark is how many bytes gather in a distant socket before its reader is
	// woken: what the walsender sends in about a millisecond. lull is how long
	// they may take. It bounds by how much the last of a burst comes later.
	highMark = 32 << 10
	lull     = 2 * time.Millisecond
	// near is the round trip up to which the server counts as on this machine: a
	// network's is longer.
	near = 20 * time.Microsecond
	// smallBuffer is what bytes gather in of a near socket; Linux doubles it. Its
	// reader naps for refill, or less, where the walsender has to fill it row by
	// row, and else at most for pause, and not at all for less than instant.
	smallBuffer = 32 << 10
	refill      = 6 * time.Millisecond // by so much the last of a burst may come later
	pause       = time.Millisecond
	instant     = 50 * time.Microsecond
	// many is how many times the buffer is full again after a nap for refill that
	// was longer than it had to be, as it is where rows are long.
	many = 16
	// little is too few bytes to nap for, also for each millisecond of a nap; after
	// so many naps in vain there are no more.
	little = 3 << 10
	vain   = 3
	// maxSegment is the longest TCP segment that we take. A loopback's own are
	// of 64 KiB, and a sender waits until a whole one fits the receiver's window.
	maxSegment = 8 << 10
)

// gather lets bytes gather before they are read, as long as many come. The
// walsender sends row by row, and what follows from a send costs far more than
// the row. Who has waited for some milliseconds gets the first byte when it comes,
// as always.
//
// A server near by pays with each send for the way through both ends' TCP, unless
// the receive buffer is full: then the row is only appended to the walsender's own
// queue, and goes out with many others once the buffer is read. So the buffer is
// small, and its reader naps so that it finds it full again after each read. When
// it does not, the queue is empty: a longer nap fills both.
//
// Over a network each buffer would cost a round trip. There the reader is not
// woken until much has come.
//
// https://man7.org/linux/man-pages/man7/socket.7.html (SO_RCVBUF, SO_RCVLOWAT)
type gather struct {
	load
	raw  syscall.RawConn // nil: neither has an effect on such a socket
	near bool
	on   bool

	small bool // a near socket's buffer is, for good: it is no limit at that distance

	breath  time.Duration // the nap for the read above, of a server that is behind
	backlog bool          // such a nap brought much, and it is behind still

	took   int           // bytes that the last read brought
	nap    time.Duration // while the queue is not empty
	refill time.Duration // when it is
	fulls  int           // reads after the last such nap that left the buffer full
	slept  time.Duration // before the last read, for refill
	idle   int           // reads in a row that brought little
}

// newGather takes a socket. Its distance is to be measured once some was said over it.
func newGather(conn net.Conn) gather {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || !gathers {
		return gather{}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return gather{} // it is slower, and works
	}
	return gather{raw: raw}
}

// measure tells a server near by from one that is further away. The first trips of
// a connection are too few to go by: one in a hundred is disturbed.
func (g *gather) measure() {
	if g.raw == nil {
		return
	}
	_ = g.socket(func(fd uintptr) error {
		trip, err := roundTrip(fd)
		g.near = err == nil && 0 < trip && trip <= near
		return err
	})
}

// wait is how long the next read may take.
func (g *gather) wait() time.Duration {
	if g.on {
		return lull
	}
	return pulse
}

// rest naps, so that a near socket's next read brings much; or, while no bytes are
// let gather, so that the next read of a server that is behind brings some.
func (g *gather) rest(behind bool) {
	g.backlog = g.backlog && behind
	switch {
	case !g.on && behind && !g.backlog && g.breath == 0:
		began := time.Now()
		time.Sleep(breath)
		g.breath = time.Since(began)
		return
	case !g.on || !g.near:
		return
	}
	var waiting int
	err := g.socket(func(fd uintptr) (err error) {
		waiting, err = unread(fd)
		return err
	})
	if g.idle++; g.took >= max(little, int(little*g.slept/time.Millisecond)) {
		g.idle = 0
	}
	g.slept = 0
	switch {
	case err != nil || g.idle == vain:
		g.end()
	case waiting < max(little, g.took*3/4): // the queue was empty
		g.nap = min(pause, max(instant, g.nap+g.nap/4))
		if g.fulls == 0 {
			g.refill = min(refill, 2*g.refill)
		} else if g.fulls > many {
			g.refill = max(instant, g.refill/2)
		}
		g.fulls = 0
		g.slept = g.refill
		time.Sleep(g.refill)
	default:
		g.fulls++
		if g.nap -= g.nap / 8; g.nap > instant {
			time.Sleep(g.nap)
		}
	}
}

// note learns of a read that began at and brought n bytes; 0: none came in time.
func (g *gather) note(at time.Time, n int) {
	g.took, g.backlog = n, g.backlog || g.breath > 0 && n >= deep
	switch {
	case g.raw == nil:
	case n == 0:
		g.quick = 0
		g.end()
	case (g.much(at, g.breath, n) || n >= highMark/2) && !g.on:
		g.begin()
	}
}

// begin makes a near socket's buffer small only now, when what came is read: what
// the larger one had room for is dropped else.
func (g *gather) begin() {
	err := g.socket(func(fd uintptr) error {
		switch {
		case !g.near:
			return setLowMark(fd, highMark)
		case g.small:
			return nil
		}
		return setReceiveBuffer(fd, smallBuffer)
	})
	g.on, g.small = err == nil, g.near && err == nil
	g.nap, g.refill, g.slept, g.idle, g.fulls = pause, 5*instant, 0, 0, 0
}

// end makes the next byte wake the reader, and so do those that are there.
func (g *gather) end() {
	if g.on && !g.near {
		_ = g.socket(func(fd uintptr) error { return setLowMark(fd, 1) })
	}
	g.on = false
}

func (g *gather) socket(do func(fd uintptr) error) error {
	var refused error
	if err := g.raw.Control(func(fd uintptr) { refused = do(fd) }); err != nil {
		return err
	}
	return refused
}

// limitSegments makes a socket one that can be gathered from, before it connects.
func limitSegments(network, _ string, raw syscall.RawConn) error {
	if strings.HasPrefix(network, "tcp") {
		_ = raw.Control(func(fd uintptr) { _ = limitSegment(fd) }) // without, it is slower
	}
	return nil
}

const (
	// soon and busy: so many reads, each so soon after the one before, are load
	// if what they bring would fill a quarter of the mark within a lull. Less
	// would have each commit wait for nothing.
	soon = 100 * time.Microsecond
	busy = 32
)

// load tells from reads when much comes.
type load struct {
	last  time.Time // when the read before began
	quick int       // reads in a row that came soon
	since time.Time // when the first of them began
	bytes int       // that they brought
}

// much learns of a read, and how long its reader had napped before it, and reports
// whether the last ones came soon and brought much. It begins to count anew when
// they did not.
func (l *load) much(at time.Time, nap time.Duration, n int) bool {
	if l.quick++; at.Sub(l.last)-nap >= soon {
		l.quick = 0
	}
	if l.last = at; l.quick == 0 {
		l.since, l.bytes = at, 0
	}
	l.bytes += n
	if l.quick < busy {
		return false
	}
	much := float64(l.bytes)*float64(lull) >= highMark/4*float64(at.Sub(l.since))
	if !much {
		l.quick = 0
	}
	return much
}
