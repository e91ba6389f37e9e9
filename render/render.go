package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Snapshot tells which transactions a query that starts now would see.
func (r *Renderer) Snapshot(ctx context.Context) (viewlet.Snapshot, error) { return r.db.Snapshot(ctx) }

// Render gives one fragment for each of the viewlet's keys, in their order,
// from one query. What is one key's fault, in its data or in its template, is
// that fragment's Err; a *viewlet.Broken is the viewlet's; any other error the
// world's.
func (r *Renderer) Render(ctx context.Context, name string, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	c, ok := r.viewlets[name]
	if !ok {
		return nil, fmt.Errorf("render %s: there is no such viewlet", name)
	}
	if c.unparsed != nil {
		return nil, &viewlet.Broken{Err: c.unparsed}
	}
	fragments, err := r.renderOnce(ctx, c, keys, false)
	if outdated(err) {
		fragments, err = r.renderOnce(ctx, c, keys, true)
	}
	return fragments, brokenIfQuery(err)
}

// renderOnce renders with the plan that there is. fresh is true when another
// plan has just failed.
func (r *Renderer) renderOnce(ctx context.Context, c *compiledViewlet, keys []viewlet.Key, fresh bool) ([]viewlet.Fragment, error) {
	plan, err := r.plan(ctx, c)
	if err != nil {
		return nil, err
	}
	ch := &chunk{r: r, c: c, plan: plan, fresh: fresh, fragments: make([]viewlet.Fragment, 0, len(keys))}
	if err = ch.render(ctx, keys); err == nil {
		err = ch.verdict()
	}
	if outdated(err) {
		c.forget(plan)
	}
	return ch.fragments, err
}

// outdated reports whether a query that failed may do better when it is
// compiled anew.
func outdated(err error) bool {
	f := faultOf(err)
	return f == faultOfSchema || f == faultOfQuery
}

// brokenIfQuery marks an error that is the query's fault.
func brokenIfQuery(err error) error {
	var q *QueryError
	var broken *viewlet.Broken
	switch {
	case errors.As(err, &broken):
		return err
	case errors.As(err, &q), faultOf(err) == faultOfQuery:
		return &viewlet.Broken{Err: err}
	}
	return err
}

// chunk is the rendering of some keys.
type chunk struct {
	r         *Renderer
	c         *compiledViewlet
	plan      *plan
	fresh     bool // the plan was compiled because another one failed
	fragments []viewlet.Fragment
	args      []string // of the key at hand
}

// render appends the keys' fragments. A chunk that fails by its data is
// halved until only the guilty fragment bears the error.
func (ch *chunk) render(ctx context.Context, keys []viewlet.Key) error {
	if len(keys) == 0 {
		return nil
	}
	if ch.plan.many == nil && len(keys) > 1 {
		return ch.halves(ctx, keys)
	}
	results, lsn, err := ch.query(ctx, keys)
	if err != nil {
		if !ch.ofData(err) {
			return err
		}
		if len(keys) > 1 {
			return ch.halves(ctx, keys)
		}
		ch.fragments = append(ch.fragments, viewlet.Fragment{Key: keys[0], LSN: lsn, Err: err})
		return nil
	}
	for i, key := range keys {
		f := viewlet.Fragment{Key: key, LSN: lsn}
		f.Body, f.Err = ch.body(key, results[i])
		ch.fragments = append(ch.fragments, f)
	}
	return nil
}

func (ch *chunk) halves(ctx context.Context, keys []viewlet.Key) error {
	half := len(keys) / 2
	if err := ch.render(ctx, keys[:half]); err != nil {
		return err
	}
	return ch.render(ctx, keys[half:])
}

// ofData reports whether one key's data may be at fault. Postgres has told of
// a fresh plan what is wrong with the query; what comes up when it runs comes
// of the data, as a syntax error in to_tsquery's argument does.
func (ch *chunk) ofData(err error) bool {
	f := faultOf(err)
	return f == faultOfData || f == faultOfQuery && ch.fresh && !denied(err)
}

// verdict gives the error when all keys fail in a way that tells more of the
// query than of them: a function's body reads a table that is gone.
func (ch *chunk) verdict() error {
	for _, f := range ch.fragments {
		if faultOf(f.Err) != faultOfQuery || len(ch.fragments) == 1 && !inFunction(f.Err) {
			return nil
		}
	}
	if len(ch.fragments) == 0 {
		return nil
	}
	return ch.fragments[0].Err
}

// result is what the query gives for one key: rows as columns' values, or as
// JSON text.
type result struct {
	rows []map[string]any
	json [][]byte
	err  error
}

// query runs the query for the keys, and gives a result for each.
func (ch *chunk) query(ctx context.Context, keys []viewlet.Key) ([]result, viewlet.LSN, error) {
	st, params, err := ch.arguments(keys)
	if err != nil {
		return nil, 0, err
	}
	results := make([]result, len(keys))
	var lsn viewlet.LSN
	size, most := 0, ch.r.mostRows()
	err = ch.r.db.runAt(ctx, st, params, &lsn, func(row [][]byte) error {
		ord, err := strconv.Atoi(string(row[0]))
		if err != nil || ord < 1 || ord > len(results) {
			return fmt.Errorf("read a row of viewlet %s: it is of key %q of %d", ch.c.rules.Name, row[0], len(results))
		}
		res := &results[ord-1]
		if !ch.wants(res) {
			return nil
		}
		for _, value := range row {
			size += rowOverhead + len(value)
		}
		if size > most {
			return &dataError{fmt.Sprintf("the query gives more than %d bytes of rows; let it return less, or raise --max-fragment", most)}
		}
		ch.add(res, row[1:])
		return nil
	})
	if len(params) == 0 { // then one result is that of every key
		for i := range results {
			results[i] = results[0]
		}
	}
	return results, lsn, err
}

// rowOverhead is about what a value takes besides its bytes.
const rowOverhead = 16

// mostRows is how much may be read at once, in bytes: many times what fits
// into a fragment.
func (r *Renderer) mostRows() int { return 16 * max(r.maxFragment, DefaultMaxFragment) }

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

// wants reports whether a further row is read: where not all are asked for,
// only the first is.
func (ch *chunk) wants(res *result) bool {
	if ch.c.page == nil {
		return ch.c.rules.Rows || len(res.json) == 0
	}
	return ch.c.page.wantRows || len(res.rows) == 0
}

// add takes a row into the result. It copies what it keeps.
func (ch *chunk) add(res *result, values [][]byte) {
	if ch.c.page == nil {
		res.json = append(res.json, bytes.Clone(values[0]))
		return
	}
	row := make(map[string]any, len(values)+len(ch.plan.query.params)+1)
	for i, col := range ch.plan.query.columns {
		oid := col.oid
		if col.isJSON() {
			oid = jsonOID
		}
		v, err := decode(oid, values[i])
		if err != nil && res.err == nil {
			res.err = fmt.Errorf("read column %s: %w", col.name, err)
		}
		row[col.name] = v
	}
	res.rows = append(res.rows, row)
}

// body makes the fragment's bytes of its rows. Nil means that there is
// nothing to show.
func (ch *chunk) body(key viewlet.Key, res result) ([]byte, error) {
	v := ch.c.rules
	if len(res.rows)+len(res.json) == 0 && !v.RenderEmpty || res.err != nil {
		return nil, res.err
	}
	if ch.c.page == nil {
		return jsonBody(res.json, v.Rows, ch.r.maxFragment)
	}
	data, err := ch.data(key, res.rows)
	if err != nil {
		return nil, err
	}
	w := limited{max: ch.r.maxFragment}
	if err := ch.c.page.execute(&w, data); err != nil {
		return nil, err
	}
	if w.Len() == 0 {
		return []byte{}, nil
	}
	return w.Bytes(), nil
}

// data is what the template sees: the params, the first row's columns, and
// rows.
func (ch *chunk) data(key viewlet.Key, rows []map[string]any) (map[string]any, error) {
	var data map[string]any
	switch {
	case len(rows) == 0:
		data = map[string]any{}
	case ch.c.page.wantRows:
		data = maps.Clone(rows[0])
	default:
		data = rows[0]
	}
	var err error
	if ch.args, err = key.Split(ch.args[:0]); err != nil {
		return nil, err
	}
	for i, p := range ch.plan.query.params {
		if _, column := data[p.name]; column {
			continue
		}
		if data[p.name], err = decode(p.base, []byte(ch.args[i])); err != nil {
			return nil, fmt.Errorf("read param %s: %w", p.name, err)
		}
	}
	if _, column := data["rows"]; !column && ch.c.page.wantRows {
		data["rows"] = rows
	}
	return data, nil
}

// jsonBody is the first row as a JSON object, or all rows as an array. No row
// is null, or an empty array.
func jsonBody(rows [][]byte, all bool, limit int) ([]byte, error) {
	w := limited{max: limit}
	var err error
	write := func(p []byte) {
		if err == nil {
			_, err = w.Write(p)
		}
	}
	switch {
	case !all && len(rows) == 0:
		write([]byte("null"))
	case !all:
		write(rows[0])
	default:
		write([]byte("["))
		write(bytes.Join(rows, []byte(",")))
		write([]byte("]"))
	}
	return w.Bytes(), err
}
