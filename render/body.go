package render

import (
	"bytes"
	"fmt"
	"maps"

	"github.com/cdc-viewlet/cdc-viewlet/render/page"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// room is what is used again for one fragment of a chunk after another.
type room struct {
	data map[string]any
	rows []map[string]any
	args []string
	out  limited
}

// body makes the bytes of the chunk's key of that index. Nil means that there
// is nothing to show.
func (ch *chunk) body(key viewlet.Key, f *found, index int) ([]byte, error) {
	rows := f.keys[index].rows
	if len(rows) == 0 && !ch.c.rules.RenderEmpty {
		return nil, nil
	}
	out := &ch.room.out
	out.Reset()
	err := ch.write(out, key, f, rows)
	if err != nil {
		return nil, err
	}
	return append(make([]byte, 0, out.Len()), out.Bytes()...), nil
}

func (ch *chunk) write(out *limited, key viewlet.Key, f *found, rows []int) error {
	if ch.c.page == nil {
		return ch.writeJSON(out, f, rows)
	}
	data, err := ch.data(key, f, rows)
	if err != nil {
		return err
	}
	return ch.c.page.Execute(out, data)
}

// data is what the template sees: the params, the first row's columns, and
// rows. It is good until the next call.
func (ch *chunk) data(key viewlet.Key, f *found, rows []int) (data map[string]any, err error) {
	r := &ch.room
	for len(r.rows) < max(1, len(rows)) {
		r.rows = append(r.rows, make(map[string]any, len(ch.plan.query.columns)+len(ch.plan.query.params)))
	}
	clear(r.rows[0])
	for i, first := range rows {
		if err := ch.row(r.rows[i], f, first); err != nil {
			return nil, err
		}
	}
	data = r.rows[0]
	if ch.c.page.WantsRows {
		if r.data == nil {
			r.data = make(map[string]any, len(data)+len(ch.plan.query.params)+1)
		}
		clear(r.data)
		maps.Copy(r.data, data)
		data = r.data
	}
	if err := ch.params(data, key); err != nil {
		return nil, err
	}
	if _, column := data["rows"]; !column && ch.c.page.WantsRows {
		data["rows"] = r.rows[:len(rows)]
	}
	return data, nil
}

// row puts a row's columns into the map.
func (ch *chunk) row(into map[string]any, f *found, first int) error {
	for i, col := range ch.plan.query.columns {
		oid := col.oid
		if col.isJSON() {
			oid = jsonOID
		}
		text, null := f.value(first + i)
		if null {
			into[col.name] = nil
			continue
		}
		var err error
		if into[col.name], err = page.Value(oid, text); err != nil {
			return fmt.Errorf("read column %s: %w", col.name, err)
		}
	}
	return nil
}

// params puts the key's arguments beside the columns.
func (ch *chunk) params(data map[string]any, key viewlet.Key) (err error) {
	if ch.room.args, err = key.Split(ch.room.args[:0]); err != nil {
		return err
	}
	for i, p := range ch.plan.query.params {
		if _, column := data[p.name]; column {
			continue
		}
		if data[p.name], err = page.Value(p.base, ch.room.args[i]); err != nil {
			return fmt.Errorf("read param %s: %w", p.name, err)
		}
	}
	return nil
}

// writeJSON writes the first row as a JSON object, or all rows as an array. No
// row is null, or an empty array.
func (ch *chunk) writeJSON(out *limited, f *found, rows []int) error {
	if !ch.c.rules.Rows {
		if len(rows) == 0 {
			return out.add("null")
		}
		text, _ := f.value(rows[0])
		return out.add(text)
	}
	err := out.add("[")
	for i, first := range rows {
		if i > 0 && err == nil {
			err = out.add(",")
		}
		if text, _ := f.value(first); err == nil {
			err = out.add(text)
		}
	}
	if err != nil {
		return err
	}
	return out.add("]")
}

// limited stops a fragment that is larger than one may be.
type limited struct {
	bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	if err := l.fits(len(p)); err != nil {
		return 0, err
	}
	return l.Buffer.Write(p)
}

func (l *limited) add(s string) error {
	if err := l.fits(len(s)); err != nil {
		return err
	}
	l.WriteString(s)
	return nil
}

func (l *limited) fits(more int) error {
	if l.Len()+more > l.max {
		return fmt.Errorf("the fragment is larger than %d bytes; let the query return less, or raise --max-fragment", l.max)
	}
	return nil
}
