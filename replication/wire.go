package replication

import (
	"crypto/tls"
	"net"
	"os"
	"time"
)

// wire is a connection to the server as its bytes come, below TLS where there is
// any. While a stream runs over it, bytes gather before they are read, and no read
// above takes much longer than a pulse. One goroutine reads.
type wire struct {
	net.Conn
	gather    gather
	streaming bool
	hurry     bool      // the next read is waited for: a nap would only cost time
	behind    bool      // the server is, as far as the stream tells
	begun     time.Time // when the read above began that these are for
	asked     time.Time // when the socket was last asked for it, after a nap
	came      bool      // something came since
	until     time.Time // the read deadline that is set

	// What was read and not taken: TLS asks for a few hundred bytes at a time.
	buf  []byte
	r, w int
}

func newWire(conn net.Conn) *wire { return &wire{Conn: conn, gather: newGather(conn)} }

// wireOf is the wire below a connection that began as one.
func wireOf(conn net.Conn) *wire {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	return conn.(*wire)
}

// stream begins to let bytes gather, and to bound how long a read may take.
func (w *wire) stream() { w.streaming = true }

// begin begins a read above, which takes as many here as TLS wants for a record. In
// a hurry it is waited for; else a server that is behind is left time to send more.
func (w *wire) begin(hurry, behind bool) {
	w.begun, w.hurry, w.behind, w.came = time.Now(), hurry, behind, false
	w.asked, w.gather.breath = w.begun, 0
}

// leave ends that. What it has set of a deadline stays.
func (w *wire) leave() {
	w.streaming = false
	w.gather.end()
}

// Read is a method of io.Reader.
func (w *wire) Read(p []byte) (int, error) {
	if w.r == w.w {
		if !w.streaming || len(p) >= smallBuffer {
			return w.receive(p)
		}
		if w.buf == nil {
			w.buf = make([]byte, frameBuffer)
		}
		n, err := w.receive(w.buf)
		w.r, w.w = 0, n
		if n == 0 {
			return 0, err
		}
		// An error comes again with the next read.
	}
	n := copy(p, w.buf[w.r:w.w])
	w.r += n
	return n, nil
}

// receive reads once from the socket. The deadline is moved only where half of the
// time has gone by: under load there are far more reads than pulses.
func (w *wire) receive(p []byte) (int, error) {
	if !w.streaming {
		return w.Conn.Read(p)
	}
	if !w.hurry {
		w.gather.rest(w.behind)
	}
	now, wait := time.Now(), w.gather.wait()
	w.asked = now
	if now.Sub(w.begun) > pulse {
		w.begun = now
		return 0, os.ErrDeadlineExceeded // TLS keeps what it has, and goes on with the next
	}
	if left := w.until.Sub(now); left < wait/2 || left > wait {
		w.until = now.Add(wait)
		if err := w.SetReadDeadline(w.until); err != nil {
			return 0, err
		}
	}
	n, err := w.Conn.Read(p)
	w.gather.note(now, n)
	w.came = w.came || n > 0
	return n, err
}
