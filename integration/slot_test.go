package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// lose has Postgres remove the WAL that the slot needs, while rows change, and
// those from gone to gone+3 go.
func (s *site) lose(t testing.TB, gone int) {
	t.Helper()
	for i := range 4 {
		psql(t, s.db, fmt.Sprintf("UPDATE t SET n = 'lost%d' WHERE id %% 7 = %[1]d; DELETE FROM t WHERE id = %d", i, gone+i))
		psql(t, s.db, "SELECT pg_switch_wal()")
	}
	psql(t, s.db, "CHECKPOINT")
	eventually(t, "the slot is lost", func() bool {
		return ask[string](t, s.db, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", s.db.slot) == "lost"
	})
}

// A slot is lost while no daemon runs, and while one streams: it is made anew, the
// log and a metric say why, and everything is rendered again.
func TestSlotLost(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{
		"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB",
	}}))
	s.heals(t, "redis_empty")
	s.lose(t, 480)
	s.heals(t, "slot_lost")

	p := s.run(t, "--http", "127.0.0.1:0")
	metrics := urlOf(t, p) + "/metrics"
	quiet(t, s.db)
	p.signal(t, syscall.SIGSTOP) // so that it is behind
	s.lose(t, 490)
	p.signal(t, syscall.SIGCONT)
	p.says(t, "the slot is lost, making another")
	p.says(t, "max_slot_wal_keep_size, which is 1MB")
	s.awaits(t, "v:490", "")
	psql(t, s.db, "UPDATE t SET n = 'again' WHERE id = 1")
	quiet(t, s.db)
	s.want(t, "v:1", "one again")
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	if _, text := get(t, metrics); !strings.Contains(text, `cdc_viewlet_gaps_total{reason="slot_lost"} 1`) {
		t.Error("the metrics do not tell of the gap")
	}
	p.stop(t)
}

// From 18 on Postgres gives up a slot that nobody streams for too long.
//
// https://www.postgresql.org/docs/18/runtime-config-replication.html#GUC-IDLE-REPLICATION-SLOT-TIMEOUT
func TestIdleSlotLost(t *testing.T) {
	t.Parallel()
	if startPostgres(t).Major() < 18 {
		t.Skip("idle_replication_slot_timeout came with Postgres 18")
	}
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{"idle_replication_slot_timeout": "1s"}}))
	s.heals(t, "redis_empty")
	psql(t, s.db, "UPDATE t SET n = 'idle' WHERE id = 3; DELETE FROM t WHERE id = 4")
	eventually(t, "the slot is lost", func() bool {
		psql(t, s.db, "CHECKPOINT")
		return ask[string](t, s.db, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", s.db.slot) == "lost"
	})
	p := s.start(t)
	p.says(t, "raise that, or let the daemon run")
	p.says(t, "ready: every fragment is in Redis")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// Before a slot is lost, the log and the metrics say so.
func TestSlotOnItsWayToBeLost(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{"max_slot_wal_keep_size": "128MB"}}))
	p := s.run(t, "--http", "127.0.0.1:0")
	metrics := urlOf(t, p) + "/metrics"
	eventually(t, "the metrics know the slot", func() bool { return metric(t, metrics, "cdc_viewlet_slot_safe_bytes") > 64<<20 })
	if err := s.redis.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "UPDATE t SET n = 'held' WHERE id = 1; CREATE TABLE filler AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 100000) i")
	p.says(t, "the slot keeps much WAL")
	eventually(t, "the metrics say when", func() bool {
		psql(t, s.db, "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000))")
		kept, last := metric(t, metrics, "cdc_viewlet_slot_retained_bytes"), metric(t, metrics, "cdc_viewlet_slot_seconds_to_limit")
		return kept > 64<<20 && last < 1e6
	})
	if err := s.redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaits(t, "v:1", "one held")
	p.stop(t)
}
