package integration

import (
	"net/http"
	"testing"

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
