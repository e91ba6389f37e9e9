package integration

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// The daemon dies, or hangs, at the worst of moments.

// size is how many keys Redis has.
func (s *site) size(t testing.TB) int64 {
	t.Helper()
	n, err := s.redis.client.DBSize(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// COPY writes many rows with one WAL record, and so one LSN. The daemon is
// killed when some of them are in Redis.
func TestKilledBetweenChangesOfOneLSN(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	quiet(t, s.db)
	before := s.size(t)
	commit := copyRows(t, s.db, 1000, 40_000)
	eventually(t, "some rows are in Redis", func() bool { return s.size(t) > before+500 })
	p.kill()
	if now, n := confirmed(t, s.db), len(fragments(t, s.redis)); now > commit && n < 40_500 {
		t.Errorf("%v is confirmed, the commit is behind %v, and only %d fragments are in Redis", now, commit, n)
	}
	p = s.run(t)
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// copyRows copies rows with the ids from there on into t, and gives a position
// before their commit.
func copyRows(t testing.TB, db *database, from, n int) viewlet.LSN {
	t.Helper()
	tx, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }() // nothing, when it is committed
	rows := pgx.CopyFromSlice(n, func(i int) ([]any, error) { return []any{from + i, fmt.Sprintf("copied %d", i)}, nil })
	if _, err := tx.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"id", "n"}, rows); err != nil {
		t.Fatal(err)
	}
	var at string
	if err := tx.QueryRow(t.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&at); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	lsn, err := viewlet.ParseLSN(at)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// The daemon is killed when Redis has taken a fragment, and before it has heard
// of that: nothing is confirmed, and it comes again.
func TestKilledBetweenWriteAndConfirm(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	_, toRedis := s.through(t)
	p := s.run(t)
	quiet(t, s.db)
	release := toRedis.hold(t, toDaemon)
	start := mark(t, s.db)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 1")
	s.awaits(t, "v:1", "one x")
	psql(t, s.db, "UPDATE t SET n = 'y' WHERE id = 2")
	p.kill()
	release()
	if now := confirmed(t, s.db); now > start {
		t.Errorf("%v is confirmed, and the daemon could not know that anything after %v is in Redis", now, start)
	}
	p = s.run(t)
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// Two daemons render one fragment, and the older rendering comes to Redis last:
// it was on its way when its daemon hung and another took over.
func TestOlderRenderFinishesLast(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	_, toRedis := s.through(t)
	old := s.run(t)
	quiet(t, s.db)
	release := toRedis.hold(t, toServer)
	since := ask[time.Time](t, s.db, "SELECT clock_timestamp()")
	psql(t, s.db, "UPDATE t SET n = 'older' WHERE id = 1")
	eventually(t, "the old daemon has rendered it", func() bool {
		return ask[bool](t, s.db, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%CROSS JOIN LATERAL%' AND state = 'idle' AND state_change > $1)", since)
	})
	old.signal(t, syscall.SIGSTOP)
	psql(t, s.db, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1", s.db.slot)
	s.env = nil
	psql(t, s.db, "UPDATE t SET n = 'newer' WHERE id = 1")
	next := s.run(t)
	s.awaits(t, "v:1", "one newer")
	release()
	old.signal(t, syscall.SIGCONT)
	old.says(t, "session ended, beginning another")
	quiet(t, s.db)
	s.want(t, "v:1", "one newer")
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	old.stop(t)
	next.stop(t)
}

// A daemon is killed in the middle of its warm-up, twice, while rows change and
// go.
func TestKilledDuringWarmUp(t *testing.T) {
	t.Parallel()
	s := bigSite(t, 40_000)
	for round := range 2 {
		p := s.start(t)
		before := s.size(t)
		eventually(t, "some is rendered", func() bool { return s.size(t) > before+3000 })
		p.kill()
		psql(t, s.db, fmt.Sprintf("UPDATE t SET n = 'x%d' WHERE id %% 100 = 1; DELETE FROM t WHERE id %% 100 = %d", round, round+2))
	}
	p := s.run(t)
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}
