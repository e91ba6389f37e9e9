package derive_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

var update = flag.Bool("update", false, "write what is derived into testdata/rules")

// cluster is the server of all tests.
var cluster *sandbox.Postgres

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if cluster, err = sandbox.StartPostgres(context.Background(), sandbox.PostgresConfig{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cluster.Close()
	return m.Run()
}

// site is the database with a schema of its own.
type site struct {
	testing.TB
	url  string
	conn *pgx.Conn
	db   *render.Database
}

// newSite makes a schema, in the place of the one of the test before.
func newSite(t testing.TB, schema string) *site {
	t.Helper()
	s := dial(t, cluster.URL())
	s.exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public; " + schema)
	var err error
	if s.db, err = render.Connect(t.Context(), render.Config{URL: s.url}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.db.Close)
	return s
}

func dial(t testing.TB, url string) *site {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return &site{TB: t, url: url, conn: conn}
}

func (s *site) exec(sql string) {
	s.Helper()
	if _, err := s.conn.Exec(s.Context(), sql); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
}

// load reads a rules.hcl of viewlets.
func load(t testing.TB, text []byte) *rules.Set {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.hcl")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	set, diags := rules.Load(file)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return set
}

// derive derives the rules of the set's viewlets.
func (s *site) derive(set *rules.Set, written ...string) []*derive.Result {
	s.Helper()
	var queries []*rules.Query
	for _, v := range set.Viewlets {
		queries = append(queries, v.Query)
	}
	analysed, catalog, err := s.db.Analyse(s.Context(), queries...)
	if err != nil {
		s.Fatal(err)
	}
	results := make([]*derive.Result, len(analysed))
	lookups := map[string]bool{}
	for i, v := range set.Viewlets {
		if analysed[i].Err != nil {
			s.Fatalf("analyse %s: %v", v.Name, analysed[i].Err)
		}
		q := derive.Query{Viewlet: v.Name, Params: v.Params, Tree: analysed[i].Tree, SQL: v.Query.SQL}
		q.Written = func(t viewlet.TableName) bool {
			for _, w := range written {
				if w == t.String() {
					return true
				}
			}
			return false
		}
		q.Taken = func(name string) bool { return lookups[name] || set.Lookup(name) != nil || set.Viewlet(name) != nil }
		if results[i], err = derive.Derive(q, catalog); err != nil {
			s.Fatal(err)
		}
		for _, r := range results[i].Rules {
			if r.Lookup != nil {
				lookups[r.Lookup.Name] = true
			}
		}
	}
	return results
}

// told writes all that is derived, as the golden files have it.
func told(r *derive.Result) string {
	text := derive.HCL(r.Rules)
	if r.All != "" {
		text += "\n# all: " + r.All + "\n"
	}
	for _, l := range r.Limits {
		text += "\n# limit: " + l.String() + "\n"
	}
	return strings.TrimLeft(text, "\n")
}

// TestGolden has one small file for each construct, and a few with the queries
// of applications.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file, a)
		})
	}
}

func golden(t *testing.T, file string, a *txtar.Archive) {
	content := map[string][]byte{}
	for _, f := range a.Files {
		content[f.Name] = f.Data
	}
	s := newSite(t, string(content["schema.sql"]))
	var got []string
	pasted := slices.Clone(content["rules.hcl"])
	set := load(t, content["rules.hcl"])
	for i, r := range s.derive(set, strings.Fields(string(content["written"]))...) {
		s.takes(r)
		text := told(r)
		if len(set.Viewlets) > 2 {
			text = fmt.Sprintf("## %s: %s\n\n%s", set.Viewlets[i].Name, strings.Join(strings.Fields(set.Viewlets[i].Query.SQL), " "), text)
		}
		got = append(got, text)
		pasted = append(pasted, derive.HCL(r.Rules)...)
	}
	load(t, pasted)
	text := []byte(strings.Join(got, "\n"))
	if bytes.Equal(text, content["want"]) {
		return
	}
	if !*update {
		t.Fatalf("got\n%s\nwant\n%s", text, content["want"])
	}
	kept := a.Files[:0]
	for _, f := range a.Files {
		if f.Name != "want" {
			kept = append(kept, f)
		}
	}
	a.Files = append(kept, txtar.File{Name: "want", Data: text})
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

// takes fails the test unless Postgres takes what is derived.
func (s *site) takes(r *derive.Result) {
	s.Helper()
	if r.All != "" {
		s.prepare(r.All)
	}
	for _, rule := range r.Rules {
		if l := rule.Lookup; l != nil {
			bound, _ := (&rules.Query{SQL: l.SQL, Params: l.Params}).Bind(func(i int) string { return fmt.Sprintf("$%d", i+1) })
			s.prepare(bound)
		}
	}
}

func (s *site) prepare(sql string) {
	s.Helper()
	if _, err := s.conn.Prepare(s.Context(), "", sql); err != nil {
		s.Errorf("%s: %v", sql, err)
	}
}

func index(t testing.TB, viewlets []*rules.Viewlet, name string) int {
	t.Helper()
	i := slices.IndexFunc(viewlets, func(v *rules.Viewlet) bool { return v.Name == name })
	if i < 0 {
		t.Fatalf("there is no viewlet %s", name)
	}
	return i
}
