package integration

import (
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What the network does to connections is what tests take it for.
func TestNetwork(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]func(t *testing.T, n *network, d direction, c *caller){
		"hold": func(t *testing.T, n *network, d direction, c *caller) {
			release := n.hold(t, d)
			c.tells("b")
			c.hears(t, "", os.ErrDeadlineExceeded)
			if heard := c.server.heard.Load(); heard != 1 && d == toServer || heard != 2 && d == toDaemon {
				t.Errorf("the server has heard %d bytes of 2 while they are held %s", heard, d)
			}
			c.tells("c")
			release()
			c.hears(t, "bc", os.ErrDeadlineExceeded)
		},
		"lose": func(t *testing.T, n *network, d direction, c *caller) {
			mend := n.lose(t, d)
			c.tells("b")
			c.hears(t, "", os.ErrDeadlineExceeded)
			mend()
			c.hears(t, "", io.EOF)
		},
		"swallow": func(t *testing.T, n *network, d direction, c *caller) {
			mend := n.swallow(t)
			c.tells("b")
			c.hears(t, "", os.ErrDeadlineExceeded)
			mend()
			c.hears(t, "", io.EOF)
		},
		"delay": func(t *testing.T, n *network, d direction, c *caller) {
			defer n.delay(t, d)()
			began := time.Now()
			for range 20 { // by up to 80 ms each
				c.tells("b")
				c.hears(t, "b", nil)
			}
			if took := time.Since(began); took < 80*time.Millisecond {
				t.Errorf("20 late bytes took %v", took)
			}
		},
		"throttle": func(t *testing.T, n *network, d direction, c *caller) {
			mend := n.throttle(t, d)
			began := time.Now()
			c.tells(strings.Repeat("b", 16<<10))
			c.hears(t, strings.Repeat("b", 16<<10), nil)
			if took := time.Since(began); took < 200*time.Millisecond {
				t.Errorf("16 KB went through in %v", took)
			}
			c.tells(strings.Repeat("c", 32<<20))
			mend()
			c.hears(t, strings.Repeat("c", 32<<20), nil)
		},
		"break off": func(t *testing.T, n *network, d direction, c *caller) {
			defer n.breakOff(t, d)()
			c.tells(strings.Repeat("b", 1999))
			c.hears(t, strings.Repeat("b", 1999), nil)
			c.tells("cd") // in the middle of which it is
			must(t, c.SetReadDeadline(time.Now().Add(patience)))
			if more, err := io.ReadAll(c); len(more) > 1 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("heard %q and %v", more, err)
			}
		},
		"cut": func(t *testing.T, n *network, d direction, c *caller) {
			mend := n.cut(t)
			c.hears(t, "", io.EOF)
			if _, err := net.Dial("tcp", n.near); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("got %v of a network that is cut", err)
			}
			mend()
			again := call(t, n)
			again.tells("b")
			again.hears(t, "b", nil)
		},
		"two at once": func(t *testing.T, n *network, d direction, c *caller) {
			mend, release := n.delay(t, d), n.hold(t, d)
			c.tells("b")
			mend()
			c.hears(t, "", os.ErrDeadlineExceeded)
			release()
			c.hears(t, "b", nil)
		},
	} {
		for _, d := range []direction{toServer, toDaemon} {
			t.Run(name+" "+string(d), func(t *testing.T) {
				t.Parallel()
				n, server := echo(t)
				c := call(t, n)
				c.server = server
				c.tells("a")
				c.hears(t, "a", nil)
				try(t, n, d, c)
			})
		}
	}
}

// Whoever is in the midst of saying much may be gone at any moment, and what
// befalls the network then holds nobody up.
func TestNetworkOfTheDead(t *testing.T) {
	t.Parallel()
	n, _ := echo(t)
	for range 200 {
		c := call(t, n)
		go func() { _, _ = io.Copy(c, strings.NewReader(strings.Repeat("b", 1<<20))) }()
		_, _ = io.ReadFull(c, make([]byte, 1000))
		var gone sync.WaitGroup
		gone.Go(func() {
			_ = c.SetLinger(0)
			c.Close()
		})
		for _, d := range []direction{toDaemon, toServer} {
			n.breakOff(t, d)()
			n.hold(t, d)()
			n.throttle(t, d)()
			n.lose(t, d)()
		}
		gone.Wait()
	}
	c := call(t, n)
	c.tells("a")
	c.hears(t, "a", nil)
}

// echoing is a server that says again what it hears.
type echoing struct{ heard atomic.Int64 } // bytes

func (s *echoing) Write(p []byte) (int, error) {
	s.heard.Add(int64(len(p)))
	return len(p), nil
}

// echo gives a network to an echoing server.
func echo(t *testing.T) (*network, *echoing) {
	t.Helper()
	server := &echoing{}
	door, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { door.Close() })
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, io.TeeReader(c, server))
				c.Close()
			}()
		}
	}()
	n, at := newNetwork(t, "tcp://"+door.Addr().String())
	if u, err := url.Parse(at); err != nil || u.Host != n.near {
		t.Fatalf("the network is at %s and is told to be at %s (%v)", n.near, at, err)
	}
	return n, server
}

// caller is a client of an echoing server.
type caller struct {
	*net.TCPConn
	server *echoing
}

func call(t *testing.T, n *network) *caller {
	t.Helper()
	c, err := net.Dial("tcp", n.near)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &caller{TCPConn: c.(*net.TCPConn)}
}

// tells sends something, and does not wait until it is heard.
func (c *caller) tells(what string) {
	go func() { _, _ = io.WriteString(c, what) }()
}

// hears reads what is wanted and, but where then is nil, what comes after it: an
// error of the connection, or for a while nothing.
func (c *caller) hears(t *testing.T, want string, then error) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("heard %.20q, %d bytes, and %v; want %.20q, %d bytes", got[:n], n, err, want, len(want))
	}
	if then == nil {
		return
	}
	if errors.Is(then, os.ErrDeadlineExceeded) {
		must(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, then) {
		t.Fatalf("heard %d bytes and %v; want %v", n, err, then)
	}
}
