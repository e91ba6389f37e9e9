package integration

import (
	"regexp"
	"testing"
)

// TestCLIBench measures rules of all kinds, and touches nothing.
func TestCLIBench(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	// More than 4 MiB of it, and no index but the key's.
	d.asOwner(t, `CREATE TABLE visits (id int PRIMARY KEY, product_id int, page text);
		INSERT INTO visits SELECT i, i % 50, repeat('x', 200) FROM generate_series(1, 30000) i; ANALYZE visits`)
	dir := d.folder(t, deskRules+`
viewlet "visits" {
  params = ["id"]
  query  = "SELECT count(*) AS n FROM visits WHERE product_id = @id"
  all    = "SELECT id FROM products"
}
viewlet "menu" {
  query = "SELECT name FROM categories"
  rows  = true
}
viewlet "basket" {
  params = ["id"]
  query  = "SELECT 1 AS one WHERE @id = 'x'"
}
viewlet "halves" {
  params = ["id"]
  query  = "SELECT 1 / (@id::int - 42) AS n"
  all    = "SELECT id FROM products"
}
lookup "visited" {
  params = ["page"]
  query  = "SELECT product_id FROM visits WHERE page = @page"
}
table "visits" {
  refresh = visits(visited(page))
}`, nil)

	const µs = `\d+\.\d µs +`
	all := d.types(t, dir, nil, "bench")
	all.ends(t, 0)
	for _, want := range []string{
		`^VIEWLET +FRAGMENTS +PER SECOND +QUERY +TEMPLATE +REDIS +BYTES\n`,
		`\nteaser +3 +\d+ +` + µs + µs + µs + `\d+\n`,
		`\nmenu +1 +\d+ +` + µs + µs + µs + `\d+\n`,
		`\nbasket +none: nothing names its instances, or there are none\n`,
		`\nhalves +3 .* 1 fragment cannot be rendered\n`,
		`\nslowest, each by itself:\n +\d+\.\d\d ms  \w+`,
		`\nviewlet visits: it reads all of "public"\."visits" .*CREATE INDEX CONCURRENTLY ON "public"\."visits" \(product_id\);\n`,
		`\nlookup visited: it reads all of "public"\."visits" .*\(page\);\n`,
	} {
		if !regexp.MustCompile(want).MatchString(all.stdout) {
			t.Errorf("bench prints nothing like %s, but\n%s", want, all.stdout)
		}
	}

	one := d.types(t, dir, []string{"REDIS_URL="}, "bench", "teaser", "--sample", "2")
	one.ends(t, 0)
	if want := `\nteaser +2 +\d+ +` + µs + µs + `- +\d+\n\nslowest`; !regexp.MustCompile(want).MatchString(one.stdout) {
		t.Errorf("bench of one viewlet without Redis prints nothing like %s, but\n%s", want, one.stdout)
	}
	d.untouched(t)
}
