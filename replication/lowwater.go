package replication

import (
	"net"
	"syscall"
	"time"
)

const (
	// highMark is how many bytes gather in the socket under load before the
	// reader is woken: what the walsender sends in about a millisecond.
	highMark = 32 << 10
	// lull is how long they may take. It bounds by how much the last of a burst
	// comes later.
	lull = 2 * time.Millisecond
	// soon and busy: so many reads, each so soon after the one before, are load
	// if what they bring would fill a quarter of the mark within a lull. Less than that
	// would have it rise for nothing, and each commit wait for the lull's end.
	soon = 100 * time.Microsecond
	busy = 32
)

// lowWater lets a socket fill before its reader is woken, as long as much comes.
// The walsender sends row by row, and a wake-up for each costs it about as much
// as the row. A reader that has waited for longer than a lull is woken by the
// first byte, as always.
//
// https://man7.org/linux/man-pages/man7/socket.7.html (SO_RCVLOWAT)
type lowWater struct {
	raw   syscall.RawConn // nil: the mark has no effect on such a socket
	high  bool
	last  time.Time // when the read before began
	quick int       // reads in a row that came soon
	since time.Time // when the first of them began
	bytes int       // that they brought
}

// newLowWater takes the connection, or the one that TLS runs over. Only TCP
// heeds the mark.
func newLowWater(conn net.Conn) lowWater {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok || !marksWake {
		return lowWater{}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return lowWater{} // it is slower, and works
	}
	return lowWater{raw: raw}
}

// wait is how long the next read may take.
func (l *lowWater) wait() time.Duration {
	if l.high {
		return lull
	}
	return pulse
}

// note learns of a read that began at and brought n bytes; 0: none came in time.
func (l *lowWater) note(at time.Time, n int) {
	switch {
	case l.raw == nil:
		return
	case n == 0:
		l.quick = 0
		l.lower()
		return
	case at.Sub(l.last) < soon:
		l.quick++
	default:
		l.quick = 0
	}
	if l.last = at; l.quick == 0 {
		l.since, l.bytes = at, 0
	}
	l.bytes += n
	if !l.high && (n >= highMark/2 || l.load(at)) {
		l.high = l.set(highMark)
	}
}

// load reports whether the last reads came soon and brought much. It begins to
// count anew when they did not.
func (l *lowWater) load(at time.Time) bool {
	if l.quick < busy {
		return false
	}
	much := float64(l.bytes)*float64(lull) >= highMark/4*float64(at.Sub(l.since))
	if !much {
		l.quick = 0
	}
	return much
}

// lower makes the next byte wake the reader, and so do those that are there.
func (l *lowWater) lower() {
	if l.high {
		l.set(1)
		l.high = false
	}
}

// set reports whether the socket took the mark.
func (l *lowWater) set(bytes int) bool {
	var refused error
	err := l.raw.Control(func(fd uintptr) { refused = setMark(fd, bytes) })
	return err == nil && refused == nil
}
