package integration

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// follower starts a standby of the test's own cluster that can be promoted, and
// gives it as the same database.
func follower(t testing.TB, db *database) *database {
	t.Helper()
	psql(t, db, "SELECT pg_create_physical_replication_slot('follower')")
	p, err := sandbox.StartPostgres(context.Background(), sandbox.PostgresConfig{StandbyOf: db.Postgres, Settings: map[string]string{
		"primary_slot_name": "follower", "hot_standby_feedback": "on", "wal_retrieve_retry_interval": "100ms",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	db.pool.Reset() // without pg_basebackup the primary was stopped for its copy
	pool, err := pgxpool.New(t.Context(), withDatabase(t, p.SocketURL(), db.slot))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &database{Postgres: p, url: withDatabase(t, p.URL(), db.slot), slot: db.slot, publication: db.publication, pool: pool}
}

// follows waits until the standby has replayed all that the primary has.
func (db *database) follows(t testing.TB, primary *database) {
	t.Helper()
	end := mark(t, primary)
	eventually(t, "the standby has replayed "+end.String(), func() bool {
		return ask[bool](t, db, "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", end.String())
	})
}

// either is a URL that leads to whichever of them takes writes.
func either(t testing.TB, a, b *database) string {
	t.Helper()
	u, err := url.Parse(a.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d", a.Port(), b.Port())
	u.RawQuery += "&target_session_attrs=read-write"
	return u.String()
}

// A primary dies with a commit that its standby never got, and the standby is
// promoted, with the slot or without. The daemon finds it, and no fragment shows
// what is lost.
func TestFailover(t *testing.T) {
	t.Parallel()
	for name, synced := range map[string]bool{"with the slot": true, "without a slot": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := startOwnPostgres(t, sandbox.PostgresConfig{})
			if synced && primary.Major() < 17 {
				t.Skip("standbys keep copies of slots since Postgres 17")
			}
			failOver(t, primary, synced)
		})
	}
}

func failOver(t *testing.T, primary *database, synced bool) {
	s := smallSite(t, primary)
	standby := follower(t, primary)
	s.db = &database{Postgres: primary.Postgres, url: either(t, standby, primary), slot: primary.slot, publication: primary.publication, pool: primary.pool}
	p := s.run(t)
	psql(t, s.db, "UPDATE t SET n = 'kept' WHERE id IN (1, 2)")
	quiet(t, s.db)
	if synced {
		tries := 0
		eventually(t, "the standby has the slot", func() bool {
			if tries++; tries%50 == 1 { // lets the slot move on; until the standby has that too it has nothing to copy
				psql(t, primary, "SELECT pg_log_standby_snapshot()")
			}
			_, err := standby.pool.Exec(t.Context(), "SELECT pg_sync_replication_slots()")
			return err == nil && ask[bool](t, standby, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND synced AND NOT temporary)", s.db.slot)
		})
	}
	psql(t, primary, "UPDATE t SET n = 'replicated' WHERE id = 3")
	standby.follows(t, primary)
	psql(t, standby, "ALTER SYSTEM SET primary_conninfo = ''")
	psql(t, standby, "SELECT pg_reload_conf()")
	eventually(t, "the standby follows no more", func() bool {
		return ask[int](t, primary, "SELECT count(*)::int FROM pg_stat_replication WHERE application_name <> 'cdc-viewlet'") == 0
	})
	psql(t, primary, "UPDATE t SET n = 'ghost' WHERE id = 1; DELETE FROM t WHERE id = 4")
	s.awaits(t, "v:1", "one ghost")
	s.awaits(t, "v:4", "")
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	psql(t, standby, "SELECT pg_promote()")
	psql(t, standby, "UPDATE t SET n = 'promoted' WHERE id = 5; DELETE FROM t WHERE id = 6")

	s.awaits(t, "v:1", "one kept")
	s.awaits(t, "v:4", "one n4")
	s.awaits(t, "v:6", "")
	p.says(t, "reason=other_timeline")
	s.db = standby
	psql(t, s.db, "UPDATE t SET n = 'after' WHERE id = 7")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	said := p.stderr.String()
	if made := strings.Count(said, `"slot created"`); synced && made != 1 || !synced && made != 2 {
		t.Errorf("it made %d slots", made)
	}
	u, err := url.Parse(primary.url)
	if err != nil {
		t.Fatal(err)
	}
	if password, _ := u.User.Password(); password == "" || strings.Contains(said, password) {
		t.Error("it tells the password")
	}
	p.stop(t)
}
