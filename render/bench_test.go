package render

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkRender renders teasers of four columns, by one and by chunks of 200,
// and reports fragments per second and allocations per fragment.
func BenchmarkRender(b *testing.B) {
	s := newSite(b, `
CREATE TABLE categories AS SELECT i AS id, 'Category ' || i AS name FROM generate_series(0, 19) i;
CREATE TABLE products AS SELECT i AS id, 'Product ' || i AS name, i * 1.10 AS price, i % 20 AS category_id FROM generate_series(1, 20000) i;
ALTER TABLE categories ADD PRIMARY KEY (id); ALTER TABLE products ADD PRIMARY KEY (id); ANALYZE`)
	const query = `"SELECT p.id, p.name, p.price, c.name AS category FROM products p JOIN categories c ON c.id = p.category_id WHERE p.id = @id"`
	const body = `"<article><a href=\"/p/{{.id}}\">{{.name}}</a> <b>{{.price}}</b> <i>{{.category}}</i></article>"`
	s.loadSound(`
viewlet "html" {
  params = ["id"]
  query  = ` + query + `
  body   = ` + body + `
}
viewlet "json" {
  params = ["id"]
  query  = ` + query + `
}
viewlet "rows" {
  params = ["id"]
  query  = "SELECT id, name FROM products WHERE category_id = @id % 20 ORDER BY id LIMIT 5"
  body   = "{{range .rows}}<a href=\"/p/{{.id}}\">{{.name}}</a>{{end}}"
}`)
	for i, name := range []string{"html", "json", "rows", "html"} {
		chunk := 200
		if i == 3 {
			chunk = 1
		}
		b.Run(fmt.Sprintf("%s/%d", name, chunk), func(b *testing.B) {
			args := make([]string, chunk)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for j := range args {
					args[j] = fmt.Sprint((i*chunk+j)%20000 + 1)
				}
				for _, f := range s.render(name, keysOf(name, args...)...) {
					if f.Err != nil || len(f.Body) == 0 {
						b.Fatal(f)
					}
				}
			}
			b.ReportMetric(float64(b.N*chunk)/b.Elapsed().Seconds(), "fragments/s")
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N*chunk)*float64(time.Second/time.Microsecond), "µs/fragment")
		})
	}
}
