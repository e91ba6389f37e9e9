package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

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
	eventually(t, "the second reload's session is ready", func() bool {
		said := p.stderr.String()
		return strings.Count(said, "rules in force") == 3 && strings.LastIndex(said, "ready: every") > strings.LastIndex(said, "rules in force")
	})
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

// A new template reaches fragments that no query names, though nothing has
// been written to Postgres since they were rendered.
func TestNewTemplateOnIdleDatabase(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": strings.Replace(smallRules, "all      =", "keep = \"requested\"\n  all =", 1)})
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	quiet(t, s.db)
	if code, body := get(t, url+"/viewlet/v/1"); code != http.StatusOK || body != "one n1" {
		t.Fatalf("a miss gives %d %s", code, body)
	}
	s.want(t, "v:1", "one n1")
	writeFiles(t, s.dir, map[string]string{"rules/v.txt": "two {{.n}}"})
	p.signal(t, syscall.SIGHUP)
	eventually(t, "it is ready again", func() bool { return strings.Count(p.stderr.String(), "ready: every fragment") == 2 })
	s.want(t, "v:1", "two n1")
	p.stop(t)
}

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

// A transaction that wrote to a table before it was published commits after
// all was rendered: it is not in the stream.
func TestOpenTransactionWhileTableIsPublished(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	psql(t, s.db, "CREATE TABLE u (id int PRIMARY KEY, n text); INSERT INTO u VALUES (7, 'old')")
	conn, err := pgx.Connect(t.Context(), s.db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "BEGIN; UPDATE u SET n = 'new' WHERE id = 7", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": uRules})
	p.signal(t, syscall.SIGHUP)
	eventually(t, "u is published", func() bool {
		return ask[int](t, s.db, "SELECT count(*)::int FROM pg_publication_tables WHERE pubname = $1", s.db.publication) == 2
	})
	p.says(t, "rules in force\" viewlets=2")
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	s.awaits(t, "u:7", `{"n":"new"}`)
	p.stop(t)
}

// A table is dropped and made anew while the daemon runs: the publication has
// lost it.
func TestTableMadeAnew(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	psql(t, s.db, "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t VALUES (1, 'anew')")
	quiet(t, s.db)
	psql(t, s.db, "UPDATE t SET n = 'later' WHERE id = 1")
	s.awaits(t, "v:1", "one later")
	psql(t, s.db, "UPDATE t SET n = 'last' WHERE id = 1")
	s.awaits(t, "v:1", "one last")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}
