package render

import (
	"context"
	"fmt"
	"strconv"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// found is what the query gives for a chunk's keys: the rows, and which are
// whose.
type found struct {
	rows value.Rows
	keys []keyRows
}

// keyRows are a key's rows, each by the index of its first value.
type keyRows struct {
	rows  []int
	first [1]int // room for one, which is most often all
}

func (f *found) add(key int, row [][]byte) {
	k := &f.keys[key]
	if k.rows == nil {
		k.rows = k.first[:0]
	}
	k.rows = append(k.rows, f.rows.Add(row))
}

// query runs the query for the keys, and tells where the server stood before.
func (ch *chunk) query(ctx context.Context, keys []viewlet.Key) (f *found, at place, err error) {
	st, params, err := ch.arguments(keys)
	if err != nil {
		return nil, at, err
	}
	most := ch.r.mostRows()
	each := func(row [][]byte) error {
		ord, err := strconv.Atoi(string(row[0]))
		if err != nil || ord < 1 || ord > len(keys) {
			return fmt.Errorf("read a row of viewlet %s: it is of key %q of %d", ch.c.rules.Name, row[0], len(keys))
		}
		if len(f.keys[ord-1].rows) > 0 && !ch.wantsRows() {
			return nil
		}
		if f.add(ord-1, row[1:]); f.rows.Size() > most {
			return &dataError{fmt.Sprintf("the query gives more than %d bytes of rows; let it return less, or raise --max-fragment", most)}
		}
		return nil
	}
	err = ch.r.db.read(ctx, func(ctx context.Context, from server) error {
		f = &found{keys: make([]keyRows, len(keys))}
		return from.runAt(ctx, st, params, &at, each)
	})
	if len(params) == 0 { // then one result is that of every key
		for i := range f.keys {
			f.keys[i].rows = f.keys[0].rows
		}
	}
	return f, at, err
}

// mostRows is how much may be read at once, in bytes: many times what fits
// into a fragment.
func (r *Renderer) mostRows() int { return 16 * max(r.maxFragment, DefaultMaxFragment) }

// wantsRows reports whether all rows of a key are read, and not only the first.
func (ch *chunk) wantsRows() bool {
	if ch.c.page == nil {
		return ch.c.rules.Rows
	}
	return ch.c.page.WantsRows
}

// arguments gives what runs for the keys: one array for each param, or for a
// query that takes but one key its arguments.
func (ch *chunk) arguments(keys []viewlet.Key) (*statement, [][]byte, error) {
	n := len(ch.plan.query.params)
	params := make([][]byte, n)
	if ch.plan.many == nil {
		args, err := keys[0].Split(nil)
		if err != nil || len(args) != n {
			return nil, nil, misfit(keys[0], n)
		}
		for i, a := range args {
			params[i] = []byte(a)
		}
		return ch.plan.one, params, nil
	}
	columns := make([][]string, n)
	for i := range columns {
		columns[i] = make([]string, 0, len(keys))
	}
	var args []string
	for _, k := range keys {
		var err error
		if args, err = k.Split(args[:0]); err != nil || len(args) != n {
			return nil, nil, misfit(k, n)
		}
		for i, a := range args {
			columns[i] = append(columns[i], a)
		}
	}
	for i, column := range columns {
		params[i] = appendArray(nil, column)
	}
	return ch.plan.many, params, nil
}

func misfit(k viewlet.Key, params int) error {
	return &dataError{fmt.Sprintf("%s names no fragment: the viewlet has %d params", k, params)}
}
