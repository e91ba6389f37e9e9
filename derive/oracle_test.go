package derive_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

var (
	seed = flag.Uint64("seed", 0, "of the random tests; 0: another one each time")
	runs = flag.Int("worlds", 4, "how many random schemas of data the oracle tries")
)

// subject is a query with its derived rules, and its last results by key.
type subject struct {
	sketch
	set *rules.Viewlet
	*derive.Result
	results map[string]string
	named   map[string]bool
	free    map[string]bool // tables that have a limit: every key is named
	// forward: of rules that compute keys of the row alone, only the new image
	// is followed, as it should not be.
	forward bool
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
		sum, found := playWorld(t, start+uint64(i), func(*subject) {})
		if found != nil {
			t.Fatalf("-seed %d -worlds 1: %s\nshrunk: %s", start+uint64(i), found, found.shrink(t, func(*subject) {}))
		}
		total.add(sum)
	}
	t.Logf("%d transactions, %d queries of which %d are followed whole; %d results changed, %d keys named",
		total.transactions, total.queries, total.whole, total.changed, total.named)
	if total.changed == 0 || total.whole == 0 {
		t.Error("nothing was tried")
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

// playWorld tries the odd queries, or in every other world a random schema.
func playWorld(t *testing.T, seed uint64, meddle func(*subject)) (sum tally, found *finding) {
	r := rand.New(rand.NewPCG(seed, 1))
	tables, sketches := fixedSchema(), someOdd(r, 50)
	if seed%2 == 0 {
		tables, sketches = randomSchema(r), nil
	}
	w := newWorld(t, tables, r)
	for range 3 * len(w.tables) {
		w.step()
	}
	subjects := w.subjects(append(sketches, generate(r, w.relations, 60-len(sketches))...))
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
				return sum, &finding{schema: w.schema, sketch: s.sketch, start: w.start, moves: w.moves, stale: stale, told: told(s.Result)}
			}
			sum.changed += changed
			sum.named += len(s.named)
			clear(s.named)
		}
	}
	return sum, nil
}

// quiet runs a few transactions, looks each one's changes up at some time after
// it, and all before it ends.
func (w *world) quiet(subjects []*subject) (transactions int) {
	w.settle()
	transactions = 1 + w.rand.IntN(3)
	for range transactions {
		w.exec("BEGIN")
		for range 1 + w.rand.IntN(4) {
			w.step()
		}
		w.commit(subjects, w.rand.IntN(2) == 0)
	}
	w.lookUp(subjects)
	return transactions
}

func (w *world) commit(subjects []*subject, look bool) {
	w.exec("COMMIT")
	w.moves = append(w.moves, move{look: look})
	if look {
		w.lookUp(subjects)
	}
}

// subjects derives the queries' rules. A query that Postgres cannot plan, such
// as some FULL JOINs, or not in time, is left out.
func (w *world) subjects(sketches []sketch) []*subject {
	w.Helper()
	var text strings.Builder
	var all []*subject
	for i, s := range sketches {
		if err := w.explain(s.sql); err != nil {
			if !strings.Contains(err.Error(), "FULL JOIN") && !strings.Contains(err.Error(), "statement timeout") {
				w.Fatalf("%s: %v", s.sql, err)
			}
			continue
		}
		fmt.Fprintf(&text, "viewlet \"q%d\" {\n  params = [%s]\n  query = <<-SQL\n%s\nSQL\n}\n", i, quoted(paramsOf(s.sql)), s.sql)
		all = append(all, &subject{sketch: s, named: map[string]bool{}, free: map[string]bool{}})
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

func (w *world) explain(sql string) error {
	bound, _ := (&rules.Query{SQL: sql, Params: paramsOf(sql)}).Bind(func(int) string { return "NULL" })
	_, err := w.conn.Exec(w.Context(), "EXPLAIN "+bound)
	return err
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
					if !s.forward || !computes(r) {
						w.follow(s, r, c.old)
					}
					w.follow(s, r, c.new)
				}
			}
		}
	}
	w.pending = nil
}

// computes reports whether a rule's lookup reads no table.
func computes(r derive.Rule) bool {
	return r.Lookup != nil && !strings.Contains(r.Lookup.SQL, " FROM public.")
}

// TestOracleNotices leaves out what a rule that computes keys has to do, and
// the oracle must say so.
func TestOracleNotices(t *testing.T) {
	for name, meddle := range map[string]func(*subject){
		"without them":          func(s *subject) { s.Rules = slices.DeleteFunc(s.Rules, computes) },
		"without the old image": func(s *subject) { s.forward = true },
		"without the elements": func(s *subject) {
			s.Rules = slices.DeleteFunc(s.Rules, func(r derive.Rule) bool { return computes(r) && strings.Contains(r.Lookup.SQL, "unnest(") })
		},
	} {
		for seed := uint64(1); ; seed++ {
			if _, found := playWorld(t, seed, meddle); found != nil {
				t.Logf("%s, seed %d: %s", name, seed, found.stale)
				break
			}
			if seed == 4 {
				t.Fatalf("%s, and the oracle says nothing", name)
			}
		}
	}
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
			return changed, fmt.Sprintf("%s is stale: it was %q and is %q", key, was[key], result)
		}
	}
	if key := w.unlisted(s); key != "" {
		return changed, key + " has rows, and is not among all"
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
