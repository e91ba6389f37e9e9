package integration

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// Postgres is killed with WAL that it had not flushed, so that its LSNs go
// back, while Redis holds a fragment with a higher one.
func TestPostgresLosesUnflushedWAL(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{
		"wal_buffers": "64MB", "wal_writer_delay": "10s", "wal_writer_flush_after": "0", "synchronous_commit": "on", "autovacuum": "off",
	}}))
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	quiet(t, s.db)
	conn, err := pgx.Connect(t.Context(), s.db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	// A transaction that will never commit writes WAL that nobody flushes.
	if _, err := conn.Exec(t.Context(), "BEGIN; CREATE TEMP TABLE x(a int); SELECT pg_logical_emit_message(true, 'x', repeat('x', 1000000)) FROM generate_series(1, 20)", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(url+"/refresh/v/1?wait=1", "", nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(err, res)
	}
	res.Body.Close()
	t.Log("guard", s.redis.client.Get(t.Context(), "viewlet:@lsn:{viewlet:v:1}").Val(), ask[string](t, s.db, "SELECT pg_current_wal_insert_lsn()::text || ' flushed ' || pg_current_wal_flush_lsn()"))
	if err := s.db.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Postgres takes writes again", func() bool {
		_, err := s.db.pool.Exec(t.Context(), "UPDATE t SET n = 'back' WHERE id = 1")
		return err == nil
	})
	t.Log("now", ask[string](t, s.db, "SELECT pg_current_wal_insert_lsn()::text"))
	quiet(t, s.db)
	s.want(t, "v:1", "one back")
	p.stop(t)
}

// Redis loses everything while nothing at all happens in Postgres.
func TestRedisFlushedWhileIdle(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{"autovacuum": "off"}}))
	p := s.run(t)
	quiet(t, s.db)
	psql(t, s.db, "CHECKPOINT")
	// Postgres itself writes a little for a while after the last change.
	since, last := time.Now(), ""
	eventually(t, "Postgres writes nothing", func() bool {
		now := ask[string](t, s.db, "SELECT pg_current_wal_insert_lsn()::text")
		if now != last {
			since, last = time.Now(), now
		}
		return time.Since(since) > 20*time.Second
	})
	if err := s.redis.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.awaits(t, "v:499", "one n499")
	p.stop(t)
}

// Redis is restarted from a snapshot file while a viewlet is rendered whole.
func TestRedisRestartsFromSnapshotDuringWarmUp(t *testing.T) {
	t.Parallel()
	s := bigSite(t, 60_000)
	r := startRedis(t, "--dbfilename", "dump.rdb")
	s.redis = r
	p := s.start(t)
	size := func() int64 { return s.redis.client.DBSize(t.Context()).Val() }
	eventually(t, "some is rendered", func() bool { return size() > 10_000 })
	if err := r.client.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	saved := size()
	eventually(t, "more is rendered", func() bool { return size() > saved+10_000 })
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.says(t, "ready: every fragment is in Redis")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// A query that a DBA cancels is not its fragment's fault.
func TestCancelledQuery(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	conn, err := pgx.Connect(t.Context(), s.db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	quiet(t, s.db)
	// The lock is there before the commit can be rendered.
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE t", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "SELECT pg_logical_emit_message(true, 'cdc-viewlet', 'v:1')")
	eventually(t, "the render waits for the lock", func() bool {
		return ask[int](t, s.db, "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") > 0
	})
	s.redis.client.Set(t.Context(), "viewlet:v:1", "stale", 0)
	psql(t, s.db, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
	eventually(t, "it waits again, or has given up", func() bool {
		return s.redis.client.HLen(t.Context(), "viewlet:@failed").Val() > 0 ||
			ask[int](t, s.db, "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") > 0
	})
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	quiet(t, s.db)
	s.want(t, "v:1", "one n1")
	p.stop(t)
}

// The walsender is terminated again and again, each time after something was
// confirmed: what goes on so is taken up at once, and not later and later.
func TestWalsenderTerminatedAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	const times = 10
	for i := range times {
		psql(t, s.db, "UPDATE t SET n = 'x' || $1 WHERE id = 1", fmt.Sprint(i))
		quiet(t, s.db)
		s.want(t, "v:1", fmt.Sprintf("one x%d", i))
		psql(t, s.db, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1", s.db.slot)
		eventually(t, "the session ends", func() bool { return strings.Count(p.stderr.String(), "session ended") > i })
	}
	pauses := regexp.MustCompile(`session ended.* in=(\S+)`).FindAllStringSubmatch(p.stderr.String(), -1)
	for _, pause := range pauses {
		if d, err := time.ParseDuration(pause[1]); err != nil || d > 500*time.Millisecond {
			t.Errorf("it pauses for %s, want what it did at first", pause[1])
		}
	}
	p.stop(t)
}
