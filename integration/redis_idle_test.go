package integration

import (
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

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
