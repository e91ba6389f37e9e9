package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

const smallSchema = "CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 500) i"

const smallRules = `
viewlet "v" {
  params   = ["id"]
  query    = "SELECT n FROM t WHERE id = @id"
  template = "v.txt"
  all      = "SELECT id FROM t"
}
table "t" {
  refresh = v(id)
}
`

func smallSite(t testing.TB, db *database) *site {
	t.Helper()
	return newSite(t, db, smallSchema, map[string]string{"rules/rules.hcl": smallRules, "rules/v.txt": "one {{.n}}"})
}

func (s *site) want(t testing.TB, key, want string) {
	t.Helper()
	if got, _ := redisGet(t, s.redis, "viewlet:"+key); got != want {
		t.Errorf("%s is %q, want %q", key, got, want)
	}
}

// awaits is want, for what comes by itself.
func (s *site) awaits(t testing.TB, key, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is %q", key, want), func() bool {
		got, _ := redisGet(t, s.redis, "viewlet:"+key)
		return got == want
	})
}

// A template that has changed while the daemon was down, instances that were
// deleted meanwhile, a viewlet that the rules no longer have.
func TestChangedWhileDown(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	writeFiles(t, s.dir, map[string]string{"rules/more.hcl": `
		viewlet "w" {
		  params = ["id"]
		  query  = "SELECT n FROM t WHERE id = @id"
		  all    = "SELECT id FROM t"
		}
		table "t" {
		  refresh = w(id)
		}`})
	p := s.run(t)
	s.want(t, "v:1", "one n1")
	s.want(t, "w:1", `{"n":"n1"}`)
	p.stop(t)

	psql(t, s.db, "DELETE FROM t WHERE id > 400; UPDATE t SET n = 'x' WHERE id = 2")
	writeFiles(t, s.dir, map[string]string{"rules/v.txt": "two {{.n}}", "rules/more.hcl": "# no more\n"})
	s.redis.client.Set(t.Context(), "viewlet:v:%zz", "not ours", 0)
	s.redis.client.Set(t.Context(), "viewlet:v:1:2", "an old spelling", 0)
	p = s.run(t)
	quiet(t, s.db)
	s.want(t, "v:1", "two n1")
	s.want(t, "w:1", "")
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)

	// With nothing changed, nothing is rendered.
	p = s.run(t)
	if !strings.Contains(p.stderr.String(), "to_render_whole=0") {
		t.Error("a start without a change rendered something whole")
	}
	p.stop(t)
}

// SIGHUP reads the rules again; bad ones are reported, and the old ones stay.
func TestReload(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	psql(t, s.db, "CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (7)")
	writeFiles(t, s.dir, map[string]string{"rules/v.txt": "two {{.n}}", "rules/u.hcl": `
		viewlet "u" {
		  params = ["id"]
		  query  = "SELECT id FROM u WHERE id = @id"
		  all    = "SELECT id FROM u"
		}
		table "u" {
		  refresh = u(id)
		}`})
	p.signal(t, syscall.SIGHUP)
	s.awaits(t, "v:500", "two n500")
	s.awaits(t, "u:7", `{"id":7}`)
	psql(t, s.db, "INSERT INTO u VALUES (8)")
	quiet(t, s.db)
	s.want(t, "u:8", `{"id":8}`)

	// A table that somebody took out of the publication comes back, and with
	// it what was missed meanwhile; the others are not rendered for that.
	psql(t, s.db, "ALTER PUBLICATION "+s.db.publication+" DROP TABLE u; DELETE FROM u WHERE id = 8")
	quiet(t, s.db)
	p.signal(t, syscall.SIGHUP)
	s.awaits(t, "u:8", "")
	p.says(t, "to_render_whole=1")
	psql(t, s.db, "INSERT INTO u VALUES (8)")
	quiet(t, s.db)
	s.want(t, "u:8", `{"id":8}`)

	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": `viewlet "u" { qurey = "SELECT 1" }`})
	p.signal(t, syscall.SIGHUP)
	p.says(t, `Did you mean "query"`)
	p.says(t, "the old ones stay in force")
	psql(t, s.db, "INSERT INTO u VALUES (9)")
	quiet(t, s.db)
	s.want(t, "u:9", `{"id":9}`)
	p.stop(t)
}

// New rules whose table the role may not publish are no reason to stop.
func TestReloadOfWhatMayNotBePublished(t *testing.T) {
	t.Parallel()
	db := startPostgres(t)
	s := smallSite(t, db)
	role := "r" + db.slot
	psql(t, db, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN REPLICATION PASSWORD 'pw'; GRANT SELECT ON t TO %[1]s;
		CREATE PUBLICATION %[2]s FOR TABLE t WITH (publish_via_partition_root = true);
		CREATE TABLE u (id int PRIMARY KEY); GRANT SELECT ON u TO %[1]s`, role, db.slot))
	defer psql(t, db, fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role))
	u, err := url.Parse(db.url)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "pw")
	p := daemon(t, s.dir, []string{"DATABASE_URL=" + u.String(), "REDIS_URL=" + s.redis.URL()}, "run", "-c", s.rules())
	p.says(t, "ready: every fragment is in Redis")
	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": `
		viewlet "u" {
		  params = ["id"]
		  query  = "SELECT id FROM u WHERE id = @id"
		  all    = "SELECT id FROM u"
		}
		table "u" {
		  refresh = u(id)
		}`})
	p.signal(t, syscall.SIGHUP)
	p.says(t, "the old ones stay in force")
	psql(t, db, "UPDATE t SET n = 'still' WHERE id = 1")
	quiet(t, db)
	s.want(t, "v:1", "one still")
	p.stop(t)
}

// Redis loses everything while the daemon runs: it notices, and fills it.
func TestRedisFlushed(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	if err := s.redis.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 1") // something to notice it by
	s.awaits(t, "v:499", "one n499")
	s.awaits(t, "v:1", "one x")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// Both servers go away and come back.
func TestServersRestart(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	p := s.run(t)
	if err := s.db.Stop(t.Context(), sandbox.Immediate); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Postgres takes writes again", func() bool {
		_, err := s.db.pool.Exec(t.Context(), "UPDATE t SET n = 'back' WHERE id = 1")
		return err == nil
	})
	s.awaits(t, "v:1", "one back")
	if err := s.redis.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "UPDATE t SET n = 'again' WHERE id = 1")
	p.says(t, "retrying")
	if err := s.redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaits(t, "v:1", "one again")
	s.awaits(t, "v:500", "one n500") // Redis came back empty
	p.stop(t)
}

// A second daemon waits, and takes over when the first is killed.
func TestStandby(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	first := s.run(t)
	second := s.start(t, "--http", "127.0.0.1:0")
	second.says(t, "standby")
	url := urlOf(t, second)
	if code, body := get(t, url+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "standby") {
		t.Errorf("a standby's /readyz says %d %s", code, body)
	}
	psql(t, s.db, "UPDATE t SET n = 'first' WHERE id = 1")
	quiet(t, s.db)
	first.kill()
	psql(t, s.db, "UPDATE t SET n = 'second' WHERE id = 1")
	s.awaits(t, "v:1", "one second")
	eventually(t, "the second daemon is ready", func() bool {
		code, _ := get(t, url+"/readyz")
		return code == http.StatusOK
	})
	second.stop(t)
}

func urlOf(t testing.TB, p *program) string {
	t.Helper()
	p.says(t, "url=http://")
	_, rest, _ := strings.Cut(p.stderr.String(), "url=")
	return strings.Fields(rest)[0]
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// metric reads a metric without labels; 0 while there is none.
func metric(t testing.TB, url, name string) (value float64) {
	t.Helper()
	_, text := get(t, url)
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return value
}

// A commit is in the stream while no session sees it: it waits for a
// synchronous standby that does not exist. Nothing stale is kept, nothing is
// confirmed, and all is right once it is released.
func TestCommitHeldInvisible(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	p := s.run(t, "--http", "127.0.0.1:0")
	waitsForHeldCommit(t, s, urlOf(t, p))
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// waitsForHeldCommit commits what no session sees, and releases it: until then
// the daemon at url renders and confirms nothing of it.
func waitsForHeldCommit(t *testing.T, s *site, url string) {
	t.Helper()
	metrics := url + "/metrics"
	quiet(t, s.db)
	was, _ := redisGet(t, s.redis, "viewlet:v:1")
	release := holdCommits(t, s.db)
	received := metric(t, metrics, "cdc_viewlet_transactions_total")
	conn, err := pgx.Connect(t.Context(), s.db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	committed := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SET synchronous_commit = on; UPDATE t SET n = 'ghost' WHERE id = 1", pgx.QueryExecModeSimpleProtocol)
		committed <- err
	}()
	eventually(t, "the commit waits for its standby", func() bool {
		return ask[int](t, s.db, "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()") == 1
	})
	behind, err := viewlet.ParseLSN(ask[string](t, s.db, "SELECT pg_current_wal_insert_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "BEGIN; SET LOCAL synchronous_commit = local; UPDATE t SET n = 'local' WHERE id = 2; COMMIT")
	eventually(t, "the daemon has both transactions", func() bool {
		return metric(t, metrics, "cdc_viewlet_transactions_total") >= received+2
	})
	s.want(t, "v:1", was)
	if now := confirmed(t, s.db); now >= behind {
		t.Errorf("%v is confirmed, and the commit before %v is held", now, behind)
	}
	release()
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	s.awaits(t, "v:1", "one ghost")
	quiet(t, s.db)
}

// holdCommits has commits wait for a standby that does not exist, until
// release is called or the test ends. When it returns they do: the checkpointer
// hears of the setting when it will, and until then commits pass. That is tried
// in another database, whose transactions no daemon sees.
func holdCommits(t *testing.T, db *database) (release func()) {
	t.Helper()
	held := make(chan struct{})
	trying, stop := context.WithCancel(context.Background())
	release = sync.OnceFunc(func() {
		stop()
		administer(t, db.Postgres, "ALTER SYSTEM RESET synchronous_standby_names")
		administer(t, db.Postgres, "SELECT pg_reload_conf()")
		<-held
	})
	administer(t, db.Postgres, "ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
	administer(t, db.Postgres, "SELECT pg_reload_conf()")
	conn, err := pgx.Connect(t.Context(), db.SocketURL())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(held)
		defer conn.Close(context.Background())
		for trying.Err() == nil && err == nil {
			_, err = conn.Exec(context.Background(), "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'held', '')", pgx.QueryExecModeSimpleProtocol)
		}
	}()
	t.Cleanup(release)
	eventually(t, "a commit waits for its standby", func() bool {
		return ask[int](t, db, "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == 1
	})
	return release
}

// The daemon over HTTP, with its real parts behind it.
func TestHTTP(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	eventually(t, "/readyz is 200", func() bool { code, _ := get(t, url+"/readyz"); return code == http.StatusOK })
	for path, want := range map[string]int{
		"/healthz": 200, "/viewlet/v/1": 200, "/viewlet/v/9999": 404, "/viewlet/v/x": 400, "/viewlet/v/99999999999": 400,
		"/viewlet/v": 400, "/viewlet/v/1/2": 400, "/viewlet/nix/1": 404, "/viewlet/@state": 404,
	} {
		if code, body := get(t, url+path); code != want {
			t.Errorf("%s gives %d %s, want %d", path, code, body, want)
		}
	}
	if n := s.redis.client.Exists(t.Context(), "viewlet:v:9999").Val(); n != 0 {
		t.Error("an instance that does not exist was stored")
	}
	// A miss is filled, under its canonical name.
	s.redis.client.Del(t.Context(), "viewlet:v:7", "viewlet:@lsn:{viewlet:v:7}")
	if code, body := get(t, url+"/viewlet/v/007"); code != 200 || body != "one n7" {
		t.Errorf("a miss gives %d %s", code, body)
	}
	s.awaits(t, "v:7", "one n7")
	s.want(t, "v:007", "")
	// One that was evicted while its guard lives comes back by its lane.
	s.redis.client.Del(t.Context(), "viewlet:v:8")
	if code, body := get(t, url+"/viewlet/v/8"); code != 200 || body != "one n8" {
		t.Errorf("a miss gives %d %s", code, body)
	}
	s.awaits(t, "v:8", "one n8")
	// A refresh through the door.
	s.redis.client.Set(t.Context(), "viewlet:v:9", "spoiled", 0)
	res, err := http.Post(url+"/refresh/v/9?wait=1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode/100 != 2 {
		t.Errorf("a refresh gives %s", res.Status)
	}
	s.want(t, "v:9", "one n9")
	_, metrics := get(t, url+"/metrics")
	for _, name := range []string{"cdc_viewlet_changes_total", `cdc_viewlet_renders_total{viewlet="v"}`, "cdc_viewlet_lag_bytes"} {
		if !strings.Contains(metrics, name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
	p.stop(t)
}

// A thousand viewlets in one file.
func TestThousandViewlets(t *testing.T) {
	t.Parallel()
	var rules strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&rules, `
			viewlet "v%d" {
			  params = ["id"]
			  query  = "SELECT n, %d AS i FROM t WHERE id = @id"
			  all    = "SELECT id FROM t WHERE id <= 3"
			}
			table "t" {
			  when    = new.id %% 1000 == %d
			  refresh = v%d(id)
			}`, i, i, i, i)
	}
	s := newSite(t, startPostgres(t), smallSchema+"; ALTER TABLE t REPLICA IDENTITY FULL", map[string]string{"rules/many.hcl": rules.String()})
	p := s.run(t)
	s.want(t, "v999:3", `{"n":"n3","i":999}`)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 3")
	quiet(t, s.db)
	s.want(t, "v3:3", `{"n":"x","i":3}`)
	s.want(t, "v4:3", `{"n":"n3","i":4}`) // no rule of its fires
	p.stop(t)
}

// A viewlet whose table is dropped harms only itself, and comes back whole.
func TestBrokenViewlet(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": `
		viewlet "u" {
		  params = ["id"]
		  query  = "SELECT u.x, t.n FROM u JOIN t USING (id) WHERE id = @id"
		  all    = "SELECT id FROM u"
		}
		table "t" {
		  refresh = u(id)
		}`})
	psql(t, s.db, "CREATE TABLE u (id int PRIMARY KEY, x int); INSERT INTO u SELECT i, i FROM generate_series(1, 9) i")
	p := s.run(t)
	s.want(t, "u:1", `{"x":1,"n":"n1"}`)
	psql(t, s.db, "ALTER TABLE u RENAME TO gone; UPDATE t SET n = 'y' WHERE id = 1")
	quiet(t, s.db) // nothing is held for it
	s.want(t, "v:1", "one y")
	s.want(t, "u:1", `{"x":1,"n":"n1"}`) // the last good bytes
	if why := s.redis.client.HGet(t.Context(), "viewlet:@failed", "u:*").Val(); !strings.Contains(why, "does not exist") {
		t.Errorf("@failed says %q", why)
	}
	psql(t, s.db, "ALTER TABLE gone RENAME TO u")
	s.awaits(t, "u:1", `{"x":1,"n":"y"}`)
	eventually(t, "@failed is empty", func() bool { return !s.redis.client.HExists(t.Context(), "viewlet:@failed", "u:*").Val() })
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// keep = "requested": nothing is warmed, a reader's miss brings a fragment in,
// and from then on it is kept fresh; what nobody asked for is not rendered.
func TestRequested(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": strings.Replace(smallRules, "all      =", "keep = \"requested\"\n  all =", 1)})
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id IN (1, 2)")
	quiet(t, s.db)
	s.want(t, "v:1", "")
	for range 2 { // the second finds it, though nothing else has happened
		if code, body := get(t, url+"/viewlet/v/1"); code != http.StatusOK || body != "one x" {
			t.Errorf("a miss gives %d %s", code, body)
		}
	}
	s.want(t, "v:1", "one x")
	psql(t, s.db, "UPDATE t SET n = 'y' WHERE id IN (1, 2)")
	quiet(t, s.db)
	s.want(t, "v:1", "one y")
	s.want(t, "v:2", "")
	p.stop(t)
}

// A row whose template or query fails harms only itself, is noted, and is
// forgiven when it works again.
func TestFailedFragment(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": strings.Replace(smallRules, "SELECT n FROM", "SELECT n, 1 / (length(n) - 1) AS q FROM", 1)})
	p := s.run(t)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 7; UPDATE t SET n = 'fine' WHERE id = 8")
	quiet(t, s.db)
	s.want(t, "v:7", "one n7") // the last good bytes
	s.want(t, "v:8", "one fine")
	if why := s.redis.client.HGet(t.Context(), "viewlet:@failed", "v:7").Val(); !strings.Contains(why, "division by zero") {
		t.Errorf("@failed says %q", why)
	}
	p.says(t, "fragments cannot be rendered")
	psql(t, s.db, "UPDATE t SET n = 'good' WHERE id = 7")
	quiet(t, s.db)
	s.want(t, "v:7", "one good")
	if s.redis.client.HExists(t.Context(), "viewlet:@failed", "v:7").Val() {
		t.Error("a fragment that works is still noted as failed")
	}
	p.stop(t)
}
