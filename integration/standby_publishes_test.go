package integration

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

const uRules = `
viewlet "u" {
  params = ["id"]
  query  = "SELECT n FROM u WHERE id = @id"
  all    = "SELECT id FROM u"
}
table "u" {
  refresh = u(id)
}`

// The daemon that streams reloads rules with fewer tables, and then dies; the
// one that waits has all of them.
func TestStandbyPublishesWhatItNeeds(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	psql(t, s.db, "CREATE TABLE u (id int PRIMARY KEY, n text); INSERT INTO u VALUES (7, 'old')")
	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": uRules})
	first := s.run(t)
	second := s.start(t)
	second.says(t, "standby")
	if err := os.Remove(filepath.Join(s.dir, "rules/u.hcl")); err != nil {
		t.Fatal(err)
	}
	first.signal(t, syscall.SIGHUP)
	eventually(t, "u is gone", func() bool { _, ok := redisGet(t, s.redis, "viewlet:u:7"); return !ok })
	first.kill()
	second.says(t, "ready: every fragment is in Redis")
	psql(t, s.db, "UPDATE u SET n = 'new' WHERE id = 7")
	quiet(t, s.db)
	s.want(t, "u:7", `{"n":"new"}`)
	second.stop(t)
}
