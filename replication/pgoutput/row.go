package pgoutput

import (
	"encoding/binary"
	"fmt"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func (d *Decoder) insert(r *reader, sink viewlet.Sink) error {
	rel, err := d.related(r.uint32())
	if err != nil {
		return err
	}
	if kind := r.uint8(); kind != 'N' {
		return fmt.Errorf("unknown tuple kind %q", kind)
	}
	if d.new, err = r.tuple(d.new, rel, viewlet.Null); err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	d.change = viewlet.Change{Op: viewlet.Insert, Rel: rel, New: d.new}
	return sink.Change(&d.change)
}

func (d *Decoder) update(r *reader, sink viewlet.Sink) error {
	rel, err := d.related(r.uint32())
	if err != nil {
		return err
	}
	kind := r.uint8()
	var old viewlet.Tuple
	if kind == 'K' || kind == 'O' {
		if old, err = d.oldTuple(r, rel, kind); err != nil {
			return err
		}
		kind = r.uint8()
	}
	if kind != 'N' {
		return fmt.Errorf("unknown tuple kind %q", kind)
	}
	if d.new, err = r.tuple(d.new, rel, viewlet.Null); err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	if old != nil {
		keepUnchanged(d.new, old)
	}
	d.change = viewlet.Change{Op: viewlet.Update, Rel: rel, Old: old, New: d.new}
	return sink.Change(&d.change)
}

func (d *Decoder) delete(r *reader, sink viewlet.Sink) error {
	rel, err := d.related(r.uint32())
	if err != nil {
		return err
	}
	old, err := d.oldTuple(r, rel, r.uint8())
	if err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	d.change = viewlet.Change{Op: viewlet.Delete, Rel: rel, Old: old}
	return sink.Change(&d.change)
}

// truncate makes one Change of each table: one TRUNCATE may name several, and
// CASCADE add more.
func (d *Decoder) truncate(r *reader, sink viewlet.Sink) error {
	n := r.uint32()
	r.uint8() // CASCADE and RESTART IDENTITY make no difference to a cache
	ids := r.bytes(uint32(len(r.rest)))
	if err := r.end(); err != nil {
		return err
	}
	if uint64(len(ids)) != 4*uint64(n) {
		return fmt.Errorf("%d bytes name %d tables", len(ids), n)
	}
	for i := 0; i < len(ids); i += 4 {
		if _, err := d.related(binary.BigEndian.Uint32(ids[i:])); err != nil {
			return err
		}
	}
	for i := 0; i < len(ids); i += 4 {
		rel := d.relations[binary.BigEndian.Uint32(ids[i:])]
		d.change = viewlet.Change{Op: viewlet.Truncate, Rel: rel}
		if err := sink.Change(&d.change); err != nil {
			return err
		}
	}
	return nil
}

// related gives the relation that a change names. Each row of a stream stands
// in a transaction, and behind its Relation message.
func (d *Decoder) related(id uint32) (*viewlet.Relation, error) {
	if !d.open {
		return nil, errOutside
	}
	rel := d.relations[id]
	if rel == nil {
		return nil, fmt.Errorf("relation %d has not been described", id)
	}
	return rel, nil
}

// oldTuple reads a whole old row ('O'), or its replica identity alone ('K').
// The latter has NULL in place of all that is not part of it: not sent, since
// no column of a key can be NULL.
func (d *Decoder) oldTuple(r *reader, rel *viewlet.Relation, kind byte) (viewlet.Tuple, error) {
	if kind != 'K' && kind != 'O' {
		return nil, fmt.Errorf("unknown tuple kind %q", kind)
	}
	null := viewlet.NotSent
	if kind == 'O' && !d.Partitioned[rel.ID] {
		null = viewlet.Null
	}
	var err error
	d.old, err = r.tuple(d.old, rel, null)
	return d.old, err
}

// tuple reads a row into dst, over what it held. A NULL becomes a Value of the
// kind null.
func (r *reader) tuple(dst viewlet.Tuple, rel *viewlet.Relation, null viewlet.ValueKind) (viewlet.Tuple, error) {
	dst = dst[:0]
	if n := r.uint16(); int(n) != len(rel.Columns) {
		return dst, fmt.Errorf("%d columns, but %s has %d", n, rel, len(rel.Columns))
	}
	for range rel.Columns {
		switch kind := r.uint8(); kind {
		case 't':
			dst = append(dst, viewlet.Value{Kind: viewlet.Text, Text: r.bytes(r.uint32())})
		case 'n':
			dst = append(dst, viewlet.Value{Kind: null})
		case 'u':
			dst = append(dst, viewlet.Value{Kind: viewlet.Unchanged})
		default:
			if r.short {
				return dst, errShort
			}
			return dst, fmt.Errorf("unknown column kind %q", kind)
		}
	}
	return dst, nil
}

// keepUnchanged fills in the unchanged TOAST values that the old row has.
func keepUnchanged(tuple, old viewlet.Tuple) {
	for i := range tuple {
		if tuple[i].Kind == viewlet.Unchanged && old[i].Kind == viewlet.Text {
			tuple[i] = old[i]
		}
	}
}
