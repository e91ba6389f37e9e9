// Package pgoutput decodes what the logical decoding plugin of that name
// writes, protocol version 1: bytes in, changes out.
package pgoutput

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Decoder decodes the messages of one stream, in their order. It remembers the
// relations that the stream described, and allocates nothing for a row. The
// zero Decoder is ready; it is for one goroutine, and after an error for
// nothing any more.
//
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
type Decoder struct {
	// Partitioned has the OIDs of the partitioned tables. A change of one is
	// a change of a partition, with the old columns of the partition's replica
	// identity but said to be whole when the root's is FULL: of those tables a
	// NULL in an old row may be a value that was not sent, and is taken for one.
	Partitioned map[uint32]bool

	relations map[uint32]*viewlet.Relation
	open      bool
	change    viewlet.Change
	old, new  viewlet.Tuple
}

// InTransaction reports whether a transaction was begun and not committed.
func (d *Decoder) InTransaction() bool { return d.open }

// Decode decodes one message, whole, and hands the sink what it says. Values
// alias msg. A message that is not known, too short, too long or out of place
// is an error, and so is what the sink returns; then the sink has seen nothing
// of a faulty message.
func (d *Decoder) Decode(msg []byte, sink viewlet.Sink) error {
	if len(msg) == 0 {
		return errors.New("decode message: it is empty")
	}
	r := reader{rest: msg[1:]}
	switch msg[0] {
	case 'B':
		return named("Begin", d.begin(&r, sink))
	case 'C':
		return named("Commit", d.commit(&r, sink))
	case 'O':
		return named("Origin", d.origin(&r))
	case 'R':
		return named("Relation", d.relation(&r))
	case 'Y':
		return named("Type", d.typ(&r))
	case 'I':
		return named("Insert", d.insert(&r, sink))
	case 'U':
		return named("Update", d.update(&r, sink))
	case 'D':
		return named("Delete", d.delete(&r, sink))
	case 'T':
		return named("Truncate", d.truncate(&r, sink))
	case 'M':
		return named("Message", d.message(&r, sink))
	}
	return fmt.Errorf("decode message: unknown type %q", msg[0])
}

func named(message string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("decode %s: %w", message, err)
}

func (d *Decoder) begin(r *reader, sink viewlet.Sink) error {
	tx := viewlet.Tx{FinalLSN: r.lsn(), Committed: r.time(), XID: r.uint32()}
	if err := r.end(); err != nil {
		return err
	}
	if d.open {
		return errors.New("the transaction before it has not ended")
	}
	d.open = true
	sink.Begin(tx)
	return nil
}

func (d *Decoder) commit(r *reader, sink viewlet.Sink) error {
	flags := r.uint8()
	r.lsn() // where the commit record starts, known since Begin
	end := r.lsn()
	r.time()
	if err := r.end(); err != nil {
		return err
	}
	if flags != 0 {
		return fmt.Errorf("unknown flags %#x", flags)
	}
	if !d.open {
		return errOutside
	}
	d.open = false
	return sink.Commit(end)
}

func (d *Decoder) origin(r *reader) error {
	r.lsn()
	r.text()
	return r.end()
}

func (d *Decoder) typ(r *reader) error {
	r.uint32()
	r.text()
	r.text()
	return r.end()
}

// relation makes a new Relation when the table has changed its shape: what is
// compiled for the one before goes on being right for it. Postgres tells of a
// table anew whenever something in the catalog may have touched it.
func (d *Decoder) relation(r *reader) error {
	rel := &viewlet.Relation{ID: r.uint32(), Schema: r.text(), Name: r.text()}
	if rel.Schema == "" {
		rel.Schema = "pg_catalog"
	}
	rel.Identity = viewlet.ReplicaIdentity(r.uint8())
	for range r.uint16() {
		flags := r.uint8()
		col := viewlet.Column{Name: r.text(), Type: r.uint32(), Key: flags&1 != 0}
		r.uint32() // the type modifier
		if r.short {
			return errShort
		}
		rel.Columns = append(rel.Columns, col)
	}
	if err := r.end(); err != nil {
		return err
	}
	if d.relations == nil {
		d.relations = make(map[uint32]*viewlet.Relation)
	}
	if was := d.relations[rel.ID]; was == nil || !reflect.DeepEqual(was, rel) {
		d.relations[rel.ID] = rel
	}
	return nil
}

// message is a logical decoding message. One that is not transactional comes
// when it is read from the WAL, between two transactions.
func (d *Decoder) message(r *reader, sink viewlet.Sink) error {
	transactional := r.uint8()&1 != 0
	msg := viewlet.Message{LSN: r.lsn(), Prefix: r.text()}
	msg.Content = r.bytes(r.uint32())
	if err := r.end(); err != nil {
		return err
	}
	if transactional && !d.open {
		return errOutside
	}
	return sink.Message(msg)
}

var errOutside = errors.New("it stands outside of a transaction")

// reader takes a message apart. Once it is short of bytes all that it gives is
// zero, and end tells.
type reader struct {
	rest  []byte
	short bool
}

var errShort = errors.New("it is too short")

// end says whether the message was exactly as long as what was read of it.
func (r *reader) end() error {
	if r.short {
		return errShort
	}
	if len(r.rest) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.rest))
	}
	return nil
}

func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.rest)) {
		r.rest, r.short = nil, true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uint8() uint8 {
	if len(r.rest) < 1 {
		r.rest, r.short = nil, true
		return 0
	}
	v := r.rest[0]
	r.rest = r.rest[1:]
	return v
}

func (r *reader) uint16() uint16 {
	if len(r.rest) < 2 {
		r.rest, r.short = nil, true
		return 0
	}
	v := uint16(r.rest[0])<<8 | uint16(r.rest[1])
	r.rest = r.rest[2:]
	return v
}

func (r *reader) uint32() uint32 {
	if len(r.rest) < 4 {
		r.rest, r.short = nil, true
		return 0
	}
	v := uint32(r.rest[0])<<24 | uint32(r.rest[1])<<16 | uint32(r.rest[2])<<8 | uint32(r.rest[3])
	r.rest = r.rest[4:]
	return v
}

func (r *reader) uint64() uint64 { return uint64(r.uint32())<<32 | uint64(r.uint32()) }

func (r *reader) lsn() viewlet.LSN { return viewlet.LSN(r.uint64()) }

// time reads a TimestampTz: microseconds since 2000-01-01.
func (r *reader) time() time.Time {
	const epoch = 946684800 // 2000-01-01 00:00:00 UTC in Unix seconds
	us := int64(r.uint64())
	return time.Unix(epoch+us/1e6, us%1e6*1000).UTC()
}

// text reads a string that a zero byte ends, and copies it.
func (r *reader) text() string {
	for i, c := range r.rest {
		if c == 0 {
			s := string(r.rest[:i])
			r.rest = r.rest[i+1:]
			return s
		}
	}
	r.rest, r.short = nil, true
	return ""
}
