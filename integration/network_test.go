package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// network is the way from the daemon to one server, which can be cut, slowed
// down and held up in each direction.
type network struct {
	near, far string
	passing   sync.WaitGroup

	mu        sync.Mutex
	door      net.Listener // nil: it is cut
	open      map[*connection]bool
	obstacles map[direction][]*obstacle
}

var (
	firstPort = rand.Int32N(700)
	ports     atomic.Int32
)

// direction is one of the two.
type direction string

const (
	toServer direction = "upstream"
	toDaemon direction = "downstream"
)

// obstacle is what befalls a direction of all connections until it is over.
type obstacle struct {
	strike func(o *obstacle, w *way, p *packet) // may wait
	over   chan struct{}
}

// packet is what was read at once.
type packet struct {
	bytes []byte
	read  time.Time
	end   bool // of what is sent in this direction; there are no bytes
	reset bool // the connection after it
}

// connection is one of the daemon's, and how it goes on to the server.
type connection struct{ daemon, server net.Conn }

// way is one direction of a connection.
type way struct {
	direction
	from, to net.Conn
	passed   map[*obstacle]int // how many bytes
}

// newNetwork gives a way to the server that the URL names, and the URL of its
// near end.
func newNetwork(t testing.TB, server string) (*network, string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{far: u.Host, open: map[*connection]bool{}, obstacles: map[direction][]*obstacle{}}
	for tries := 0; ; tries++ {
		// Below the range of outgoing connections, of which one could take the
		// port while the network is cut, and one that no other network has.
		n.near = fmt.Sprintf("127.0.0.1:%d", 32001+(firstPort+ports.Add(1))%700)
		if err := n.listen(); err == nil {
			break
		} else if tries == 50 {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		n.stop()
		n.passing.Wait()
	})
	u.Host = n.near
	return n, u.String()
}

// hold keeps what goes in a direction until it is released, and then lets all
// of it go on in order.
func (n *network) hold(t testing.TB, d direction) (release func()) {
	t.Helper()
	return n.befall(t, d, func(o *obstacle, _ *way, _ *packet) { <-o.over })
}

// lose takes what goes in a direction and passes nothing on, as a firewall does
// that forgot the connection. When it is mended all connections end.
func (n *network) lose(t testing.TB, d direction) (mend func()) {
	t.Helper()
	over := n.befall(t, d, func(o *obstacle, _ *way, p *packet) {
		if p.bytes = nil; p.end {
			<-o.over
		}
	})
	return func() {
		n.disconnect()
		over()
		n.disconnect() // whoever came between the two and lost something
	}
}

// swallow is to lose both directions.
func (n *network) swallow(t testing.TB) (mend func()) {
	t.Helper()
	there, back := n.lose(t, toServer), n.lose(t, toDaemon)
	return func() { there(); back() }
}

// delay makes every packet of a direction late, by up to 80 ms.
func (n *network) delay(t testing.TB, d direction) (mend func()) {
	t.Helper()
	return n.befall(t, d, func(o *obstacle, _ *way, p *packet) {
		o.last(time.Until(p.read.Add(rand.N(80 * time.Millisecond))))
	})
}

// throttle lets 64 KB a second through.
func (n *network) throttle(t testing.TB, d direction) (mend func()) {
	t.Helper()
	return n.befall(t, d, func(o *obstacle, _ *way, p *packet) {
		o.last(time.Duration(len(p.bytes)) * time.Second / (64 << 10))
	})
}

// breakOff resets every connection once 2,000 bytes more have gone through it.
func (n *network) breakOff(t testing.TB, d direction) (mend func()) {
	t.Helper()
	return n.befall(t, d, func(o *obstacle, w *way, p *packet) {
		left := 2000 - w.passed[o]
		if len(p.bytes) >= left {
			p.bytes, p.reset = p.bytes[:left], true
		}
		w.passed[o] += len(p.bytes)
	})
}

// cut ends all connections and refuses new ones, until it is mended.
func (n *network) cut(t testing.TB) (mend func()) {
	t.Helper()
	n.stop()
	mend = sync.OnceFunc(func() {
		if err := n.listen(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(mend)
	return mend
}

func (n *network) befall(t testing.TB, d direction, strike func(*obstacle, *way, *packet)) (mend func()) {
	o := &obstacle{strike, make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.obstacles[d] = append(slices.Clip(n.obstacles[d]), o)
	mend = sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.obstacles[d] = slices.DeleteFunc(slices.Clone(n.obstacles[d]), func(other *obstacle) bool { return other == o })
		close(o.over)
	})
	t.Cleanup(mend)
	return mend
}

// last waits for so long, or until the obstacle is over.
func (o *obstacle) last(how time.Duration) {
	select {
	case <-time.After(how):
	case <-o.over:
	}
}

func (n *network) listen() error {
	door, err := net.Listen("tcp", n.near)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.door = door
	n.mu.Unlock()
	n.passing.Go(func() {
		for {
			daemon, err := door.Accept()
			if err != nil {
				return
			}
			n.passing.Go(func() { n.connect(daemon, door) })
		}
	})
	return nil
}

func (n *network) stop() {
	n.mu.Lock()
	if n.door != nil {
		n.door.Close()
	}
	n.door = nil
	n.mu.Unlock()
	n.disconnect()
}

// disconnect ends the connections that there are.
func (n *network) disconnect() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.open {
		c.close()
	}
}

func (c *connection) close() {
	c.daemon.Close()
	c.server.Close()
}

// connect takes a connection that came in by the door on to the server, until
// both sides have ended.
func (n *network) connect(daemon net.Conn, door net.Listener) {
	server, err := net.DialTimeout("tcp", n.far, 10*time.Second)
	if err != nil {
		daemon.Close()
		return
	}
	c := &connection{daemon, server}
	defer c.close()
	n.mu.Lock()
	cut := n.door != door
	if !cut {
		n.open[c] = true
	}
	n.mu.Unlock()
	if cut {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { n.pass(&way{toServer, daemon, server, map[*obstacle]int{}}) })
	both.Go(func() { n.pass(&way{toDaemon, server, daemon, map[*obstacle]int{}}) })
	both.Wait()
	n.mu.Lock()
	delete(n.open, c)
	n.mu.Unlock()
}

// pass takes on what is sent in one direction. Who can be told no more, or has
// nothing more to hear, is disconnected; the other direction has an end of its own.
func (n *network) pass(w *way) {
	packets := make(chan packet, 1000)
	go w.read(packets)
	for p := range packets {
		n.mu.Lock()
		obstacles := n.obstacles[w.direction]
		n.mu.Unlock()
		for _, o := range obstacles {
			o.strike(o, w, &p)
		}
		if _, err := w.to.Write(p.bytes); err != nil || p.end {
			break
		}
		if p.reset {
			w.reset()
		}
	}
	w.to.Close()
	for range packets { // nobody hears it
	}
}

// read reads until the end.
func (w *way) read(packets chan<- packet) {
	defer close(packets)
	b := make([]byte, 32<<10)
	for {
		n, err := w.from.Read(b)
		packets <- packet{bytes: bytes.Clone(b[:n]), read: time.Now(), end: err != nil}
		if err != nil {
			return
		}
	}
}

func (w *way) reset() {
	for _, c := range []net.Conn{w.from, w.to} {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
