package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

const (
	takenIn  = `msg="rendering from the standby"`
	takenOut = `msg="not rendering from the standby, the primary serves"`
)

// standbyOf starts a standby of the test's own cluster, and gives it as a
// database with the same name.
func standbyOf(t testing.TB, db *database) *database {
	t.Helper()
	p, err := sandbox.StartPostgres(context.Background(), sandbox.PostgresConfig{StandbyOf: db.Postgres})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	db.pool.Reset() // the primary may have been restarted for the copy
	return &database{Postgres: p, url: withDatabase(t, p.URL(), db.slot), slot: db.slot}
}

// tell runs a statement on a server that may have been restarted.
func (db *database) tell(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// write changes, moves, makes and deletes rows until stop is closed.
func (s *site) write(t testing.TB, stop <-chan struct{}) (done <-chan error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			_, err := s.db.pool.Exec(context.Background(), fmt.Sprintf(`UPDATE t SET n = 'w%[1]d' WHERE id %% 50 = %[1]d %% 50;
				DELETE FROM t WHERE id = 1000 + %[1]d %% 20; INSERT INTO t VALUES (1000 + (%[1]d + 7) %% 20, 'i%[1]d') ON CONFLICT DO NOTHING`, i),
				pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

// Fragments are rendered from a standby that lags, stops, comes back and is at
// last promoted, while the primary is written to. Whatever it shows, Redis ends
// with what the primary has.
func TestRenderFromStandby(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	writeFiles(t, s.dir, map[string]string{"rules/own.hcl": fmt.Sprintf(
		"postgres {\n  slot = %q\n  publication = %q\n  render_lag = \"3s\"\n}\n", s.db.slot, s.db.publication)})
	standby := standbyOf(t, s.db)
	p := s.run(t, "--render-url", standby.url, "--verify-rate", "300/s", "--http", "127.0.0.1:0")
	p.says(t, takenIn)
	metrics := urlOf(t, p) + "/metrics"
	serves := func(want float64) {
		t.Helper()
		if got := metric(t, metrics, "cdc_viewlet_renders_from_standby"); got != want {
			t.Errorf("the standby serves: %v, want %v", got, want)
		}
	}
	serves(1)
	// after does something, and waits until the daemon says the words once more.
	after := func(do func(), words string) {
		t.Helper()
		said := func() int { return strings.Count(p.stderr.String(), words) }
		before := said()
		do()
		eventually(t, "it says "+words+" again", func() bool { return said() > before })
	}
	start := func() {
		t.Helper()
		if err := standby.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stopStandby := func() {
		t.Helper()
		if err := standby.Stop(t.Context(), sandbox.Immediate); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	written := s.write(t, stop)
	agree := func() {
		t.Helper()
		close(stop)
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		quiet(t, s.db)
		newOracle(t, s.db, s.rules()).agree(t, s.redis)
		stop = make(chan struct{})
		written = s.write(t, stop)
	}
	agree()

	after(func() { standby.tell(t, "SELECT pg_wal_replay_pause()") }, takenOut)
	serves(0)
	agree()
	after(func() { standby.tell(t, "SELECT pg_wal_replay_resume()") }, takenIn)
	agree()
	after(stopStandby, takenOut)
	agree()
	after(start, takenIn)
	agree()
	after(func() { standby.tell(t, "SELECT pg_promote(false)") }, takenOut)
	eventually(t, "the standby is promoted", func() bool {
		conn, err := pgx.Connect(t.Context(), standby.url)
		if err != nil {
			return false
		}
		defer conn.Close(context.Background())
		_, err = conn.Exec(t.Context(), "UPDATE t SET n = 'of another history'")
		return err == nil
	})
	agree()
	close(stop)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	p.stop(t)
	if said := p.stderr.String(); strings.Contains(said, "was not as Postgres renders it") {
		t.Errorf("what is rendered from a standby is taken for wrong:\n%s", said)
	}
}

// What one lane has seen on the primary is no word about the standby, which comes
// in meanwhile and lacks it: another lane's render there waits for it.
func TestStandbyLacksWhatThePrimaryShowed(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	writeFiles(t, s.dir, map[string]string{
		"rules/own.hcl": fmt.Sprintf("postgres {\n  slot = %q\n  publication = %q\n  render_lag = \"60s\"\n}\n", s.db.slot, s.db.publication),
		"rules/rules.hcl": strings.Replace(smallRules, "refresh = v(id)", "refresh = [v(id), gated(id)]", 1) + `
			viewlet "gated" {
			  params   = ["id"]
			  query    = "SELECT n, pg_advisory_xact_lock_shared(42)::text AS gate FROM t WHERE id = @id"
			  template = "v.txt"
			  all      = "SELECT id FROM t"
			}`,
	})
	standby := standbyOf(t, s.db)
	var err error
	if standby.pool, err = pgxpool.New(t.Context(), standby.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.pool.Close)
	p := s.run(t, "--render-url", standby.url)
	p.says(t, takenIn)

	// It is looked at anew, and not taken in while it is behind.
	psql(t, standby, "SELECT pg_wal_replay_pause()")
	eventually(t, "the standby pauses", func() bool { return ask[bool](t, standby, "SELECT pg_get_wal_replay_pause_state() = 'paused'") })
	mark(t, s.db)
	psql(t, standby, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cdc-viewlet'")
	p.says(t, takenOut)
	eventually(t, "the standby is looked at again", func() bool {
		return ask[bool](t, standby, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE application_name = 'cdc-viewlet' AND query LIKE '%pg_last_wal_replay_lsn%')`)
	})

	// The gate holds up a lane, and it is told of a change that the other one shows.
	gate, err := s.db.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Release()
	if _, err := gate.Exec(t.Context(), "SELECT pg_advisory_lock(42)"); err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "UPDATE t SET n = 'first' WHERE id = 1")
	s.awaits(t, "v:1", "one first")
	eventually(t, "a render waits at the gate", func() bool {
		return ask[bool](t, s.db, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
	})

	// The standby gets no more than it is waited for, and is taken in without the change.
	now := ask[string](t, s.db, "SELECT pg_current_wal_insert_lsn()::text")
	eventually(t, "the standby has received "+now, func() bool {
		return ask[bool](t, standby, "SELECT pg_last_wal_receive_lsn() >= $1::text::pg_lsn", now)
	})
	source := ask[string](t, standby, "SELECT current_setting('primary_conninfo')")
	psql(t, standby, "ALTER SYSTEM SET primary_conninfo = ''")
	psql(t, standby, "SELECT pg_reload_conf()")
	psql(t, s.db, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name <> 'cdc-viewlet'")
	eventually(t, "the standby is cut off", func() bool {
		return !ask[bool](t, standby, "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver)")
	})
	psql(t, s.db, "UPDATE t SET n = 'second' WHERE id = 1")
	s.awaits(t, "v:1", "one second")
	psql(t, standby, "SELECT pg_wal_replay_resume()")
	eventually(t, "the standby is taken in again", func() bool { return strings.Count(p.stderr.String(), takenIn) == 2 })
	if _, err := gate.Exec(t.Context(), "SELECT pg_advisory_unlock(42)"); err != nil {
		t.Fatal(err)
	}
	// Who takes what the standby has now is done at once. Who waits for the rest
	// is given a while for it, and then the standby gets it.
	lsn := mark(t, s.db)
	_ = poll(t.Context(), 3*time.Second, func() bool { return confirmed(t, s.db) >= lsn })
	psql(t, standby, "ALTER SYSTEM SET primary_conninfo = '"+strings.ReplaceAll(source, "'", "''")+"'")
	psql(t, standby, "SELECT pg_reload_conf()")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// The first rendering of all fragments is done by the standby too.
func TestWarmUpFromStandby(t *testing.T) {
	t.Parallel()
	s := bigSite(t, 20_000)
	standby := standbyOf(t, s.db)
	eventually(t, "the standby has the database", func() bool {
		conn, err := pgx.Connect(t.Context(), standby.url)
		if err != nil {
			return false
		}
		defer conn.Close(context.Background())
		var n int
		err = conn.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n)
		return err == nil && n == 20_000
	})
	writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": strings.Replace(smallRules, "SELECT n", "SELECT n || CASE WHEN pg_is_in_recovery() THEN ' there' ELSE '' END AS n", 1)})
	p := s.run(t, "--render-url", standby.url)
	p.says(t, takenIn)
	there := 0
	for _, body := range fragments(t, s.redis) {
		if strings.HasSuffix(body, " there") {
			there++
		}
	}
	if there < 10_000 {
		t.Errorf("the standby rendered %d of 20000 fragments, want most of them", there)
	}
	p.stop(t)
}

// A server of another cluster is refused, and nothing is rendered from it.
func TestRenderFromAnotherCluster(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	other := startOwnPostgres(t, sandbox.PostgresConfig{})
	for _, verb := range []string{"run", "check"} {
		p := daemon(t, s.dir, append(environment(s.db, s.redis), "RENDER_URL="+other.url), verb, "-c", s.rules())
		if code := p.wait(t); code != 1 || !strings.Contains(p.stderr.String(), "of another cluster") {
			t.Errorf("%s: exit code %d, and it says %s", verb, code, p.stderr.String())
		}
	}
}
