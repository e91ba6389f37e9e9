package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// expanded gives the keys that Expand yields, sorted and each once.
func (s *site) expanded(name, via string, args ...string) []string {
	s.Helper()
	var keys []string
	err := s.r.Expand(s.Context(), name, via, args, func(piece []viewlet.Key) error {
		if len(piece) == 0 || len(piece) > pieceSize {
			s.Errorf("a piece has %d keys", len(piece))
		}
		for _, k := range piece {
			keys = append(keys, k.String())
		}
		return nil
	})
	if err != nil {
		s.Fatalf("expand %s via %s: %v", name, via, err)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func TestWhole(t *testing.T) {
	s := newSite(t, `CREATE TABLE t (id int, lang text)`)
	s.loadSound(`
viewlet "one" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
  all    = "SELECT id FROM t -- each; \n;"
}
viewlet "two" {
  params = ["id", "lang"]
  query  = "SELECT @id::int AS id, @lang AS lang"
  all    = "SELECT DISTINCT id, lang FROM t"
}
viewlet "none" {
  query = "SELECT 1 AS a"
}
viewlet "unknown" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
}`)
	for _, n := range []int{0, 1, 999, 1000, 1001, 2000, 25000} {
		s.exec(fmt.Sprintf("TRUNCATE t; INSERT INTO t SELECT i, 'l:' || i FROM generate_series(1, %d) i; INSERT INTO t VALUES (NULL, 'x'), (-1, NULL)", n))
		if got := s.expanded("one", viewlet.Whole); len(got) != n+1 { // -1 is one
			t.Errorf("of %d rows: got %d keys", n, len(got))
		}
		got := s.expanded("two", viewlet.Whole)
		if len(got) != n || n > 0 && !slices.Contains(got, fmt.Sprintf("two:%d:l%%3A%d", n, n)) {
			t.Errorf("of %d rows with two params: got %d keys", n, len(got))
		}
	}
	if got := s.expanded("none", viewlet.Whole); !slices.Equal(got, []string{"none"}) {
		t.Errorf("without params: got %v", got)
	}
	if got := s.expanded("unknown", viewlet.Whole); got != nil {
		t.Errorf("without all: got %v", got)
	}
	s.exec("ANALYZE t")
	for name, want := range map[string]int64{"one": 25002, "none": 1, "unknown": -1} {
		if got, err := s.r.Estimate(t.Context(), name); err != nil || got != want {
			t.Errorf("estimate of %s: got %d, %v; want %d", name, got, err, want)
		}
	}
}

func TestWholeFaults(t *testing.T) {
	s := newSite(t, `CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 3) i; CREATE TABLE u AS TABLE t`)
	s.load(`
viewlet "width" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
  all    = "SELECT id, id + 1 FROM t"
}
viewlet "data" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
  all    = "SELECT 6 / (id - 2) FROM t"
}
viewlet "syntax" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
  all    = "SELECT id FORM t"
}
viewlet "star" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
  all    = "SELECT * FROM t"
}
viewlet "gone" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
  all    = "SELECT id FROM u"
}`)
	problems, _, err := s.r.Check(t.Context())
	if err != nil || len(problems) != 2 {
		t.Errorf("Check: got %+v, %v", problems, err)
	}
	for _, p := range problems {
		if p.Attr != "all" || p.Viewlet.Name != "width" && p.Viewlet.Name != "syntax" {
			t.Errorf("Check: got %+v", p)
		}
		var q *QueryError
		if !errors.As(p.Err, &q) || (p.Viewlet.Name == "syntax") != (q.Offset >= 0) {
			t.Errorf("Check: got %+v", p.Err)
		}
	}
	if got := s.expanded("star", viewlet.Whole); len(got) != 3 {
		t.Errorf("star: got %v", got)
	}
	s.expanded("gone", viewlet.Whole)
	s.exec("ALTER TABLE t ADD more text; DROP TABLE u")
	for _, name := range []string{"width", "data", "syntax", "star", "gone"} {
		for range 2 {
			var broken *viewlet.Broken
			err := s.r.Expand(t.Context(), name, viewlet.Whole, nil, func([]viewlet.Key) error { return nil })
			if !errors.As(err, &broken) || !strings.Contains(err.Error(), "all") {
				t.Errorf("%s: got %v, want a *viewlet.Broken of all", name, err)
			}
		}
	}
	s.exec("ALTER TABLE t DROP more; CREATE TABLE u AS TABLE t")
	for _, name := range []string{"star", "gone"} {
		if got := s.expanded(name, viewlet.Whole); len(got) != 3 {
			t.Errorf("%s mended: got %v", name, got)
		}
	}
	stop := errors.New("stop")
	if err := s.r.Expand(t.Context(), "gone", viewlet.Whole, nil, func([]viewlet.Key) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("yield's error: got %v", err)
	}
}

// lookUps is a shop of products in categories in departments.
const lookUps = `
CREATE TABLE products AS SELECT i AS id, i % 10 AS category, (i % 3) = 0 AS sold FROM generate_series(1, 90) i;
CREATE TABLE categories AS SELECT i AS id, i % 2 AS department FROM generate_series(0, 9) i;
CREATE TABLE langs AS SELECT unnest('{en,sv}'::text[]) AS lang;
CREATE TABLE many AS SELECT i AS id, 1 AS owner FROM generate_series(1, 30000) i`

const lookUpRules = `
viewlet "teaser" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
  body   = "{{.id}}"
}
viewlet "page" {
  params = ["id", "lang"]
  query  = "SELECT @id::int AS id, @lang AS lang"
}
viewlet "shelf" {
  params = ["category", "sold", "lang"]
  query  = "SELECT @category::int AS category, @sold::bool AS sold, @lang AS lang"
}
lookup "products_in" {
  params = ["category"]
  query  = "SELECT id FROM products WHERE category = @category ORDER BY id DESC;"
}
lookup "sold_in" {
  params = ["category", "sold"]
  query  = "SELECT id FROM products WHERE category = @category AND sold = @sold"
}
lookup "categories_of" {
  params = ["department"]
  query  = "SELECT id FROM categories WHERE department = @department"
}
lookup "in_langs" {
  params = ["id"]
  query  = "SELECT @id::int, lang FROM langs"
}
lookup "langs" {
  params = ["id"]
  query  = "SELECT lang FROM langs WHERE @id::int > 0"
}
lookup "owned_by" {
  params = ["owner"]
  query  = "SELECT id FROM many WHERE owner = @owner"
}
lookup "sevenths" {
  params = ["n"]
  query  = "SELECT 7 / (@n - 7)"
}
lookup "fails_late" {
  params = ["n"]
  query  = "SELECT @n / (29999 - id) FROM many ORDER BY id"
}
table "products" {
  refresh = [
    teaser(products_in(category)), teaser(sold_in(category, sold)), teaser(products_in(categories_of(category))),
    page(in_langs(id)), page(id, langs(id)), shelf(category, sold, langs(category)),
    teaser(owned_by(id)), teaser(sevenths(id)), teaser(fails_late(id)),
  ]
}`

// vias names the expansions that a row of products asks for, each with its
// viewlet before it. That makes them known to the rules.
func (s *site) vias() map[string]bool {
	s.Helper()
	rel := &viewlet.Relation{ID: 1, Schema: "public", Name: "products", Identity: viewlet.IdentityFull, Columns: []viewlet.Column{
		{Name: "id", Type: 23, Key: true}, {Name: "category", Type: 23, Key: true}, {Name: "sold", Type: 16, Key: true},
	}}
	table := &viewlet.Table{OID: 1, Schema: "public", Name: "products", Kind: 'r', Persistence: 'p', Identity: viewlet.IdentityFull, PrimaryKey: []string{"id"}}
	for _, c := range rel.Columns {
		table.Columns = append(table.Columns, viewlet.TableColumn{Name: c.Name, Type: "integer", TypeOID: c.Type, Identity: true})
	}
	_, columns, err := s.r.Check(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	if diags := s.set.Bind(map[viewlet.TableName]*viewlet.Table{{Name: "products"}: table}, columns); diags.HasErrors() {
		s.Fatal(diags)
	}
	text := func(v string) viewlet.Value { return viewlet.Value{Kind: viewlet.Text, Text: []byte(v)} }
	refreshes, err := s.set.Match(nil, &viewlet.Change{Op: viewlet.Insert, Rel: rel, New: viewlet.Tuple{text("5"), text("1"), text("t")}})
	if err != nil {
		s.Fatal(err)
	}
	vias := map[string]bool{}
	for _, r := range refreshes {
		vias[r.Viewlet+" "+r.Via] = true
	}
	return vias
}

// TestLookups compares with what each input by itself, and one step after
// another, gives.
func TestLookups(t *testing.T) {
	s := newSite(t, lookUps)
	s.loadSound(lookUpRules)
	vias := s.vias()
	keys := func(sql string) []string {
		var keys []string
		for _, row := range s.text(sql) {
			keys = append(keys, viewlet.NewKey(row[0], row[1:]...).String())
		}
		slices.Sort(keys)
		return slices.Compact(keys)
	}
	tested := map[string]bool{}
	for _, c := range []struct {
		viewlet, via string
		args         []string
		want         string
	}{
		{"teaser", "products_in", []string{":3"}, "SELECT 'teaser', id FROM products WHERE category = 3"},
		{"teaser", "products_in", []string{":3", ":4", ":3", ":77"}, "SELECT 'teaser', id FROM products WHERE category IN (3, 4)"},
		{"teaser", "products_in", nil, "SELECT WHERE false"},
		{"teaser", "sold_in", []string{":3:t", ":4:f"}, "SELECT 'teaser', id FROM products WHERE (category, sold) IN ((3, true), (4, false))"},
		{"teaser", "products_in(categories_of(_))", []string{":1", ":5"}, "SELECT 'teaser', id FROM products WHERE category % 2 = 1"},
		{"page", "in_langs", []string{":7", ":8"}, "SELECT 'page', i, lang FROM langs, generate_series(7, 8) i"},
		{"page", "_, langs(_)", []string{":7:7", ":5:0"}, "SELECT 'page', 7, lang FROM langs"},
		{"shelf", "_, _, langs(_)", []string{":7:t:7"}, "SELECT 'shelf', 7, 't', lang FROM langs"},
		{"teaser", "owned_by", []string{":1"}, "SELECT 'teaser', id FROM many"},
	} {
		if !vias[c.viewlet+" "+c.via] {
			t.Errorf("no expansion %s among %v", c.via, vias)
			continue
		}
		tested[c.via] = true
		if got, want := s.expanded(c.viewlet, c.via, c.args...), keys(c.want); !slices.Equal(got, want) {
			t.Errorf("%s via %s of %v: got %d keys %.200v\nwant %d %.200v", c.viewlet, c.via, c.args, len(got), got, len(want), want)
		}
	}
	if len(tested) != 7 {
		t.Errorf("tested %v of %v", tested, vias)
	}
}

func TestLookupFaults(t *testing.T) {
	s := newSite(t, lookUps)
	s.loadSound(lookUpRules)
	vias := s.vias()
	yield := func([]viewlet.Key) error { return nil }
	var broken *viewlet.Broken
	for via, args := range map[string][]string{
		"sevenths":    {":1", ":7"},
		"fails_late":  {":1"},
		"products_in": {":x"},
		"nowhere":     {":1"},
		"sold_in":     {":1"},
	} {
		if !vias["teaser "+via] && via != "nowhere" {
			t.Fatalf("no expansion %s among %v", via, vias)
		}
		if err := s.r.Expand(t.Context(), "teaser", via, args, yield); !errors.As(err, &broken) || !strings.Contains(err.Error(), via) {
			t.Errorf("%s: got %v, want a *viewlet.Broken", via, err)
		}
	}
	if got := s.expanded("teaser", "sevenths", ":8", ":14"); !slices.Equal(got, []string{"teaser:1", "teaser:7"}) {
		t.Errorf("good inputs after bad ones: got %v", got)
	}
	for _, step := range []string{"ALTER TABLE products ALTER id TYPE bigint", "ALTER TABLE products ALTER category TYPE bigint", "ALTER TABLE products RENAME TO p; CREATE VIEW products AS SELECT sold, id::text, category FROM p"} {
		s.exec(step)
		if got := s.expanded("teaser", "products_in", ":1"); len(got) != 9 {
			t.Errorf("after %s: got %v", step, got)
		}
	}
	s.exec("DROP VIEW products")
	if err := s.r.Expand(t.Context(), "teaser", "products_in", []string{":1"}, yield); !errors.As(err, &broken) {
		t.Errorf("without its table: got %v, want a *viewlet.Broken", err)
	}
	s.exec("ALTER TABLE p RENAME TO products")
	if got := s.expanded("teaser", "products_in", ":1"); len(got) != 9 {
		t.Errorf("with it again: got %v", got)
	}
	stop := errors.New("stop")
	for _, via := range []string{"products_in", "owned_by"} {
		calls := 0
		err := s.r.Expand(t.Context(), "teaser", via, []string{":1"}, func([]viewlet.Key) error { calls++; return stop })
		if !errors.Is(err, stop) || calls != 1 {
			t.Errorf("%s: yield's error: got %v after %d calls", via, err, calls)
		}
	}
}

// TestFewConnections: lanes that expand more than fits at once, and render what
// they are yielded from the same three connections, all come to an end.
func TestFewConnections(t *testing.T) {
	s := newSite(t, lookUps)
	s.connect(Config{Connections: 1, StatementTimeout: 20 * time.Second}) // three are the least
	s.loadSound(lookUpRules + `
viewlet "every" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
  body   = "{{.id}}"
  all    = "SELECT id FROM many WHERE id <= 5000"
}`)
	if !s.vias()["teaser owned_by"] {
		t.Fatal("no expansion owned_by")
	}
	var mu sync.Mutex
	rendered := map[string]int{}
	var lanes sync.WaitGroup
	for lane := range 6 {
		name, via, args := "teaser", "owned_by", []string{":1"}
		if lane%2 == 0 {
			name, via, args = "every", viewlet.Whole, nil
		}
		lanes.Go(func() {
			err := s.r.Expand(t.Context(), name, via, args, func(keys []viewlet.Key) error {
				if name == "every" { // as a lane does that is asked meanwhile
					if err := s.r.Expand(t.Context(), "teaser", "products_in", []string{":1"}, func([]viewlet.Key) error { return nil }); err != nil {
						return err
					}
				}
				fragments, err := s.r.Render(t.Context(), name, keys)
				mu.Lock()
				rendered[name] += len(fragments)
				mu.Unlock()
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	lanes.Wait()
	if rendered["teaser"] != 3*30000 || rendered["every"] != 3*5000 {
		t.Errorf("rendered %v", rendered)
	}
	if n := s.db.pool.Stat().TotalConns(); n > 3 {
		t.Errorf("%d connections are open", n)
	}
}

// A migration does not wait for all of a viewlet to be rendered, which would wait
// for the migration.
func TestExpandHoldsNoLock(t *testing.T) {
	s := newSite(t, "CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t SELECT i FROM generate_series(1, 5000) i")
	s.loadSound(whereRules)
	keys := 0
	err := s.r.Expand(t.Context(), "v", viewlet.Whole, nil, func(piece []viewlet.Key) error {
		if keys == 0 {
			s.exec("SET lock_timeout = '10s'; ALTER TABLE t ADD c int")
		}
		keys += len(piece)
		return nil
	})
	if err != nil || keys != 5000 {
		t.Errorf("%d keys, %v, want 5000", keys, err)
	}
}
