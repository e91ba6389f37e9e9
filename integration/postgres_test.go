package integration

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// database is a test's own database, with names for a slot and a publication
// that no other test has.
type database struct {
	*sandbox.Postgres // shared with other tests, or this one's own

	url               string // a superuser's, over TCP
	slot, publication string
	pool              *pgxpool.Pool
}

// startPostgres gives an empty database on the cluster that all tests share.
// It goes, with its slot, when the test ends.
func startPostgres(t testing.TB) *database {
	t.Helper()
	p, err := shared.postgres.get(func() (*sandbox.Postgres, error) {
		return sandbox.StartPostgres(context.Background(), sandbox.PostgresConfig{})
	})
	if err != nil {
		t.Fatal(err)
	}
	return newDatabase(t, p)
}

// startOwnPostgres gives a database on a cluster of the test's own, to stop, to
// kill or to configure.
func startOwnPostgres(t testing.TB, cfg sandbox.PostgresConfig) *database {
	t.Helper()
	p, err := sandbox.StartPostgres(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return newDatabase(t, p)
}

func newDatabase(t testing.TB, p *sandbox.Postgres) *database {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text()[:12])
	db := &database{Postgres: p, url: withDatabase(t, p.URL(), name), slot: name, publication: name}
	administer(t, p, "CREATE DATABASE "+name)
	t.Cleanup(func() { db.drop(t, name) })

	pool, err := pgxpool.New(t.Context(), withDatabase(t, p.SocketURL(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db.pool = pool
	return db
}

func withDatabase(t testing.TB, server, name string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// administer runs a statement in the database postgres.
func administer(t testing.TB, p *sandbox.Postgres, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), p.SocketURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// drop removes the slots in the database, whoever still reads them, and the
// database. A cluster that the test left stopped goes with all that it holds.
func (db *database) drop(t testing.TB, name string) {
	t.Helper()
	if db.PID() == 0 {
		return
	}
	const inUse = `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active`
	administer(t, db.Postgres, inUse, name)
	conn, err := pgx.Connect(context.Background(), db.SocketURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	err = poll(context.Background(), patience, func() bool {
		_, err := conn.Exec(context.Background(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1`, name)
		return err == nil // not while its walsender ends
	})
	if err != nil {
		t.Fatalf("drop the slots of %s: %v", name, err)
	}
	administer(t, db.Postgres, "DROP DATABASE "+name+" WITH (FORCE)")
}

// psql runs statements, several at once without arguments.
func psql(t testing.TB, db *database, sql string, args ...any) {
	t.Helper()
	if _, err := db.pool.Exec(t.Context(), sql, simply(args)...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// simply lets a text without arguments hold several statements.
func simply(args []any) []any {
	if len(args) > 0 {
		return args
	}
	return []any{pgx.QueryExecModeSimpleProtocol}
}

// ask gives the one value of a query's one row.
func ask[T any](t testing.TB, db *database, sql string, args ...any) T {
	t.Helper()
	var answer T
	if err := db.pool.QueryRow(t.Context(), sql, args...).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// mark commits a transaction that changes nothing, and gives a position behind
// all that was committed before, which its own commit lies behind.
//
// https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
func mark(t testing.TB, db *database) viewlet.LSN {
	t.Helper()
	lsn, err := viewlet.ParseLSN(ask[string](t, db, `SELECT pg_logical_emit_message(true, 'integration', 'mark')::text`))
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// confirmed is how far the slot's reader has confirmed; 0 while there is no
// slot.
func confirmed(t testing.TB, db *database) viewlet.LSN {
	t.Helper()
	lsn, err := viewlet.ParseLSN(ask[string](t, db,
		`SELECT coalesce((SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1), '0/0')::text`, db.slot))
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// quiet waits until all that is committed by now is confirmed, and so is in
// the cache: the daemon confirms nothing else.
func quiet(t testing.TB, db *database) {
	t.Helper()
	quietWithin(t, db, patience)
}

// quietWithin is quiet, for what takes longer.
func quietWithin(t testing.TB, db *database, patience time.Duration) {
	t.Helper()
	lsn := mark(t, db)
	if err := poll(t.Context(), patience, func() bool { return confirmed(t, db) >= lsn }); err != nil {
		t.Fatalf("wait until slot %s is confirmed to %s: %v", db.slot, lsn, err)
	}
}
