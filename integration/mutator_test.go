package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// mutator makes random changes of any table: what it needs to know of a schema
// it reads from the catalog.
type mutator struct{ tables []mutable }

type mutable struct {
	Name    string // as SQL writes it
	Rows    int    // about
	Columns []string
	Types   []string // typcategory of each
	Given   []bool   // it has a default
}

// newMutator reads the tables of the schema public.
func newMutator(t testing.TB, db *database) *mutator {
	t.Helper()
	psql(t, db, "ANALYZE")
	rows, err := db.pool.Query(t.Context(), `SELECT c.oid::regclass::text AS name,
			greatest(1, (SELECT sum(p.reltuples) FROM pg_partition_tree(c.oid) LEFT JOIN pg_class p ON p.oid = relid WHERE isleaf))::int AS rows,
			array_agg(quote_ident(a.attname) ORDER BY a.attnum) AS columns,
			array_agg(t.typcategory::text ORDER BY a.attnum) AS types,
			array_agg(a.atthasdef OR a.attidentity <> '' ORDER BY a.attnum) AS given
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
			AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
		GROUP BY c.oid ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	m := &mutator{}
	if m.tables, err = pgx.CollectRows(rows, pgx.RowToStructByName[mutable]); err != nil {
		t.Fatal(err)
	}
	return m
}

// statement changes one row, unless a constraint is against it. What it reads
// twice is the same row: each place is a number.
func (m *mutator) statement(r *rand.Rand) string {
	t := m.tables[r.IntN(len(m.tables))]
	row := func() string {
		return fmt.Sprintf("(SELECT tableoid, ctid FROM %s OFFSET %d LIMIT 1)", t.Name, r.IntN(t.Rows))
	}
	var sql string
	switch r.IntN(6) {
	case 0:
		sql = fmt.Sprintf("DELETE FROM %s WHERE (tableoid, ctid) = %s", t.Name, row())
	case 1:
		var columns, values []string
		for i, c := range t.Columns {
			if !t.Given[i] {
				columns, values = append(columns, c), append(values, t.value(r, i))
			}
		}
		sql = fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %[1]s LIMIT 1", t.Name, strings.Join(columns, ", "), strings.Join(values, ", "))
	default:
		i := r.IntN(len(t.Columns))
		sql = fmt.Sprintf("UPDATE %s SET %s = %s WHERE (tableoid, ctid) = %s", t.Name, t.Columns[i], t.value(r, i), row())
	}
	return "DO $do$ BEGIN " + sql + "; EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN NULL; END $do$"
}

// value is the one that another row has, or a new one; now and then NULL.
func (t mutable) value(r *rand.Rand, column int) string {
	kind := r.IntN(8)
	switch {
	case kind == 0:
		return "NULL"
	case kind < 3 && t.Types[column] == "S":
		return fmt.Sprintf("'x%d'", r.IntN(50))
	case kind == 1 && t.Types[column] == "N":
		return fmt.Sprintf("%s + %d", t.Columns[column], 1+r.IntN(20_000))
	}
	return fmt.Sprintf("(SELECT o.%s FROM %s o OFFSET %d LIMIT 1)", t.Columns[column], t.Name, r.IntN(t.Rows))
}
