package integration

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

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
