package derive_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

var (
	seed = flag.Uint64("seed", 0, "of the random tests; 0: another one each time")
	runs = flag.Int("worlds", 4, "how many random schemas of data the oracle tries")
)

const worldSchema = `
	CREATE TABLE t1 (a int, b bigint, c text, d numeric);
	CREATE TABLE t2 (a int, b bigint, c text, d numeric);
	CREATE TABLE t3 (a int, b bigint NOT NULL, c text, d numeric);
	CREATE TABLE t4 (a int, b bigint, c varchar(9), d numeric) PARTITION BY LIST (a);
	CREATE TABLE t4_low PARTITION OF t4 FOR VALUES IN (0, 1);
	CREATE TABLE t4_rest PARTITION OF t4 DEFAULT;
	CREATE VIEW v1 AS SELECT x.a, y.b, x.c, y.d FROM t1 x LEFT JOIN t2 y ON x.b = y.a;
	CREATE VIEW v2 AS SELECT a, max(b) AS b, c, count(*)::numeric AS d FROM t3 GROUP BY a, c;
	CREATE VIEW v3 AS SELECT a, b, c, d FROM t2 UNION SELECT a, b, c, d FROM t4;`

// world is random data, and what random transactions did to it.
type world struct {
	*site
	rand    *rand.Rand
	rows    int
	pending []change // in order, what is to be looked up
	log     []string
}

type change struct {
	table    string
	old, new []*string // nil: there is none
}

var worldColumns = []string{"a", "b", "c", "d"}

// subject is a query with its derived rules, and its last results by key.
type subject struct {
	name, sql string
	set       *rules.Viewlet
	*derive.Result
	results map[string]string
	named   map[string]bool
	free    map[string]bool // tables that have a limit: every key is named
}

func startSeed() uint64 {
	if *seed != 0 {
		return *seed
	}
	return uint64(time.Now().UnixNano())
}

// TestOracle derives rules for random queries and for the odd ones that we
// thought of, runs random transactions, and compares the keys whose results
// changed with those that the rules name.
func TestOracle(t *testing.T) {
	start := startSeed()
	t.Logf("seed %d", start)
	var total tally
	for i := range *runs {
		sum, stale := playWorld(t, start+uint64(i), func(*subject) {})
		if stale != "" {
			t.Fatalf("-seed %d -worlds 1: %s", start+uint64(i), stale)
		}
		total.add(sum)
	}
	t.Logf("%d transactions, %d queries of which %d are followed whole; %d results changed, %d keys named",
		total.transactions, total.queries, total.whole, total.changed, total.named)
	if total.changed == 0 || total.whole == 0 {
		t.Error("nothing was tried")
	}
}

// TestOracleNotices takes a rule away from each query, which must show.
func TestOracleNotices(t *testing.T) {
	_, stale := playWorld(t, 1, func(s *subject) {
		if len(s.Rules) > 0 {
			s.Rules = s.Rules[1:]
		}
	})
	if stale == "" {
		t.Error("rules are missing, and the oracle says nothing")
	}
}

type tally struct{ transactions, queries, whole, changed, named int }

func (t *tally) add(o tally) {
	t.transactions += o.transactions
	t.queries += o.queries
	t.whole += o.whole
	t.changed += o.changed
	t.named += o.named
}

func playWorld(t *testing.T, seed uint64, meddle func(*subject)) (sum tally, stale string) {
	w := &world{site: newSite(t, worldSchema), rand: rand.New(rand.NewPCG(seed, 1))}
	w.exec("SET statement_timeout = '300ms'; SET jit = off")
	for range 12 {
		w.step()
	}
	w.pending = nil
	subjects := w.subjects(slices.Concat(oddQueries, generate(w.rand, 40)))
	subjects = slices.DeleteFunc(subjects, func(s *subject) bool {
		s.results = w.results(s)
		return s.results == nil
	})
	for _, s := range subjects {
		meddle(s)
		sum.queries++
		if len(s.free) == 0 {
			sum.whole++
		}
	}
	for range 40 {
		sum.transactions += w.quiet(subjects)
		for _, s := range subjects {
			changed, stale := w.compare(s)
			if stale != "" {
				return sum, stale
			}
			sum.changed += changed
			sum.named += len(s.named)
			clear(s.named)
		}
	}
	return sum, ""
}

// quiet runs a few transactions, looks each one's changes up at some time after
// it, and all before it ends.
func (w *world) quiet(subjects []*subject) (transactions int) {
	w.log = nil
	transactions = 1 + w.rand.IntN(3)
	for range transactions {
		w.exec("BEGIN")
		for range 1 + w.rand.IntN(4) {
			w.step()
		}
		w.exec("COMMIT")
		w.log = append(w.log, "commit")
		if w.rand.IntN(2) == 0 {
			w.lookUp(subjects)
		}
	}
	w.lookUp(subjects)
	return transactions
}

func (w *world) value(column string) *string {
	n := w.rand.IntN(4)
	if n == 3 && column == "b" {
		n = 1
	} else if n == 3 {
		return nil
	}
	v := fmt.Sprint(n)
	if column == "d" {
		v = []string{"0", "1", "1.0"}[n]
	}
	return &v
}

// step changes one row.
func (w *world) step() {
	w.Helper()
	c := change{table: fmt.Sprintf("t%d", 1+w.rand.IntN(4))}
	old, ctid := w.pick(c.table)
	switch op := w.rand.IntN(5); {
	case old == nil || op == 0 && w.rows < 24:
		for _, column := range worldColumns {
			c.new = append(c.new, w.value(column))
		}
		w.execArgs("INSERT INTO "+c.table+" VALUES ($1, $2, $3, $4)", c.new)
		w.rows++
	case op <= 1:
		c.old = old
		w.rows--
		w.execArgs("DELETE FROM "+c.table+" WHERE (tableoid::text, ctid::text) = ($1, $2)", ctid)
	default:
		c.old, c.new = old, slices.Clone(old)
		i := w.rand.IntN(len(worldColumns))
		c.new[i] = w.value(worldColumns[i])
		w.execArgs("UPDATE "+c.table+" SET "+worldColumns[i]+" = $3 WHERE (tableoid::text, ctid::text) = ($1, $2)", append(ctid, c.new[i]))
	}
	w.pending = append(w.pending, c)
	w.log = append(w.log, fmt.Sprintf("%s: %s -> %s", c.table, row(c.old), row(c.new)))
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

func (w *world) execArgs(sql string, args []*string) {
	w.Helper()
	values := make([]any, len(args))
	for i := range args {
		values[i] = args[i]
	}
	if _, err := w.conn.Exec(w.Context(), sql, values...); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
}

// pick gives a random row of the table, and where it is.
func (w *world) pick(table string) (values, ctid []*string) {
	w.Helper()
	rows := w.texts("SELECT a, b, c, d, tableoid::text, ctid::text FROM " + table + " ORDER BY 1, 2, 3, 4, 5, 6")
	if len(rows) == 0 {
		return nil, nil
	}
	r := rows[w.rand.IntN(len(rows))]
	return r[:4], r[4:]
}

// texts runs a query and gives its rows in text form.
func (w *world) texts(sql string, args ...any) [][]*string {
	w.Helper()
	all, err := w.try(sql, args...)
	if err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
	return all
}

func (w *world) try(sql string, args ...any) (all [][]*string, err error) {
	rows, err := w.conn.Query(w.Context(), sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r := make([]*string, 0, 6)
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

// subjects derives the queries' rules. A query that Postgres cannot plan, such
// as some FULL JOINs, is left out.
func (w *world) subjects(queries []string) []*subject {
	w.Helper()
	var text strings.Builder
	var all []*subject
	for i, sql := range queries {
		s := &subject{name: fmt.Sprintf("q%d", i), sql: sql, named: map[string]bool{}, free: map[string]bool{}}
		bound, _ := (&rules.Query{SQL: sql, Params: paramsOf(sql)}).Bind(func(int) string { return "NULL" })
		if _, err := w.conn.Exec(w.Context(), "EXPLAIN "+bound); err != nil {
			if !strings.Contains(err.Error(), "FULL JOIN") {
				w.Fatalf("%s: %v", sql, err)
			}
			continue
		}
		fmt.Fprintf(&text, "viewlet %q {\n  params = [%s]\n  query = <<-SQL\n%s\nSQL\n}\n", s.name, quoted(paramsOf(sql)), sql)
		all = append(all, s)
	}
	set := load(w, []byte(text.String()))
	for i, r := range w.derive(set) {
		s := all[i]
		s.set, s.Result = set.Viewlets[i], r
		for _, l := range r.Limits {
			if l.Params != nil {
				s.free[l.Table.Name] = true
			}
		}
	}
	return all
}

func paramsOf(sql string) []string {
	var params []string
	for _, p := range []string{"p1", "p2", "p3"} {
		if strings.Contains(sql, "@"+p) {
			params = append(params, p)
		}
	}
	return params
}

func quoted(words []string) string {
	var all []string
	for _, word := range words {
		all = append(all, fmt.Sprintf("%q", word))
	}
	return strings.Join(all, ", ")
}

// results gives what the query gives for each key; nil when it takes long. The order of rows is not
// part of it: no query here has one that is whole.
func (w *world) results(s *subject) map[string]string {
	w.Helper()
	params := s.set.Params
	from, columns := []string{"(SELECT) nothing"}, []string{}
	for _, p := range params {
		from = append(from, fmt.Sprintf("(VALUES ('0'), ('1'), ('2')) %s(v)", p))
		columns = append(columns, p+".v")
	}
	bound, _ := s.set.Query.Bind(func(i int) string { return params[i] + ".v" })
	sql := fmt.Sprintf("SELECT %s (SELECT array_agg(q::text ORDER BY q::text) FROM (%s) q) FROM %s",
		strings.Join(append(columns, ""), ", "), bound, strings.Join(from, ", "))
	rows, err := w.try(sql)
	if err != nil && strings.Contains(err.Error(), "statement timeout") {
		return nil
	} else if err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
	results := map[string]string{}
	for _, r := range rows {
		if result := r[len(params)]; result != nil {
			results[row(r[:len(params)])] = *result
		} else {
			results[row(r[:len(params)])] = ""
		}
	}
	return results
}

// lookUp names the keys of the changes so far, as the data is now.
func (w *world) lookUp(subjects []*subject) {
	w.Helper()
	for _, s := range subjects {
		for _, c := range w.pending {
			if s.free[c.table] {
				s.named["*"] = true
			}
			for _, r := range s.Rules {
				if r.Table.Name == c.table && fires(r, c) {
					w.follow(s, r, c.old)
					w.follow(s, r, c.new)
				}
			}
		}
	}
	w.pending = nil
}

func fires(r derive.Rule, c change) bool {
	if c.old == nil || c.new == nil || r.Every {
		return true
	}
	return slices.ContainsFunc(r.Columns, func(column string) bool {
		i := slices.Index(worldColumns, column)
		return row(c.old[i:i+1]) != row(c.new[i:i+1])
	})
}

// follow names the keys that a rule gives for one image of a row.
func (w *world) follow(s *subject, r derive.Rule, image []*string) {
	w.Helper()
	if image == nil {
		return
	}
	found := [][]*string{nil}
	if r.Lookup != nil {
		args := make([]any, len(r.Lookup.Columns))
		for i, column := range r.Lookup.Columns {
			args[i] = image[slices.Index(worldColumns, column)]
		}
		bound, _ := (&rules.Query{SQL: r.Lookup.SQL, Params: r.Lookup.Params}).Bind(func(i int) string { return fmt.Sprintf("$%d", i+1) })
		found = w.texts(bound, args...)
	}
	for _, f := range found {
		var key []*string
		for _, a := range r.Args {
			if a.Column == "" {
				key = append(key, f...)
			} else {
				key = append(key, image[slices.Index(worldColumns, a.Column)])
			}
		}
		if !slices.Contains(key, nil) {
			s.named[row(key)] = true
		}
	}
}

// compare says which result changed that no rule named, or which key with a
// result is not among all.
func (w *world) compare(s *subject) (changed int, stale string) {
	w.Helper()
	if s.results == nil {
		return 0, ""
	}
	was := s.results
	if s.results = w.results(s); s.results == nil {
		return 0, "" // it takes long by now, and is left out from here on
	}
	for key, result := range s.results {
		if result == was[key] {
			continue
		}
		changed++
		if !s.named[key] && !s.named["*"] {
			return changed, fmt.Sprintf("%s is stale\n%s\n%s\nwas %s\nis  %s\n%s",
				key, s.sql, strings.Join(w.log, "\n"), was[key], result, told(s.Result))
		}
	}
	if key := w.unlisted(s); key != "" {
		return changed, fmt.Sprintf("%s has rows, and is not among all\n%s\n%s", key, s.sql, told(s.Result))
	}
	return changed, ""
}

// unlisted gives a key that has rows, and that is not among all.
func (w *world) unlisted(s *subject) string {
	w.Helper()
	if s.All == "" {
		return ""
	}
	rows, err := w.try(s.All)
	if err != nil {
		if !strings.Contains(err.Error(), "statement timeout") {
			w.Fatalf("%s: %v", s.All, err)
		}
		return ""
	}
	all := map[string]bool{}
	for _, r := range rows {
		all[row(r)] = true
	}
	for key, result := range s.results {
		if result != "" && !all[key] {
			return key
		}
	}
	return ""
}
