package replication

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestSecondHost: the first of two ends its connection, as a proxy without a server
// behind it does. pgconn dials it once more, to cancel, and comes through only when
// it has the second one already.
func TestSecondHost(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	raw, err := first.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// Room for one that is not accepted. Linux lets others try again after a second.
	if err := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	second, cancels := make(chan struct{}), make(chan struct{})
	go func() {
		conn, err := first.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 1024))
		waiting := 0
		for ; waiting < 10; waiting++ {
			full, err := net.DialTimeout("tcp", first.Addr().String(), 100*time.Millisecond)
			if err != nil {
				break
			}
			defer full.Close()
		}
		conn.Close()
		<-second
		for range waiting + 1 {
			conn, err := first.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
		close(cancels)
	}()
	db := shared.database(t)
	server := fmt.Sprintf("127.0.0.1:%d", db.port)
	proxy := newProxy(t, server, disguise{startup: func(map[string]string) string {
		close(second)
		select {
		case <-cancels:
			return ""
		case <-time.After(patience):
			return "the first host was never dialled again"
		}
	}})
	cfg := db.cfg()
	cfg.URL = strings.Replace(cfg.URL, server, first.Addr().String()+","+proxy.addr, 1)
	w, err := connectReplication(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(t.Context(), w.PgConn)
	if w.Conn() != net.Conn(w.wire) {
		t.Errorf("it reads from %s, and lets bytes gather on %s", w.Conn().RemoteAddr(), w.wire.RemoteAddr())
	}
}

// TestSlowRecord: TLS reads on until it has a whole record. Nothing else would be
// attended to while that trickles in, and the server is not silent.
func TestSlowRecord(t *testing.T) {
	cert, key := selfSigned(t)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	near, far := loopback(t)
	msg := make([]byte, 8192)
	msg[0] = 'd'
	binary.BigEndian.PutUint32(msg[1:], uint32(len(msg)-1))
	slow := &trickle{Conn: far}
	go func() {
		server := tls.Server(slow, &tls.Config{Certificates: []tls.Certificate{pair}, DynamicRecordSizingDisabled: true})
		if server.Handshake() == nil {
			slow.on.Store(true)
			_, _ = server.Write(msg)
		}
	}()
	w := newWire(near)
	client := tls.Client(w, &tls.Config{InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	s := &Stream{wire: w, in: newFrames(client), silence: time.Second, interval: time.Hour, asked: true, heard: time.Now(), sentAt: time.Now()}
	w.stream()
	reads := 0
	for s.in.w < len(msg) {
		reads++
		if err := s.attend(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.read(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(s.in.buf[:s.in.w], msg) {
		t.Errorf("other bytes came than were sent: %d of them", s.in.w)
	}
	if reads < 10 {
		t.Errorf("%d reads took what was two seconds under way", reads)
	}
}

// trickle writes some bytes each time, and then waits.
type trickle struct {
	net.Conn
	on atomic.Bool
}

func (c *trickle) Write(p []byte) (int, error) {
	if !c.on.Load() {
		return c.Conn.Write(p)
	}
	written := 0
	for piece := range slices.Chunk(p, 80) {
		n, err := c.Conn.Write(piece)
		if written += n; err != nil {
			return written, err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return written, nil
}
