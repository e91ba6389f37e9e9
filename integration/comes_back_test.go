package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

const wRules = `
viewlet "w" {
  params = ["id"]
  query  = "SELECT n FROM t WHERE id = @id"
  all    = "SELECT id FROM t"
}
table "t" {
  refresh = w(id)
}`

// A viewlet is taken out of the rules and put back before its fragments are
// all deleted.
func TestViewletComesBackWhileDeleted(t *testing.T) {
	t.Parallel()
	s := bigSite(t, 50_000)
	writeFiles(t, s.dir, map[string]string{"rules/w.hcl": wRules})
	p := s.run(t)
	quiet(t, s.db)
	if err := os.Remove(filepath.Join(s.dir, "rules/w.hcl")); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGHUP)
	p.says(t, "viewlet is not in the rules any more")
	psql(t, s.db, "UPDATE t SET n = 'changed' WHERE id <= 5")
	writeFiles(t, s.dir, map[string]string{"rules/w.hcl": wRules})
	p.signal(t, syscall.SIGHUP)
	eventually(t, "reloaded twice", func() bool { return strings.Count(p.stderr.String(), "rules reloaded") == 2 })
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// bigSite has a viewlet that takes a while to be rendered whole.
func bigSite(t testing.TB, rows int) *site {
	s := newSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}), fmt.Sprintf("CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, %d) i", rows),
		map[string]string{"rules/rules.hcl": smallRules, "rules/v.txt": "one {{.n}}"})
	return s
}
