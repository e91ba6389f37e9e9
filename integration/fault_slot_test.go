package integration

import (
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// What may befall a slot and its walsender.

// Somebody drops the slot while no daemon runs and makes one of the same name:
// what was changed between is not in it.
func TestSlotMadeAnewByHand(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	s.run(t).stop(t)
	psql(t, s.db, "UPDATE t SET n = 'before' WHERE id = 1")
	psql(t, s.db, "SELECT pg_drop_replication_slot($1)", s.db.slot)
	psql(t, s.db, "UPDATE t SET n = 'between' WHERE id = 2; DELETE FROM t WHERE id = 3")
	psql(t, s.db, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", s.db.slot)
	psql(t, s.db, "UPDATE t SET n = 'after' WHERE id = 4")
	p := s.run(t)
	p.says(t, "everything is rendered afresh")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// A daemon hangs, and its walsender keeps the slot until wal_sender_timeout.
// The next one says so, waits and takes over; the old one does no harm when it
// goes on.
func TestOldWalsenderHoldsSlot(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{"wal_sender_timeout": "5s"}}))
	old := s.run(t)
	quiet(t, s.db)
	old.signal(t, syscall.SIGSTOP)
	psql(t, s.db, "UPDATE t SET n = 'nobody reads' WHERE id = 1")
	next := s.start(t)
	next.says(t, "waiting as standby")
	next.says(t, "ready: every fragment is in Redis")
	s.awaits(t, "v:1", "one nobody reads")
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 2")
	quiet(t, s.db)
	old.signal(t, syscall.SIGCONT)
	eventually(t, "one of them waits again", func() bool {
		return strings.Count(old.stderr.String()+next.stderr.String(), "waiting as standby") >= 2
	})
	psql(t, s.db, "UPDATE t SET n = 'y' WHERE id = 3")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	old.stop(t)
	next.stop(t)
}

// A transaction that was open before keeps the slot from being made. That is
// said, and waited for.
func TestOpenTransactionBlocksSlotCreation(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	conn, err := pgx.Connect(t.Context(), s.db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "BEGIN; UPDATE t SET n = 'open' WHERE id = 1", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	p := s.start(t)
	p.says(t, "creating the slot waits for transactions that were open before it")
	psql(t, s.db, "UPDATE t SET n = 'meanwhile' WHERE id = 2")
	if n := len(fragments(t, s.redis)); n != 0 {
		t.Errorf("%d fragments are in Redis before there is a slot", n)
	}
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	p.says(t, "ready: every fragment is in Redis")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}
