package replication

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

// framed is a message with its header.
func framed(kind byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
	return append(b, body...)
}

// TestFrames reads messages of all sizes through readers that give them whole,
// in halves, and byte by byte.
func TestFrames(t *testing.T) {
	var stream []byte
	sizes := []int{0, 1, 7, 100, frameBuffer - 5, frameBuffer - 4, frameBuffer, 3*frameBuffer + 1, 2, 0}
	for i, size := range sizes {
		stream = append(stream, framed('a'+byte(i), bytes.Repeat([]byte{byte(i)}, size))...)
	}
	for name, through := range map[string]func(io.Reader) io.Reader{
		"whole":   func(r io.Reader) io.Reader { return r },
		"halves":  iotest.HalfReader,
		"bytes":   iotest.OneByteReader,
		"err":     iotest.DataErrReader,
		"timeout": func(r io.Reader) io.Reader { return &flaky{r: iotest.HalfReader(r)} },
	} {
		f := newFrames(through(bytes.NewReader(stream)))
		for i := 0; i < len(sizes); {
			kind, body, ok, err := f.next()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !ok {
				if _, err := f.fill(); err != nil && !isTimeout(err) {
					t.Fatalf("%s: message %d: %v", name, i, err)
				}
				continue
			}
			if kind != 'a'+byte(i) || !bytes.Equal(body, bytes.Repeat([]byte{byte(i)}, sizes[i])) {
				t.Fatalf("%s: message %d is %q of %d bytes", name, i, kind, len(body))
			}
			i++
		}
		for range 2 {
			if _, err := f.fill(); !isTimeout(err) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: at the end: %v", name, err)
			}
		}
	}
}

// flaky times out at every other read, now and then after some bytes.
type flaky struct {
	r io.Reader
	n int
}

func (f *flaky) Read(p []byte) (int, error) {
	f.n++
	switch f.n % 3 {
	case 0:
		return 0, os.ErrDeadlineExceeded
	case 1:
		n, err := f.r.Read(p)
		if err == nil {
			err = os.ErrDeadlineExceeded
		}
		return n, err
	}
	return f.r.Read(p)
}

// TestFramesHandOver: pgproto3 never reads beyond the message that it returns.
func TestFramesHandOver(t *testing.T) {
	stream := append(framed('S', []byte("a\x00b\x00")), framed('W', []byte{0, 0, 0})...)
	stream = append(stream, framed('d', []byte("first"))...)
	stream = append(stream, framed('d', []byte("second"))...)
	f := newFrames(bytes.NewReader(stream))
	front := pgproto3.NewFrontend(f, io.Discard)
	for range 2 {
		if _, err := front.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"first", "second"} {
		if _, body, ok, err := f.next(); !ok || err != nil || string(body) != want {
			t.Errorf("next = %q, %v, %v, want %q", body, ok, err, want)
		}
	}
}

// TestFramesShrink: one large row does not keep its memory.
func TestFramesShrink(t *testing.T) {
	stream := framed('d', make([]byte, 10*frameBuffer))
	small := framed('d', []byte("x"))
	f := newFrames(iotest.OneByteReader(bytes.NewReader(bytes.Repeat(small, 2*frameCalm))))
	f.src = io.MultiReader(bytes.NewReader(stream), f.src)
	largest := 0
	for got := 0; got < 2*frameCalm; {
		_, _, ok, err := f.next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			got++
		} else if _, err := f.fill(); err != nil {
			t.Fatal(err)
		}
		largest = max(largest, len(f.buf))
	}
	if largest < 10*frameBuffer || len(f.buf) != frameBuffer {
		t.Errorf("the buffer grew to %d and shrank to %d bytes, want %d at last", largest, len(f.buf), frameBuffer)
	}
}

func TestFramesRefuseNonsense(t *testing.T) {
	for _, length := range []uint32{0, 3, frameLimit + 1, 1 << 31, 1<<32 - 1} {
		stream := binary.BigEndian.AppendUint32([]byte{'d'}, length)
		f := newFrames(bytes.NewReader(append(stream, 1, 2, 3)))
		if _, err := f.fill(); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := f.next(); err == nil || !strings.Contains(err.Error(), "bytes long") {
			t.Errorf("next after a length of %d: %v", length, err)
		}
		if _, err := f.Read(make([]byte, 5)); err == nil {
			t.Errorf("Read after a length of %d gives no error", length)
		}
	}
}
