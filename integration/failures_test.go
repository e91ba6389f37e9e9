package integration

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failing is the small site with a function in its query that fails for the row
// 7, or takes long for what is called late, as a table says that no rule knows.
func failing(t testing.TB, attributes string) *site {
	t.Helper()
	s := smallSite(t, startPostgres(t))
	writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": strings.NewReplacer(
		"SELECT n FROM", "SELECT shown(n) AS n FROM", "all      =", attributes+"\n  derive = false\n  all =").Replace(smallRules)})
	psql(t, s.db, `CREATE TABLE spoilt (how text);
		CREATE FUNCTION shown(n text) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN
			IF n LIKE '%7' AND EXISTS (SELECT FROM spoilt WHERE how = 'fail') THEN RAISE 'not this one'; END IF;
			IF n = 'late' AND EXISTS (SELECT FROM spoilt WHERE how = 'slow') THEN PERFORM pg_sleep(60); END IF;
			RETURN n;
		END $$`)
	return s
}

func works(t testing.TB, db *database) {
	t.Helper()
	psql(t, db, "DELETE FROM spoilt")
}

func fails(t testing.TB, db *database) {
	t.Helper()
	psql(t, db, "INSERT INTO spoilt VALUES ('fail')")
}

func (s *site) failed(t testing.TB, name string) bool {
	t.Helper()
	return s.redis.client.HExists(t.Context(), "viewlet:@failed", name).Val()
}

// A failed fragment is told of wherever one looks, also after a restart, and is
// tried again without a change of its row.
func TestFailedFragmentIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := failing(t, "")
	p := s.run(t)
	fails(t, s.db)
	psql(t, s.db, "UPDATE t SET n = 'new' || id WHERE id IN (7, 8)")
	quiet(t, s.db)
	s.want(t, "v:7", "one n7") // the last good bytes
	s.want(t, "v:8", "one new8")
	p.stop(t)

	p = s.start(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	p.says(t, "ready: every fragment is in Redis")
	if code, body := get(t, url+"/readyz"); code != http.StatusOK || body != "ready; failed fragments: 1\n" {
		t.Errorf("/readyz gives %d %q", code, body)
	}
	if _, metrics := get(t, url+"/metrics"); !strings.Contains(metrics, `cdc_viewlet_failed_fragments{viewlet="v"} 1`) {
		t.Error("the metrics do not tell of the failed fragment")
	}
	status := daemon(t, s.dir, environment(s.db, s.redis), "status", "-c", "rules")
	if code := status.wait(t); code != 1 || !strings.Contains(status.stdout.String(), "v:7: ") {
		t.Errorf("status ends with %d: %s", code, status.stdout.String())
	}
	since := s.redis.client.HGet(t.Context(), "viewlet:@failed", "v:7").Val()
	eventually(t, "it is tried again", func() bool {
		return s.redis.client.HGet(t.Context(), "viewlet:@failed", "v:7").Val() != since
	})
	works(t, s.db)
	s.awaits(t, "v:7", "one new7")
	eventually(t, "it has left the list", func() bool { return !s.failed(t, "v:7") })
	eventually(t, "the daemon knows", func() bool {
		code, body := get(t, url+"/readyz")
		return code == http.StatusOK && body == "ready\n"
	})
	p.stop(t)
}

// A statement that takes too long is the fragment's fault, and not for ever.
func TestTimedOutFragmentIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := failing(t, "")
	p := s.run(t, "--statement-timeout", "300ms")
	psql(t, s.db, "INSERT INTO spoilt VALUES ('slow'); UPDATE t SET n = 'late' WHERE id = 1")
	quiet(t, s.db) // it holds nothing
	s.want(t, "v:1", "one n1")
	if !s.failed(t, "v:1") {
		t.Error("v:1 is not noted as failed")
	}
	works(t, s.db)
	s.awaits(t, "v:1", "one late")
	eventually(t, "it has left the list", func() bool { return !s.failed(t, "v:1") })
	p.stop(t)
}

// on_error = "delete": nothing rather than what may be stale.
func TestOnErrorDelete(t *testing.T) {
	t.Parallel()
	s := failing(t, `on_error = "delete"`)
	p := s.run(t)
	fails(t, s.db)
	psql(t, s.db, "UPDATE t SET n = 'new' || id WHERE id IN (7, 8)")
	quiet(t, s.db)
	s.want(t, "v:7", "")
	s.want(t, "v:8", "one new8")
	if !s.failed(t, "v:7") {
		t.Error("v:7 is not noted as failed")
	}
	works(t, s.db)
	s.awaits(t, "v:7", "one new7")

	psql(t, s.db, "ALTER TABLE t RENAME COLUMN n TO gone; UPDATE t SET id = id WHERE id = 1")
	s.awaits(t, "v:1", "")
	s.awaits(t, "v:500", "")
	quiet(t, s.db)
	psql(t, s.db, "ALTER TABLE t RENAME COLUMN gone TO n")
	s.awaits(t, "v:500", "one n500")
	eventually(t, "nothing is failed", func() bool { return s.redis.client.HLen(t.Context(), "viewlet:@failed").Val() == 0 })
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// More fragments fail than are remembered: Redis has the list, others do not
// notice, and all leave it when they work.
func TestManyFailedFragments(t *testing.T) {
	t.Parallel()
	const many = 30_000
	s := newSite(t, startPostgres(t), fmt.Sprintf(
		`CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, %d) i;
		CREATE TABLE bad (n text)`, many), map[string]string{
		"rules/rules.hcl": `
			viewlet "v" {
			  params = ["id"]
			  derive = false
			  query  = "SELECT n, (SELECT n FROM bad) AS bad FROM t WHERE id = @id"
			  body   = "{{if .bad}}{{index .rows 5}}{{end}}{{.n}}"
			  all    = "SELECT id FROM t"
			}
			viewlet "w" {
			  params = ["id"]
			  query  = "SELECT n FROM t WHERE id = @id"
			  body   = "{{.n}}"
			  all    = "SELECT id FROM t"
			}
			table "t" { refresh = [v(id), w(id)] }`,
	})
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	psql(t, s.db, "INSERT INTO bad VALUES ('x'); UPDATE t SET n = 'x' || id")
	quiet(t, s.db)
	failures := func() int64 { return s.redis.client.HLen(t.Context(), "viewlet:@failed").Val() }
	if n := failures(); n != many {
		t.Errorf("%d are failed, want %d", n, many)
	}
	s.want(t, "v:1", "n1")
	s.want(t, "w:1", "x1")
	if _, body := get(t, url+"/readyz"); body != fmt.Sprintf("ready; failed fragments: %d\n", many) {
		t.Errorf("/readyz says %q", body)
	}
	psql(t, s.db, "UPDATE t SET n = 'y' WHERE id = 2")
	quiet(t, s.db)
	s.want(t, "w:2", "y")
	psql(t, s.db, "DELETE FROM bad")
	began := time.Now()
	eventually(t, "none is failed", func() bool { return failures() == 0 })
	t.Logf("%d failed fragments were mended in %v", many, time.Since(began))
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// However many lanes meet it, and however long it lasts, that Redis is down is
// told once, and so is that it is back.
func TestRedisDownIsToldOnce(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	var rules strings.Builder
	for i := range 20 {
		fmt.Fprintf(&rules, "viewlet \"v%d\" {\n params = [\"id\"]\n query = \"SELECT n FROM t WHERE id = @id\"\n}\ntable \"t\" {\n refresh = v%d(id)\n}\n", i, i)
	}
	writeFiles(t, s.dir, map[string]string{"rules/many.hcl": rules.String()})
	p := s.run(t)
	quiet(t, s.db)
	if err := s.redis.client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	tries := func() string {
		for line := range strings.Lines(s.redis.client.Info(t.Context(), "commandstats").Val()) {
			if strings.HasPrefix(line, "cmdstat_evalsha:") {
				return line
			}
		}
		return ""
	}
	for i := range 5 {
		psql(t, s.db, "UPDATE t SET n = $1", fmt.Sprint("again", i))
		for range 20 {
			before := tries()
			eventually(t, "something is tried", func() bool { return tries() != before })
		}
	}
	p.says(t, "OOM")
	held := confirmed(t, s.db)
	if err := s.redis.client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	quiet(t, s.db)
	p.says(t, "refreshing works again")
	if now := confirmed(t, s.db); now <= held {
		t.Errorf("confirmed %v, after %v", now, held)
	}
	s.want(t, "v:1", "one again4")
	if n := strings.Count(p.stderr.String(), "level=WARN"); n > 2 {
		t.Errorf("%d warnings of one outage", n)
	}
	p.stop(t)
}

// keep = "requested": what was asked for stays, and stays fresh, through all
// that renders everything; nothing else comes.
func TestRequestedStays(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	rules := strings.Replace(smallRules, "all      =", "keep = \"requested\"\n  all =", 1)
	writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": rules})
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	for id := range 3 {
		get(t, fmt.Sprintf("%s/viewlet/v/%d", url, id+1))
	}
	holds := func(after, form string) {
		t.Helper()
		quiet(t, s.db)
		got := fragments(t, s.redis)
		for id := 1; id <= 3; id++ {
			key := fmt.Sprint("v:", id)
			if want := fmt.Sprintf(form, id); got[key] != want {
				t.Errorf("after %s %s is %q, want %q", after, key, got[key], want)
			}
			if ttl := s.redis.client.PTTL(t.Context(), "viewlet:"+key).Val(); ttl != -1 {
				t.Errorf("after %s %s has %v to live", after, key, ttl)
			}
		}
		if len(got) != 3 {
			t.Errorf("after %s there are %d fragments", after, len(got))
		}
	}
	holds("the requests", "one n%d")
	psql(t, s.db, "UPDATE t SET n = 'x' || id")
	holds("a change", "one x%d")
	writeFiles(t, s.dir, map[string]string{"rules/v.txt": "two {{.n}}"})
	p.signal(t, syscall.SIGHUP)
	p.says(t, "rules reloaded")
	s.awaits(t, "v:1", "two x1")
	s.awaits(t, "v:3", "two x3")
	holds("a new template", "two x%d")
	p.stop(t)
	psql(t, s.db, "SELECT pg_drop_replication_slot($1)", s.db.slot)
	psql(t, s.db, "UPDATE t SET n = 'y' || id")
	p = s.run(t)
	holds("a gap", "two y%d")
	p.stop(t)
}
