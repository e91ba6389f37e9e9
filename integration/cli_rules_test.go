package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// diagnosed tries rules that cannot be used: check says so, and run says the
// same and begins nothing.
func diagnosed(t *testing.T, d *desk, mistakes []mistake) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			a := m.types(t, d, "check")
			a.says(t, append(m.says, "Error: ")...)
			if !strings.Contains(a.stdout, " error") || strings.Count(a.stdout, "\n") != 1 {
				t.Errorf("%s: its verdict is %q", a.line, a.stdout)
			}
			a = m.types(t, d, "run")
			a.says(t, m.says...)
			a.gives(t, "")
		})
	}
	t.Cleanup(func() { d.untouched(t) })
}

func rulesFiles(t *testing.T, d *desk) {
	huge := strings.Repeat("# a comment of one line, and one more\n", 10<<20/38)
	diagnosed(t, d, []mistake{
		{name: "no file", files: map[string]string{}, says: []string{"There is no rules.hcl. Write the rules there, or name the file or folder that has them with -c."}},
		{name: "no such file", args: []string{"-c", "shop.hcl"}, says: []string{"There is no shop.hcl."}},
		{name: "no such folder", args: []string{"-c", "/etc/cdc-viewlet-of-nobody"}, says: []string{"There is no /etc/cdc-viewlet-of-nobody."}},
		{name: "an empty file", files: map[string]string{"rules.hcl": ""}, says: []string{"rules.hcl is empty. Write at least one viewlet", `viewlet "product_teaser" {`}},
		{name: "a file of comments", files: map[string]string{"rules.hcl": "# to do\n"}, says: []string{"rules.hcl has no viewlet block", `viewlet "product_teaser" {`}},
		{name: "a binary file", files: map[string]string{"rules.hcl": "\x7fELF\x02\x01\x01\x00\xff\xfe"}, says: []string{"read rules.hcl: it is not a text file in UTF-8"}},
		{name: "10 MB", files: map[string]string{"rules.hcl": huge}, says: []string{"read rules.hcl: it is larger than 1 MiB", "split it"}},
		{name: "a folder without rules", files: map[string]string{"rules/README": "none"}, args: []string{"-c", "rules"}, says: []string{"The folder rules has no file that ends in .hcl or .hcl.json."}},
		{name: "JSON that is cut off", files: map[string]string{"rules.hcl.json": `{"viewlet": `}, args: []string{"-c", "rules.hcl.json"}, says: []string{"rules.hcl.json line 1", "The JSON data ends prematurely."}},
		{name: "a brace that is not closed", files: map[string]string{"rules.hcl": "viewlet \"teaser\" {\n  query = \"SELECT 1\"\n"}, says: []string{"rules.hcl line 1", "There is no closing brace for this block"}},
		{name: "a path of links that go round", files: map[string]string{"rules.hcl": deskRules}, args: []string{"-c", loop(t)}, says: []string{"Cannot read the rules", "too many levels of symbolic links"}},
	})
}

// loop gives a path that leads nowhere.
func loop(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.hcl")
	if err := os.Symlink(path, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// unreadableRules runs the program as somebody who may not read the file,
// for root may read all.
func unreadableRules(t *testing.T, d *desk) {
	dir, err := os.MkdirTemp("", "cdc-viewlet-") // t.TempDir's is ours alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary := filepath.Join(dir, "cdc-viewlet")
	if err := os.Link(buildDaemon(t), binary); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dir, map[string]string{"rules.hcl": deskRules, "folder/rules.hcl": deskRules})
	for path, mode := range map[string]os.FileMode{"": 0o755, "rules.hcl": 0, "folder": 0} {
		if err := os.Chmod(filepath.Join(dir, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	for config, says := range map[string]string{
		"rules.hcl": "open rules.hcl: permission denied",
		"folder":    "read folder folder: permission denied",
	} {
		line := append(asNobody(), binary, "run", "-c", config)
		p := run(t, dir, d.env(), line[0], line[1:]...)
		p.wait(t)
		a := answerOf(t, p)
		a.ends(t, 1)
		a.says(t, "Cannot read the rules", says)
	}
	d.untouched(t)
}

// asNobody is the command that drops our rights; empty when we are not root.
func asNobody() []string {
	if os.Geteuid() != 0 {
		return nil
	}
	const nobody = "65534"
	return []string{"setpriv", "--reuid=" + nobody, "--regid=" + nobody, "--clear-groups"}
}

func templates(t *testing.T, d *desk) {
	diagnosed(t, d, []mistake{
		{name: "missing", rules: teaser(`template = "teasr.html"`), files: map[string]string{"teaser.html": "x"}, says: []string{"rules.hcl line 4", "There is no file teasr.html", "Did you mean teaser.html?"}},
		{name: "of an unknown kind", rules: teaser(`template = "teaser.tmpl"`), files: map[string]string{"teaser.tmpl": "x"}, says: []string{"rules.hcl line 4", "A template ends in .html", "Rename it"}},
		{name: "binary", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": "\x89PNG\x00"}, says: []string{"rules.hcl line 4", "read teaser.html: it is not a text file in UTF-8"}},
		{name: "a missing partial", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": `{{template "prise.html" .}}`, "price.html": "x"}, says: []string{"rules.hcl line 4", `teaser.html:1:11: there is no partial "prise.html"`}},
		{name: "partials that include each other", rules: teaser(`template = "a.html"`), files: map[string]string{"a.html": `{{template "b.html" .}}`, "b.html": `{{template "a.html" .}}`}, says: []string{"rules.hcl line 4", "a.html -> b.html -> a.html", "inside an {{if}} or {{range}}"}},
		{name: "one that includes itself", rules: teaser(`template = "a.html"`), files: map[string]string{"a.html": `{{template "a.html" .}}`}, says: []string{"a.html -> a.html"}},
		{name: "that does not parse", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": "<b>\n{{.name}</b>"}, says: []string{"rules.hcl line 4", "teaser.html:2", `bad character U+007D '}'`}},
		{name: "with an open if", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": "<b>\n{{if .name}}</b>"}, says: []string{"teaser.html:2", "unexpected EOF"}},
		{name: "with an unknown function", rules: teaser(`body = "{{nmae .name}}"`), says: []string{"rules.hcl line 4", `function "nmae" not defined`}},
		{name: "that reads what the query has not", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": "<b>{{.nmae}}</b>"}, says: []string{"teaser.html:1:5", `the query has no column "nmae"`, "name, price, id"}},
		{name: "whose partial reads what the query has not", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": `{{template "p.html" .}}`, "p.html": "\n{{.prize}}"}, says: []string{"p.html:2:2", `the query has no column "prize"`}},
		{name: "whose rows have not what it reads", rules: teaser(`body = "{{range .rows}}{{.nmae}}{{end}}"`), says: []string{"rules.hcl line 4", `the query has no column "nmae"`}},
		{name: "in text whose rows have not what it reads", rules: teaser(`template = "teaser.txt"`), files: map[string]string{"teaser.txt": "{{range .rows}}{{.nmae}}{{end}}"}, says: []string{"teaser.txt:1", `the query has no column "nmae"`}},
	})
}

func queries(t *testing.T, d *desk) {
	d.asOwner(t, `
		CREATE SCHEMA attic;
		CREATE TABLE attic.archive (id int PRIMARY KEY, line text)`)
	diagnosed(t, d, []mistake{
		{name: "two statements", rules: query(`SELECT name FROM products WHERE id = @id; DELETE FROM products`), says: []string{"rules.hcl line 3", "More than one statement", "Leave out what stands behind the semicolon"}},
		{name: "FOR UPDATE", rules: query(`SELECT name FROM products WHERE id = @id FOR UPDATE`), says: []string{"rules.hcl line 3", "Query locks rows", "Leave out the locking clause"}},
		{name: "FOR SHARE", rules: query(`SELECT name FROM products WHERE id = @id FOR SHARE`), says: []string{"Query locks rows"}},
		{name: "a syntax error", rules: query(`SELECT name FORM products WHERE id = @id`), says: []string{"rules.hcl line 3", `syntax error at or near "products"`}},
		{name: "an unknown @param", rules: query(`SELECT name FROM products WHERE id = @idd`), says: []string{"rules.hcl line 3", `No param has the name "idd"`, "Did you mean @id?"}},
		{name: "a param that it does not use", rules: query(`SELECT name FROM products`), says: []string{"rules.hcl line 3", `The query does not use the param "id"`, "Write @id in the query"}},
		{name: "INSERT", rules: query(`INSERT INTO products (id, name) VALUES (@id, 'x') RETURNING name`), says: []string{"rules.hcl line 3", "A query is one SELECT", "This one begins with INSERT"}},
		{name: "DROP", rules: query(`DROP TABLE products`), says: []string{"This one begins with DROP"}},
		{name: "WITH DELETE", rules: query(`WITH gone AS (DELETE FROM products WHERE id = @id RETURNING name) SELECT name FROM gone`), says: []string{"rules.hcl line 3", "Leave out the DELETE"}},
		{name: "SELECT INTO", rules: query(`SELECT name INTO copy FROM products WHERE id = @id`), says: []string{"rules.hcl line 3", "leave out the INTO"}},
		{name: "none", rules: "viewlet \"teaser\" {\n  params = [\"id\"]\n}\n", says: []string{"rules.hcl line 1", "Every viewlet has a query: write query = "}},
		{name: "empty", rules: query(``), says: []string{"rules.hcl line 3", "Write one SELECT"}},
		{name: "an unknown table", rules: query(`SELECT name FROM produtcs WHERE id = @id`), says: []string{"rules.hcl line 3", `relation "produtcs" does not exist`, "Did you mean products?"}},
		{name: "a table of another schema", rules: query(`SELECT line FROM archive WHERE id = @id`), says: []string{`relation "archive" does not exist`, "Did you mean attic.archive?"}},
		{name: "an unknown column", rules: query(`SELECT nmae FROM products WHERE id = @id`), says: []string{"rules.hcl line 3", `column "nmae" does not exist`, `"products.name"`}},
		{name: "two columns of one name", rules: query(`SELECT p.name, c.name FROM products p JOIN categories c ON c.id = p.category_id WHERE p.id = @id`), says: []string{`two columns of the query are called "name"`, "AS other_name"}},
		{name: "an all of two columns for one param", rules: strings.Replace(deskRules, `"SELECT id FROM products"`, `"SELECT id, name FROM products"`, 1), says: []string{"rules.hcl line 5", "it selects 2 columns"}},
	})
}

func rulesOfTables(t *testing.T, d *desk) {
	d.asOwner(t, `
		CREATE TABLE logs (line text);
		CREATE VIEW cheap AS SELECT * FROM products WHERE price < 10;
		CREATE MATERIALIZED VIEW dear AS SELECT * FROM products WHERE price > 10;
		CREATE UNLOGGED TABLE visits (id int PRIMARY KEY)`)
	temporary := temporaryTable(t, d)
	full := deskRules + table("products", "when = old.name != new.name\n  refresh = teaser(old.category_id)")
	diagnosed(t, d, []mistake{
		{name: "a table that is not there", rules: deskRules + table("prodcts", "refresh = teaser(id)"), says: []string{"rules.hcl line 10", "The database has no table prodcts", `Did you mean "products"?`}},
		{name: "a column that is not there", rules: deskRules + table("categories", "refresh = teaser(idd)"), says: []string{"rules.hcl line 11", `The table categories has no column "idd"`, `Did you mean "id"?`}},
		{name: "a lookup that is not there", rules: deskRules + table("categories", "refresh = teaser(products_in(id))"), says: []string{"rules.hcl line 11", `There is no lookup and no function "products_in"`}},
		{name: "a viewlet that is not there", rules: deskRules + table("categories", "refresh = taeser(id)"), says: []string{"rules.hcl line 11", `No viewlet has the name "taeser"`, `Did you mean "teaser"?`}},
		{name: "too many arguments", rules: deskRules + table("categories", "refresh = teaser(id, name)"), says: []string{"rules.hcl line 11", "teaser has 1 param, and this call gives 2"}},
		{name: "a lookup of two columns for one param", rules: deskRules + lookup("SELECT id, name FROM products WHERE category_id = @c"), says: []string{"rules.hcl line 15", `in selects "id" and "name"`}},
		{name: "a lookup of an unknown table", rules: deskRules + lookup("SELECT id FROM prodcts WHERE category_id = @c"), says: []string{"rules.hcl line 12", `relation "prodcts" does not exist`}},
		{name: "an unknown attribute", rules: teaser(`templat = "teaser.html"`), says: []string{"rules.hcl line 4", `Did you mean "template"?`}},
		{name: "an unknown block", rules: deskRules + "veiwlet \"x\" {\n}\n", says: []string{"rules.hcl line 10", `Did you mean "viewlet"?`}},
		{name: "a name twice", rules: deskRules + deskRules, says: []string{"rules.hcl line 10", `The name "teaser" stands at rules.hcl:1 already`}},
		{name: "a timeout without unit", rules: teaser(`timeout = "10"`), says: []string{"rules.hcl line 4", `such as "90s"`}},
		{name: "a slot's name that is none", rules: deskRules + "postgres {\n  slot = \"Shop-Slot\"\n}\n", says: []string{"rules.hcl line 11", "Postgres takes 1 to 63 lower-case letters, digits and underscores"}},
		{name: "a variable that is not set", rules: deskRules + "redis {\n  url = env(\"NO_SUCH_REDIS_URL\")\n}\n", says: []string{"rules.hcl line 11", "NO_SUCH_REDIS_URL is not set"}},
		{name: "no primary key", rules: deskRules + table("logs", "refresh = teaser(line)"), says: []string{"rules.hcl line 10", "logs has no primary key", "ALTER TABLE public.logs REPLICA IDENTITY FULL;"}},
		{name: "a view", rules: deskRules + table("cheap", "refresh = teaser(id)"), says: []string{"rules.hcl line 10", "cheap is a view", "Name the tables that its rows come from"}},
		{name: "a materialized view", rules: deskRules + table("dear", "refresh = teaser(id)"), says: []string{"rules.hcl line 10", "dear is a materialized view"}},
		{name: "an unlogged table", rules: deskRules + table("visits", "refresh = teaser(id)"), says: []string{"rules.hcl line 10", "visits is an unlogged table"}},
		{name: "a temporary table", rules: deskRules + table(temporary, "refresh = teaser(id)"), says: []string{"rules.hcl line 10", temporary + " is a temporary table"}},
		{name: "a system table", rules: deskRules + table("pg_catalog.pg_class", "refresh = teaser(oid)"), says: []string{"rules.hcl line 10", "pg_catalog.pg_class is a system table"}},
		{name: "old without REPLICA IDENTITY FULL", rules: full, says: []string{
			"rules.hcl line 11", "Postgres does not send the old value of products.name, so this condition counts as true",
			"rules.hcl line 12", "the old value of products.category_id", "ALTER TABLE public.products REPLICA IDENTITY FULL;",
		}},
	})
	t.Run("old with REPLICA IDENTITY FULL", func(t *testing.T) { // and so before the parallel ones
		other := startDesk(t)
		other.asOwner(t, "ALTER TABLE products REPLICA IDENTITY FULL")
		a := other.types(t, other.folder(t, full, nil), nil, "check")
		a.ends(t, 0)
		a.gives(t, "rules.hcl: ok, 1 viewlet, 1 table, 0 warnings; compared with the database\n")
		a.says(t)
	})
}

// temporaryTable makes a temporary table that lives as long as the test, and
// names it as others would have to.
func temporaryTable(t testing.TB, d *desk) string {
	t.Helper()
	conn, err := d.db.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Release)
	if _, err := conn.Exec(t.Context(), "CREATE TEMP TABLE baskets (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	var schema string
	if err := conn.QueryRow(t.Context(), "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'baskets'::regclass").Scan(&schema); err != nil {
		t.Fatal(err)
	}
	return schema + ".baskets"
}

// manyMistakes wants all of them at once, each at its line.
func manyMistakes(t *testing.T, d *desk) {
	a := d.types(t, d.folder(t, query("SELECT nmae FROM products WHERE id = @id")+table("prodcts", "refresh = teaser(id)")+table("categories", "refresh = teaser(idd)"), nil), nil, "check")
	a.ends(t, 1)
	a.says(t, "rules.hcl line 3", `column "nmae" does not exist`, "rules.hcl line 10", "no table prodcts", "rules.hcl line 14", `no column "idd"`)
	a.gives(t, "rules.hcl: 3 errors, 0 warnings\n")
}

// teaser is a viewlet with this for a template, on its fourth line.
func teaser(template string) string {
	return strings.Replace(deskRules, `body   = "<b>{{.name}}</b> {{.price}}"`, template, 1)
}

// query is a viewlet with this query, on its third line.
func query(sql string) string {
	return strings.Replace(teaser(""), "SELECT name, price FROM products WHERE id = @id", sql, 1)
}

func table(name, body string) string { return fmt.Sprintf("table %q {\n  %s\n}\n", name, body) }

// lookup is a lookup, with its query on the third line, and its use on the sixth.
func lookup(sql string) string {
	return fmt.Sprintf("lookup \"in\" {\n  params = [\"c\"]\n  query  = %q\n}\n", sql) + table("categories", "refresh = teaser(in(id))")
}
