package render

import (
	"github.com/cdc-viewlet/cdc-viewlet/render/page"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// room is what is used again for one fragment of a chunk after another.
type room struct {
	sheet *page.Sheet // nil: JSON
	args  []string
	out   []byte
	block []byte // of which the fragments are cut
}

// body makes the bytes of the chunk's key of that index, when there are left
// more to come. Nil means that there is nothing to show.
func (ch *chunk) body(key viewlet.Key, f *found, index int) (body []byte, err error) {
	rows := f.keys[index].rows
	if len(rows) == 0 && !ch.c.rules.RenderEmpty {
		return nil, nil
	}
	r := &ch.room
	if r.sheet == nil {
		r.out, err = ch.json(r.out[:0], f, rows)
	} else if r.args, err = key.Split(r.args[:0]); err == nil {
		r.out, err = r.sheet.Append(r.out[:0], r.args, &f.rows, rows)
	}
	if err != nil {
		return nil, err
	}
	return r.cut(len(f.keys) - index), nil
}

// blockSize is the most that is allocated for fragments to come.
const blockSize = 32 << 10

// cut gives a copy of out. As many fragments as are to come are likely to be
// as large.
func (r *room) cut(toCome int) []byte {
	n := len(r.out)
	if cap(r.block)-len(r.block) < n || r.block == nil {
		r.block = make([]byte, 0, max(n, min(n*toCome, blockSize)))
	}
	start := len(r.block)
	r.block = append(r.block, r.out...)
	return r.block[start : start+n : start+n]
}

// json appends the first row as a JSON object, or all rows as an array. No row
// is null, or an empty array.
func (ch *chunk) json(dst []byte, f *found, rows []int) ([]byte, error) {
	if !ch.c.rules.Rows && len(rows) == 0 {
		return append(dst, "null"...), nil
	}
	if ch.c.rules.Rows {
		dst = append(dst, '[')
	}
	for i, first := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		text, _ := f.rows.Value(first)
		dst = append(dst, text...)
	}
	if ch.c.rules.Rows {
		dst = append(dst, ']')
	}
	if len(dst) > ch.r.maxFragment {
		return dst, page.TooLarge(ch.r.maxFragment)
	}
	return dst, nil
}
