package integration

import (
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// The way to a server takes everything and passes nothing on: no end of a
// connection is ever heard. That is noticed, and what was committed meanwhile
// comes when the way is free.

func TestPostgresSwallowed(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{"wal_sender_timeout": "2s"}}))
	toPostgres, _ := s.through(t)
	p := s.run(t)
	quiet(t, s.db)
	mend := toPostgres.swallow(t)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 1")
	p.says(t, "session ended, beginning another")
	mend()
	s.awaits(t, "v:1", "one x")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

func TestRedisSwallowed(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	_, toRedis := s.through(t)
	p := s.run(t)
	quiet(t, s.db)
	mend := toRedis.swallow(t)
	before := mark(t, s.db)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 1")
	p.says(t, "retrying")
	if now := confirmed(t, s.db); now > before {
		t.Errorf("%v is confirmed, and Redis has nothing behind %v", now, before)
	}
	mend()
	s.awaits(t, "v:1", "one x")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// Queries of a pass are under way when the way to Postgres swallows everything.
func TestQuerySwallowed(t *testing.T) {
	t.Parallel()
	s := bigSite(t, 40_000)
	toPostgres, _ := s.through(t)
	administer(t, s.db.Postgres, "ALTER SYSTEM SET wal_sender_timeout = '2s'")
	psql(t, s.db, "SELECT pg_reload_conf()")
	p := s.start(t)
	eventually(t, "some is rendered", func() bool { return s.size(t) > 3000 })
	mend := toPostgres.swallow(t)
	p.says(t, "session ended, beginning another")
	mend()
	p.says(t, "ready: every fragment is in Redis")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}
