package integration

import (
	"fmt"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// bigSite has a viewlet that takes a while to be rendered whole.
func bigSite(t testing.TB, rows int) *site {
	s := newSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}), fmt.Sprintf("CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, %d) i", rows),
		map[string]string{"rules/rules.hcl": smallRules, "rules/v.txt": "one {{.n}}"})
	return s
}
