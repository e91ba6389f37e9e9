package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// Much of everything: what is kept in memory and on disk stays bounded.

// A busy server whose published tables do not change keeps no WAL for the slot.
func TestIdleTablesKeepNoWAL(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	quiet(t, s.db)
	psql(t, s.db, "CREATE TABLE busy (body text)")
	for range 3 {
		psql(t, s.db, "INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
		lsn := ask[string](t, s.db, "SELECT pg_current_wal_lsn()::text")
		// The slot keeps WAL from the last list of running transactions that the
		// server has written, as a checkpoint does.
		eventually(t, "the slot keeps none of it", func() bool {
			psql(t, s.db, "CHECKPOINT")
			return ask[bool](t, s.db, "SELECT restart_lsn >= $2::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", s.db.slot, lsn)
		})
	}
	p.stop(t)
}

// Under load that never pauses, the slot moves on, again and again.
func TestSlotMovesUnderGaplessLoad(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	update := func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE t SET n = '%d' WHERE id = %d", r.Int(), r.IntN(500))
	}
	loaded, unload := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		write(t, loaded, s.db, rand.Uint64(), 2, 1<<30, []func(*rand.Rand) string{update})
	}()
	longest, began := time.Duration(0), time.Now()
	for moves := 0; moves < 5 || time.Since(began) < *gapless; moves++ {
		asked := time.Now()
		quiet(t, s.db)
		longest = max(longest, time.Since(asked))
	}
	select {
	case <-done:
		t.Error("the load ended before")
	default:
	}
	t.Logf("%s of load; a commit was confirmed after %s at most", time.Since(began).Round(time.Second), longest.Round(time.Millisecond))
	unload()
	<-done
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// One transaction of very many rows, and one that deletes them: the daemon's
// memory does not grow with them.
func TestHugeTransactionInBoundedMemory(t *testing.T) {
	t.Parallel()
	s := newSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{"max_wal_size": "4GB"}}), `
		CREATE TABLE many (id int PRIMARY KEY, bucket int, body text);
		CREATE INDEX ON many (bucket);
		ALTER TABLE many ALTER body SET STORAGE EXTERNAL;
		ALTER TABLE many REPLICA IDENTITY FULL`,
		map[string]string{"rules/rules.hcl": `
			viewlet "bucket" {
			  params = ["bucket"]
			  query  = "SELECT count(*), max(id) FROM many WHERE bucket = @bucket HAVING count(*) > 0"
			  all    = "SELECT DISTINCT bucket FROM many"
			}
			viewlet "row" {
			  params = ["id"]
			  query  = "SELECT bucket FROM many WHERE id = @id"
			  all    = "SELECT id FROM many"
			}
			table "many" {
			  refresh = bucket(bucket)
			}
			table "many" {
			  when    = new.id % 10 == 0 || old.id % 10 == 0
			  refresh = row(id)
			}`})
	p := s.run(t)
	quiet(t, s.db)
	before := peak(t, p)
	length := max(100, 120_000_000 / *hugeRows)
	psql(t, s.db, fmt.Sprintf("INSERT INTO many SELECT i, i / 1000, repeat('x', %d) FROM generate_series(1, %d) i", length, *hugeRows))
	quietWithin(t, s.db, hugePatience())
	inserted := peak(t, p)
	s.want(t, "bucket:7", `{"count":1000,"max":7999}`)
	s.want(t, "row:70", `{"bucket":0}`)
	psql(t, s.db, "DELETE FROM many")
	quietWithin(t, s.db, hugePatience())
	deleted := peak(t, p)
	if left := fragments(t, s.redis); len(left) != 0 {
		t.Errorf("%d fragments are left", len(left))
	}
	rows := int64(*hugeRows * length)
	t.Logf("%d rows, %d MB: the daemon's peak was %d MB before, %d MB with the INSERT, %d MB with the DELETE", *hugeRows, rows>>20, before>>20, inserted>>20, deleted>>20)
	if max(inserted, deleted)-before > rows/2 {
		t.Error("its memory grows with the transaction")
	}
	p.stop(t)
}

// peak is the most memory that the program has had, in bytes.
func peak(t testing.TB, p *program) (bytes int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("this system has no /proc to read a program's memory from")
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes << 10
}
