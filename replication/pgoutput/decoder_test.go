package pgoutput

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// scribe is a Sink that writes down what it is told.
type scribe struct {
	lines []string
	rels  []*viewlet.Relation
	err   error // what Change, Message and Commit return
}

func (s *scribe) Begin(tx viewlet.Tx) {
	s.lines = append(s.lines, fmt.Sprintf("begin %d %s %s", tx.XID, tx.FinalLSN, tx.Committed.Format(time.RFC3339Nano)))
}

func (s *scribe) Change(c *viewlet.Change) error {
	s.rels = append(s.rels, c.Rel)
	s.lines = append(s.lines, fmt.Sprintf("%s %s %s -> %s", c.Op, c.Rel, show(c.Old), show(c.New)))
	return s.err
}

func (s *scribe) Message(m viewlet.Message) error {
	s.lines = append(s.lines, fmt.Sprintf("message %s %s %q", m.LSN, m.Prefix, m.Content))
	return s.err
}

func (s *scribe) Commit(end viewlet.LSN) error {
	s.lines = append(s.lines, "commit "+end.String())
	return s.err
}

func (s *scribe) Idle(viewlet.LSN)      {}
func (s *scribe) Room() <-chan struct{} { return nil }

// show shows a row as 1|NULL|unchanged|-, the last for what is not sent.
func show(row viewlet.Tuple) string {
	if row == nil {
		return "none"
	}
	words := make([]string, len(row))
	for i, v := range row {
		words[i] = [...]string{"-", "NULL", "unchanged", string(v.Text)}[v.Kind]
	}
	return strings.Join(words, "|")
}

// message puts a message together: numbers in network order, strings with a
// zero behind them.
func message(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case rune:
			b = append(b, byte(p))
		case string:
			b = append(append(b, p...), 0)
		case []byte:
			b = append(b, p...)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, p)
		default:
			panic(fmt.Sprintf("%T", p))
		}
	}
	return b
}

// row is a TupleData: a string is text, nil NULL, 'u' an unchanged value.
func row(values ...any) []byte {
	b := message(uint16(len(values)))
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			b = append(b, 'n')
		case rune:
			b = append(b, byte(v))
		case string:
			b = append(b, message('t', uint32(len(v)), []byte(v))...)
		}
	}
	return b
}

const (
	products = uint32(7)
	whole    = uint32(8)
	parts    = uint32(9)
)

func relation(id uint32, name string, identity rune, columns ...string) []byte {
	b := message('R', id, "public", name, identity, uint16(len(columns)))
	for _, c := range columns {
		key := '\x00'
		if name, found := strings.CutPrefix(c, "*"); found {
			key, c = '\x01', name
		}
		b = append(b, message(key, c, uint32(25), uint32(0xffffffff))...)
	}
	return b
}

var (
	begin  = message('B', uint64(0x1_00000002), uint64(1_500_000), uint32(77))
	commit = message('C', '\x00', uint64(2), uint64(0x1_00000003), uint64(1))
)

// ready is a decoder within a transaction, that knows three relations.
func ready(t testing.TB) *Decoder {
	d := &Decoder{Partitioned: map[uint32]bool{parts: true}}
	for _, msg := range [][]byte{
		relation(products, "products", 'd', "*id", "name", "body"),
		relation(whole, "whole", 'f', "*id", "*name", "*body"),
		relation(parts, "parts", 'f', "*id", "*name", "*body"),
		begin,
	} {
		if err := d.Decode(msg, &scribe{}); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name string
		msg  []byte
		want string // lines, with ; between them
	}{
		{"insert", message('I', products, 'N', row("1", nil, "")), "insert public.products none -> 1|NULL|"},
		{"update", message('U', products, 'N', row("1", "a", 'u')), "update public.products none -> 1|a|unchanged"},
		{"update of the key", message('U', products, 'K', row("1", nil, nil), 'N', row("2", "a", 'u')), "update public.products 1|-|- -> 2|a|unchanged"},
		{"unchanged key", message('U', products, 'K', row("1", "k", nil), 'N', row("2", 'u', "b")), "update public.products 1|k|- -> 2|k|b"},
		{"update with the old row", message('U', whole, 'O', row("1", nil, "x"), 'N', row("1", "a", 'u')), "update public.whole 1|NULL|x -> 1|a|x"},
		{"old row without the unchanged value", message('U', whole, 'O', row("1", nil, 'u'), 'N', row("1", "a", 'u')), "update public.whole 1|NULL|unchanged -> 1|a|unchanged"},
		{"delete by the key", message('D', products, 'K', row("1", nil, nil)), "delete public.products 1|-|- -> none"},
		{"delete with the old row", message('D', whole, 'O', row("1", nil, "x")), "delete public.whole 1|NULL|x -> none"},
		{"partition that has less than its root says", message('D', parts, 'O', row("1", nil, "x")), "delete public.parts 1|-|x -> none"},
		{"partition that has a NULL", message('I', parts, 'N', row("1", nil, "x")), "insert public.parts none -> 1|NULL|x"},
		{"truncate", message('T', uint32(2), '\x03', whole, products), "truncate public.whole none -> none;truncate public.products none -> none"},
		{"truncate of nothing", message('T', uint32(0), '\x00'), ""},
		{"transactional message", message('M', '\x01', uint64(9), "p", uint32(2), []byte("hi")), `message 0/9 p "hi"`},
		{"message at once", message('M', '\x00', uint64(9), "", uint32(0)), `message 0/9  ""`},
		{"origin", message('O', uint64(1), "elsewhere"), ""},
		{"type", message('Y', uint32(99), "public", "mood"), ""},
		{"commit", commit, "commit 1/3"},
	} {
		d, s := ready(t), &scribe{}
		if err := d.Decode(c.msg, s); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := strings.Join(s.lines, ";"); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.name, got, c.want)
		}
		// Cut anywhere, or with a byte too many, it is an error, and nothing is told.
		for end := range len(c.msg) {
			checkFaulty(t, fmt.Sprintf("%s, cut at %d", c.name, end), c.msg[:end])
		}
		checkFaulty(t, c.name+" and a byte", append(bytes.Clone(c.msg), 0))
	}
}

func checkFaulty(t *testing.T, what string, msg []byte) {
	t.Helper()
	s := &scribe{}
	if err := ready(t).Decode(msg, s); err == nil || len(s.lines) > 0 {
		t.Errorf("%s: %q, %v, want an error alone", what, s.lines, err)
	}
}

func TestDecodeFaults(t *testing.T) {
	for name, msg := range map[string][]byte{
		"empty":                    {},
		"unknown type":             message('S', uint32(1)),
		"begin within a begin":     begin,
		"unknown relation":         message('I', uint32(1), 'N', row("1")),
		"unknown relation, update": message('U', uint32(1), 'N', row("1")),
		"unknown relation, delete": message('D', uint32(1), 'K', row("1")),
		"unknown relation, truncate, after one that is known": message('T', uint32(2), '\x00', whole, uint32(1)),
		"truncate of more than it names":                      message('T', uint32(3), '\x00', whole, products),
		"truncate of 2^30+1":                                  message('T', uint32(1<<30+1), '\x00', whole),
		"columns too few":                                     message('I', products, 'N', row("1", "2")),
		"columns too many":                                    message('I', products, 'N', row("1", "2", "3", "4")),
		"binary value":                                        message('I', products, 'N', uint16(3), 'b', uint32(0), 'n', 'n'),
		"insert of an old row":                                message('I', products, 'K', row("1", nil, nil)),
		"update without a new row":                            message('U', products, 'K', row("1", nil, nil)),
		"delete of a new row":                                 message('D', products, 'N', row("1", nil, nil)),
		"length beyond the end":                               message('I', products, 'N', uint16(3), 't', uint32(1<<32-1), 'n', 'n'),
		"flags of a commit":                                   message('C', '\x01', uint64(2), uint64(3), uint64(1)),
		"stream start":                                        message('S', uint32(5), '\x01'),
	} {
		checkFaulty(t, name, msg)
	}
	for name, msg := range map[string][]byte{
		"commit":                message('C', '\x00', uint64(2), uint64(3), uint64(1)),
		"insert":                message('I', products, 'N', row("1", nil, "")),
		"truncate":              message('T', uint32(1), '\x00', whole),
		"transactional message": message('M', '\x01', uint64(9), "p", uint32(0)),
	} {
		d, s := ready(t), &scribe{}
		if err := d.Decode(commit, s); err != nil || d.InTransaction() {
			t.Fatal(err)
		}
		if err := d.Decode(msg, s); err == nil || len(s.lines) != 1 {
			t.Errorf("%s outside of a transaction: %q, %v", name, s.lines, err)
		}
	}
}

func TestDecodeBegin(t *testing.T) {
	d, s := &Decoder{}, &scribe{}
	if err := d.Decode(begin, s); err != nil {
		t.Fatal(err)
	}
	if want := "begin 77 1/2 2000-01-01T00:00:01.5Z"; s.lines[0] != want || !d.InTransaction() {
		t.Errorf("got %s, want %s", s.lines[0], want)
	}
	before := message('B', uint64(1), uint64(1<<64-500_000), uint32(1)) // half a second before Postgres's epoch
	d, s = &Decoder{}, &scribe{}
	if err := d.Decode(before, s); err != nil || s.lines[0] != "begin 1 0/1 1999-12-31T23:59:59.5Z" {
		t.Errorf("got %s, %v", s.lines, err)
	}
}

// TestSinkErrors: what the sink returns is what Decode returns.
func TestSinkErrors(t *testing.T) {
	fault := errors.New("no")
	for _, msg := range [][]byte{
		message('I', products, 'N', row("1", nil, "")),
		message('U', products, 'N', row("1", nil, "")),
		message('D', products, 'K', row("1", nil, nil)),
		message('T', uint32(2), '\x00', whole, products),
		message('M', '\x00', uint64(9), "", uint32(0)),
		commit,
	} {
		s := &scribe{err: fault}
		if err := ready(t).Decode(msg, s); !errors.Is(err, fault) || len(s.lines) != 1 {
			t.Errorf("%q: %q, %v, want %v and no more", msg[0], s.lines, err, fault)
		}
	}
}

// TestRelationsAreNeverAltered: another description is another Relation, and the
// same one that comes again is not.
func TestRelationsAreNeverAltered(t *testing.T) {
	d, s := ready(t), &scribe{}
	insert := message('I', products, 'N', row("1", nil, ""))
	for _, msg := range [][]byte{
		insert,
		relation(products, "goods", 'f', "*id", "*label", "*body"),
		insert,
		relation(products, "goods", 'f', "*id", "*label", "*body"),
		insert,
		message('R', products, "", "pg_thing", 'n', uint16(0)),
		message('I', products, 'N', row()),
	} {
		if err := d.Decode(msg, s); err != nil {
			t.Fatal(err)
		}
	}
	first := s.rels[0]
	if first.Name != "products" || first.Columns[1] != (viewlet.Column{Name: "name", Type: 25}) || !first.Columns[0].Key || first.Identity != 'd' {
		t.Errorf("the first relation is %+v", first)
	}
	if second := s.rels[1]; second.Name != "goods" || !second.Columns[1].Key || second.Identity != 'f' || second.ID != products {
		t.Errorf("the second relation is %+v", second)
	}
	if s.rels[2] != s.rels[1] {
		t.Error("the same description makes another relation")
	}
	if third := s.rels[3]; third.Schema != "pg_catalog" || len(third.Columns) != 0 {
		t.Errorf("the third relation is %+v", third)
	}
}

// FuzzDecode takes messages with two bytes of length before each. No input
// panics; what decodes does not with a byte less or more; and a decoder that
// decodes again tells the same.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		var d, again Decoder
		told, retold := &scribe{}, &scribe{}
		stream = stream[:min(len(stream), 8<<10)] // more of the same is no news
		for len(stream) >= 2 {
			n := min(int(binary.BigEndian.Uint16(stream)), len(stream)-2)
			msg := stream[2 : 2+n]
			stream = stream[2+n:]
			before := d
			before.relations = maps.Clone(d.relations)
			if d.Decode(msg, told) != nil {
				return
			}
			if err := again.Decode(msg, retold); err != nil {
				t.Fatal(err)
			}
			for _, faulty := range [][]byte{msg[:n-1], append(bytes.Clone(msg), 0)} {
				if d := before; d.Decode(faulty, &scribe{}) == nil {
					t.Fatalf("%q decodes, and so does %q", msg, faulty)
				}
			}
		}
		if strings.Join(told.lines, "\n") != strings.Join(retold.lines, "\n") {
			t.Fatalf("told\n%q\nand then\n%q", told.lines, retold.lines)
		}
	})
}

// counter is a Sink that only counts.
type counter struct {
	scribe
	n int
}

func (c *counter) Change(*viewlet.Change) error { c.n++; return nil }

func rows() map[string][]byte {
	return map[string][]byte{
		"insert": message('I', products, 'N', row("1234567", "a name of some length", "9.50")),
		"update": message('U', products, 'K', row("1", nil, nil), 'N', row("2", "a name of some length", 'u')),
		"whole":  message('U', whole, 'O', row("1", nil, "x"), 'N', row("1", "a", 'u')),
		"delete": message('D', products, 'K', row("1", nil, nil)),
	}
}

func TestNoAllocationPerRow(t *testing.T) {
	for name, msg := range rows() {
		d, s := ready(t), &counter{}
		n := testing.AllocsPerRun(1000, func() {
			if err := d.Decode(msg, s); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 || s.n == 0 {
			t.Errorf("%s: %v allocations a row", name, n)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, msg := range rows() {
		b.Run(name, func(b *testing.B) {
			d, s := ready(b), &counter{}
			b.ReportAllocs()
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				if err := d.Decode(msg, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
