package cache

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A guard is the LSN of a fragment's last write, beside it: who comes with an
// older one is refused. Leaving one costs Redis nearly as much as the fragment
// itself, and whoever has the State comes in order, and is refused once it has
// lost it. So its writes leave guards only while somebody may come late:
//
//   - Somebody else, such as a visitor's miss. It says so before it renders, by
//     Guard, and may write only as long as what it said is still there.
//   - What was sent over a connection that is closed, and was not answered: it may
//     still lie there when the next try has been served. See doubt.
//
// Within a whole rendering they leave guards, too, for Stale. In a Cluster, where
// the State is in another slot, every write does.

//go:embed guard.lua
var guardLua string

// ErrUnguarded says that the writes since a fragment was rendered need not have
// left guards: it is to be rendered again. Redis has lost what Guard left there.
var ErrUnguarded = errors.New("redis has lost what keeps older fragments out meanwhile")

// clusterGuard is a Guard that needs no watch.
const clusterGuard = "cluster"

// guards are the viewlets' watches that we know of.
type guards struct {
	mu sync.Mutex
	of map[string]*watch
}

type watch struct {
	busy  chan struct{} // holds one while somebody has the rest
	token string
	until time.Time // how long it is good without asking
}

func (g *guards) watch(viewlet string) *watch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of == nil {
		g.of = map[string]*watch{}
	}
	w := g.of[viewlet]
	if w == nil {
		w = &watch{busy: make(chan struct{}, 1)}
		g.of[viewlet] = w
	}
	return w
}

// Guard gives what goes into the Guard of a Fragment that is rendered from now on,
// within the GuardTTL, and stored by who does not have the State. Everybody's
// writes of the viewlet's fragments leave guards as long as that holds.
//
// look must see to it that what is rendered after it shows all that had been
// committed, and seen, when it began. It is called where writes left no guards
// before. Most calls of Guard ask nobody.
func (c *Cache) Guard(ctx context.Context, viewlet string, look func(context.Context) error) (string, error) {
	if c.cluster {
		return clusterGuard, nil
	}
	w := c.guards.watch(viewlet)
	select {
	case w.busy <- struct{}{}:
		defer func() { <-w.busy }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	now := time.Now()
	if now.Before(w.until) {
		return w.token, nil
	}
	var token string
	err := c.exchange(ctx, func(ctx context.Context) (err error) {
		token, err = c.scripts.guard.Run(ctx, c.rdb, []string{c.names.watch(viewlet)}, rand.Text(), (2 * c.guard).Milliseconds()).Text()
		return err
	})
	if err == nil && token != w.token {
		err = look(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("guard %s: %w", viewlet, err)
	}
	w.token, w.until = token, now.Add(c.guard)
	return token, nil
}

// unguarded makes the next Guard ask: the token is not there any more.
func (c *Cache) unguarded(viewlet, token string) {
	w := c.guards.watch(viewlet)
	w.busy <- struct{}{}
	defer func() { <-w.busy }()
	if w.token == token {
		w.until = time.Time{}
	}
}

// doubt is whether a write of ours may still lie in a connection. Redis reads
// what was sent over one even when it was closed, and in no order with others.
type doubt struct{ until atomic.Int64 } // in nanoseconds since 1970

func (d *doubt) raise(life time.Duration) { d.until.Store(time.Now().Add(life).UnixNano()) }
func (d *doubt) is() bool                 { return time.Now().UnixNano() < d.until.Load() }

// dialer is how connections are made.
type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// doubting gives connections that raise the doubt before they are closed. So
// whoever tries again does it in doubt.
func (d *doubt) doubting(dial dialer, life time.Duration) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := doubtedConn{conn, func() { d.raise(life) }}
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
	closing func()
}

// Close is a method of net.Conn.
func (c doubtedConn) Close() error {
	c.closing()
	return c.Conn.Close()
}
