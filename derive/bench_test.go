package derive_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// BenchmarkThousand reads and derives 1,000 viewlets over 200 tables, as a plan
// or the start of the daemon does.
func BenchmarkThousand(b *testing.B) {
	const tables, viewlets = 200, 1000
	var schema, text strings.Builder
	for i := range tables {
		fmt.Fprintf(&schema, "CREATE TABLE t%d (id bigint PRIMARY KEY, parent bigint, owner bigint, name text, kind int, n numeric, at timestamptz);\n", i)
	}
	for i := range tables / 10 {
		fmt.Fprintf(&schema, "CREATE VIEW v%d AS SELECT x.id, x.name, y.name AS parent FROM t%d x LEFT JOIN t%d y ON y.id = x.parent;\n", i, i, i+1)
	}
	for i := range viewlets {
		a, c, d := i%tables, (i*7+1)%tables, (i*13+2)%tables
		fmt.Fprintf(&text, `viewlet "w%d" {
			params = ["id"]
			query = "SELECT x.name, y.name AS owner, v.parent, (SELECT count(*) FROM t%d z WHERE z.parent = x.id AND z.kind > %d) AS n FROM t%d x JOIN t%d y ON y.id = x.owner LEFT JOIN v%d v ON v.id = y.parent WHERE x.id = @id"
		}
		`, i, d, i, a, c, i%(tables/10))
	}
	s := newSite(b, schema.String())
	set := load(b, []byte(text.String()))
	queries := make([]*rules.Query, len(set.Viewlets))
	for i, v := range set.Viewlets {
		queries[i] = v.Query
	}
	var analysing, deriving time.Duration
	for b.Loop() {
		began := time.Now()
		analysed, catalog, err := s.db.Analyse(b.Context(), queries...)
		if err != nil {
			b.Fatal(err)
		}
		analysing += time.Since(began)
		began = time.Now()
		for i, v := range set.Viewlets {
			r, err := derive.Derive(derive.Query{Viewlet: v.Name, Params: v.Params, Tree: analysed[i].Tree}, catalog)
			if err != nil || len(r.Rules) < 4 {
				b.Fatalf("%s: %v, %v", v.Name, r, err)
			}
		}
		deriving += time.Since(began)
	}
	b.ReportMetric(analysing.Seconds()/float64(b.N), "analysing-s/op")
	b.ReportMetric(deriving.Seconds()/float64(b.N), "deriving-s/op")
}
