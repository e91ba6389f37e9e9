package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// numbers gives 1 to n as arguments.
func numbers(n int) []string {
	args := make([]string, n)
	for i := range args {
		args[i] = fmt.Sprint(i + 1)
	}
	return args
}

// TestDataFaults: one of 200 keys is wrong, and only its fragment has an Err.
func TestDataFaults(t *testing.T) {
	t.Parallel()
	s := newSite(t, `CREATE TABLE t AS SELECT i AS id, CASE i WHEN 7 THEN 'seven' ELSE i::text END AS text, i - 7 AS from_seven FROM generate_series(1, 200) i;
		CREATE FUNCTION no_seven(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
			$$ BEGIN IF i = 7 THEN RAISE EXCEPTION 'seven is not wanted'; END IF; RETURN i; END $$;
		CREATE FUNCTION reads_missing(i int) RETURNS int STABLE LANGUAGE plpgsql AS
			$$ BEGIN IF i = 7 THEN RETURN (SELECT max(x) FROM missing_table); END IF; RETURN i; END $$;
		CREATE DOMAIN not_seven AS int CHECK (VALUE <> 7)`)
	s.connect(Config{StatementTimeout: 300 * time.Millisecond})
	cases := map[string]struct{ expr, want string }{
		"division":   {"100 / from_seven * 0 + id", "division by zero"},
		"cast":       {"text::int", "invalid input syntax"},
		"raise":      {"no_seven(id)", "seven is not wanted"},
		"sleep":      {"CASE WHEN id = 7 AND pg_sleep(60)::text = '' THEN id END", "statement timeout"},
		"two_rows":   {"(SELECT y.id FROM t y WHERE y.id = t.id OR t.id = 7 AND y.id < 3)", "more than one row"},
		"domain":     {"id::not_seven", "violates check constraint"},
		"tsquery":    {"CASE WHEN to_tsvector('simple', 'a') @@ to_tsquery('simple', CASE id WHEN 7 THEN 'a b' ELSE 'a' END) THEN id END", "syntax error in tsquery"},
		"regclass":   {"CASE id WHEN 7 THEN 'nowhere'::text::regclass::oid::int ELSE id END", "does not exist"},
		"in_body":    {"reads_missing(id)", "does not exist"},
		"bad_json":   {"CASE id WHEN 7 THEN ('{' || text)::json::text::int ELSE id END", "invalid input syntax for type json"},
		"bad_regexp": {"CASE WHEN text ~ (CASE id WHEN 7 THEN '(' ELSE '.' END) THEN id END", "regular expression"},
	}
	var hcl strings.Builder
	for name, c := range cases {
		fmt.Fprintf(&hcl, "viewlet %q {\n params = [\"id\"]\n query = <<SQL\nSELECT %s AS v FROM t WHERE id = @id\nSQL\n body = \"{{.v}}\"\n}\n", name, c.expr)
	}
	s.loadSound(hcl.String())
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			n := 200
			if name == "sleep" {
				n = 16 // each half that has it waits for the timeout
			}
			for i, f := range s.render(name, keysOf(name, numbers(n)...)...) {
				switch {
				case i+1 == 7:
					if f.Err == nil || !strings.Contains(f.Err.Error(), c.want) || f.Body != nil {
						t.Errorf("key 7: got %q, %v; want an error with %q", f.Body, f.Err, c.want)
					}
				case f.Err != nil:
					t.Errorf("%s: %v", f.Key, f.Err)
				case name != "sleep" && string(f.Body) != fmt.Sprint(i+1):
					t.Errorf("%s: got %q", f.Key, f.Body)
				case f.LSN == 0:
					t.Errorf("%s has no LSN", f.Key)
				}
			}
		})
	}
}

// TestMisfits: arguments that cannot name anything are their own fragments'
// fault, whatever they are.
func TestMisfits(t *testing.T) {
	s := newSite(t, "")
	s.loadSound(`viewlet "n" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
  body   = "{{.id}}"
}`)
	keys := append(keysOf("n", "1", "x", "", "99999999999", "a\x00b", "\xff", "2"),
		viewlet.NewKey("n", "1", "2"), viewlet.NewKey("n"), viewlet.Key{Viewlet: "n", Args: ":%zz"}, viewlet.NewKey("n", "3"))
	for i, f := range s.render("n", keys...) {
		good := slices.Contains([]int{0, 6, 10}, i)
		if (f.Err == nil) != good || (f.Body != nil) != good {
			t.Errorf("%s: got %q, %v", f.Key, f.Body, f.Err)
		}
	}
	if _, err := s.r.Render(t.Context(), "other", nil); err == nil {
		t.Error("an unknown viewlet renders")
	}
}

func TestAllWrong(t *testing.T) {
	s := newSite(t, "")
	s.loadSound(`
viewlet "zero" {
  params = ["id"]
  query  = "SELECT 1 / (@id * 0) AS v"
}
viewlet "search" {
  params = ["q"]
  query  = "SELECT to_tsvector('simple', 'a') @@ to_tsquery('simple', @q) AS found"
}`)
	for _, f := range s.render("zero", keysOf("zero", numbers(20)...)...) {
		if f.Err == nil || !strings.Contains(f.Err.Error(), "division by zero") {
			t.Errorf("%s: got %q, %v", f.Key, f.Body, f.Err)
		}
	}
	if err := s.fault("search", "a b"); err == nil || !strings.Contains(err.Error(), "syntax error in tsquery") {
		t.Errorf("one bad search: got %v", err)
	}
	if got := s.body("search", "a"); got != `{"found":true}` {
		t.Errorf("a good search after a bad one: got %s", got)
	}
}

// TestTemplateFaults: a template that errs on one row costs one fragment.
func TestTemplateFaults(t *testing.T) {
	s := newSite(t, "")
	s.loadSound(`
viewlet "index" {
  params = ["id"]
  query  = "SELECT ARRAY[1,2,3] AS a, @id::int AS id"
  body   = "{{index .a .id}}"
}
viewlet "number" {
  params = ["id"]
  query  = "SELECT CASE WHEN @id = 2 THEN 'rubbish' ELSE '1.5' END AS s"
  body   = "{{number .s}}"
}
viewlet "field" {
  params = ["id"]
  query  = "SELECT CASE WHEN @id = 2 THEN '\"text\"'::jsonb ELSE '{\"a\": 5}' END AS j"
  body   = "{{.j.a}}"
}
viewlet "call" {
  params = ["id"]
  query  = "SELECT CASE WHEN @id = 2 THEN 'x' ELSE '2024-01-01' END AS d"
  body   = "{{date \"2006\" .d}}"
}`)
	for name, c := range map[string]struct{ bad, good string }{
		"index": {"7", "1"}, "number": {"2", "1"}, "field": {"2", "1"}, "call": {"2", "1"},
	} {
		got := s.render(name, keysOf(name, c.good, c.bad, c.good)...)
		if got[0].Err != nil || got[2].Err != nil || len(got[0].Body) == 0 || string(got[0].Body) != string(got[2].Body) {
			t.Errorf("%s: the good ones are %q %v, %q %v", name, got[0].Body, got[0].Err, got[2].Body, got[2].Err)
		}
		if got[1].Err == nil || got[1].Body != nil || !strings.Contains(got[1].Err.Error(), "body:1") {
			t.Errorf("%s: the bad one is %q, %v; want an error at body:1", name, got[1].Body, got[1].Err)
		}
	}
}

func TestLimits(t *testing.T) {
	s := newSite(t, "")
	s.loadSound(`
viewlet "page" {
  params = ["n"]
  query  = "SELECT repeat('x', @n) AS s"
  body   = "{{.s}}"
}
viewlet "json" {
  params = ["n"]
  query  = "SELECT repeat('x', @n) AS s"
}
viewlet "rows" {
  params = ["n"]
  query  = "SELECT repeat('x', 100000) AS s FROM generate_series(1, @n)"
  body   = "{{len .rows}}"
}
viewlet "first" {
  params = ["n"]
  query  = "SELECT repeat('x', 100000) AS s FROM generate_series(1, @n)"
  body   = "{{len .s}}"
}`)
	for _, name := range []string{"page", "json"} {
		got := s.render(name, keysOf(name, "1000000", "1100000", "5")...)
		if err := got[1].Err; err == nil || !strings.Contains(err.Error(), "1048576 bytes") || !strings.Contains(err.Error(), "--max-fragment") || got[1].Body != nil {
			t.Errorf("%s: got %d bytes, %v; want an error with the remedy", name, len(got[1].Body), err)
		}
		if got[0].Err != nil || len(got[0].Body) < 1000000 || got[2].Err != nil {
			t.Errorf("%s: those that fit have %v, %v", name, got[0].Err, got[2].Err)
		}
	}
	got := s.render("rows", keysOf("rows", "100", "500", "120")...)
	if err := got[1].Err; err == nil || !strings.Contains(err.Error(), "let it return less") {
		t.Errorf("rows beyond all measure: got %q, %v", got[1].Body, err)
	}
	if string(got[0].Body) != "100" || string(got[2].Body) != "120" {
		t.Errorf("the others: got %q %v, %q %v", got[0].Body, got[0].Err, got[2].Body, got[2].Err)
	}
	if got := s.body("first", "500"); got != "100000" {
		t.Errorf("of many rows the first: got %s", got)
	}
}

// TestEmptyPage: a fragment of no bytes is there, one of no row is not.
func TestEmptyPage(t *testing.T) {
	s := newSite(t, "")
	s.loadSound(`
viewlet "blank" {
  params = ["id"]
  query  = "SELECT 1 AS a WHERE @id = 1"
  body   = ""
}
viewlet "says" {
  params = ["id"]
  query  = "SELECT 1 AS a WHERE @id = 1"
  body   = "{{with .rows}}{{len .}}{{else}}none of {{$.id}}{{.a}}{{end}}"
  empty  = "render"
}`)
	got := s.render("blank", keysOf("blank", "1", "2")...)
	if got[0].Body == nil || len(got[0].Body) != 0 || got[1].Body != nil || got[1].Err != nil {
		t.Errorf("got %#v", got)
	}
	if s.body("says", "1") != "1" || s.body("says", "2") != "none of 2" {
		t.Errorf("got %q, %q", s.body("says", "1"), s.body("says", "2"))
	}
}

// TestBroken: what is the viewlet's own fault is a *viewlet.Broken, and is
// over when it is mended.
func TestBroken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ query, spoil, mend string }{
		"table":       {"SELECT name FROM t WHERE id = @id", "ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME TO t"},
		"new table":   {"SELECT name FROM t WHERE id = @id", "DROP TABLE t", "CREATE TABLE t AS SELECT i AS id, 'n' || i AS name FROM generate_series(1, 9) i; GRANT SELECT ON t TO reader"},
		"column":      {"SELECT name FROM t WHERE id = @id", "ALTER TABLE t RENAME name TO label", "ALTER TABLE t RENAME label TO name"},
		"permission":  {"SELECT name FROM t WHERE id = @id", "REVOKE SELECT ON t FROM reader", "GRANT SELECT ON t TO reader"},
		"function":    {"SELECT f(@id) AS name", "DROP FUNCTION f(int)", "CREATE FUNCTION f(i int) RETURNS text STABLE LANGUAGE sql AS 'SELECT ''n'' || i'"},
		"body":        {"SELECT g(@id) AS name", "ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME TO t"},
		"matview":     {"SELECT name FROM m WHERE id = @id", "REFRESH MATERIALIZED VIEW m WITH NO DATA", "REFRESH MATERIALIZED VIEW m"},
		"type":        {"SELECT name FROM t WHERE id = @id::whole", "DROP DOMAIN whole", "CREATE DOMAIN whole AS int"},
		"enum column": {"SELECT name FROM t WHERE id = @id", "ALTER TABLE t ALTER id TYPE text[] USING ARRAY[id::text]", "ALTER TABLE t ALTER id TYPE int USING id[1]::int"},
	} {
		t.Run(name, func(t *testing.T) {
			role := fmt.Sprintf("reader_%d", databases.Load())
			s := newSite(t, strings.ReplaceAll(`CREATE ROLE reader LOGIN;
				CREATE TABLE t AS SELECT i AS id, 'n' || i AS name FROM generate_series(1, 9) i;
				CREATE MATERIALIZED VIEW m AS SELECT i AS id, 'n' || i AS name FROM generate_series(1, 9) i;
				CREATE FUNCTION f(i int) RETURNS text STABLE LANGUAGE sql AS 'SELECT ''n'' || i';
				CREATE DOMAIN whole AS int;
				CREATE FUNCTION g(i int) RETURNS text STABLE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT name FROM t WHERE id = i); END';
				GRANT SELECT ON t, m TO reader`, "reader", role))
			s.connect(Config{URL: s.as(role)})
			s.loadSound(fmt.Sprintf("viewlet \"v\" {\n params = [\"id\"]\n query = %q\n body = \"{{.name}}\"\n}", c.query))
			for range 7 { // beyond five, Postgres may plan for all arguments at once
				if got := s.body("v", "3"); got != "n3" {
					t.Fatalf("at first: got %q", got)
				}
			}
			s.exec(strings.ReplaceAll(c.spoil, "reader", role))
			for range 2 {
				for _, n := range []int{1, 20} {
					var broken *viewlet.Broken
					if got, err := s.r.Render(t.Context(), "v", keysOf("v", numbers(n)...)); !errors.As(err, &broken) {
						t.Fatalf("spoilt, %d keys: got %v, %v; want a *viewlet.Broken", n, got, err)
					}
				}
			}
			s.exec(strings.ReplaceAll(c.mend, "reader", role))
			if got := s.body("v", "3"); got != "n3" {
				t.Errorf("mended: got %q", got)
			}
		})
	}
}

// TestWrites: a query that would write is refused, whether Postgres can tell
// from the query or only from a function's body.
func TestWrites(t *testing.T) {
	s := newSite(t, `CREATE TABLE log (n int); CREATE SEQUENCE seq;
		CREATE FUNCTION writes(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (i); RETURN i; END'`)
	s.load(`
viewlet "function" {
  params = ["id"]
  query  = "SELECT writes(@id) AS n"
}
viewlet "sequence" {
  params = ["id"]
  query  = "SELECT nextval('seq') + @id AS n"
}`)
	for _, name := range []string{"function", "sequence"} {
		var broken *viewlet.Broken
		_, err := s.r.Render(t.Context(), name, keysOf(name, "1", "2"))
		if !errors.As(err, &broken) || !strings.Contains(err.Error(), "read-only transaction") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if n := s.one("SELECT count(*) FROM log"); n != "0" {
		t.Errorf("%s rows were written", n)
	}
}

// TestSchemaChanges: a table that changes its shape between two renders is
// rendered as it is then, at once and never with another column's value.
func TestSchemaChanges(t *testing.T) {
	s := newSite(t, `CREATE TABLE t (id int, a text, b text, c text); INSERT INTO t VALUES (1, 'A', 'B', 'C')`)
	s.loadSound(`
viewlet "page" {
  params = ["id"]
  query  = "SELECT * FROM t WHERE id = @id"
  body   = "{{range $k, $v := .}}{{$k}}={{$v}} {{end}}"
}
viewlet "json" {
  params = ["id"]
  query  = "SELECT * FROM t WHERE id = @id"
}
viewlet "named" {
  params = ["id"]
  query  = "SELECT c FROM t WHERE id = @id"
  body   = "{{.c}}"
}`)
	for _, step := range []struct{ sql, page, json, named string }{
		{"SELECT", "a=A b=B c=C id=1 ", `{"id":1,"a":"A","b":"B","c":"C"}`, "C"},
		{"ALTER TABLE t ALTER c TYPE int USING 5", "a=A b=B c=5 id=1 ", `{"id":1,"a":"A","b":"B","c":5}`, "5"},
		{"ALTER TABLE t ALTER c TYPE text[] USING ARRAY['x']", "a=A b=B c=[x] id=1 ", `{"id":1,"a":"A","b":"B","c":["x"]}`, "[x]"},
		{"ALTER TABLE t ALTER c TYPE text USING 'C'", "a=A b=B c=C id=1 ", `{"id":1,"a":"A","b":"B","c":"C"}`, "C"},
		{"ALTER TABLE t DROP a, ADD d text DEFAULT 'D'", "b=B c=C d=D id=1 ", `{"id":1,"b":"B","c":"C","d":"D"}`, "C"},
		{"ALTER TABLE t DROP d", "b=B c=C id=1 ", `{"id":1,"b":"B","c":"C"}`, "C"},
		{"ALTER TABLE t RENAME b TO x; ALTER TABLE t RENAME c TO b; ALTER TABLE t RENAME x TO c", "b=C c=B id=1 ", `{"id":1,"c":"B","b":"C"}`, "B"},
		{"ALTER TABLE t ALTER id TYPE text", "b=C c=B id=1 ", `{"id":"1","c":"B","b":"C"}`, "B"},
		{"DROP TABLE t; CREATE TABLE t (c text, id bigint, b text); INSERT INTO t VALUES ('cc', 1, 'bb')", "b=bb c=cc id=1 ", `{"c":"cc","id":1,"b":"bb"}`, "cc"},
	} {
		s.exec(step.sql)
		for name, want := range map[string]string{"page": step.page, "json": step.json, "named": step.named} {
			if got := s.body(name, "1"); got != want {
				t.Errorf("after %s, %s: got %s, want %s", step.sql, name, got, want)
			}
		}
	}
}

// TestRenamedType: a param's type goes by another name than when it was compiled.
func TestRenamedType(t *testing.T) {
	s := newSite(t, `CREATE TYPE mood AS ENUM ('happy'); CREATE TABLE t AS SELECT 'happy'::mood AS m`)
	s.loadSound(`viewlet "v" {
  params = ["m"]
  query  = "SELECT count(*) AS n FROM t WHERE m = @m"
}`)
	for _, rename := range []string{"SELECT", "ALTER TYPE mood RENAME TO temper", "ALTER TYPE temper RENAME VALUE 'happy' TO 'glad'", "ALTER TABLE t ALTER m TYPE text USING 'glad'"} {
		s.exec(rename)
		arg := s.one("SELECT m FROM t")
		if got := s.body("v", arg); got != `{"n":1}` {
			t.Errorf("after %s: got %s", rename, got)
		}
		if key, err := s.r.Canonical(t.Context(), "v", []string{arg}); err != nil || key != viewlet.NewKey("v", arg) {
			t.Errorf("after %s: %s is %v, %v", rename, arg, key, err)
		}
	}
}

// TestLocked: who waits for a lock that a migration holds is not at fault.
func TestLocked(t *testing.T) {
	s := newSite(t, `CREATE TABLE t AS SELECT 1 AS id`)
	s.connect(Config{StatementTimeout: 400 * time.Millisecond})
	s.loadSound(`viewlet "v" {
  params = ["id"]
  query  = "SELECT id FROM t WHERE id = @id"
}`)
	s.exec("BEGIN; LOCK TABLE t")
	fragments, err := s.r.Render(t.Context(), "v", keysOf("v", "1", "2"))
	var broken *viewlet.Broken
	if err == nil || errors.As(err, &broken) {
		t.Errorf("locked: got %v, %v; want the world's error", fragments, err)
	}
	s.exec("COMMIT")
	if got := s.body("v", "1"); got != `{"id":1}` {
		t.Errorf("unlocked: got %s", got)
	}
}

func TestTemplateThatDoesNotParse(t *testing.T) {
	s := newSite(t, "")
	problems := s.load(`viewlet "v" {
  query = "SELECT 1 AS a"
  body  = "{{if}}"
}`)
	if len(problems) != 1 || problems[0].Attr != "body" {
		t.Errorf("got problems %+v", problems)
	}
	more, _, err := s.r.Check(t.Context())
	if err != nil || len(more) != 0 {
		t.Errorf("Check: got %+v, %v", more, err)
	}
	var broken *viewlet.Broken
	if _, err := s.r.Render(t.Context(), "v", keysOf("v")); !errors.As(err, &broken) {
		t.Errorf("got %v, want a *viewlet.Broken", err)
	}
}

// TestRenderTogether renders from many goroutines while the schema changes.
func TestRenderTogether(t *testing.T) {
	s := newSite(t, `CREATE TABLE t AS SELECT i AS id, 'n' || i AS name FROM generate_series(1, 50) i`)
	s.connect(Config{Connections: 3})
	s.loadSound(`viewlet "v" {
  params = ["id"]
  query  = "SELECT * FROM t WHERE id = @id"
  body   = "{{.id}} {{.name}}"
}`)
	var lanes sync.WaitGroup
	for range 6 {
		lanes.Go(func() {
			for range 15 {
				fragments, err := s.r.Render(t.Context(), "v", keysOf("v", numbers(50)...))
				var pg *pgconn.PgError
				if err != nil && !errors.As(err, &pg) {
					t.Error(err)
				}
				for i, f := range fragments {
					if want := fmt.Sprintf("%d n%d", i+1, i+1); err == nil && (f.Err != nil || string(f.Body) != want) {
						t.Errorf("got %q, %v; want %q", f.Body, f.Err, want)
					}
				}
			}
		})
	}
	for i := range 20 {
		s.exec(fmt.Sprintf("ALTER TABLE t ADD x%d text; ALTER TABLE t ALTER id TYPE %s", i, []string{"int", "bigint"}[i%2]))
	}
	lanes.Wait()
}
