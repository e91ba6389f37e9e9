package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// shelf is a schema with something of everything that queries are written over.
const shelf = `
CREATE TABLE products (
	id int PRIMARY KEY, sku text NOT NULL, name text, price numeric(10,2), category_id int, parent int,
	tags text[], attrs jsonb, words tsvector, made date, sold bool);
INSERT INTO products SELECT i, 'sku-' || i, CASE WHEN i % 7 > 0 THEN md5(i::text) END, i * 1.10, i % 20, nullif(i / 3, 0),
	ARRAY[('{red,green,blue}'::text[])[i % 3 + 1], 'all'], jsonb_build_object('size', i % 5, 'n' || i % 4, i),
	to_tsvector('simple', 'thing ' || i), date '2024-01-01' + i, i % 2 = 0
	FROM generate_series(1, 300) i;
CREATE INDEX ON products (category_id);
CREATE TABLE "Odd Names" ("the id" int PRIMARY KEY, "select" text, "a.b" text, "quo""te" int, "großes Ø" text);
INSERT INTO "Odd Names" SELECT i, 'x' || i, 'y' || i, i * 2, 'ø' || i FROM generate_series(1, 50) i;
CREATE VIEW in_stock AS SELECT id, name FROM products WHERE sold;
CREATE FUNCTION siblings(int) RETURNS TABLE (id int, sku text) STABLE LANGUAGE sql AS
	'SELECT id, sku FROM products WHERE category_id = $1 ORDER BY md5(sku)';
CREATE TABLE visits (product int, day date, n int) PARTITION BY RANGE (day);
CREATE TABLE visits_2024 PARTITION OF visits FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE visits_2025 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO visits SELECT i % 100, date '2024-06-01' + i, i FROM generate_series(1, 500) i;
ANALYZE`

var queries = map[string]struct{ params, sql, args string }{
	"plain":            {"id", `SELECT id, name, price FROM products WHERE id = @id`, "numbers"},
	"order":            {"c", `SELECT id, name FROM products WHERE category_id = @c ORDER BY md5(name) NULLS FIRST, id DESC`, "numbers"},
	"order_limit":      {"c", `SELECT id FROM products WHERE category_id = @c ORDER BY price DESC LIMIT 3 OFFSET 1`, "numbers"},
	"limit_param":      {"n", `SELECT id FROM products ORDER BY id DESC LIMIT @n`, "small"},
	"limit_glued":      {"n", `SELECT id FROM products ORDER BY id DESC LIMIT@n`, "small"},
	"fetch_bare":       {"n", `SELECT id FROM products ORDER BY id FETCH FIRST @n ROWS ONLY`, "small"},
	"fetch_first":      {"n", `SELECT id FROM products ORDER BY id FETCH FIRST (@n) ROWS ONLY`, "small"},
	"group":            {"c", `SELECT sold, count(*), sum(price * @c) AS total FROM products WHERE category_id = @c GROUP BY sold HAVING count(*) > 1 ORDER BY sold DESC`, "numbers"},
	"rollup":           {"c", `SELECT sold, parent, count(*) FROM products WHERE category_id = @c GROUP BY ROLLUP (sold, parent) ORDER BY sold, parent`, "numbers"},
	"aggregate":        {"c", `SELECT count(*), max(price), array_agg(id ORDER BY id DESC) AS ids, string_agg(name, '|' ORDER BY id) AS names FROM products WHERE category_id = @c`, "numbers"},
	"union":            {"id", `SELECT id, 1 AS part FROM products WHERE id = @id UNION ALL SELECT id, 2 FROM products WHERE category_id = @id ORDER BY 2 DESC, 1`, "numbers"},
	"union_parens":     {"id", `(SELECT id FROM products WHERE id = @id) UNION (SELECT parent FROM products WHERE id = @id) ORDER BY 1 DESC`, "numbers"},
	"except":           {"id", `SELECT g AS id FROM generate_series(1, 5) g EXCEPT SELECT @id::int ORDER BY 1`, "small"},
	"distinct":         {"c", `SELECT DISTINCT sold FROM products WHERE category_id = @c ORDER BY sold DESC`, "numbers"},
	"distinct_on":      {"c", `SELECT DISTINCT ON (sold) sold, id FROM products WHERE category_id = @c ORDER BY sold, id DESC`, "numbers"},
	"cte":              {"c", `WITH own AS (SELECT * FROM products WHERE category_id = @c), top AS MATERIALIZED (SELECT id FROM own ORDER BY price DESC LIMIT 2) SELECT o.id FROM own o JOIN top USING (id) ORDER BY o.id`, "numbers"},
	"recursive":        {"id", `WITH RECURSIVE up AS (SELECT id, parent, 1 AS depth FROM products WHERE id = @id UNION ALL SELECT p.id, p.parent, depth + 1 FROM products p JOIN up ON p.id = up.parent) SELECT * FROM up ORDER BY depth DESC`, "numbers"},
	"window":           {"c", `SELECT id, rank() OVER (ORDER BY price DESC) AS place, lag(id, @c) OVER w AS before FROM products WHERE category_id = @c WINDOW w AS (ORDER BY id ROWS BETWEEN @c PRECEDING AND CURRENT ROW) ORDER BY place`, "small"},
	"lateral":          {"c", `SELECT p.id, k.id AS child FROM products p LEFT JOIN LATERAL (SELECT id FROM products WHERE parent = p.id AND id > @c ORDER BY id DESC LIMIT 1) k ON true WHERE p.category_id = @c ORDER BY p.id`, "numbers"},
	"subqueries":       {"id", `SELECT (SELECT count(*) FROM products WHERE parent = @id) AS kids, EXISTS (SELECT FROM products WHERE id = @id) AS there, ARRAY(SELECT sku FROM products WHERE parent = @id ORDER BY id DESC) AS skus`, "numbers"},
	"many_uses":        {"id", `SELECT @id::int AS a, @id - 1 AS b, id FROM products WHERE id = @id OR parent = @id AND @id > 2 ORDER BY id`, "numbers"},
	"in_list":          {"id", `SELECT id FROM products WHERE id IN (@id, 3) ORDER BY id`, "numbers"},
	"contains":         {"tag", `SELECT count(*) FROM products WHERE tags @> ARRAY[@tag]`, "words"},
	"contained":        {"tag", `SELECT count(*) FROM products WHERE tags <@ ARRAY[@tag, 'all']`, "words"},
	"any":              {"tag", `SELECT min(id) FROM products WHERE @tag = ANY (tags)`, "words"},
	"fulltext":         {"q", `SELECT id FROM products WHERE words @@ plainto_tsquery('simple', @q) ORDER BY id LIMIT 4`, "words"},
	"jsonb_has":        {"k", `SELECT count(*) FROM products WHERE attrs ? @k`, "words"},
	"jsonb_has_any":    {"k", `SELECT count(*) FROM products WHERE attrs ?| ARRAY[@k, 'x']`, "words"},
	"jsonb_has_all":    {"k", `SELECT count(*) FROM products WHERE attrs ?& ARRAY[@k, 'size']`, "words"},
	"jsonb_get":        {"k", `SELECT id, attrs -> @k AS v, attrs ->> @k AS w FROM products WHERE attrs ? @k ORDER BY id LIMIT 3`, "words"},
	"jsonb_path":       {"n", `SELECT id FROM products WHERE attrs @> jsonb_build_object('size', @n::int) ORDER BY id LIMIT 3`, "small"},
	"cast":             {"id", `SELECT id FROM products WHERE sku = 'sku-' || @id::int`, "numbers"},
	"cast_function":    {"id", `SELECT id FROM products WHERE sku = concat('sku-', CAST(@id AS bigint))`, "numbers"},
	"like":             {"p", `SELECT count(*) FROM products WHERE name LIKE @p || '%'`, "words"},
	"comments":         {"id", "-- @id is not here, 'nor\n/* nor @id /* nested */ */ SELECT id, '@id' AS \"@id\", $$@id;$$ AS s -- tail\nFROM products WHERE id = @id -- ; done", "numbers"},
	"semicolon":        {"id", "SELECT id FROM products WHERE id = @id;\n ; -- end\n", "numbers"},
	"only_param":       {"id", `SELECT max(@id::int) AS m`, "small"},
	"only_param_rows":  {"id", `SELECT g.n, max(@id::int) AS top FROM generate_series(1, 3) AS g(n) GROUP BY 1 ORDER BY 1 DESC`, "small"},
	"series":           {"n", `SELECT i, i * i AS square FROM generate_series(1, @n) AS i`, "small"},
	"series_in_select": {"n", `SELECT generate_series(1, @n) AS i, unnest(ARRAY['a','b']) AS l`, "small"},
	"ordinality":       {"n", `SELECT * FROM unnest(ARRAY[@n::int, 7, 8]) WITH ORDINALITY AS u(v, ord) ORDER BY ord DESC`, "small"},
	"view":             {"id", `SELECT * FROM in_stock WHERE id = @id`, "numbers"},
	"function":         {"c", `SELECT * FROM siblings(@c)`, "numbers"},
	"partitioned":      {"p", `SELECT day, n FROM visits WHERE product = @p ORDER BY day DESC LIMIT 2`, "numbers"},
	"quoted":           {"id", `SELECT * FROM "Odd Names" WHERE "the id" = @id`, "numbers"},
	"values":           {"id", `VALUES (@id::int, 'one'), (@id::int + 1, 'two')`, "small"},
	"case":             {"id", `SELECT CASE WHEN @id > 5 THEN 'many' ELSE 'few' END AS how, coalesce((SELECT name FROM products WHERE id = @id), 'none') AS name`, "numbers"},
	"full_join":        {"id", `SELECT a.id, b.id AS other FROM (SELECT id FROM products WHERE id = @id) a FULL JOIN (SELECT id FROM products WHERE parent = @id) b ON a.id = b.id ORDER BY b.id`, "numbers"},
	"tablesample":      {"id", `SELECT count(*) FROM products TABLESAMPLE SYSTEM (100) WHERE id <= @id`, "numbers"},
	"row_number_all":   {"id", `SELECT * FROM (SELECT id, row_number() OVER (ORDER BY name, id) AS n FROM products) x WHERE id = @id`, "numbers"},
	"bool":             {"sold", `SELECT min(id) FROM products WHERE sold = @sold`, "bools"},
}

// argumentsOf gives a chunk of arguments, with some that find nothing and some
// that come again.
func argumentsOf(kind string) []string {
	switch kind {
	case "small":
		return []string{"3", "0", "1", "3", "12", "2"}
	case "bools":
		return []string{"t", "f", "t"}
	case "words":
		return []string{"red", "thing", "", "n1", "it's", `back\slash`, "{a,b}", "a,b", "NULL", "null", `"q"`, "🌳", "new\nline", "red", "c4", "%", "@id", "$1"}
	}
	var args []string
	for i := range 200 {
		args = append(args, fmt.Sprint((i*37)%330)) // beyond 300 there is none
	}
	return append(args, "1", "1", "-5", "2147483647")
}

// expected asks Postgres for one key alone, the argument written as a literal.
func (s *site) expected(sql, param, arg string) (rows string, err error) {
	q := *s.set.Viewlet("probe").Query
	q.SQL, q.Params = sql, []string{param}
	bound, _ := q.Bind(func(int) string { return "'" + strings.ReplaceAll(arg, "'", "''") + "'" })
	results, err := s.admin.PgConn().Exec(s.Context(), "SELECT to_json(r) FROM ("+bound+"\n) r").ReadAll()
	if err != nil {
		return "", err
	}
	var list []string
	for _, row := range results[0].Rows {
		list = append(list, string(row[0]))
	}
	return "[" + strings.Join(list, ",") + "]", nil
}

// TestQueries renders each query for a chunk of keys, and for each by itself, as
// JSON and by a template, and compares with what psql would give.
func TestQueries(t *testing.T) {
	s := newSite(t, shelf)
	var hcl strings.Builder
	hcl.WriteString("viewlet \"probe\" {\n query = \"SELECT 1\"\n}\n")
	for short, q := range queries {
		name := "q_" + short
		fmt.Fprintf(&hcl, "viewlet %q {\n params = [%q]\n query = <<SQL\n%s\nSQL\n rows = true\n empty = \"render\"\n}\n", name, q.params, q.sql)
		fmt.Fprintf(&hcl, "viewlet %q {\n params = [%q]\n query = <<SQL\n%s\nSQL\n empty = \"render\"\n body = \"rows: {{len .rows}}\"\n}\n", name+"_t", q.params, q.sql)
	}
	s.loadSound(hcl.String())
	for short, q := range queries {
		name := "q_" + short
		t.Run(short, func(t *testing.T) {
			args := argumentsOf(q.args)
			fragments := s.render(name, keysOf(name, args...)...)
			pages := s.render(name+"_t", keysOf(name+"_t", args...)...)
			seen := map[string]bool{}
			for i, arg := range args {
				want, err := s.expected(q.sql, q.params, arg)
				seen[want] = true
				for of, f := range map[string]viewlet.Fragment{"many": fragments[i], "one": s.render(name, keysOf(name, arg)...)[0]} {
					if got := string(f.Body); got != want || (f.Err != nil) != (err != nil) {
						t.Errorf("%s of %q, of %s:\n got %s %v\nwant %s %v", name, arg, of, got, f.Err, want, err)
					}
				}
				want = fmt.Sprintf("rows: %d", rowsIn(t, want))
				if got := string(pages[i].Body); got != want && err == nil {
					t.Errorf("%s of %q by its template: got %q, want %q; %v", name, arg, got, want, pages[i].Err)
				}
			}
			if len(seen) == 1 {
				t.Errorf("all keys give %v: the case tests nothing", seen)
			}
		})
	}
}

func rowsIn(t *testing.T, list string) int {
	var rows []json.RawMessage
	if err := json.Unmarshal([]byte(list), &rows); err != nil && list != "" {
		t.Fatal(err)
	}
	return len(rows)
}

// TestOneByOne: what Postgres does not take for many keys works for each, with
// a warning.
func TestOneByOne(t *testing.T) {
	s := newSite(t, "")
	s.load(`viewlet "top" {
  params = ["id"]
  query  = "SELECT max(@id::int) AS m, 100 / @id AS part"
}
viewlet "unused" {
  params = ["lang", "id", "day"]
  query  = "SELECT max(@id::int) AS m"
}`)
	problems, _, err := s.r.Check(t.Context())
	if err != nil || len(problems) != 2 || !problems[0].Warning || !strings.Contains(problems[0].Hint, "one by one") {
		t.Fatalf("got %+v, %v; want two warnings", problems, err)
	}
	fragments := s.render("top", keysOf("top", "5", "0", "x", "7")...)
	for i, want := range []string{`{"m":5,"part":20}`, "", "", `{"m":7,"part":14}`} {
		if string(fragments[i].Body) != want || (fragments[i].Err != nil) != (want == "") {
			t.Errorf("%s: got %q, %v; want %q", fragments[i].Key, fragments[i].Body, fragments[i].Err, want)
		}
	}
	if f := s.render("unused", viewlet.NewKey("unused", "en", "5", "today"))[0]; string(f.Body) != `{"m":5}` {
		t.Errorf("%s: got %q, %v", f.Key, f.Body, f.Err)
	}
}

func TestSeveralParams(t *testing.T) {
	s := newSite(t, `CREATE TABLE names (id int, lang text, day date, name text);
		INSERT INTO names VALUES (1, 'en', '2024-02-29', 'tree'), (1, 'sv', '2024-02-29', 'träd'), (2, 'en', '2024-03-01', 'leaf')`)
	s.loadSound(`viewlet "name" {
  params = ["lang", "id", "day", "unused"]
  query  = "SELECT name, @id * 2 AS twice FROM names WHERE day = @day AND id = @id AND lang = @lang"
  body   = "{{.lang}}/{{.id}}/{{.day}}/{{.unused}}: {{.name}} {{.twice}}"
}`)
	keys := []viewlet.Key{
		viewlet.NewKey("name", "sv", "1", "2024-02-29", "x"), viewlet.NewKey("name", "en", "2", "2024-03-01", ""),
		viewlet.NewKey("name", "en", "2", "2024-02-29", ""), viewlet.NewKey("name", "en", "1", "2024-02-29", "a:b"),
	}
	for i, want := range []string{"sv/1/2024-02-29/x: träd 2", "en/2/2024-03-01/: leaf 4", "", "en/1/2024-02-29/a:b: tree 2"} {
		for _, f := range []viewlet.Fragment{s.render("name", keys...)[i], s.render("name", keys[i])[0]} {
			if string(f.Body) != want || f.Err != nil {
				t.Errorf("%s: got %q, %v; want %q", f.Key, f.Body, f.Err, want)
			}
		}
	}
}

// TestNoParams: a chunk may name the one fragment twice.
func TestNoParams(t *testing.T) {
	s := newSite(t, "CREATE TABLE t AS SELECT i FROM generate_series(1, 3) i")
	s.loadSound(`
viewlet "menu" {
  query = "SELECT i FROM t ORDER BY i DESC"
  body  = "{{range .rows}}{{.i}},{{end}}"
}
viewlet "json" {
  query = "SELECT i FROM t ORDER BY i DESC"
}
viewlet "gone" {
  query = "SELECT i FROM t WHERE i > 5"
}
viewlet "empty" {
  query = "SELECT i FROM t WHERE i > 5"
  empty = "render"
  rows  = true
}
viewlet "null" {
  query = "SELECT i FROM t WHERE i > 5"
  empty = "render"
}`)
	for name, want := range map[string]string{"menu": "3,2,1,", "json": `{"i":3}`, "gone": "<nothing>", "empty": "[]", "null": "null"} {
		if got := s.body(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	twice := s.render("menu", slices.Repeat([]viewlet.Key{viewlet.NewKey("menu")}, 3)...)
	for _, f := range twice {
		if string(f.Body) != "3,2,1," {
			t.Errorf("asked for three times, one is %q", f.Body)
		}
	}
	if got := s.render("menu"); len(got) != 0 {
		t.Errorf("no keys give %v", got)
	}
}
