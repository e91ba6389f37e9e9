package integration

import (
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// books has a view, and a function that a view's column comes from.
const books = `
	CREATE TABLE authors (id int PRIMARY KEY, name text NOT NULL);
	CREATE TABLE books (id int PRIMARY KEY, author_id int NOT NULL REFERENCES authors, title text NOT NULL, "in print" boolean NOT NULL DEFAULT true);
	CREATE TABLE notes (book_id int PRIMARY KEY, mark text);
	CREATE TABLE settings (name text PRIMARY KEY, value text);
	ALTER TABLE books REPLICA IDENTITY FULL;
	CREATE VIEW shelf AS SELECT b.id, b.author_id, b.title FROM books b WHERE b."in print";
	INSERT INTO authors VALUES (1, 'Woolf'), (2, 'Sebald');
	INSERT INTO books VALUES (10, 1, 'Orlando'), (11, 1, 'The Waves'), (12, 2, 'Austerlitz');`

const bookRules = `
viewlet "author_page" {
  params = ["id"]
  query  = "SELECT a.name, array(SELECT s.title FROM shelf s WHERE s.author_id = a.id ORDER BY s.title) AS titles FROM authors a WHERE a.id = @id"
}
viewlet "book" {
  params = ["id"]
  query  = "SELECT s.title, a.name FROM shelf s JOIN authors a ON a.id = s.author_id WHERE s.id = @id"
}`

// wants fails the test unless, once all is quiet, Redis has these fragments;
// an empty one is none.
func (s *site) wants(t testing.TB, fragments map[string]string) {
	t.Helper()
	quiet(t, s.db)
	for key, want := range fragments {
		if got, _ := redisGet(t, s.redis, "viewlet:"+key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}

// types runs a verb of one that ends by itself.
func (s *site) types(t testing.TB, args ...string) *answer {
	t.Helper()
	p := daemon(t, s.dir, environment(s.db, s.redis), append(args, "-c", s.rules())...)
	p.wait(t)
	return answerOf(t, p)
}

// Viewlets alone are a complete configuration.
func TestViewletsAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), books, map[string]string{"rules/rules.hcl": bookRules})
	p := s.run(t)
	s.wants(t, map[string]string{
		"author_page:1": `{"name":"Woolf","titles":["Orlando","The Waves"]}`, "book:12": `{"title":"Austerlitz","name":"Sebald"}`,
	})
	psql(t, s.db, "BEGIN; UPDATE books SET author_id = 2 WHERE id = 11; UPDATE authors SET name = 'W. G. Sebald' WHERE id = 2; COMMIT")
	s.wants(t, map[string]string{
		"author_page:1": `{"name":"Woolf","titles":["Orlando"]}`, "author_page:2": `{"name":"W. G. Sebald","titles":["Austerlitz","The Waves"]}`,
		"book:11": `{"title":"The Waves","name":"W. G. Sebald"}`, "book:12": `{"title":"Austerlitz","name":"W. G. Sebald"}`,
	})
	psql(t, s.db, `UPDATE books SET "in print" = false WHERE id = 12; INSERT INTO authors VALUES (3, 'Ditlevsen')`)
	s.wants(t, map[string]string{
		"author_page:2": `{"name":"W. G. Sebald","titles":["The Waves"]}`, "author_page:3": `{"name":"Ditlevsen","titles":[]}`, "book:12": "",
	})
	a := s.types(t, "status")
	if a.ends(t, 0); !strings.Contains(a.stdout, "author_page  fresh") {
		t.Error("status does not take the viewlet for fresh")
	}
	p.stop(t)
	a = s.types(t, "status")
	if a.ends(t, 0); !strings.Contains(a.stdout, "author_page  rendered, and no daemon keeps it fresh now") {
		t.Error("status takes the viewlet for fresh while nobody streams")
	}
	s.types(t, "check").gives(t, s.rules()+": ok, 2 viewlets, 2 tables, 0 warnings; compared with the database\n")
}

// What the printed plan says is what is in force without it.
func TestPlanIsWhatIsInForce(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), books, map[string]string{"rules/rules.hcl": bookRules})
	derived := s.types(t, "plan", "--derived")
	derived.ends(t, 0)
	writeFiles(t, s.dir, map[string]string{"rules/tables.hcl": derived.stdout})
	written := s.types(t, "plan")
	written.ends(t, 0)
	if strings.Contains(written.stdout, "\n# derived: a.id") || !strings.Contains(written.stdout, "# written: ") {
		t.Error("a rule that is written is derived as well")
	}
	if a := s.types(t, "plan", "--derived"); strings.Contains(a.stdout, "table ") {
		t.Error("written does not beat derived")
	}
}

// A view of another definition gives other rules and other fragments, and what
// cannot be followed any more harms nobody else.
func TestSchemaChangesWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), books, map[string]string{"rules/rules.hcl": bookRules})
	p := s.run(t)
	psql(t, s.db, `CREATE OR REPLACE VIEW shelf AS SELECT b.id, b.author_id, b.title || coalesce(n.mark, '') AS title
		FROM books b LEFT JOIN notes n ON n.book_id = b.id`)
	p.says(t, "the schema has changed: rules derived anew")
	eventually(t, "the fragments are of the new view", func() bool {
		got, _ := redisGet(t, s.redis, "viewlet:book:10")
		return got == `{"title":"Orlando","name":"Woolf"}` && strings.Count(p.stderr.String(), "ready: every fragment is in Redis") == 2
	})
	psql(t, s.db, "INSERT INTO notes VALUES (10, '!')") // a table that no rule was for
	s.wants(t, map[string]string{"book:10": `{"title":"Orlando!","name":"Woolf"}`, "author_page:1": `{"name":"Woolf","titles":["Orlando!","The Waves"]}`})

	psql(t, s.db, "BEGIN; DROP VIEW shelf; ALTER TABLE authors RENAME COLUMN name TO called; COMMIT")
	p.says(t, "rules do not fit it any more")
	p.says(t, `relation "shelf" does not exist`)
	psql(t, s.db, `CREATE VIEW shelf AS SELECT id, author_id, title FROM books; ALTER TABLE authors RENAME COLUMN called TO name`)
	eventually(t, "all is as it was", func() bool {
		got, _ := redisGet(t, s.redis, "viewlet:book:10")
		return got == `{"title":"Orlando","name":"Woolf"}`
	})
	psql(t, s.db, "UPDATE books SET title = 'Jacob''s Room' WHERE id = 10")
	s.wants(t, map[string]string{"book:10": `{"title":"Jacob's Room","name":"Woolf"}`})
	p.stop(t)
}

// A function gives something else with the same body, where it is called for
// NULL now or finds its names in another schema.
func TestFunctionsAlteredWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), books+`
		CREATE SCHEMA loud; CREATE FUNCTION loud.said(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper($1)';
		CREATE FUNCTION said(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1';
		CREATE FUNCTION marked(text) RETURNS text IMMUTABLE STRICT LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(said($1), ''none''); END';
		INSERT INTO notes VALUES (10, NULL), (11, 'read');`, map[string]string{"rules/rules.hcl": `
		viewlet "note" {
			params = ["id"]
			query  = "SELECT marked(mark) AS mark FROM notes WHERE book_id = @id"
		}`})
	p := s.run(t)
	s.wants(t, map[string]string{"note:10": `{"mark":null}`, "note:11": `{"mark":"read"}`})
	becomes := func(sql, key, want string) {
		t.Helper()
		psql(t, s.db, sql)
		eventually(t, sql, func() bool {
			got, _ := redisGet(t, s.redis, "viewlet:"+key)
			return got == want
		})
	}
	becomes("ALTER FUNCTION marked CALLED ON NULL INPUT", "note:10", `{"mark":"none"}`)
	becomes("ALTER FUNCTION marked SET search_path = loud", "note:11", `{"mark":"READ"}`)
	p.stop(t)
}

// A view that is redefined while nobody runs gives other fragments at the
// next start.
func TestSchemaChangesWhileDown(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), books, map[string]string{"rules/rules.hcl": bookRules})
	s.run(t).stop(t)
	psql(t, s.db, `CREATE OR REPLACE VIEW shelf AS SELECT id, author_id, upper(title) AS title FROM books`)
	p := s.run(t)
	s.wants(t, map[string]string{"book:10": `{"title":"ORLANDO","name":"Woolf"}`})
	p.stop(t)
}

func TestPlanOfAChange(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), books, map[string]string{"rules/rules.hcl": bookRules + `
		table "settings" {
		  when    = changed("value")
		  refresh = all(book)
		}`})
	written := "  written: " + s.rules() + "/rules.hcl:10\n"
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--table", "books", "--old", `{"id":11,"author_id":1,"title":"a"}`, "--new", `{"author_id":2}`}, "author_page:1  derived: b.author_id = @id\n" +
			"author_page:2  derived: b.author_id = @id\nbook:11        derived: b.id = @id\n"},
		{[]string{"--table", "books", "--row-of", "12", "--new", `{"in print":false}`}, "author_page:2  derived: b.author_id = @id\nbook:12        derived: b.id = @id\n"},
		{[]string{"--table", "authors", "--row-of", "2"}, "author_page:2  derived: a.id = @id\nbook:12        derived: a.id = b.author_id, b.id = @id\n"},
		{[]string{"--table", "books", "--row-of", "12", "--new", `{"title":"Austerlitz"}`}, ""},
		{[]string{"--table", "settings", "--new", `{"name":"a","value":null}`}, "book:*" + written},
	} {
		a := s.types(t, append([]string{"plan"}, c.args...)...)
		a.ends(t, 0)
		a.gives(t, c.want)
	}
	for want, args := range map[string][]string{
		`no rule is about a table "shelf"`: {"--table", "shelf", "--row-of", "1"},
		"whose row?":                       {"--row-of", "1"},
		"which change of books?":           {"--table", "books"},
		"is no JSON object":                {"--table", "books", "--new", "[1]"},
		`--new has a column "nmae"`:        {"--table", "authors", "--new", `{"nmae":"x"}`},
	} {
		a := s.types(t, append([]string{"plan"}, args...)...)
		a.ends(t, 2)
		a.says(t, want)
	}
	a := s.types(t, "plan", "--dot")
	for _, want := range []string{`"table public.authors" -> "lookup book_of_authors" [label = "derived: a.id = b.author_id, b.id = @id", style = dashed];`, `"lookup book_of_authors" -> "viewlet book"`} {
		if !strings.Contains(a.stdout, want) {
			t.Errorf("the graph has no %s", want)
		}
	}
}

// Old values that a derived rule needs and Postgres does not send.
func TestSetupOfReplicaIdentities(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), books+"ALTER TABLE books REPLICA IDENTITY DEFAULT; ALTER TABLE settings DROP CONSTRAINT settings_pkey;", map[string]string{"rules/rules.hcl": bookRules + `
		viewlet "mark" {
		  query = "SELECT value FROM settings WHERE name = 'mark'"
		}`})
	a := s.types(t, "check")
	a.ends(t, 1)
	a.says(t, "Postgres sends no more of an old row of public.books than its replica identity", "ALTER TABLE public.books REPLICA IDENTITY FULL;", "viewlet \"author_page\"")
	s.types(t, "setup").says(t, "write cdc-viewlet setup --replica-identity")
	a = s.types(t, "setup", "--replica-identity", "--print")
	a.ends(t, 0)
	for _, sql := range []string{`ALTER TABLE "public"."books" REPLICA IDENTITY FULL;`, `ALTER TABLE "public"."settings" REPLICA IDENTITY FULL;`, "CREATE PUBLICATION"} {
		if !strings.Contains(a.stdout, sql) {
			t.Errorf("it does not print %s", sql)
		}
	}
	s.types(t, "check").ends(t, 1)
	s.types(t, "setup", "--replica-identity").ends(t, 0)
	s.types(t, "check").ends(t, 0)
	p := s.run(t)
	psql(t, s.db, "UPDATE books SET author_id = 2 WHERE id = 10")
	s.wants(t, map[string]string{"author_page:1": `{"name":"Woolf","titles":["The Waves"]}`})
	p.stop(t)
}

// posts are found by what Postgres computes of a row: of another table's too.
const posts = `
	CREATE TABLE writers (id int PRIMARY KEY, email varchar(80) NOT NULL);
	CREATE TABLE posts (id int PRIMARY KEY, writer_id int NOT NULL, data jsonb NOT NULL, tags text[] NOT NULL, read int NOT NULL DEFAULT 0);
	ALTER TABLE writers REPLICA IDENTITY FULL;
	ALTER TABLE posts REPLICA IDENTITY FULL;
	INSERT INTO writers VALUES (1, 'Virginia@Hogarth.uk'), (2, 'wg@uea.ac.uk');
	INSERT INTO posts VALUES (1, 1, '{"slug": "waves"}', '{sea,light}'), (2, 2, '{"slug": "rings"}', '{sea,walks}');`

const postRules = `
viewlet "post" {
  params = ["slug"]
  query  = "SELECT id, read FROM posts WHERE data->>'slug' = @slug"
}
viewlet "tag" {
  params = ["tag"]
  query  = "SELECT string_agg(data->>'slug', ' ' ORDER BY id) AS posts FROM posts WHERE @tag = ANY(tags) GROUP BY @tag::text"
}
viewlet "topic" {
  params = ["topic"]
  query  = "SELECT min(id) AS first FROM posts WHERE data->'topics' ? @topic GROUP BY @topic::text"
}
viewlet "writer" {
  params = ["email"]
  query  = "SELECT w.id, array(SELECT p.data->>'slug' FROM posts p WHERE p.writer_id = w.id ORDER BY p.id) AS posts FROM writers w WHERE lower(w.email) = @email"
}`

// What Postgres computes of a row names fragments: of its old image and of its
// new one, of a value that the stream leaves out because it did not change, and
// at the end of a join.
func TestKeysThatAreComputed(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), posts, map[string]string{"rules/rules.hcl": postRules})
	p := s.run(t)
	s.wants(t, map[string]string{
		"post:waves": `{"id":1,"read":0}`, "tag:sea": `{"posts":"waves rings"}`, "tag:walks": `{"posts":"rings"}`,
		"writer:virginia%40hogarth.uk": `{"id":1,"posts":["waves"]}`,
	})
	psql(t, s.db, `BEGIN; UPDATE posts SET data = '{"slug": "saturn"}', tags = '{light,NULL}' WHERE id = 2; UPDATE writers SET email = 'MAX@uea.ac.uk' WHERE id = 2; COMMIT`)
	s.wants(t, map[string]string{
		"post:rings": "", "post:saturn": `{"id":2,"read":0}`,
		"tag:sea": `{"posts":"waves"}`, "tag:walks": "", "tag:light": `{"posts":"waves saturn"}`,
		"writer:wg%40uea.ac.uk": "", "writer:max%40uea.ac.uk": `{"id":2,"posts":["saturn"]}`,
	})
	psql(t, s.db, `UPDATE posts SET data = data || jsonb_build_object('body', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) i)) WHERE id = 1`)
	psql(t, s.db, `UPDATE posts SET read = 7 WHERE id = 1`)
	s.wants(t, map[string]string{"post:waves": `{"id":1,"read":7}`})
	psql(t, s.db, `UPDATE posts SET data = data || '{"topics": ["art", 1]}' WHERE id = 1`)
	s.wants(t, map[string]string{"topic:art": `{"first":1}`})
	psql(t, s.db, `DELETE FROM posts WHERE id = 1`)
	s.wants(t, map[string]string{"topic:art": "", "post:waves": "", "tag:sea": "", "tag:light": `{"posts":"saturn"}`, "writer:virginia%40hogarth.uk": `{"id":1,"posts":[]}`})
	p.stop(t)
	s.types(t, "check").gives(t, s.rules()+": ok, 4 viewlets, 2 tables, 0 warnings; compared with the database\n")
	a := s.types(t, "plan", "--table", "posts", "--old", `{"id":2,"writer_id":2,"data":"{\"slug\": \"a\"}","tags":"{x,y}"}`, "--new", `{"data":"{\"slug\": \"b\"}"}`)
	a.ends(t, 0)
	for _, want := range []string{"post:a ", "post:b ", "tag:x ", "tag:y ", "writer:max%40uea.ac.uk "} {
		if !strings.Contains(a.stdout, want) {
			t.Errorf("the plan does not name %s", want)
		}
	}
	a = s.types(t, "plan", "--derived")
	a.ends(t, 0)
	writeFiles(t, s.dir, map[string]string{"rules/tables.hcl": a.stdout})
	s.types(t, "check").ends(t, 0)
}

// What an expression reads of an old row has to be sent.
func TestCheckOfColumnsInExpressions(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), posts+"ALTER TABLE posts REPLICA IDENTITY DEFAULT;", map[string]string{"rules/rules.hcl": postRules})
	a := s.types(t, "check")
	a.ends(t, 1)
	a.says(t, "Old values are not sent", "ALTER TABLE public.posts REPLICA IDENTITY FULL;", `in viewlet "tag"`, `in viewlet "topic"`)
}

func TestCheckTellsWhatIsNotFollowed(t *testing.T) {
	t.Parallel()
	s := newSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}), books+`
		CREATE FUNCTION tax(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT count(*)::int FROM settings';
		CREATE TABLE visits (id int PRIMARY KEY, author_id int NOT NULL, note text);
		ALTER TABLE visits REPLICA IDENTITY FULL;
		ALTER TABLE visits ADD tags text[], ADD data jsonb, ADD mail varchar(40), ADD odd int;
		INSERT INTO visits SELECT i, i, repeat('x', 100) FROM generate_series(1, 60000) i;
		ANALYZE visits;`, map[string]string{})
	for _, c := range []struct{ name, rules, says string }{
		{"a clock", `query = "SELECT title, now() FROM books WHERE id = @id"`, "The result of now changes without any row's changing."},
		{"a function", `query = "SELECT title, tax(id) FROM books WHERE id = @id"`, "The function public.tax is not immutable"},
		{"a param that no row names", `query = "SELECT title FROM books WHERE id < @id"`, "A row of public.books names no @id"},
		{"an index", `query = "SELECT title FROM books b JOIN visits v ON v.author_id = b.author_id WHERE v.id = @id"`, "CREATE INDEX CONCURRENTLY ON \"public\".\"visits\" (author_id);"},
		{"an index on an expression", `query = "SELECT title FROM books b JOIN visits v ON lower(v.mail) = lower(b.title) WHERE v.id = @id"`, "CREATE INDEX CONCURRENTLY ON \"public\".\"visits\" ((lower((mail)::text)));"},
		{"an index on a cast", `query = "SELECT title FROM books b JOIN visits v ON v.odd::text = b.title WHERE v.id = @id"`, "CREATE INDEX CONCURRENTLY ON \"public\".\"visits\" (((odd)::text));"},
		{"an index for a cast that does nothing", `query = "SELECT title FROM books b JOIN visits v ON v.mail::text = b.title WHERE v.id = @id"`, "CREATE INDEX CONCURRENTLY ON \"public\".\"visits\" (mail);"},
		{"an index on the keys of a jsonb", `query = "SELECT title FROM books b JOIN visits v ON v.data->'tags' ? b.title WHERE v.id = @id"`, "CREATE INDEX CONCURRENTLY ON \"public\".\"visits\" USING gin (((data -> 'tags'::text)));"},
		{"an index on elements", `query = "SELECT title FROM books b JOIN visits v ON b.title = ANY(v.tags) WHERE v.id = @id"`, "CREATE INDEX CONCURRENTLY ON \"public\".\"visits\" USING gin (tags);"},
		{"a table that is not covered", "derive = false\n all = \"SELECT id FROM books\"\n query = \"SELECT title FROM books WHERE id = @id\"", `write ignore = ["public.books"]`},
		{"what is ignored is not read", "ignore = [\"settings\"]\n query = \"SELECT title FROM books WHERE id = @id\"", "does not read settings, but public.books"},
	} {
		t.Run(c.name, func(t *testing.T) {
			writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": "viewlet \"v\" {\n  params = [\"id\"]\n  " + c.rules + "\n}\n"})
			a := s.types(t, "check")
			a.ends(t, 0)
			a.says(t, c.says, "rules.hcl line ")
		})
	}
	for name, rules := range map[string]string{
		"a clock with a timeout":       "timeout = \"1m\"\n query = \"SELECT title, now() FROM books WHERE id = @id\"",
		"a function that is ignored":   "ignore = [\"tax\", \"public.settings\"]\n query = \"SELECT title, tax(id), (SELECT count(*) FROM settings) FROM books WHERE id = @id\"",
		"a param with a rule for it":   "all = \"SELECT 1\"\n query = \"SELECT title FROM books WHERE id < @id\"\n}\ntable \"books\" {\n refresh = all(v)",
		"a table that is ignored":      "all = \"SELECT 1\"\n ignore = [\"books\"]\n query = \"SELECT title FROM books WHERE id < @id\"",
		"a table that a rule is for":   "all = \"SELECT id FROM books\"\n derive = false\n query = \"SELECT title FROM books WHERE id = @id\"\n}\ntable \"public.books\" {\n refresh = v(id)",
		"a column with an odd name":    "query = \"SELECT title FROM books WHERE id = @id\"\n}\ntable \"books\" {\n when = changed(\"in print\")\n refresh = v(row[\"id\"])",
		"an odd column in expressions": "query = \"SELECT title FROM books WHERE id = @id\"\n}\ntable \"books\" {\n refresh = v(row[\"id\"] + (row[\"in print\"] ? 0 : 1))",
	} {
		t.Run(name, func(t *testing.T) {
			writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": "viewlet \"v\" {\n  params = [\"id\"]\n  " + rules + "\n}\n"})
			a := s.types(t, "check")
			if a.ends(t, 0); strings.Contains(a.stderr, "Warning") {
				t.Error("it warns")
			}
		})
	}
}

func TestCheckTellsRulesThatNeverFire(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), books, map[string]string{})
	for rule, fires := range map[string]bool{
		`on = ["insert"]` + "\n refresh = book(old.id)":                                                   false,
		`on = ["delete"]` + "\n refresh = book(new.id)":                                                   false,
		`when = op == "insert" && op == "delete"` + "\n refresh = book(id)":                               false,
		`on = ["update"]` + "\n when = op == \"insert\"\n refresh = book(id)":                             false,
		`when = false` + "\n refresh = book(id)":                                                          false,
		`on = ["update"]` + "\n when = changed(\"title\") && old.title == \"a\"\n refresh = book(new.id)": true,
		`on = ["insert", "update"]` + "\n refresh = [book(old.id), book(new.id)]":                         true,
		`on = ["delete"]` + "\n refresh = all(book)":                                                      true,
		`when = op == "delete" || new.title != "x"` + "\n refresh = [for i in [1, 2] : book(new.id + i)]": true,
	} {
		writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": bookRules + "\ntable \"books\" {\n " + rule + "\n}\n"})
		a := s.types(t, "check")
		if a.ends(t, 0); strings.Contains(a.stderr, "Never fires") == fires {
			t.Errorf("%s fires %v, and check says otherwise", rule, fires)
		}
	}
}

// A table is named as in a table block, whatever its name has in it.
func TestPlanOfOddTable(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), `CREATE TABLE "odd.table" (id int PRIMARY KEY, x text)`, map[string]string{"rules/rules.hcl": `
viewlet "odd" {
  params = ["id"]
  query  = "SELECT x FROM \"odd.table\" WHERE id = @id"
}`})
	for _, name := range []string{`"odd.table"`, `public."odd.table"`} {
		a := s.types(t, "plan", "--table", name, "--new", `{"id":5}`)
		if a.ends(t, 0); !strings.HasPrefix(a.stdout, "odd:5 ") {
			t.Errorf("--table %s gives %q", name, a.stdout)
		}
	}
	a := s.types(t, "plan", "--table", "none", "--new", `{"id":5}`)
	if a.ends(t, 2); !strings.Contains(a.stderr, `public."odd.table"`) {
		t.Errorf("it does not say how tables are written: %s", a.stderr)
	}
}
