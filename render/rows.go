package render

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

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
	if ch.plan.many == nil || len(keys) == 1 {
		f, at, err = ch.queryOne(ctx, keys[0])
		if ch.plan.many == nil || !maybeOfPlanning(err) {
			return f, at, err
		}
	}
	params, err := ch.arrays(keys)
	if err != nil {
		return nil, at, err
	}
	return ch.run(ctx, ch.plan.many, params, len(keys))
}

// queryOne runs the form of the query that takes one key. Postgres has its plan
// at hand; for an array it plans anew each time.
//
// https://www.postgresql.org/docs/current/sql-prepare.html#SQL-PREPARE-NOTES
func (ch *chunk) queryOne(ctx context.Context, key viewlet.Key) (f *found, at place, err error) {
	n := len(ch.plan.query.params)
	args, err := key.Split(nil)
	if err != nil || len(args) != n {
		return nil, at, misfit(key, n)
	}
	params := make([][]byte, n)
	for i, a := range args {
		params[i] = []byte(a)
	}
	return ch.run(ctx, ch.plan.one, params, 1)
}

// maybeOfPlanning reports whether Postgres may have met the error when it
// planned: it evaluates then what it can of a single key's arguments, also what
// the query never comes to. With an array of keys it does not, and what it says
// of that counts; but for a timeout, which would be waited for twice.
func maybeOfPlanning(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "08", "26", "40", "53", "55", "57", "58": // the connection, the session, the server
		return false
	}
	return true
}

// run runs a form of the query for so many keys.
func (ch *chunk) run(ctx context.Context, st *statement, params [][]byte, keys int) (f *found, at place, err error) {
	most := ch.r.mostRows()
	each := func(row [][]byte) error {
		ord, err := strconv.Atoi(string(row[0]))
		if err != nil || ord < 1 || ord > keys {
			return fmt.Errorf("read a row of viewlet %s: it is of key %q of %d", ch.c.rules.Name, row[0], keys)
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
		f = &found{keys: make([]keyRows, keys)}
		return from.runAt(ctx, st, params, &at, each)
	})
	if ch.r.db.standby != nil {
		at.sees = nil // the next query may be the standby's, which may see less
	}
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

// arrays gives the keys' arguments, an array for each param.
func (ch *chunk) arrays(keys []viewlet.Key) ([][]byte, error) {
	n := len(ch.plan.query.params)
	params := make([][]byte, n)
	columns := make([][]string, n)
	for i := range columns {
		columns[i] = make([]string, 0, len(keys))
	}
	var args []string
	for _, k := range keys {
		var err error
		if args, err = k.Split(args[:0]); err != nil || len(args) != n {
			return nil, misfit(k, n)
		}
		for i, a := range args {
			columns[i] = append(columns[i], a)
		}
	}
	for i, column := range columns {
		params[i] = appendArray(nil, column)
	}
	return params, nil
}

func misfit(k viewlet.Key, params int) error {
	return &dataError{fmt.Sprintf("%s names no fragment: the viewlet has %d params", k, params)}
}
