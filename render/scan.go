package render

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// Scan is a large table that a query reads as a whole each time that it runs.
type Scan struct {
	Table string // as SQL writes it
	Size  int64  // bytes
	// Index is the CREATE INDEX that would spare it; empty: none is known.
	Index string
}

// String says so, with the remedy.
func (s Scan) String() string {
	text := fmt.Sprintf("it reads all of %s (%d MiB) each time.", s.Table, s.Size>>20)
	if s.Index != "" {
		text += " Give it an index: " + s.Index
	}
	return text
}

// largeTable is how large a table is, in bytes, before reading all of it for
// every changed row is worth a word.
const largeTable = 4 << 20

// Scans tells which large tables the query reads as a whole, as Postgres would
// run it for a param that it does not know.
//
// https://www.postgresql.org/docs/current/runtime-config-query.html#GUC-PLAN-CACHE-MODE
func (db *Database) Scans(ctx context.Context, q *rules.Query) ([]Scan, error) {
	var scans []Scan
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		plan, err := genericPlan(ctx, tx, q)
		if err != nil {
			return err
		}
		var found []planNode
		plan.sequential(nil, &found)
		for _, n := range found {
			s := Scan{Table: pgx.Identifier{n.Schema, n.Relation}.Sanitize()}
			if err := tx.QueryRow(ctx, "SELECT pg_catalog.pg_table_size($1::text::regclass)", s.Table).Scan(&s.Size); err != nil {
				return err
			}
			if s.Size < largeTable {
				continue
			}
			if n.compared.sql != "" {
				if s.Index, err = n.compared.index(ctx, tx, s.Table); err != nil {
					return err
				}
			}
			scans = append(scans, s)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("explain query: %w", err)
	}
	return scans, nil
}

// CheckLookups tells which lookups have no index to stand on: each of them runs
// for every changed row. Lookups with the same SQL are told once.
func (r *Renderer) CheckLookups(ctx context.Context) ([]Problem, error) {
	var problems []Problem
	asked := map[string]bool{}
	for _, l := range r.set.Lookups {
		if asked[l.Query.SQL] {
			continue
		}
		asked[l.Query.SQL] = true
		scans, err := r.db.Scans(ctx, l.Query)
		if err != nil && faultOf(err) == faultOfWorld {
			return nil, err
		}
		for _, s := range scans { // what else is wrong with a lookup, Check tells
			problems = append(problems, Problem{
				Lookup: l, Attr: "query", Warning: true, Title: "No index for a lookup",
				Err: fmt.Errorf("to find what a changed row touches, %s", s),
			})
		}
	}
	return problems, nil
}

// genericPlan asks for the plan that does not know the params.
func genericPlan(ctx context.Context, tx pgx.Tx, q *rules.Query) (planNode, error) {
	body, _ := q.Bind(func(i int) string { return "$" + strconv.Itoa(i+1) })
	name := "viewlet_scan_" + strconv.FormatUint(rand.Uint64(), 36) // one that an error left behind is in nobody's way
	execute := "EXECUTE " + name
	if len(q.Params) > 0 {
		execute += "(NULL" + strings.Repeat(", NULL", len(q.Params)-1) + ")"
	}
	for _, sql := range []string{"SET LOCAL plan_cache_mode = force_generic_plan", "PREPARE " + name + " AS " + body} {
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return planNode{}, err
		}
	}
	var text string
	err := tx.QueryRow(ctx, "EXPLAIN (VERBOSE, FORMAT JSON) "+execute, pgx.QueryExecModeSimpleProtocol).Scan(&text)
	if err != nil {
		return planNode{}, err
	}
	if _, err := tx.Exec(ctx, "DEALLOCATE "+name, pgx.QueryExecModeSimpleProtocol); err != nil {
		return planNode{}, err
	}
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) == 0 {
		return planNode{}, fmt.Errorf("read plan: %w", err)
	}
	return plans[0].Plan, nil
}

// planNode is one node of what EXPLAIN says.
type planNode struct {
	Type       string `json:"Node Type"`
	Schema     string
	Relation   string `json:"Relation Name"`
	Alias      string
	Filter     string
	HashCond   string `json:"Hash Cond"`
	MergeCond  string `json:"Merge Cond"`
	JoinFilter string `json:"Join Filter"`
	Plans      []planNode

	compared compared
}

// compared is what a scan looks for a value of, of the columns of its table.
type compared struct {
	sql    string // without the table's alias; empty: it is not known
	column string // when it is one, perhaps with a cast; empty: it is not
	cast   string // of the column; empty: none
	has    bool   // it is an array, and has the value
}

// index writes the CREATE INDEX for it. That of a column serves for casts that
// leave its bytes alone.
//
// https://www.postgresql.org/docs/current/indexes-expressional.html
func (c compared) index(ctx context.Context, tx pgx.Tx, table string) (string, error) {
	on := "(" + c.sql + ")"
	if c.column != "" {
		same := c.cast == ""
		if !same {
			err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_cast c ON c.castsource = a.atttypid
				AND c.casttarget = $3::text::regtype WHERE a.attrelid = $1::text::regclass AND quote_ident(a.attname) = $2
				AND (a.atttypid = $3::text::regtype OR c.castmethod = 'b'))`, table, c.column, c.cast).Scan(&same)
			if err != nil {
				return "", err
			}
		}
		if same {
			on = c.column
		}
	}
	if on = "(" + on + ")"; c.has {
		on = "USING gin " + on
	}
	return fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s %s;", table, on), nil
}

// sequential gathers the scans of whole tables, and of each a column that its
// conditions, or those of the joins above it, compare.
func (n *planNode) sequential(above []string, found *[]planNode) {
	conditions := append(append([]string{n.Filter}, above...), n.HashCond, n.MergeCond, n.JoinFilter)
	if n.Type == "Seq Scan" {
		n.compared = comparedWith(n.Alias, conditions)
		*found = append(*found, *n)
	}
	for i := range n.Plans {
		n.Plans[i].sequential(conditions[1:], found)
	}
}

// comparedWith finds what the conditions compare by an equality, or as an array
// that has a value, of the columns of alias alone.
func comparedWith(alias string, conditions []string) compared {
	for _, c := range conditions {
		for _, operand := range operands(c, " = ") {
			if one := indexable(alias, operand); one.sql != "" {
				return one
			}
		}
		for _, has := range []string{" @> ", " ? "} {
			if sides := operands(c, has); len(sides) > 0 {
				if one := indexable(alias, sides[0]); one.sql != "" {
					one.has = true
					return one
				}
			}
		}
	}
	return compared{}
}

// operands gives both sides of each operator in a condition of EXPLAIN, which
// has parentheses around each.
func operands(condition, operator string) (sides []string) {
	depth := depths(condition)
	for i := range condition {
		if !strings.HasPrefix(condition[i:], operator) || depth[i] < 0 {
			continue
		}
		from, to := i, i+len(operator)
		for from > 0 && (depth[from-1] < 0 || depth[from-1] >= depth[i]) {
			from--
		}
		for to < len(condition) && (depth[to] < 0 || depth[to] >= depth[i]) {
			to++
		}
		sides = append(sides, condition[from:i], condition[i+len(operator):to])
	}
	return sides
}

// depths tells in how many parentheses each byte stands, those themselves
// outside their own; -1: in quotes.
func depths(sql string) []int {
	all := make([]int, len(sql))
	depth, quote := 0, byte(0)
	for i := range len(sql) {
		switch c := sql[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
			all[i] = -1
			continue
		case c == '\'' || c == '"':
			quote, all[i] = c, -1
			continue
		case c == ')':
			depth--
		}
		if all[i] = depth; sql[i] == '(' {
			depth++
		}
	}
	return all
}

const identifierSQL = `(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)`

var (
	plainIdentifier = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)
	columnSQL       = regexp.MustCompile(`(` + identifierSQL + `)\.(` + identifierSQL + `)`)
	oneColumn       = regexp.MustCompile(`^\(?(` + identifierSQL + `)\)?(?:::([a-z ]+))?$`)
	quotedSQL       = regexp.MustCompile(`'(?:[^']|'')*'`)
)

// indexable reads an operand; the zero compared if it is not made of the
// alias's columns alone.
func indexable(alias, operand string) compared {
	if !plainIdentifier.MatchString(alias) {
		alias = pgx.Identifier{alias}.Sanitize()
	}
	code := quotedSQL.ReplaceAllString(operand, "")
	columns := columnSQL.FindAllStringSubmatch(code, -1)
	if len(columns) == 0 || strings.ContainsRune(code, '$') {
		return compared{}
	}
	for _, c := range columns {
		if c[1] != alias {
			return compared{}
		}
	}
	own := compared{sql: strings.ReplaceAll(operand, alias+".", "")}
	if m := oneColumn.FindStringSubmatch(own.sql); m != nil {
		own.column, own.cast = m[1], m[2]
	}
	return own
}
