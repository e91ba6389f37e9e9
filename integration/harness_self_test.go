package integration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// The harness is tried here, so that the other tests may rely on it.

func TestDatabasesAreApart(t *testing.T) {
	a, b := startPostgres(t), startPostgres(t)
	if a.PID() != b.PID() || a.slot == b.slot {
		t.Fatalf("clusters %d and %d, slots %s and %s", a.PID(), b.PID(), a.slot, b.slot)
	}
	psql(t, a, "CREATE TABLE products (id int); INSERT INTO products VALUES (42)")
	psql(t, a, "INSERT INTO products VALUES ($1)", 43)
	if n := ask[int](t, a, "SELECT count(*) FROM products WHERE id IN (42, 43)"); n != 2 {
		t.Errorf("%d products, want 2", n)
	}
	if ask[bool](t, b, "SELECT to_regclass('products') IS NOT NULL") {
		t.Error("one database has the other's table")
	}
}

func TestDatabasesGoWithTheirSlots(t *testing.T) {
	var gone, name string
	t.Run("a test that leaves a slot", func(t *testing.T) {
		db := startPostgres(t)
		gone, name = db.slot, ask[string](t, db, "SELECT current_database()")
		psql(t, db, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", db.slot)
	})
	db := startPostgres(t)
	if ask[bool](t, db, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1) OR EXISTS (SELECT FROM pg_database WHERE datname = $2)", gone, name) {
		t.Error("the database or its slot is still there")
	}
}

func TestOwnPostgresMayCrash(t *testing.T) {
	db := startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{"max_wal_senders": "3"}})
	psql(t, db, "CREATE TABLE products AS SELECT 42 AS id")
	if err := db.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pool connects again", func() bool { return db.pool.Ping(t.Context()) == nil })
	if id := ask[int](t, db, "SELECT id FROM products"); id != 42 {
		t.Errorf("product %d is back, want 42", id)
	}
	if n := ask[string](t, db, "SHOW max_wal_senders"); n != "3" {
		t.Errorf("max_wal_senders is %s", n)
	}
	if err := db.Stop(t.Context(), sandbox.Fast); err != nil { // and left so
		t.Fatal(err)
	}
}

func TestQuietWaitsForTheConfirm(t *testing.T) {
	db := startPostgres(t)
	if lsn := confirmed(t, db); lsn != 0 {
		t.Errorf("without a slot %s is confirmed", lsn)
	}
	psql(t, db, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", db.slot)
	psql(t, db, "CREATE TABLE products (id int)")
	before := confirmed(t, db)
	lsn := mark(t, db)
	if before == 0 || before >= lsn {
		t.Fatalf("%s is confirmed before the mark at %s", before, lsn)
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		quiet(t, db)
	}()
	select {
	case <-done:
		t.Fatal("quiet, and nobody confirmed")
	case <-time.After(50 * time.Millisecond):
	}
	eventually(t, "quiet is reached when all is confirmed", func() bool {
		psql(t, db, "SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", db.slot)
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
}

func TestRedisGet(t *testing.T) {
	r := startRedis(t)
	if body, ok := redisGet(t, r, "viewlet:product_teaser:42"); ok {
		t.Errorf("a new Redis has %q", body)
	}
	if err := r.client.Set(t.Context(), "viewlet:product_teaser:42", "", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if body, ok := redisGet(t, r, "viewlet:product_teaser:42"); !ok || body != "" {
		t.Errorf("an empty fragment gives %q, %t", body, ok)
	}
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"sub/note": "read"})
	script := `cat sub/note; trap 'echo bye >&2; exit '$CODE TERM; echo ready >&2; while :; do read -r line < pipe; done`
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}

	p := run(t, dir, []string{"CODE=0"}, "sh", "-c", script)
	p.says(t, "ready")
	p.stop(t)
	if p.stdout.String() != "read" || !strings.HasSuffix(p.stderr.String(), "bye\n") {
		t.Errorf("it wrote %q and %q", p.stdout.String(), p.stderr.String())
	}
	p.signal(t, syscall.SIGTERM)
	p.kill()

	p = run(t, dir, []string{"CODE=2"}, "sh", "-c", script)
	p.says(t, "ready")
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}

	p = run(t, dir, nil, "sh", "-c", script)
	p.says(t, "ready")
	p.kill()
	if code := p.wait(t); code != -1 {
		t.Errorf("exit code %d of a killed program, want -1", code)
	}
}

func TestProgramsEndWithTheirTest(t *testing.T) {
	var p *program
	t.Run("a test that leaves a program", func(t *testing.T) { p = run(t, t.TempDir(), nil, "sleep", "600") })
	if !p.hasEnded() {
		t.Errorf("process %d runs after its test", p.cmd.Process.Pid)
	}
}

func TestPollGivesUp(t *testing.T) {
	asked := 0
	err := poll(t.Context(), 30*time.Millisecond, func() bool { asked++; return false })
	if !errors.Is(err, context.DeadlineExceeded) || asked < 2 {
		t.Errorf("asked %d times, then %v", asked, err)
	}
}

func TestDaemonIsBuiltOnce(t *testing.T) {
	db, r := startPostgres(t), startRedis(t)
	binary := buildDaemon(t)
	before, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	p := daemon(t, t.TempDir(), environment(db, r), "version")
	if code := p.wait(t); code != 0 || p.stdout.String() == "" {
		t.Errorf("cdc-viewlet version: exit code %d, stdout %q", code, p.stdout.String())
	}
	after, err := os.Stat(buildDaemon(t))
	if err != nil || !os.SameFile(before, after) || after.ModTime() != before.ModTime() {
		t.Errorf("built again: %v", err)
	}
}
