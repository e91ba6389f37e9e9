package integration

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// lock takes a table for itself, as a migration does, until it is released.
func (s *site) lock(t testing.TB, table string) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.db.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
			t.Fatal(err)
		}
	}
}

// A migration holds a table far longer than a query may wait for it: while a
// pass wants it, and while it is read whole. It is retried for as long as it
// takes, blamed on no fragment, and keeps no other viewlet waiting.
func TestTableLockedForLong(t *testing.T) {
	t.Parallel()
	s := newSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}), smallSchema+"; CREATE TABLE u (id int PRIMARY KEY, n text); INSERT INTO u VALUES (1, 'u1')",
		map[string]string{"rules/rules.hcl": smallRules, "rules/v.txt": "one {{.n}}", "rules/u.hcl": `
			viewlet "u" {
			  params = ["id"]
			  query  = "SELECT n FROM u WHERE id = @id"
			  all    = "SELECT id FROM u"
			}
			table "u" {
			  refresh = u(id)
			}`})
	p := s.run(t, "--statement-timeout", "400ms")
	quiet(t, s.db)
	waited := func() int { // by the server's log; the daemon tells a cause once
		log, err := os.ReadFile(s.db.LogPath())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(log), "ERROR:  canceling statement due to lock timeout")
	}
	for i, ask := range []string{"v:1", "v:*"} {
		before := waited()
		release := s.lock(t, "t")
		psql(t, s.db, "SELECT pg_logical_emit_message(true, 'cdc-viewlet', $1)", ask)
		eventually(t, "it has been tried often", func() bool { return waited() > before+6 })
		name := string(rune('a' + i))
		psql(t, s.db, "UPDATE u SET n = $1", name)
		s.awaits(t, "u:1", `{"n":"`+name+`"}`)
		s.redis.client.Set(t.Context(), "viewlet:v:1", "stale", 0)
		release()
		s.awaits(t, "v:1", "one n1")
		quiet(t, s.db)
	}
	if n := s.redis.client.HLen(t.Context(), "viewlet:@failed").Val(); n > 0 {
		t.Errorf("%d are said to have failed", n)
	}
	p.stop(t)
}

// The daemon opens no more connections than it is told to for rendering, and a
// few beside them; and when there is none to be had it waits for one.
func TestConnections(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{
		"max_connections": "25", "superuser_reserved_connections": "0", "max_wal_senders": "5",
	}}))
	p := s.run(t, "--connections", "3")
	most := 0
	stop := s.busy(t, "UPDATE t SET n = 'w%[1]d' WHERE id %% 5 = %[1]d %% 5")
	for range 200 {
		most = max(most, ask[int](t, s.db, "SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'cdc-viewlet'"))
	}
	stop()
	// The stream, and now and then a look at the slot, the tables and the schema.
	if most > 3+1+3 {
		t.Errorf("%d connections, want 3 for rendering, one for the stream and few more", most)
	}
	quiet(t, s.db)

	var hogs []*pgx.Conn
	t.Cleanup(func() {
		for _, c := range hogs {
			_ = c.Close(context.Background())
		}
	})
	hog := func() {
		for {
			conn, err := pgx.Connect(t.Context(), s.db.url)
			if err != nil {
				return
			}
			hogs = append(hogs, conn)
		}
	}
	eventually(t, "no connection is free, and the daemon has none to render", func() bool {
		hog()
		return ask[int](t, s.db, `SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
			WHERE application_name = 'cdc-viewlet' AND backend_type = 'client backend'`) == 0
	})
	psql(t, s.db, "UPDATE t SET n = 'crowded' WHERE id = 1")
	p.says(t, "too many clients")
	for _, c := range hogs {
		_ = c.Close(context.Background())
	}
	s.awaits(t, "v:1", "one crowded")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}
