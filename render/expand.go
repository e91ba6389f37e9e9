package render

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// pieceSize is how many keys are yielded at once.
const pieceSize = 1000

// compiledExpansion is an expansion as one SELECT over all its inputs.
type compiledExpansion struct {
	sql     string     // without a limit, for a cursor
	few     *statement // with one
	inputs  int
	outputs int
}

// Expand yields the keys that the expansion via names for each of args, or
// with viewlet.Whole every key of the viewlet. A key may come twice. An error
// is yield's, a *viewlet.Broken, or the world's.
func (r *Renderer) Expand(ctx context.Context, name, via string, args []string, yield func([]viewlet.Key) error) error {
	expand := func(yield func([]viewlet.Key) error) error { return r.lookUp(ctx, name, via, args, yield) }
	what := "expand " + via
	if via == viewlet.Whole {
		expand = func(yield func([]viewlet.Key) error) error { return r.whole(ctx, name, yield) }
		what = "all"
	}
	var yields error
	noting := func(keys []viewlet.Key) error {
		yields = yield(keys)
		return yields
	}
	err := expand(noting)
	if outdated(err) && yields == nil {
		err = expand(noting)
	}
	if err == nil || yields != nil {
		return err
	}
	if faultOf(err) == faultOfData { // of no key that could be named
		return &viewlet.Broken{Err: fmt.Errorf("%s: %w", what, err)}
	}
	return brokenIfQuery(fmt.Errorf("%s: %w", what, err))
}

// lookUp yields the keys that an expansion names for its inputs.
func (r *Renderer) lookUp(ctx context.Context, name, via string, args []string, yield func([]viewlet.Key) error) error {
	e, err := r.expansion(ctx, via)
	if err != nil {
		return err
	}
	params, err := e.arguments(args)
	if err != nil {
		return err
	}
	keys, complete, err := r.few(ctx, name, e, params)
	switch {
	case err != nil:
		r.expansions.Delete(via)
		return err
	case complete:
		return inPieces(keys, yield)
	}
	return r.db.cursor(ctx, r.db.lookups, e.sql, params, name, e.outputs, yield)
}

// whole yields every key of the viewlet.
func (r *Renderer) whole(ctx context.Context, name string, yield func([]viewlet.Key) error) error {
	c, ok := r.viewlets[name]
	if !ok {
		return fmt.Errorf("expand %s: there is no such viewlet", name)
	}
	if len(c.rules.Params) == 0 {
		return yield([]viewlet.Key{viewlet.NewKey(name)})
	}
	plan, err := r.plan(ctx, c)
	if err != nil || plan.whole == "" {
		return err
	}
	err = r.db.cursor(ctx, r.db.wholes, plan.whole, nil, name, len(c.rules.Params), yield)
	if err != nil {
		c.forget(plan)
	}
	return err
}

func inPieces(keys []viewlet.Key, yield func([]viewlet.Key) error) error {
	for len(keys) > 0 {
		n := min(pieceSize, len(keys))
		if err := yield(keys[:n:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (r *Renderer) expansion(ctx context.Context, via string) (*compiledExpansion, error) {
	if e, ok := r.expansions.Load(via); ok {
		return e.(*compiledExpansion), nil
	}
	rule := r.set.Expansion(via)
	if rule == nil {
		return nil, &viewlet.Broken{Err: fmt.Errorf("there is no lookup %s", via)}
	}
	e, err := r.compileExpansion(ctx, rule)
	if err != nil {
		return nil, err
	}
	r.expansions.Store(via, e)
	return e, nil
}

// compileExpansion makes one SELECT of the inputs and the steps: each lookup's
// query is a LATERAL subquery over what comes before it.
func (r *Renderer) compileExpansion(ctx context.Context, rule *rules.Expansion) (*compiledExpansion, error) {
	var from strings.Builder
	var inputs, arrays []string
	for i := range rule.Inputs {
		inputs = append(inputs, argName(i))
		arrays = append(arrays, fmt.Sprintf("$%d::text[]", i+1))
	}
	fmt.Fprintf(&from, " FROM unnest(%s) AS %s(%s)", strings.Join(arrays, ", "), argsAlias, strings.Join(inputs, ", "))
	width := make([]int, len(rule.Steps)) // columns that each step selects
	refs := func(list []rules.Ref) []string {
		var exprs []string
		for _, ref := range list {
			exprs = append(exprs, refSQL(ref, width)...)
		}
		return exprs
	}
	for i, step := range rule.Steps {
		d, err := r.db.describe(ctx, step.Lookup.Query)
		if err != nil {
			return nil, fmt.Errorf("lookup %s: %w", step.Lookup.Name, err)
		}
		args := refs(step.Args)
		if len(args) != len(d.params) {
			return nil, &viewlet.Broken{Err: fmt.Errorf("lookup %s takes %d arguments, and is given %d", step.Lookup.Name, len(d.params), len(args))}
		}
		width[i] = len(d.columns)
		bound, _ := step.Lookup.Query.Bind(func(p int) string {
			return "CAST(" + args[p] + " AS " + d.params[p].typ + ")"
		})
		var columns []string
		for c := range d.columns {
			columns = append(columns, stepName(c))
		}
		fmt.Fprintf(&from, " CROSS JOIN LATERAL (\n%s\n) AS %s(%s)", bound, stepAlias(i), strings.Join(columns, ", "))
	}
	outputs := refs(rule.Outputs)
	if want := len(r.set.Viewlet(rule.Viewlet).Params); len(outputs) != want {
		return nil, &viewlet.Broken{Err: fmt.Errorf("%s takes %d arguments, and its lookups give %d", rule.Viewlet, want, len(outputs))}
	}
	sql := "SELECT " + strings.Join(outputs, ", ") + from.String()
	return &compiledExpansion{
		sql:     sql,
		few:     newStatement(sql + "\nLIMIT " + strconv.Itoa(pieceSize+1)),
		inputs:  rule.Inputs,
		outputs: len(outputs),
	}, nil
}

func stepAlias(i int) string { return "cdc_viewlet_step" + strconv.Itoa(i+1) }

func stepName(column int) string { return "cdc_viewlet_c" + strconv.Itoa(column+1) }

func refSQL(ref rules.Ref, width []int) []string {
	if ref.Step < 0 {
		return []string{argColumn(ref.Column)}
	}
	if ref.Column >= 0 {
		return []string{stepAlias(ref.Step) + "." + stepName(ref.Column)}
	}
	var all []string
	for c := range width[ref.Step] {
		all = append(all, stepAlias(ref.Step)+"."+stepName(c))
	}
	return all
}

// arguments gives one array for each input.
func (e *compiledExpansion) arguments(args []string) ([][]byte, error) {
	columns := make([][]string, e.inputs)
	var split []string
	for _, a := range args {
		var err error
		if split, err = viewlet.SplitArgs(split[:0], a); err != nil || len(split) != e.inputs {
			return nil, &dataError{fmt.Sprintf("look up %q: there are %d inputs", a, e.inputs)}
		}
		for i, s := range split {
			columns[i] = append(columns[i], s)
		}
	}
	params := make([][]byte, e.inputs)
	for i, column := range columns {
		params[i] = appendArray(nil, column)
	}
	return params, nil
}

// few reads the expansion's keys if there are not too many of them.
func (r *Renderer) few(ctx context.Context, name string, e *compiledExpansion, params [][]byte) (keys []viewlet.Key, complete bool, err error) {
	rows := 0
	each := func(row [][]byte) error {
		rows++
		if key, ok := keyOf(name, row); ok {
			keys = append(keys, key)
		}
		return nil
	}
	err = r.db.read(ctx, func(ctx context.Context, from server) error {
		keys, rows = nil, 0
		return from.run(ctx, e.few, params, each)
	})
	return keys, rows <= pieceSize, err
}

// keyOf makes a key of a row's values. With a NULL among them it names none.
func keyOf(name string, row [][]byte) (viewlet.Key, bool) {
	var args []byte
	for _, v := range row {
		if v == nil {
			return viewlet.Key{}, false
		}
		args = viewlet.AppendArg(args, v)
	}
	return viewlet.Key{Viewlet: name, Args: string(args)}, true
}

// cursor yields the keys that the query selects, however many, a piece at a
// time: nobody waits for the rendering of what was fetched but the cursor, which
// holds nothing but itself. width is how many arguments a key has.
func (db *Database) cursor(ctx context.Context, places chan struct{}, sql string, params [][]byte, name string, width int, yield func([]viewlet.Key) error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case places <- struct{}{}:
	}
	defer func() { <-places }()
	var yields error
	err := db.read(ctx, func(on context.Context, from server) error {
		err := from.cursor(on, sql, params, name, width, func(keys []viewlet.Key) error {
			yields = yield(keys)
			return yields
		})
		if yields != nil {
			return nil // which no other server mends
		}
		return err
	})
	return cmp.Or(yields, err)
}

func (s server) cursor(ctx context.Context, sql string, params [][]byte, name string, width int, yield func([]viewlet.Key) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Release()
	if err := s.declare(ctx, conn, sql, params); err != nil {
		return err
	}
	for {
		keys, rows, err := s.fetch(ctx, conn, name, width)
		if err == nil && len(keys) > 0 {
			err = yield(keys)
		}
		if err == nil && rows == pieceSize {
			continue
		}
		if _, closing := conn.Exec(ctx, "CLOSE cdc_viewlet_keys"); closing != nil {
			_ = conn.Conn().Close(ctx) // the pool drops it
		}
		return err
	}
}

// declare has the server run the query to its end and keep what it selects. A
// cursor that is read while its transaction goes on would hold its locks for as
// long as the rendering takes: an ALTER TABLE would wait for it, whatever reads
// the table for the ALTER TABLE, and the rendering too, for itself.
//
// https://www.postgresql.org/docs/current/sql-declare.html
func (s server) declare(ctx context.Context, conn *pgxpool.Conn, sql string, params [][]byte) error {
	const many = 20 // keys are made in one go
	ctx, done := s.bounded(ctx, many*s.timeout)
	defer done()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // where it fails the connection is closed
	if s.accepts != nil {
		if err := s.admitted(ctx, tx); err != nil {
			return err
		}
	}
	args := []any{pgx.QueryExecModeExec}
	for _, p := range params {
		args = append(args, string(p))
	}
	if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = "+milliseconds(many*s.timeout)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "DECLARE cdc_viewlet_keys NO SCROLL CURSOR WITH HOLD FOR "+sql, args...); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// admitted asks whether the server may be read where it stands.
func (s server) admitted(ctx context.Context, tx pgx.Tx) error {
	result := tx.Conn().PgConn().ExecParams(ctx, positionSQL, nil, nil, nil, textFormat).Read()
	if result.Err != nil {
		return result.Err
	}
	at, err := parsePlace(result.Rows[0])
	if err != nil {
		return err
	}
	return s.accepts(at)
}

func (s server) fetch(ctx context.Context, conn *pgxpool.Conn, name string, width int) (keys []viewlet.Key, rows int, err error) {
	ctx, done := s.bounded(ctx, s.timeout)
	defer done()
	result, err := conn.Query(ctx, "FETCH "+strconv.Itoa(pieceSize)+" FROM cdc_viewlet_keys", pgx.QueryExecModeExec, pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		return nil, 0, err
	}
	defer result.Close()
	for result.Next() {
		rows++
		row := result.RawValues()
		if len(row) != width {
			return nil, 0, &QueryError{Offset: -1, Err: fmt.Errorf("it selects %d columns, and the viewlet has %d params", len(row), width)}
		}
		if key, ok := keyOf(name, row); ok {
			keys = append(keys, key)
		}
	}
	return keys, rows, result.Err()
}

// Estimate is about how many fragments the viewlet has, as Postgres's planner
// sees it; -1 where nothing names them.
func (r *Renderer) Estimate(ctx context.Context, name string) (int64, error) {
	c, ok := r.viewlets[name]
	if !ok {
		return -1, fmt.Errorf("estimate %s: there is no such viewlet", name)
	}
	if len(c.rules.Params) == 0 {
		return 1, nil
	}
	plan, err := r.plan(ctx, c)
	if err != nil || plan.whole == "" {
		return -1, err
	}
	var explained []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	err = r.db.pool.QueryRow(ctx, "EXPLAIN (FORMAT JSON) "+plan.whole, pgx.QueryExecModeExec).Scan(&explained)
	if err != nil {
		return -1, fmt.Errorf("estimate %s: %w", name, err)
	}
	if len(explained) == 0 {
		return -1, nil
	}
	return int64(explained[0].Plan.Rows), nil
}
