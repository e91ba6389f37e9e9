package cache

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// doubt is whether a write of ours may still lie in a connection. Redis reads
// what was sent over one even when it was closed, and in no order with others; a
// network keeps it until Redis can be reached again.
type doubt struct {
	since   time.Time // any time: what is counted from
	life    time.Duration
	until   atomic.Int64 // nanoseconds since then; 0: there never was any
	refused atomic.Bool  // the last connection could not be made
}

func newDoubt(life time.Duration) *doubt { return &doubt{since: time.Now(), life: life} }

func (d *doubt) raise()   { d.until.Store(int64(time.Since(d.since) + d.life)) }
func (d *doubt) is() bool { return int64(time.Since(d.since)) < d.until.Load() }

// dialer is how connections are made.
type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// over gives connections that raise the doubt before they are closed. So whoever
// tries again does it in doubt. It is raised while none can be made, too, and by
// the first that can.
func (d *doubt) over(dial dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if d.refused.Swap(err != nil) || err != nil {
			d.raise()
		}
		if err != nil {
			return nil, err
		}
		c := doubtedConn{conn, d}
		if of, ok := conn.(syscall.Conn); ok {
			return struct { // the client looks through it whether Redis has hung up
				doubtedConn
				syscall.Conn
			}{c, of}, nil
		}
		return c, nil
	}
}

type doubtedConn struct {
	net.Conn
	doubt *doubt
}

// Close is a method of net.Conn.
func (c doubtedConn) Close() error {
	c.doubt.raise()
	return c.Conn.Close()
}
