package rules_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// write makes a folder with those files, by name.
func write(tb testing.TB, files map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func load(tb testing.TB, path string) *rules.Set {
	tb.Helper()
	set, diags := rules.Load(path)
	if diags.HasErrors() {
		tb.Fatal(diags.Errs())
	}
	return set
}

const shop = `
postgres {
  url  = env("CDC_VIEWLET_TEST_URL")
  slot = "shop"
}
redis {
  prefix = "shop:"
}
viewlet "product_teaser" {
  params   = ["id"]
  query    = <<-SQL
    SELECT p.name
    FROM products p
    WHERE p.id = @id
  SQL
  all      = "SELECT id FROM products"
  template = "templates/product.html"
  timeout  = "10m"
  empty    = "render"
  keep     = "requested"
}
viewlet "menu" {
  query = "SELECT name FROM categories"
  rows  = true
}
viewlet "greeting" {
  query = "SELECT 1"
  body  = "<b>{{.x}}</b>"
}
lookup "products_in" {
  params = ["category_id"]
  query  = "SELECT id FROM products WHERE category_id = @category_id"
}
table "products" {
  refresh = product_teaser(id)
}
table "products" {
  when    = changed("category_id")
  refresh = menu()
}
table "shop.categories" {
  refresh = [product_teaser(products_in(id)), menu()]
}
table "\"My.Schema\".\"a \"\"b\"\"\"" {
  refresh = menu()
}
`

func shopFiles() map[string]string {
	return map[string]string{
		"rules.hcl":               shop,
		"templates/product.html":  `{{template "price.html" .}}{{template "stock" .}}{{block "title" .}}{{end}}`,
		"templates/price.html":    `{{ template "currency.html" }}`,
		"templates/currency.html": `€`,
		"templates/parts.html":    "{{- define `stock` -}}1{{end}}",
		"templates/other.html":    `not invoked`,
		"templates/price.txt":     `another ending`,
	}
}

func TestLoad(t *testing.T) {
	t.Setenv("CDC_VIEWLET_TEST_URL", "postgres://localhost/shop")
	set := load(t, filepath.Join(write(t, shopFiles()), "rules.hcl"))
	if want := (rules.Postgres{URL: "postgres://localhost/shop", Slot: "shop"}); set.Postgres != want {
		t.Errorf("got %+v, want %+v", set.Postgres, want)
	}
	if want := (rules.Redis{Prefix: "shop:"}); set.Redis != want {
		t.Errorf("got %+v, want %+v", set.Redis, want)
	}
	v := set.Viewlet("product_teaser")
	if v == nil || v != set.Viewlets[0] || !slices.Equal(v.Params, []string{"id"}) || v.Timeout != 10*time.Minute ||
		!v.RenderEmpty || !v.Requested || v.Rows || v.All.SQL != "SELECT id FROM products" {
		t.Fatalf("product_teaser is %+v", v)
	}
	if want := "SELECT p.name\nFROM products p\nWHERE p.id = @id\n"; v.Query.SQL != want {
		t.Errorf("query is %q, want %q", v.Query.SQL, want)
	}
	if !v.Template.HTML || v.Template.Name != "product.html" || !strings.HasSuffix(v.Template.Path, "/templates/product.html") {
		t.Errorf("template is %+v", v.Template)
	}
	var partials []string
	for name := range v.Template.Partials {
		partials = append(partials, name)
	}
	slices.Sort(partials)
	if want := []string{"currency.html", "parts.html", "price.html"}; !slices.Equal(partials, want) {
		t.Errorf("partials are %q, want %q", partials, want)
	}
	if m := set.Viewlet("menu"); !m.Rows || m.Template != nil || m.All != nil {
		t.Errorf("menu is %+v", m)
	}
	if b := set.Viewlet("greeting").Template; b.Name != "body" || !b.HTML || b.Path != "" || b.Source != "<b>{{.x}}</b>" {
		t.Errorf("body is %+v", b)
	}
	if l := set.Lookup("products_in"); l == nil || l != set.Lookups[0] || !slices.Equal(l.Params, []string{"category_id"}) {
		t.Errorf("products_in is %+v", l)
	}
	if set.Viewlet("nothing") != nil || set.Lookup("menu") != nil || set.Expansion("nothing") != nil {
		t.Error("what is not there was found")
	}
	tables := []viewlet.TableName{{Name: "products"}, {Schema: "shop", Name: "categories"}, {Schema: "My.Schema", Name: `a "b"`}}
	if got := set.TableNames(); !slices.Equal(got, tables) {
		t.Errorf("tables are %v, want %v", got, tables)
	}
	x := set.Expansion("products_in")
	want := &rules.Expansion{
		Name: "products_in", Viewlet: "product_teaser", Inputs: 1,
		Steps:   []rules.Step{{Lookup: set.Lookup("products_in"), Args: []rules.Ref{{Step: -1, Column: 0}}}},
		Outputs: []rules.Ref{{Step: 0, Column: -1}},
	}
	if !reflect.DeepEqual(x, want) {
		t.Errorf("expansion is %+v, want %+v", x, want)
	}
}

// TestRowExpansion spells out what stands in for a large value that the
// stream leaves out.
func TestRowExpansion(t *testing.T) {
	dir := write(t, map[string]string{"rules.hcl": `
viewlet "teaser" {
  params = ["id", "name", "lang"]
  query  = "SELECT @id, @name, @lang"
}
lookup "ids" {
  params = ["a", "b"]
  query  = "SELECT @a, @b"
}
table "odd" {
  refresh = teaser(ids(new.slug, id), new.slug, "sv")
}`})
	set := load(t, dir)
	rel := &viewlet.Relation{ID: 1, Schema: "public", Name: "odd", Identity: viewlet.IdentityDefault, Columns: []viewlet.Column{
		{Name: "id", Type: 23, Key: true}, {Name: `k "2"`, Type: 25, Key: true}, {Name: "slug", Type: 25},
	}}
	got, err := set.Match(nil, &viewlet.Change{Op: viewlet.Update, Rel: rel, New: viewlet.Tuple{
		{Kind: viewlet.Text, Text: []byte("7")}, {Kind: viewlet.Text, Text: []byte("x")}, {Kind: viewlet.Unchanged},
	}})
	if err != nil || len(got) != 1 || got[0].Args != ":7:x:7:sv" {
		t.Fatalf("got %v, %v", got, err)
	}
	x := set.Expansion(got[0].Via)
	if x == nil || x.Inputs != 4 || len(x.Steps) != 2 {
		t.Fatalf("expansion %q is %+v", got[0].Via, x)
	}
	row := x.Steps[0].Lookup.Query
	sql, _ := row.Bind(func(i int) string { return fmt.Sprintf("$%d", i+1) })
	if want := `SELECT "slug" AS column1, "slug" AS column2 FROM "public"."odd" WHERE "id" = $1 AND "k ""2""" = $2`; sql != want {
		t.Errorf("row lookup is\n%s, want\n%s", sql, want)
	}
	if want := []rules.Ref{{Step: -1, Column: 0}, {Step: -1, Column: 1}}; !slices.Equal(x.Steps[0].Args, want) {
		t.Errorf("row lookup takes %v, want %v", x.Steps[0].Args, want)
	}
	if want := []rules.Ref{{Step: 0, Column: 0}, {Step: -1, Column: 2}}; !slices.Equal(x.Steps[1].Args, want) {
		t.Errorf("ids takes %v, want %v", x.Steps[1].Args, want)
	}
	if want := []rules.Ref{{Step: 1, Column: -1}, {Step: 0, Column: 1}, {Step: -1, Column: 3}}; !slices.Equal(x.Outputs, want) {
		t.Errorf("outputs are %v, want %v", x.Outputs, want)
	}
}

func TestSuggest(t *testing.T) {
	t.Setenv("CDC_VIEWLET_TEST_URL", "postgres://localhost/shop")
	set := load(t, write(t, shopFiles()))
	for given, want := range map[string]string{
		"product_taeser": ` Did you mean "product_teaser"?`,
		"MENUE":          ` Did you mean "menu"?`,
		"products_in":    "", // a lookup, and not like any viewlet
		"basket":         "",
	} {
		if got := set.Suggest(given); got != want {
			t.Errorf("for %q it suggests %q, want %q", given, got, want)
		}
	}
	if got := new(rules.Set).Suggest("menu"); got != "" {
		t.Errorf("of no viewlets it suggests %q", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"binary":  {"viewlet \"a\" {\x00\xff}", "not a text file in UTF-8"},
		"latin-1": {"# sm\xf6rg\xe5s", "not a text file in UTF-8"},
		"huge":    {strings.Repeat("# line\n", 10<<20/7), "larger than 1 MiB"},
		"blank":   {" \n", "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, diags := rules.Load(filepath.Join(write(t, map[string]string{"rules.hcl": tt.text}), "rules.hcl"))
			if len(diags) != 1 || !strings.Contains(diags[0].Detail, tt.want) {
				t.Errorf("got %v, want one that says %q", diags.Errs(), tt.want)
			}
		})
	}
}

func TestFingerprint(t *testing.T) {
	t.Setenv("CDC_VIEWLET_TEST_URL", "postgres://localhost/shop")
	prints := func(change func(files map[string]string)) (teaser, menu string) {
		files := shopFiles()
		change(files)
		set := load(t, write(t, files))
		return set.Fingerprint("product_teaser"), set.Fingerprint("menu")
	}
	replace := func(file, from, to string) func(map[string]string) {
		return func(files map[string]string) {
			if !strings.Contains(files[file], from) {
				t.Fatalf("%s has no %q", file, from)
			}
			files[file] = strings.Replace(files[file], from, to, 1)
		}
	}
	teaser, menu := prints(func(map[string]string) {})
	if len(teaser) != 64 || teaser == menu {
		t.Fatalf("fingerprints are %q and %q", teaser, menu)
	}
	if got := load(t, write(t, shopFiles())).Fingerprint("nothing"); got != "" {
		t.Errorf("a viewlet that is not there has %q", got)
	}
	for name, tt := range map[string]struct {
		change       func(map[string]string)
		teaser, menu bool // changed
	}{
		"comment":         {replace("rules.hcl", "redis {", "# a comment\nredis {"), false, false},
		"slot":            {replace("rules.hcl", `"shop"`, `"other"`), false, false},
		"order of tables": {func(f map[string]string) { moveFirst(f, `table "shop.categories"`) }, false, false},
		"two files": {func(f map[string]string) {
			at := strings.Index(f["rules.hcl"], "lookup")
			f["z.hcl"], f["rules.hcl"] = f["rules.hcl"][:at], f["rules.hcl"][at:]
		}, false, false},
		"query":           {replace("rules.hcl", "SELECT p.name", "SELECT p.id"), true, false},
		"all":             {replace("rules.hcl", "SELECT id FROM products", "SELECT id FROM product"), true, false},
		"template":        {replace("templates/product.html", "stock", "title"), true, false},
		"partial":         {replace("templates/currency.html", "€", "$"), true, false},
		"another's":       {replace("templates/other.html", "not", "never"), false, false},
		"timeout":         {replace("rules.hcl", "10m", "11m"), true, false},
		"empty":           {replace("rules.hcl", "render", "delete"), true, false},
		"keep":            {replace("rules.hcl", "requested", "all"), true, false},
		"on_error":        {replace("rules.hcl", `"requested"`, "\"requested\"\n  on_error = \"delete\""), true, false},
		"on_error's word": {replace("rules.hcl", `"requested"`, "\"requested\"\n  on_error = \"keep\""), false, false},
		"rows":            {replace("rules.hcl", "= true", "= false"), false, true},
		"when":            {replace("rules.hcl", `changed("category_id")`, `changed("id")`), false, true},
		"argument":        {replace("rules.hcl", "product_teaser(id)", "product_teaser(new.id)"), true, false},
		"lookup's query":  {replace("rules.hcl", "WHERE category_id", "WHERE id"), true, false},
		"table":           {replace("rules.hcl", "shop.categories", "shop.category"), true, true},
		"variable in url": {func(map[string]string) { t.Setenv("CDC_VIEWLET_TEST_URL", "postgres://elsewhere/shop") }, false, false},
	} {
		gotTeaser, gotMenu := prints(tt.change)
		if (gotTeaser != teaser) != tt.teaser || (gotMenu != menu) != tt.menu {
			t.Errorf("%s: changed product_teaser %t, want %t; menu %t, want %t", name, gotTeaser != teaser, tt.teaser, gotMenu != menu, tt.menu)
		}
	}
}

func moveFirst(files map[string]string, block string) {
	text := files["rules.hcl"]
	from := strings.Index(text, block)
	to := from + strings.Index(text[from:], "\n}\n") + 3
	files["rules.hcl"] = text[from:to] + text[:from] + text[to:]
}

func TestProblem(t *testing.T) {
	t.Setenv("CDC_VIEWLET_TEST_URL", "postgres://localhost/shop")
	dir := write(t, shopFiles())
	set := load(t, dir)
	more := load(t, write(t, map[string]string{"rules.hcl.json": `{"viewlet": {"a": {"query": "SELECT \"å\",\n nix FROM b"}}}`}))
	quoted := load(t, write(t, map[string]string{"rules.hcl": "viewlet \"a\" {\n  query = \"SELECT \\\"å\\\", nix FROM b\"\n}"}))
	plain := load(t, write(t, map[string]string{"rules.hcl": "viewlet \"a\" {\n  query = <<SQL\nSELECT 1,\n  nix\nSQL\n}"}))
	for _, tt := range []struct {
		set        *rules.Set
		name, attr string
		word       string // the offset is where it stands in the query; empty: -1
		want       string
	}{
		{set, "product_teaser", "query", "products p", "rules.hcl:13,10-10"},
		{set, "product_teaser", "query", "SELECT", "rules.hcl:12,5-5"},
		{set, "product_teaser", "query", "", "rules.hcl:11,14-14"},
		{set, "product_teaser", "body", "", "rules.hcl:9,1-25"},
		{set, "products_in", "query", "category_id =", "rules.hcl:32,43-43"},
		{set, "", "postgres.url", "", "rules.hcl:3,10-37"},
		{set, "", "redis.url", "", "rules.hcl:6,1-6"},
		{set, "nothing", "query", "", "<nil>"},
		{more, "a", "query", "nix", "rules.hcl.json:1,46-46"},
		{quoted, "a", "query", "nix", "rules.hcl:2,26-26"},
		{plain, "a", "query", "nix", "rules.hcl:4,3-3"},
	} {
		offset := -1
		if tt.word != "" {
			q := queryOf(tt.set, tt.name)
			if offset = strings.Index(q.SQL, tt.word); offset < 0 {
				t.Fatalf("%q is not in %q", tt.word, q.SQL)
			}
		}
		d := tt.set.Problem(tt.name, tt.attr, offset, rules.Warning, "summary", "detail")
		got := "<nil>"
		if d.Subject != nil {
			d.Subject.Filename = filepath.Base(d.Subject.Filename)
			got = d.Subject.String()
		}
		if got != tt.want || d.Severity != rules.Warning || d.Summary != "summary" || d.Detail != "detail" {
			t.Errorf("%s.%s at %q: %s, want %s", tt.name, tt.attr, tt.word, got, tt.want)
		}
	}
}

func queryOf(set *rules.Set, name string) *rules.Query {
	if v := set.Viewlet(name); v != nil {
		return v.Query
	}
	return set.Lookup(name).Query
}

// TestSort: whatever order diagnostics were found in.
func TestSort(t *testing.T) {
	at := func(file string, from int, severity rules.Severity, summary string) *rules.Diagnostic {
		d := &rules.Diagnostic{Severity: severity, Summary: summary}
		if file != "" {
			d.Subject = &hcl.Range{Filename: file, Start: hcl.Pos{Byte: from}}
		}
		return d
	}
	want := rules.Diagnostics{
		at("a.hcl", 5, rules.Warning, "one"), at("a.hcl", 70, rules.Error, "two"), at("a.hcl", 70, rules.Warning, "a three"),
		at("a.hcl", 70, rules.Warning, "four"), at("b.hcl", 0, rules.Error, "five"), at("", 0, rules.Warning, "six"),
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		got := slices.Clone(want)
		r.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		if rules.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("got %v", got)
		}
	}
}

func TestDiagnosticsHidePasswords(t *testing.T) {
	set := load(t, write(t, map[string]string{"rules.hcl": `
postgres {
  url = "host=localhost password=hush user=app"
}
redis {
  url = "redis://app:p@ss:word@localhost/0"
}
viewlet "menu" {
  query = "SELECT 1"
}`}))
	var b bytes.Buffer
	diags := rules.Diagnostics{
		set.Problem("", "postgres.url", -1, rules.Error, "No such host", "Try again."),
		set.Problem("", "redis.url", -1, rules.Warning, "No such host", "Try again."),
	}
	if err := set.WriteDiagnostics(&b, diags, 80, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"host=localhost password=**** user=app"`, `"redis://app:*********@localhost/0"`, "\x1b[31m", "Try again."} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	if e, w := rules.Count(diags); e != 1 || w != 1 {
		t.Errorf("counted %d errors and %d warnings", e, w)
	}
}

func TestThousandViewlets(t *testing.T) {
	var b strings.Builder
	files := map[string]string{}
	for i := range 1000 {
		fmt.Fprintf(&b, "viewlet \"v%d\" {\n  params = [\"id\"]\n  query = \"SELECT %d WHERE 1 = @id\"\n  template = \"v%d.html\"\n}\n", i, i, i)
		fmt.Fprintf(&b, "table \"t%d\" {\n  when = changed(\"name\")\n  refresh = [v%d(id), v0(id)]\n}\n", i, i)
		files[fmt.Sprintf("v%d.html", i)] = `{{template "page.html" .}}`
	}
	files["page.html"], files["rules.hcl"] = "<b></b>", b.String()
	dir := write(t, files)
	start := time.Now()
	set := load(t, dir)
	if took := time.Since(start); took > 15*time.Second { // some 0.2 s alone
		t.Errorf("loading took %s", took)
	}
	if len(set.Viewlets) != 1000 || len(set.TableNames()) != 1000 || len(set.Viewlet("v7").Template.Partials) != 1 {
		t.Errorf("got %d viewlets, %d tables", len(set.Viewlets), len(set.TableNames()))
	}
}

// products is a relation of the hot path, and a change that makes one key.
func hotPath(tb testing.TB) (*rules.Set, *viewlet.Change) {
	tb.Helper()
	set := load(tb, write(tb, map[string]string{"rules.hcl": `
viewlet "product_teaser" {
  params = ["id"]
  query  = "SELECT name FROM products WHERE id = @id"
}
lookup "products_in" {
  params = ["category_id"]
  query  = "SELECT id FROM products WHERE category_id = @category_id"
}
table "products" {
  when    = op != "delete" && (changed("name", "price") || old.status != new.status && new.status == "live" || new.stock < 5)
  refresh = [product_teaser(id), product_teaser(products_in(category_id))]
}`}))
	rel := &viewlet.Relation{ID: 1, Schema: "public", Name: "products", Identity: viewlet.IdentityFull}
	for _, name := range []string{"id", "name", "price", "category_id", "status"} {
		rel.Columns = append(rel.Columns, viewlet.Column{Name: name, Type: 25, Key: true})
	}
	rel.Columns = append(rel.Columns, viewlet.Column{Name: "stock", Type: 23, Key: true})
	row := func(values ...string) viewlet.Tuple {
		var t viewlet.Tuple
		for _, v := range values {
			t = append(t, viewlet.Value{Kind: viewlet.Text, Text: []byte(v)})
		}
		return t
	}
	return set, &viewlet.Change{Op: viewlet.Update, Rel: rel, Old: row("42", "Oak", "1.50", "7", "live", "30"), New: row("42", "Ash", "1.50", "8", "live", "30")}
}

func unwanted(c *viewlet.Change) *viewlet.Change {
	return &viewlet.Change{Op: c.Op, Rel: c.Rel, Old: c.Old, New: c.Old}
}

func TestMatchAllocatesNothing(t *testing.T) {
	set, hot := hotPath(t)
	other := &viewlet.Change{Op: viewlet.Insert, Rel: &viewlet.Relation{ID: 2, Schema: "public", Name: "other"}}
	dst := make([]viewlet.Refresh, 0, 8)
	for name, tt := range map[string]struct {
		change *viewlet.Change
		want   int
	}{"hot key": {hot, 3}, "when is false": {unwanted(hot), 0}, "no rule": {other, 0}} {
		run := func() {
			got, err := set.Match(dst, tt.change)
			if err != nil || len(got) != tt.want {
				t.Fatalf("%s: got %v, %v", name, got, err)
			}
		}
		run() // compiles, and interns
		if n := testing.AllocsPerRun(1000, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestMatchInternsBounded matches more keys than are kept, and finds all right.
func TestMatchInternsBounded(t *testing.T) {
	set, c := hotPath(t)
	var dst []viewlet.Refresh
	for i := range 50_000 {
		c.New[0].Text = fmt.Appendf(c.New[0].Text[:0], "%d", i%20_000)
		var err error
		if dst, err = set.Match(dst[:0], c); err != nil {
			t.Fatal(err)
		}
		if want := viewlet.NewKey("product_teaser", string(c.New[0].Text)); !slices.ContainsFunc(dst, func(r viewlet.Refresh) bool { return r.Key == want && r.Via == "" }) {
			t.Fatalf("no %s in %v", want, dst)
		}
	}
}

// TestExpansionWhileMatching reads expansions as lanes do while Match adds to
// them; the race detector watches.
func TestExpansionWhileMatching(t *testing.T) {
	set, c := hotPath(t)
	c.Rel.Identity = viewlet.IdentityDefault
	for i := range c.Rel.Columns {
		c.Rel.Columns[i].Key = i == 0
	}
	c.Old, c.New[3] = nil, viewlet.Value{Kind: viewlet.Unchanged}
	via := make(chan string)
	var lanes sync.WaitGroup
	lanes.Go(func() {
		for name := range via {
			if set.Expansion(name) == nil {
				t.Errorf("no expansion %q", name)
			}
		}
	})
	for i := range 100 {
		rel := *c.Rel
		rel.Name = "products"
		rel.ID = uint32(i)
		rel.Schema = fmt.Sprintf("shop%d", i)
		c.Rel = &rel
		refreshes, err := set.Match(nil, c)
		if err != nil || len(refreshes) != 2 {
			t.Fatalf("got %v, %v", refreshes, err)
		}
		via <- refreshes[1].Via
	}
	close(via)
	lanes.Wait()
}

// TestNewRelation changes a table under the rules' feet.
func TestNewRelation(t *testing.T) {
	set, c := hotPath(t)
	if got, err := set.Match(nil, c); err != nil || len(got) != 3 {
		t.Fatalf("got %v, %v", got, err)
	}
	rel := *c.Rel
	rel.Columns = slices.Clone(rel.Columns)
	rel.Columns[0].Name, rel.Columns[1].Name = "name", "id"
	c.Rel, c.Old[0].Text = &rel, []byte("41")
	if got, err := set.Match(nil, c); err != nil || len(got) == 0 || got[0].String() != "product_teaser:Oak" {
		t.Fatalf("got %v, %v", got, err)
	}
}

// TestBoundTable follows a table that was renamed, and no namesake elsewhere.
func TestBoundTable(t *testing.T) {
	set, c := hotPath(t)
	catalog := &viewlet.Table{OID: 1, Schema: "public", Name: "products", Kind: 'r', Persistence: 'p', Identity: viewlet.IdentityFull}
	for _, column := range c.Rel.Columns {
		catalog.Columns = append(catalog.Columns, viewlet.TableColumn{Name: column.Name, TypeOID: column.Type, Identity: true})
	}
	if diags := set.Bind(map[viewlet.TableName]*viewlet.Table{{Name: "products"}: catalog}, nil); len(diags) > 0 {
		t.Fatal(diags)
	}
	for _, tt := range []struct {
		id           uint32
		schema, name string
		want         int
	}{{1, "public", "products", 3}, {1, "public", "wares", 3}, {9, "public", "products", 3}, {9, "attic", "products", 0}} {
		rel := *c.Rel
		rel.ID, rel.Schema, rel.Name = tt.id, tt.schema, tt.name
		got, err := set.Match(nil, &viewlet.Change{Op: c.Op, Rel: &rel, Old: c.Old, New: c.New})
		if err != nil || len(got) != tt.want {
			t.Errorf("%s, OID %d: got %v, %v", &rel, tt.id, got, err)
		}
	}
}

// TestTupleTooShort gets rows that do not fit their Relation, which a decoder
// never makes: no panic, and no key.
func TestTupleTooShort(t *testing.T) {
	set, c := hotPath(t)
	c.Old, c.New = viewlet.Tuple{}, viewlet.Tuple{}
	if got, err := set.Match(nil, c); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func BenchmarkMatch(b *testing.B) {
	set, hot := hotPath(b)
	cold := &viewlet.Change{Op: hot.Op, Rel: hot.Rel, Old: slices.Clone(hot.Old), New: slices.Clone(hot.New)}
	for name, bb := range map[string]struct {
		change *viewlet.Change
		next   func(i int)
	}{
		"hot":      {hot, func(int) {}},
		"unwanted": {unwanted(hot), func(int) {}},
		"cold": {cold, func(i int) {
			cold.Old[0].Text = fmt.Appendf(nil, "%d", i)
			cold.New[0].Text = cold.Old[0].Text
		}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]viewlet.Refresh, 0, 8)
			for i := 0; b.Loop(); i++ {
				bb.next(i)
				if _, err := set.Match(dst, bb.change); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	scripts, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			f.Fatal(err)
		}
		_, text, _ = bytes.Cut(text, []byte("--\n"))
		if end := bytes.Index(text, []byte("\n-- ")); end >= 0 {
			text = text[:end]
		}
		f.Add(text, bytes.HasPrefix(text, []byte("{")))
	}
	f.Fuzz(func(t *testing.T, text []byte, isJSON bool) {
		name := map[bool]string{false: "rules.hcl", true: "rules.hcl.json"}[isJSON]
		set, diags := rules.Load(filepath.Join(write(t, map[string]string{name: string(text)}), name))
		if err := set.WriteDiagnostics(new(bytes.Buffer), diags, 78, true); err != nil {
			t.Fatal(err)
		}
		if diags.HasErrors() {
			return
		}
		set.Check()
		tables := map[viewlet.TableName]*viewlet.Table{}
		for i, n := range set.TableNames() {
			catalog := &viewlet.Table{OID: uint32(i), Schema: "public", Name: n.Name, Kind: 'r', Persistence: 'p', Identity: viewlet.IdentityFull}
			rel := &viewlet.Relation{ID: uint32(i), Schema: n.Schema, Name: n.Name, Identity: viewlet.IdentityFull}
			tuple := viewlet.Tuple{}
			for j, column := range []string{"id", "name", "category_id", "price"} {
				oid := []uint32{23, 25, 23, 1700}[j]
				catalog.Columns = append(catalog.Columns, viewlet.TableColumn{Name: column, TypeOID: oid, Identity: true})
				rel.Columns = append(rel.Columns, viewlet.Column{Name: column, Type: oid, Key: true})
				tuple = append(tuple, viewlet.Value{Kind: viewlet.Text, Text: []byte("1")})
			}
			if i%2 == 0 {
				tables[n] = catalog
			}
			for _, c := range []*viewlet.Change{
				{Op: viewlet.Insert, Rel: rel, New: tuple},
				{Op: viewlet.Update, Rel: rel, New: tuple, Old: tuple[:2]},
				{Op: viewlet.Delete, Rel: rel, Old: tuple},
				{Op: viewlet.Truncate, Rel: rel},
			} {
				refreshes, _ := set.Match(nil, c) // its errors are for the log
				for _, r := range refreshes {
					if set.Viewlet(r.Viewlet) == nil || r.Via != "" && r.Via != viewlet.Whole && set.Expansion(r.Via) == nil {
						t.Fatalf("%s leads nowhere", r)
					}
				}
			}
		}
		set.Bind(tables, map[string][]string{"products_in": {"id"}})
		for _, v := range set.Viewlets {
			if set.Fingerprint(v.Name) == "" {
				t.Fatalf("%s has no fingerprint", v.Name)
			}
		}
	})
}
