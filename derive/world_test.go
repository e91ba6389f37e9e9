package derive_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// schema is a few tables with the columns a to f, and views of them.
type schema struct {
	ddl       []string
	tables    []string
	relations []string // what queries read: tables more often than views
	filled    map[string]bool
}

var worldColumns = []string{"a", "b", "c", "d", "e", "f"}

// fixedSchema is what the queries that we thought of are about.
func fixedSchema() *schema {
	s := &schema{filled: map[string]bool{}}
	for _, t := range []string{"t1", "t2", "t3"} {
		s.table(t, "int", "bigint", "text", t == "t3", false)
	}
	s.table("t4", "int", "bigint", "varchar(9)", false, true)
	s.views("t1", "t2", "t3", "t4")
	return s
}

// randomSchema has two to six tables.
func randomSchema(r *rand.Rand) *schema {
	s := &schema{filled: map[string]bool{}}
	types := []string{"smallint", "int", "bigint"}
	for i := range 2 + r.IntN(5) {
		s.table(fmt.Sprintf("t%d", i+1), types[r.IntN(3)], types[r.IntN(3)], []string{"text", "varchar(9)"}[r.IntN(2)], r.IntN(3) == 0, r.IntN(4) == 0)
	}
	any := func() string { return s.tables[r.IntN(len(s.tables))] }
	s.views(any(), any(), any(), any())
	return s
}

func (s *schema) table(name, a, b, c string, filled, parted bool) {
	end, null := "", ""
	if parted {
		end = " PARTITION BY LIST (a)"
	}
	if s.filled[name+".b"] = filled; filled {
		null = " NOT NULL"
	}
	s.ddl = append(s.ddl, fmt.Sprintf("CREATE TABLE %s (a %s, b %s%s, c %s, d numeric, e int[], f jsonb)%s", name, a, b, null, c, end))
	if parted {
		s.ddl = append(s.ddl, fmt.Sprintf("CREATE TABLE %s_low PARTITION OF %[1]s FOR VALUES IN (0, 1)", name), fmt.Sprintf("CREATE TABLE %s_rest PARTITION OF %[1]s DEFAULT", name))
	}
	s.tables = append(s.tables, name)
	s.relations = append(s.relations, name, name)
}

func (s *schema) views(joined, with, grouped, united string) {
	s.ddl = append(s.ddl,
		fmt.Sprintf("CREATE VIEW v1 AS SELECT x.a, y.b, x.c, y.d, y.e, x.f FROM %s x LEFT JOIN %s y ON x.b = y.a", joined, with),
		fmt.Sprintf("CREATE VIEW v2 AS SELECT a, max(b) AS b, c, count(*)::numeric AS d, max(e) AS e, max(f::text)::jsonb AS f FROM %s GROUP BY a, c", grouped),
		fmt.Sprintf("CREATE VIEW v3 AS SELECT a, b, c, d, e, f FROM %s UNION SELECT a, b, c, d, e, f FROM %s", with, united))
	s.relations = append(s.relations, "v1", "v2", "v3")
}

// world is random data, and what random transactions did to it.
type world struct {
	*site
	*schema
	rand    *rand.Rand
	rows    data
	start   data     // before the moves
	moves   []move   // since the results were compared
	pending []change // in order, what is to be looked up
}

// data is the rows of each table.
type data map[string][][]*string

func (d data) size() (n int) {
	for _, rows := range d {
		n += len(rows)
	}
	return n
}

// change is a row's; nil: there is none.
type change struct {
	table    string
	old, new []*string
}

// move is a change, or without a table a commit, after which all changes so far
// may be looked up.
type move struct {
	change
	look bool
}

func (m move) String() string {
	switch {
	case m.table != "":
		return fmt.Sprintf("%s: %s -> %s", m.table, row(m.old), row(m.new))
	case m.look:
		return "commit, and look up"
	}
	return "commit"
}

func row(values []*string) string {
	words := make([]string, len(values))
	for i, v := range values {
		if words[i] = "NULL"; v != nil {
			words[i] = *v
		}
	}
	return "(" + strings.Join(words, ", ") + ")"
}

// literal writes a row of this test's values in SQL.
func literal(values []*string) string {
	words := make([]string, len(values))
	for i, v := range values {
		if words[i] = "NULL"; v != nil {
			words[i] = "'" + *v + "'"
		}
	}
	return "(" + strings.Join(words, ", ") + ")"
}

// newWorld has no rows yet.
func newWorld(t testing.TB, s *schema, r *rand.Rand) *world {
	w := &world{site: newSite(t, strings.Join(s.ddl, ";\n")), schema: s, rand: r, rows: data{}}
	w.exec("SET statement_timeout = '300ms'; SET jit = off")
	return w
}

// settle begins a new list of moves.
func (w *world) settle() {
	w.start, w.moves, w.pending = maps.Clone(w.rows), nil, nil
}

// refill makes the rows those of the data.
func (w *world) refill(rows data) {
	var sql strings.Builder
	for _, t := range w.tables {
		fmt.Fprintf(&sql, "DELETE FROM %s;", t)
		for _, r := range rows[t] {
			fmt.Fprintf(&sql, "INSERT INTO %s VALUES %s;", t, literal(r))
		}
	}
	w.exec(sql.String())
	w.rows = maps.Clone(rows)
	w.settle()
}

// step makes a random change of one row.
func (w *world) step() {
	w.Helper()
	c := change{table: w.tables[w.rand.IntN(len(w.tables))]}
	rows := w.rows[c.table]
	if len(rows) > 0 {
		c.old = rows[w.rand.IntN(len(rows))]
	}
	switch op := w.rand.IntN(5); {
	case c.old == nil || op == 0 && w.rows.size() < 6*len(w.tables):
		c.old, c.new = nil, make([]*string, len(worldColumns))
		for i := range worldColumns {
			c.new[i] = w.value(c.table, i)
		}
	case op > 1:
		i := w.rand.IntN(len(worldColumns))
		c.new = slices.Clone(c.old)
		c.new[i] = w.value(c.table, i)
	}
	w.do(c)
}

func (w *world) value(table string, column int) *string {
	n := w.rand.IntN(4)
	if n == 3 && w.filled[table+"."+worldColumns[column]] {
		n = 1
	} else if n == 3 {
		return nil
	}
	v := fmt.Sprint(n)
	switch worldColumns[column] {
	case "d":
		v = []string{"0", "1", "1.0"}[n]
	case "e":
		v = []string{"{0,1}", "{1,2,NULL}", "{}"}[n]
	case "f":
		v = []string{`{"k": "0"}`, `{"k": 1, "n": 2}`, `["1", "2", 0]`}[n]
	}
	return &v
}

// do makes a change, unless its old row is not there.
func (w *world) do(c change) {
	w.Helper()
	const found = " WHERE (tableoid, ctid) = (SELECT tableoid, ctid FROM %s WHERE (a::text, b::text, c::text, d::text, e::text, f::text) IS NOT DISTINCT FROM ($1, $2, $3, $4, $5, $6) LIMIT 1)"
	at := -1
	if c.old != nil {
		at = slices.IndexFunc(w.rows[c.table], func(r []*string) bool { return row(r) == row(c.old) })
		if at < 0 {
			return
		}
		w.rows[c.table] = slices.Delete(slices.Clone(w.rows[c.table]), at, at+1)
	}
	switch {
	case c.old == nil:
		w.execArgs("INSERT INTO "+c.table+" VALUES ($1, $2, $3, $4, $5, $6)", c.new)
	case c.new == nil:
		w.execArgs("DELETE FROM "+c.table+fmt.Sprintf(found, c.table), c.old)
	default:
		w.execArgs("UPDATE "+c.table+" SET a = $7, b = $8, c = $9, d = $10, e = $11, f = $12"+fmt.Sprintf(found, c.table), slices.Concat(c.old, c.new))
	}
	if c.new != nil {
		w.rows[c.table] = append(slices.Clone(w.rows[c.table]), c.new)
	}
	w.pending = append(w.pending, c)
	w.moves = append(w.moves, move{change: c})
}

func (w *world) execArgs(sql string, args []*string) {
	w.Helper()
	values := make([]any, len(args))
	for i := range args {
		values[i] = args[i]
	}
	if tag, err := w.conn.Exec(w.Context(), sql, values...); err != nil || tag.RowsAffected() != 1 {
		w.Fatalf("%s of %s: %v, %v", sql, row(args), tag, err)
	}
}

// texts runs a query and gives its rows in text form.
func (s *site) texts(sql string, args ...any) [][]*string {
	s.Helper()
	all, err := s.try(sql, args...)
	if err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
	return all
}

func (s *site) try(sql string, args ...any) (all [][]*string, err error) {
	rows, err := s.conn.Query(s.Context(), sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r := make([]*string, 0, len(worldColumns))
		for _, raw := range rows.RawValues() {
			if raw == nil {
				r = append(r, nil)
				continue
			}
			text := string(raw)
			r = append(r, &text)
		}
		all = append(all, r)
	}
	return all, rows.Err()
}
