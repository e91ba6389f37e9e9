package replication

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// proxy stands between a client and a server, and may swallow what they say.
type proxy struct {
	addr string
	mute atomic.Bool
	over chan struct{} // the test is
}

// disguise is what a proxy makes of a server.
type disguise struct {
	startup func(params map[string]string) (refusal string) // alters a startup message, or refuses it; nil: neither
	version string                                          // what the server says it is; empty: the truth
}

func newProxy(t testing.TB, target string, d disguise) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveProxy(t, l, target, d)
}

func serveProxy(t testing.TB, l net.Listener, target string, d disguise) *proxy {
	t.Helper()
	p := &proxy{addr: l.Addr().String(), over: make(chan struct{})}
	var conns sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		close(p.over)
		conns.Wait()
	})
	conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { p.serve(client, target, d) })
		}
	})
	return p
}

// swallow makes the proxy a black hole: it takes everything and passes nothing on.
func (p *proxy) swallow() { p.mute.Store(true) }

func (p *proxy) serve(client net.Conn, target string, d disguise) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	if d.startup != nil && !d.start(client, server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(server, client) })
	both.Go(func() {
		if d.version != "" {
			d.lie(client, server)
		}
		p.pass(client, server)
	})
	both.Wait()
}

// start passes the startup message on, altered, or refuses it.
func (d disguise) start(client, server net.Conn) bool {
	back, front := pgproto3.NewBackend(client, client), pgproto3.NewFrontend(server, server)
	msg, err := back.ReceiveStartupMessage()
	startup, ok := msg.(*pgproto3.StartupMessage)
	if err != nil || !ok {
		return false
	}
	if refusal := d.startup(startup.Parameters); refusal != "" {
		back.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: protocolViolation, Message: refusal})
		_ = back.Flush()
		return false
	}
	front.Send(startup)
	return front.Flush() == nil
}

// lie passes on what the server says, but for its version.
func (d disguise) lie(client, server net.Conn) {
	for front := pgproto3.NewFrontend(server, server); ; {
		msg, err := front.Receive()
		if err != nil {
			return
		}
		if status, ok := msg.(*pgproto3.ParameterStatus); ok && status.Name == "server_version" {
			status.Value = d.version
		}
		if b, err := msg.Encode(nil); err != nil {
			return
		} else if _, err := client.Write(b); err != nil {
			return
		}
	}
}

func (p *proxy) pass(to, from net.Conn) {
	defer to.Close()
	_, _ = io.Copy(writer{p, to}, from)
	if p.mute.Load() {
		<-p.over // the end of a connection is swallowed too
	}
}

type writer struct {
	p  *proxy
	to net.Conn
}

func (w writer) Write(b []byte) (int, error) {
	if w.p.mute.Load() {
		return len(b), nil
	}
	return w.to.Write(b)
}

// log is a slog handler's output that tests look into.
type log struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // something was written
}

func newLog() *log { return &log{more: make(chan struct{}, 1)} }

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(b)
}

func (l *log) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}
