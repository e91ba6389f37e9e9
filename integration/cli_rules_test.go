package integration

import (
	"strings"
	"testing"
)

// TestCLIRules tries rules that cannot be used. check says so, and run says the
// same and begins nothing.
func TestCLIRules(t *testing.T) {
	d := startDesk(t)
	psql(t, d.db, `SET ROLE `+d.role+`;
		CREATE TABLE logs (line text);
		CREATE VIEW cheap AS SELECT * FROM products WHERE price < 10;
		CREATE UNLOGGED TABLE visits (id int PRIMARY KEY)`)
	for _, m := range []mistake{
		// Files.
		{name: "no file", files: map[string]string{}, says: []string{"x"}},
		{name: "no such file", args: []string{"check", "-c", "shop.hcl"}},
		{name: "no such folder", args: []string{"check", "-c", "/etc/cdc-viewlet-of-nobody"}},
		{name: "an empty file", files: map[string]string{"rules.hcl": ""}},
		{name: "a file of comments", files: map[string]string{"rules.hcl": "# to do\n"}},
		{name: "a binary file", files: map[string]string{"rules.hcl": "\x7fELF\x02\x01\x01\x00\xff\xfe"}},
		{name: "a huge file", files: map[string]string{"rules.hcl": strings.Repeat("# a comment of one line, and one more\n", 10<<20/38)}},
		{name: "a folder without rules", files: map[string]string{"rules/README": "none"}, args: []string{"check", "-c", "rules"}},
		{name: "JSON that is none", files: map[string]string{"rules.hcl.json": "{"}, args: []string{"check", "-c", "rules.hcl.json"}},
		{name: "a brace that is not closed", files: map[string]string{"rules.hcl": "viewlet \"teaser\" {\n  query = \"SELECT 1\"\n"}},
		{name: "a missing template", rules: teaser(`template = "teasr.html"`), files: map[string]string{"teaser.html": "x"}},
		{name: "a template that is a folder", rules: teaser(`template = "templates"`), files: map[string]string{"templates/x.html": ""}},
		{name: "a template without a known ending", rules: teaser(`template = "teaser.tmpl"`), files: map[string]string{"teaser.tmpl": "x"}},
		{name: "a template outside the folder", rules: teaser(`template = "../../teaser.html"`)},
		{name: "a missing partial", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": `{{template "prise.html" .}}`, "price.html": "x"}},
		{name: "cyclic partials", rules: teaser(`template = "a.html"`), files: map[string]string{"a.html": `{{template "b.html" .}}`, "b.html": `{{template "a.html" .}}`}},
		{name: "a template that does not parse", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": "<b>{{.name}</b>"}},
		{name: "a template with an unclosed if", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": "<b>\n{{if .name}}</b>"}},
		{name: "a template with an unknown function", rules: teaser(`body = "{{nmae .name}}"`)},
		{name: "a template that reads what is not there", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": "<b>{{.nmae}}</b>"}},
		{name: "a partial that reads what is not there", rules: teaser(`template = "teaser.html"`), files: map[string]string{"teaser.html": `{{template "p.html" .}}`, "p.html": "\n{{.prize}}"}},
		{name: "rows that have not what is read", rules: teaser(`body = "{{range .rows}}{{.nmae}}{{end}}"`)},

		// Queries.
		{name: "two statements", rules: query(`SELECT name FROM products WHERE id = @id; DELETE FROM products`)},
		{name: "FOR UPDATE", rules: query(`SELECT name FROM products WHERE id = @id FOR UPDATE`)},
		{name: "a syntax error", rules: query(`SELECT name FORM products WHERE id = @id`)},
		{name: "an unknown @param", rules: query(`SELECT name FROM products WHERE id = @idd`)},
		{name: "no param", rules: query(`SELECT name FROM products`)},
		{name: "INSERT", rules: query(`INSERT INTO products (id, name) VALUES (@id, 'x') RETURNING name`)},
		{name: "WITH DELETE", rules: query(`WITH gone AS (DELETE FROM products WHERE id = @id RETURNING name) SELECT name FROM gone`)},
		{name: "INTO", rules: query(`SELECT name INTO copy FROM products WHERE id = @id`)},
		{name: "no query", rules: `viewlet "teaser" {
  params = ["id"]
}
`},
		{name: "an unknown table", rules: query(`SELECT name FROM produtcs WHERE id = @id`)},
		{name: "an unknown column", rules: query(`SELECT nmae FROM products WHERE id = @id`)},
		{name: "two columns of one name", rules: query(`SELECT p.name, c.name FROM products p JOIN categories c ON c.id = p.category_id WHERE p.id = @id`)},
		{name: "a param of no type", rules: query(`SELECT name, @id AS what FROM products`)},
		{name: "all with the wrong number of columns", rules: strings.Replace(deskRules, "SELECT id FROM products", "SELECT id, name FROM products", 1)},
		{name: "an empty query", rules: query(``)},

		// Tables and lookups.
		{name: "a table that is not there", rules: deskRules + "table \"prodcts\" {\n  refresh = teaser(id)\n}\n"},
		{name: "a column that is not there", rules: deskRules + "table \"categories\" {\n  refresh = teaser(idd)\n}\n"},
		{name: "a lookup that is not there", rules: deskRules + "table \"categories\" {\n  refresh = teaser(products_in(id))\n}\n"},
		{name: "a viewlet that is not there", rules: deskRules + "table \"categories\" {\n  refresh = taeser(id)\n}\n"},
		{name: "too many arguments", rules: deskRules + "table \"categories\" {\n  refresh = teaser(id, name)\n}\n"},
		{name: "a lookup of two columns for one param", rules: deskRules + "lookup \"in\" {\n  params = [\"c\"]\n  query = \"SELECT id, name FROM products WHERE category_id = @c\"\n}\ntable \"categories\" {\n  refresh = teaser(in(id))\n}\n"},
		{name: "a lookup that does not prepare", rules: deskRules + "lookup \"in\" {\n  params = [\"c\"]\n  query = \"SELECT id FROM prodcts WHERE category_id = @c\"\n}\ntable \"categories\" {\n  refresh = teaser(in(id))\n}\n"},
		{name: "an unknown attribute", rules: teaser(`templat = "teaser.html"`)},
		{name: "an unknown block", rules: deskRules + "veiwlet \"x\" {\n}\n"},
		{name: "a name twice", rules: deskRules + deskRules},
		{name: "a timeout that is none", rules: teaser(`timeout = "10"`)},
		{name: "an environment variable that is not set", rules: deskRules + "redis {\n  url = env(\"NO_SUCH_REDIS_URL\")\n}\n"},

		// Tables that cannot be streamed as they are.
		{name: "no primary key", rules: deskRules + "table \"logs\" {\n  refresh = teaser(line)\n}\n"},
		{name: "a view", rules: deskRules + "table \"cheap\" {\n  refresh = teaser(id)\n}\n"},
		{name: "an unlogged table", rules: deskRules + "table \"visits\" {\n  refresh = teaser(id)\n}\n"},
		{name: "a system table", rules: deskRules + "table \"pg_catalog.pg_class\" {\n  refresh = teaser(oid)\n}\n"},
		{name: "old without REPLICA IDENTITY FULL", rules: deskRules + "table \"products\" {\n  when    = old.name != new.name\n  refresh = teaser(old.category_id)\n}\n"},
	} {
		t.Run(m.name, func(t *testing.T) {
			m.typed(t, d)
			d.untouched(t)
		})
	}
}

// teaser is a viewlet with this for a template.
func teaser(template string) string {
	return strings.Replace(deskRules, `body   = "<b>{{.name}}</b> {{.price}}"`, template, 1)
}

// query is a viewlet with this query, its second line.
func query(sql string) string {
	return strings.Replace(teaser("\n"), "SELECT name, price FROM products WHERE id = @id", sql, 1)
}
