package render

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// query is a rules.Query as Postgres understands it.
type query struct {
	params  []param
	columns []column
}

type param struct {
	name string
	oid  uint32
	base uint32 // of a domain, what it is made from
	typ  string // as SQL writes it
}

type column struct {
	name string
	oid  uint32
	typ  pgType
}

// duplicate gives a name that two columns have.
func (q *query) duplicate() (string, bool) {
	seen := map[string]bool{}
	for _, c := range q.columns {
		if seen[c.name] {
			return c.name, true
		}
		seen[c.name] = true
	}
	return "", false
}

// paramFields and columnFields are what a template sees of them.
func (q *query) paramFields() []value.Field {
	fields := make([]value.Field, len(q.params))
	for i, p := range q.params {
		fields[i] = value.Field{Name: p.name, OID: p.base}
	}
	return fields
}

func (q *query) columnFields() []value.Field {
	fields := make([]value.Field, len(q.columns))
	for i, c := range q.columns {
		fields[i] = value.Field{Name: c.name, OID: c.oid}
		if c.isJSON() {
			fields[i].OID = jsonOID
		}
	}
	return fields
}

// QueryError is what is wrong with a query, whatever the key.
type QueryError struct {
	Err error
	// Offset is where in the query's SQL as written, in bytes; -1: unknown.
	Offset int
}

func (e *QueryError) Error() string { return e.Err.Error() }
func (e *QueryError) Unwrap() error { return e.Err }

// describe lets Postgres prepare the query as it is written, with each @name
// as a parameter, and so learns the types.
func (db *Database) describe(ctx context.Context, q *rules.Query) (*query, error) {
	sd, err := db.prepare(ctx, q, usedArg(q), "", "")
	if err != nil {
		return nil, err
	}
	if err := db.lookUpTypes(ctx, typesIn(sd)); err != nil {
		return nil, err
	}
	return db.described(q, sd)
}

// usedArg writes the n-th param that the query uses as $n.
func usedArg(q *rules.Query) func(int) string {
	return func(i int) string {
		number := 1
		for before := range i {
			if q.Uses(before) {
				number++
			}
		}
		return "$" + strconv.Itoa(number)
	}
}

func typesIn(sd *pgconn.StatementDescription) []uint32 {
	oids := slices.Clone(sd.ParamOIDs)
	for _, f := range sd.Fields {
		oids = append(oids, f.DataTypeOID)
	}
	return oids
}

// described reads what Postgres said of a query that was bound with usedArg,
// whose types have been looked up.
func (db *Database) described(q *rules.Query, sd *pgconn.StatementDescription) (*query, error) {
	d := &query{}
	used := sd.ParamOIDs
	for i, name := range q.Params {
		p := param{name: name, oid: unknownType}
		if q.Uses(i) {
			p.oid, used = used[0], used[1:]
		}
		t := db.typeOf(p.oid)
		if !t.array {
			return nil, &QueryError{Offset: -1, Err: fmt.Errorf("@%s is of type %s, of which Postgres has no arrays; cast it: @%s::text::%s", name, t.name, name, t.name)}
		}
		p.typ, p.base = t.name, t.base
		d.params = append(d.params, p)
	}
	for _, f := range sd.Fields {
		d.columns = append(d.columns, column{name: f.Name, oid: f.DataTypeOID, typ: db.typeOf(f.DataTypeOID)})
	}
	return d, nil
}

// prepare lets Postgres prepare the query, bound and between before and after,
// without keeping it.
func (db *Database) prepare(ctx context.Context, q *rules.Query, arg func(int) string, before, after string) (*pgconn.StatementDescription, error) {
	bound, origin := q.Bind(arg)
	sql := before + bound + after
	var sd *pgconn.StatementDescription
	err := db.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) (err error) {
		ctx, done := db.bounded(ctx, db.timeout)
		defer done()
		sd, err = conn.Conn().PgConn().Prepare(ctx, "", sql, nil)
		return err
	})
	return sd, asQueryError(err, sql, len(before), origin)
}

// asQueryError tells what is wrong with a query from what is wrong with the
// world. The query begins at an offset of the SQL, and origin leads from there
// to the query as it is written.
func asQueryError(err error, sql string, start int, origin func(int) int) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || faultOf(err) == faultOfWorld {
		return err
	}
	offset := -1
	if at := rules.Offset(sql, int(pg.Position)); at >= start {
		offset = origin(at - start)
	}
	return &QueryError{Err: err, Offset: offset}
}

// compiled counts what was compiled: a statement that is compiled anew gets a
// new name, and so is prepared anew.
var compiled atomic.Uint64

func newStatement(sql string) *statement {
	return &statement{name: "viewlet_" + strconv.FormatUint(compiled.Add(1), 10), sql: sql}
}

// argsAlias is what a query's arguments are called, and argColumn each of them.
// No query has names like these: a column that is dropped must not be taken for
// one of ours.
const argsAlias = "cdc_viewlet_args"

func argName(i int) string { return "cdc_viewlet_p" + strconv.Itoa(i+1) }

func argColumn(i int) string { return argsAlias + "." + argName(i) }

// ordName is the column that says which key's the arguments are.
const ordName = "cdc_viewlet_ord"

// perKey makes the SQL that runs the query for many keys at once: the n-th
// parameter is an array of all keys' n-th arguments, and the first column of
// the result says, from 1, which key a row is for.
//
// The rows of one key come in the query's own order: a subquery with an ORDER
// BY is not flattened into the join, whose inner side it is.
//
// And it makes the SQL that does so for one key, whose parameters are its
// arguments. Postgres reads the query in the same words there, and so names its
// columns alike.
func (db *Database) perKey(ctx context.Context, q *rules.Query, d *query, asJSON bool) (many, one string, err error) {
	if len(d.params) == 0 {
		alone := d.alone(q, asJSON)
		return alone, alone, nil
	}
	var arrays, names, scalars []string
	for i, p := range d.params {
		if db.typeOf(p.oid).category == 'C' { // unnest makes columns of its fields
			return "", "", &QueryError{Offset: -1, Err: fmt.Errorf("@%s is of the composite type %s", p.name, p.typ)}
		}
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", i+1, p.typ))
		names = append(names, argName(i))
		scalars = append(scalars, fmt.Sprintf("$%d::%s AS %s", i+1, p.typ, argName(i)))
	}
	bound, _ := q.Bind(argColumn)
	after := "\n) AS " + rowAlias
	before := func(ord, args string) string {
		return "SELECT " + ord + ", " + d.selectList(asJSON) + " FROM " + args + " CROSS JOIN LATERAL (\n"
	}
	one = before("1", "(SELECT "+strings.Join(scalars, ", ")+") AS "+argsAlias) + bound + after
	unnested := before(argsAlias+"."+ordName, "unnest("+strings.Join(arrays, ", ")+") WITH ORDINALITY AS "+argsAlias+
		"("+strings.Join(names, ", ")+", "+ordName+")")
	if _, err := db.prepare(ctx, q, argColumn, unnested, after); err != nil {
		return "", "", err
	}
	return unnested + bound + after, one, nil
}

// alone makes the SQL that runs the query for one key where that is all that
// Postgres takes: not all is allowed in a LATERAL subquery, such as an aggregate
// over nothing but a parameter.
func (d *query) alone(q *rules.Query, asJSON bool) string {
	bound, _ := q.Bind(aloneArg(d))
	before, after := d.aroundAlone(q, asJSON)
	return before + bound + after
}

// aroundAlone is what stands before and after the query in that SQL. The params
// that the query does not use stand there too: Postgres wants to know the type of
// each parameter.
func (d *query) aroundAlone(q *rules.Query, asJSON bool) (before, after string) {
	before = "SELECT 1, " + d.selectList(asJSON) + " FROM "
	for i := range d.params {
		if !q.Uses(i) {
			before += "(SELECT " + aloneArg(d)(i) + ") AS " + argsAlias + strconv.Itoa(i+1) + " CROSS JOIN "
		}
	}
	return before + "(\n", "\n) AS " + rowAlias
}

func aloneArg(d *query) func(int) string {
	return func(i int) string { return "$" + strconv.Itoa(i+1) + "::" + d.params[i].typ }
}

// rowAlias is what the query's rows are called.
const rowAlias = "cdc_viewlet_row"

// selectList gives what is selected of the query's rows: the whole row as
// JSON, or each column by its name, for its place may change; those that a
// template could not use otherwise as JSON.
func (d *query) selectList(asJSON bool) string {
	if asJSON {
		return "to_json(" + rowAlias + ")"
	}
	var columns []string
	for _, c := range d.columns {
		name := pgx.Identifier{rowAlias, c.name}.Sanitize()
		if c.isJSON() {
			name = "to_json(" + name + ")"
		}
		columns = append(columns, name)
	}
	if len(columns) == 0 {
		return "NULL"
	}
	return strings.Join(columns, ", ")
}

// isJSON reports whether the column is fetched as JSON: arrays and composites.
func (c column) isJSON() bool { return c.typ.category == 'A' || c.typ.category == 'C' }
