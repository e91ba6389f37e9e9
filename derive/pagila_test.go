package derive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPagila derives rules for queries over Pagila's tables and all its views.
//
// https://github.com/devrimgunduz/pagila
func TestPagila(t *testing.T) {
	schema := pagila(t)
	s := newSite(t, "SELECT")
	for i, section := range schema {
		if _, err := s.conn.Exec(t.Context(), "-- "+section); err != nil && i > 0 {
			t.Logf("this Postgres does not take %.60q: %v", section, err)
		}
	}
	s.exec("SET search_path = public")
	var text strings.Builder
	views := map[string]bool{}
	for _, r := range s.texts(`SELECT c.relname, quote_ident(a.attname), c.relkind FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('v', 'r', 'p') AND NOT c.relispartition AND a.attnum = 1 ORDER BY 1`) {
		views[*r[0]] = *r[2] == "v"
		fmt.Fprintf(&text, "viewlet %q {\n  params = [\"id\"]\n  query = \"SELECT * FROM %s WHERE %s = @id\"\n}\n", *r[0], *r[0], strings.ReplaceAll(*r[1], `"`, `\"`))
	}
	set := load(t, []byte(text.String()))
	results := s.derive(set)
	if len(results) < 20 {
		t.Fatalf("only %d tables and views", len(results))
	}
	for i, r := range results {
		name := set.Viewlets[i].Name
		t.Logf("%s\n%s", name, told(r))
		if len(r.Rules)+len(r.Limits) == 0 {
			t.Errorf("%s: no rule and no limit", name)
		}
		for _, l := range r.Limits {
			if !views[name] && l.Params != nil {
				t.Errorf("%s: %s", name, l)
			}
		}
	}
	film := results[index(t, set.Viewlets, "film_list")]
	for _, table := range []string{"film", "category", "film_category", "film_actor", "actor"} {
		if !strings.Contains(told(film), `table "public.`+table+`"`) {
			t.Errorf("film_list has no rule for %s:\n%s", table, told(film))
		}
	}
}

// pagila gives the sections of its schema, without owners. Some need a newer
// Postgres than others.
func pagila(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "shared", "pagila", "pagila-schema.sql"))
	if err != nil {
		t.Skipf("Pagila is not here: %v", err)
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, " OWNER TO ") && !strings.HasPrefix(line, "\\") && !strings.HasPrefix(line, "CREATE SCHEMA public") {
			kept = append(kept, line)
		}
	}
	return strings.Split(strings.Join(kept, ""), "\n-- Name: ")
}
