package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// What is in Redis cannot be taken up where it was left. Each is announced in one
// line, and healed.

// heals starts the daemon, wants it to render everything afresh for the reason,
// once, and then everything to be right.
func (s *site) heals(t testing.TB, reason string) {
	t.Helper()
	p := s.run(t)
	said := p.stderr.String()
	if strings.Count(said, "everything is rendered afresh") != 1 || !strings.Contains(said, "reason="+reason+" ") {
		t.Errorf("it does not say, once, that it begins afresh for %s", reason)
	}
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// remembers starts the daemon and wants only so many viewlets to be rendered
// whole, and then everything to be right.
func (s *site) remembers(t testing.TB, whole int) {
	t.Helper()
	p := s.run(t)
	if said := p.stderr.String(); strings.Contains(said, "afresh") || !strings.Contains(said, fmt.Sprintf("to_render_whole=%d", whole)) {
		t.Errorf("it does not render %d viewlets whole", whole)
	}
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

func TestSlotDroppedWhileDown(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	s.heals(t, "redis_empty")
	psql(t, s.db, "SELECT pg_drop_replication_slot($1)", s.db.slot)
	psql(t, s.db, "UPDATE t SET n = 'unseen' WHERE id = 1; DELETE FROM t WHERE id = 2")
	s.heals(t, "slot_new")
	s.remembers(t, 0)
}

// The slot was made by hand, and stands before what Redis has: what is between
// comes again, and nothing is lost.
func TestSlotMadeAnewFurtherBack(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	psql(t, s.db, "SELECT pg_create_logical_replication_slot('back_' || $1, 'pgoutput')", s.db.slot)
	s.heals(t, "redis_empty")
	psql(t, s.db, "UPDATE t SET n = 'unseen' WHERE id = 1; DELETE FROM t WHERE id = 2")
	psql(t, s.db, "SELECT pg_drop_replication_slot($1)", s.db.slot)
	psql(t, s.db, "SELECT pg_copy_logical_replication_slot('back_' || $1, $1)", s.db.slot)
	s.remembers(t, 0)
}

// The URL leads to another cluster, with a slot and a table of the same names.
func TestAnotherCluster(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	s.heals(t, "redis_empty")
	other := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	psql(t, other.db, "UPDATE t SET n = 'other' WHERE id = 1; DELETE FROM t WHERE id > 400")
	other.redis = s.redis
	other.heals(t, "other_server")
	s.heals(t, "other_server") // and back
}

// Redis is restored from a copy of its file while no daemon runs.
func TestRedisRestoredWhileDown(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	s.redis = startRedis(t, "--dbfilename", "dump.rdb")
	s.heals(t, "redis_empty")
	if err := s.redis.client.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(s.redis.Dir(), "dump.rdb")
	backup, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "UPDATE t SET n = 'later' WHERE id = 1; DELETE FROM t WHERE id = 2")
	s.remembers(t, 0)
	if err := s.redis.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dump, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want(t, "v:1", "one n1")
	s.heals(t, "redis_behind")
}

// Postgres is put back to a copy of its disk: the same server and timeline, and
// LSNs that come again.
func TestPostgresRestoredFromCopy(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	s.heals(t, "redis_empty")
	data, backup := filepath.Join(s.db.Dir(), "data"), filepath.Join(t.TempDir(), "data")
	stopped := func(do func() error) {
		t.Helper()
		if err := s.db.Stop(t.Context(), sandbox.Fast); err != nil {
			t.Fatal(err)
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if err := s.db.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.db.pool.Reset()
	}
	stopped(func() error { return copyTree(backup, data) })
	psql(t, s.db, "UPDATE t SET n = 'never' WHERE id < 300; DELETE FROM t WHERE id = 2")
	s.remembers(t, 0)
	stopped(func() error { return copyTree(data, backup) })
	s.want(t, "v:1", "one never")
	s.heals(t, "server_behind")
}

// copyTree makes to a copy of the folder from, with owners and times.
func copyTree(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}

// A table leaves the publication while no daemon runs, and comes back before one
// does: by hand, or by a setup that nobody noted.
func TestRepublishedWhileDown(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": uRules})
	psql(t, s.db, "CREATE TABLE u (id int PRIMARY KEY, n text); INSERT INTO u VALUES (7, 'old')")
	s.heals(t, "redis_empty")
	s.remembers(t, 0)
	psql(t, s.db, fmt.Sprintf("ALTER PUBLICATION %[1]s DROP TABLE t; DELETE FROM t WHERE id = 1; ALTER PUBLICATION %[1]s ADD TABLE t", s.db.publication))
	s.remembers(t, 1)
	psql(t, s.db, fmt.Sprintf("ALTER PUBLICATION %[1]s DROP TABLE t; DELETE FROM t WHERE id = 2", s.db.publication))
	if code := daemon(t, s.dir, environment(s.db, s.redis), "setup", "-c", s.rules()).wait(t); code != 0 {
		t.Errorf("setup ends with %d", code)
	}
	s.remembers(t, 1)
	psql(t, s.db, fmt.Sprintf("ALTER PUBLICATION %[1]s SET (publish = 'insert'); DELETE FROM t WHERE id = 3; ALTER PUBLICATION %[1]s SET (publish = 'insert, update, delete, truncate')", s.db.publication))
	s.remembers(t, 2)
}

// The same while the daemon streams.
func TestRepublishedWhileStreaming(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	psql(t, s.db, fmt.Sprintf("ALTER PUBLICATION %[1]s DROP TABLE t; DELETE FROM t WHERE id = 1; ALTER PUBLICATION %[1]s ADD TABLE t", s.db.publication))
	s.awaits(t, "v:1", "")
	p.says(t, "its publication was altered")
	psql(t, s.db, fmt.Sprintf("ALTER PUBLICATION %[1]s DROP TABLE t; DELETE FROM t WHERE id = 2", s.db.publication))
	s.awaits(t, "v:2", "")
	psql(t, s.db, "DELETE FROM t WHERE id = 3")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// The publication was away when changes were made: Postgres before 18 never gets
// past them.
func TestPublicationAway(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	s.heals(t, "redis_empty")
	psql(t, s.db, "DROP PUBLICATION "+s.db.publication)
	psql(t, s.db, "DELETE FROM t WHERE id = 1")
	p := s.start(t)
	s.awaits(t, "v:1", "")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)

	psql(t, s.db, "DROP PUBLICATION "+s.db.publication+"; DELETE FROM t WHERE id = 2")
	s.awaits(t, "v:2", "")
	psql(t, s.db, "DELETE FROM t WHERE id = 3")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// One daemon is replaced by the next: nothing is missed, and nothing rendered
// again.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	old := s.run(t)
	for i := range 3 {
		next := s.start(t)
		next.says(t, "waiting as standby")
		psql(t, s.db, "UPDATE t SET n = 'r' || $1::int WHERE id = 1", i)
		old.stop(t)
		next.says(t, "ready: every fragment is in Redis")
		s.awaits(t, "v:1", fmt.Sprintf("one r%d", i))
		said := next.stderr.String()
		if !strings.Contains(said, "to_render_whole=0") || strings.Contains(said, "session ended") || strings.Count(said, "waiting as standby") != 1 {
			t.Error("it did not take over once, with nothing to render")
		}
		old = next
	}
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	old.stop(t)
}

// A daemon hangs, or is cut off. However patient the server is told to be, the
// next one takes over soon; and what the old one notes when it goes on is refused.
func TestHungDaemonIsReplaced(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{"wal_sender_timeout": "10min"}}))
	old := s.run(t)
	quiet(t, s.db)
	old.signal(t, syscall.SIGSTOP)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 1")
	next := s.run(t)
	s.awaits(t, "v:1", "one x")
	quiet(t, s.db)
	old.signal(t, syscall.SIGCONT)
	old.says(t, "waiting as standby")
	psql(t, s.db, "UPDATE t SET n = 'y' WHERE id = 1")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	if said := next.stderr.String(); strings.Contains(said, "session ended") {
		t.Error("the old one disturbs the next")
	}
	old.stop(t)
	next.stop(t)
}
