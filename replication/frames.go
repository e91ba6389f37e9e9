package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

const (
	// frameBuffer is how much is read at once, in bytes. The walsender writes
	// small pieces; a large buffer takes what has gathered in the socket.
	frameBuffer = 256 << 10
	// frameLimit is a little more than the longest message that Postgres can
	// make: its allocations end at 1 GiB.
	frameLimit = 1<<30 + 1<<10
	// frameHeader is a message's type and length.
	frameHeader = 5
	// frameCalm is after how many reads that the small buffer would have done
	// for a large one is given up.
	frameCalm = 256
)

// frames reads protocol messages from a connection through one large buffer.
// pgconn reads through it as an io.Reader while it connects and starts the
// stream; it is never given a byte beyond the message that it asked for, so
// that nothing is left in its own buffer when next and fill take over.
//
// https://www.postgresql.org/docs/current/protocol-message-formats.html
type frames struct {
	src  io.Reader
	buf  []byte
	r, w int   // what has been read and not taken is buf[r:w]
	left int   // bytes of the message that Read is giving out
	calm int   // reads in a row for which frameBuffer would have done
	err  error // came with the last bytes, and is due when they are taken
}

func newFrames(src io.Reader) *frames {
	return &frames{src: src, buf: make([]byte, frameBuffer)}
}

// Read gives pgconn at most the rest of one message.
func (f *frames) Read(p []byte) (int, error) {
	for f.left == 0 {
		size, err := f.size()
		if err != nil {
			return 0, err
		}
		if size > 0 {
			f.left = size
		} else if _, err := f.fill(); err != nil {
			return 0, err
		}
	}
	if f.r == f.w {
		if _, err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.buf[f.r:min(f.w, f.r+f.left)])
	f.r += n
	f.left -= n
	return n, nil
}

// next takes a message that has been read, whole: its type and its body, which
// is good until the next fill. It does not read; ok is false when there is none.
func (f *frames) next() (kind byte, body []byte, ok bool, err error) {
	size, err := f.size()
	if err != nil || size == 0 || f.w-f.r < size {
		return 0, nil, false, err
	}
	kind, body = f.buf[f.r], f.buf[f.r+frameHeader:f.r+size]
	f.r += size
	return kind, body, true, nil
}

// size is the length of the message that comes next with its header, or 0 when
// the header has not been read.
func (f *frames) size() (int, error) {
	if f.w-f.r < frameHeader {
		return 0, nil
	}
	length := binary.BigEndian.Uint32(f.buf[f.r+1:])
	if length < 4 || length > frameLimit {
		return 0, fmt.Errorf("read message: the server says that it is %d bytes long", length)
	}
	return 1 + int(length), nil
}

// fill reads once, and makes place for the whole of the message that comes
// next. It gives how many bytes came; what next gave is gone then. The end of the connection is
// io.ErrUnexpectedEOF: Postgres says so before it goes.
func (f *frames) fill() (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if err := f.makePlace(); err != nil {
		return 0, err
	}
	n, err := f.src.Read(f.buf[f.w:])
	f.w += n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if n == 0 {
		return 0, err
	}
	if !isTimeout(err) {
		f.err = err
	}
	return n, nil
}

// makePlace moves what is left to the front of a buffer that is large enough,
// and goes back to a small one when large messages have stopped coming.
func (f *frames) makePlace() error {
	size, err := f.size()
	if err != nil {
		return err
	}
	f.calm++
	if size > frameBuffer {
		f.calm = 0
	}
	buf := f.buf
	switch {
	case size > len(buf):
		buf = make([]byte, 1<<bits.Len(uint(size-1)))
	case len(buf) > frameBuffer && f.calm > frameCalm && f.w-f.r < frameBuffer:
		buf = make([]byte, frameBuffer)
	}
	if f.r > 0 || len(buf) != len(f.buf) {
		f.w = copy(buf, f.buf[f.r:f.w])
		f.r, f.buf = 0, buf
	}
	return nil
}
