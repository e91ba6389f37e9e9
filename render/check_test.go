package render

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCheck: each problem at its attribute, with its place in the query.
func TestCheck(t *testing.T) {
	s := newSite(t, `CREATE TABLE t (id int, name text, note text)`)
	problems := s.load(`
viewlet "good" {
  params = ["id"]
  query  = "SELECT id, name FROM t WHERE id = @id"
  body   = "{{.id}} {{.name}}"
}
viewlet "table" {
  params = ["id"]
  query  = "SELECT id FROM tt WHERE id = @id"
}
viewlet "column" {
  params = ["id"]
  query  = "SELECT nam FROM t WHERE id = @id"
}
viewlet "twice" {
  params = ["id"]
  query  = "SELECT id, name, name FROM t WHERE id = @id"
}
viewlet "unnamed_twice" {
  params = ["id"]
  query  = "SELECT 1, 2 WHERE @id::int > 0"
}
viewlet "array" {
  params = ["ids"]
  query  = "SELECT id FROM t WHERE id = ANY (@ids)"
}
viewlet "field" {
  params = ["id"]
  query  = "SELECT id FROM t WHERE id = @id"
  body   = "{{.id}}\n{{.name}}"
}
lookup "fine" {
  params = ["id"]
  query  = "SELECT a.id, b.id FROM t a, t b WHERE a.id = @id"
}
lookup "broken" {
  params = ["id"]
  query  = "SELECT id FROM t WHERE id = @id AND nope"
}`)
	more, columns, err := s.r.Check(t.Context())
	if err != nil || len(problems) != 0 {
		t.Fatalf("got %+v, %v", problems, err)
	}
	got := map[string]Problem{}
	for _, p := range more {
		if p.Viewlet != nil {
			got[p.Viewlet.Name] = p
		} else {
			got[p.Lookup.Name] = p
		}
	}
	for name, want := range map[string]struct {
		attr, says, at string
	}{
		"table":         {"query", `relation "tt" does not exist`, "tt WHERE"},
		"column":        {"query", `column "nam" does not exist`, "nam FROM"},
		"twice":         {"query", `called "name"; name one of them otherwise: ... AS other_name`, ""},
		"unnamed_twice": {"query", `called "?column?"`, ""},
		"array":         {"query", "cast it: @ids::text::integer[]", ""},
		"field":         {"body", `body:2:2: the query has no column "name"; there is id`, ""},
		"broken":        {"query", `column "nope" does not exist`, "nope"},
	} {
		p, ok := got[name]
		if !ok {
			t.Errorf("%s: no problem", name)
			continue
		}
		delete(got, name)
		if p.Attr != want.attr || !strings.Contains(p.Err.Error(), want.says) || p.Warning {
			t.Errorf("%s: got %+v, want %q of %s", name, p, want.says, want.attr)
		}
		if q, ok := p.Err.(*QueryError); ok && (want.at != "") == (q.Offset < 0) {
			t.Errorf("%s: got offset %d", name, q.Offset)
		} else if ok && want.at != "" {
			sql := ""
			if p.Viewlet != nil {
				sql = p.Viewlet.Query.SQL
			} else {
				sql = p.Lookup.Query.SQL
			}
			if !strings.HasPrefix(sql[q.Offset:], want.at) {
				t.Errorf("%s: the offset points at %q", name, sql[q.Offset:])
			}
		}
	}
	for name, p := range got {
		t.Errorf("%s: %+v", name, p)
	}
	if fmt.Sprint(columns["fine"]) != "[id id]" {
		t.Errorf("columns of lookups: got %v", columns)
	}
	s.exec("CREATE VIEW other AS SELECT array_agg(id) AS ids FROM t")
	s.loadSound(`viewlet "array" {
  params = ["ids"]
  query  = "SELECT @ids::text::integer[] @> ARRAY[2] AS has"
}`)
	if got := s.body("array", "{1,2}"); got != `{"has":true}` {
		t.Errorf("as the problem tells to write it: got %s", got)
	}
}

// TestCheckUnnamed: what a param is called that is selected as it is.
func TestCheckUnnamed(t *testing.T) {
	s := newSite(t, `CREATE TABLE t (id int, name text); INSERT INTO t VALUES (2, 'oak')`)
	s.load(`
viewlet "templated" {
  params = ["id"]
  query  = "SELECT @id::int, name FROM t WHERE id = @id"
  body   = "{{.name}}"
}
viewlet "json" {
  params = ["id"]
  query  = "SELECT @id::int, name FROM t WHERE id = @id"
}
viewlet "named" {
  params = ["id"]
  query  = "SELECT @id::int AS id, name, upper(name) FROM t WHERE id = @id"
}`)
	problems, _, err := s.r.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range problems {
		if !p.Warning || p.Attr != "query" || !strings.HasPrefix(p.Hint, "Name it: @id::int AS id. ") {
			t.Errorf("%s: %+v", p.Viewlet.Name, p)
		}
		got[p.Viewlet.Name] = p.Err.Error()
	}
	if want := errUnnamed.Error(); len(got) != 2 || got["templated"] != want || got["json"] != want {
		t.Errorf("got %q", got)
	}
	for name, want := range map[string]string{"templated": "oak", "named": `{"id":2,"name":"oak","upper":"OAK"}`} {
		if got := s.body(name, "2"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestThousandViewlets are checked in seconds.
func TestThousandViewlets(t *testing.T) {
	s := newSite(t, shelf)
	var hcl strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&hcl, "viewlet \"v%d\" {\n params = [\"id\"]\n query = \"SELECT p.id, p.name, p.price, c.name AS other FROM products p JOIN products c ON c.id = p.category_id WHERE p.id = @id\"\n body = \"{{.id}} {{.name}} %d\"\n all = \"SELECT id FROM products\"\n}\n", i, i)
	}
	s.load(hcl.String())
	start := time.Now()
	problems, _, err := s.r.Check(t.Context())
	if err != nil || len(problems) != 0 {
		t.Fatalf("got %+v, %v", problems, err)
	}
	took := time.Since(start)
	t.Logf("checked in %v", took)
	if took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := s.body("v7", "8"); !strings.HasSuffix(got, " 7") {
		t.Errorf("got %q", got)
	}
}
