package sandbox

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func startPostgres(t testing.TB, cfg PostgresConfig) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// ask gives the one value that the query gives, as text.
func ask(t testing.TB, url, query string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var answer string
	if err := conn.QueryRow(t.Context(), query).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

func execute(t testing.TB, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestPostgresLives(t *testing.T) {
	tmp := tempFolder(t)
	t.Setenv("TMPDIR", tmp)
	t.Setenv("PGPORT", "1")                // must not reach the server
	t.Setenv("PGDATA", "/nonexistent")     // nor this
	t.Setenv("PGOPTIONS", "-c wal_level=") // nor this
	p := startPostgres(t, PostgresConfig{Settings: map[string]string{"application_name": "it's", "max_wal_senders": "7"}})
	t.Setenv("PGOPTIONS", "")

	for want, query := range map[string]string{
		"logical": "SHOW wal_level",
		"7":       "SHOW max_wal_senders",
		"it's":    "SHOW application_name",
		"UTF8":    "SHOW server_encoding",
		"C":       "SELECT datcollate FROM pg_database WHERE datname = current_database()",
	} {
		if got := ask(t, p.URL(), query); got != want {
			t.Errorf("%s gives %q, want %q", query, got, want)
		}
	}
	if got := ask(t, p.SocketURL(), "SELECT coalesce(inet_server_addr()::text, 'socket')"); got != "socket" {
		t.Errorf("SocketURL connects to %s", got)
	}
	if got := ask(t, p.URL(), "SHOW server_version"); !strings.HasPrefix(got, p.Version()) || p.Major() < 14 {
		t.Errorf("Version is %q and Major %d, the server says %q", p.Version(), p.Major(), got)
	}
	if log, err := os.ReadFile(p.LogPath()); err != nil || !strings.Contains(string(log), "ready to accept connections") {
		t.Errorf("the log is %q, %v", log, err)
	}

	pid, url := p.PID(), p.URL()
	if !alive(pid) {
		t.Fatalf("PID is %d, which does not run", pid)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) || p.PID() != 0 {
		t.Errorf("process %d runs after Close; PID is %d", pid, p.PID())
	}
	wantEmpty(t, tmp)
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Error("a connection after Close")
	}
	wantError(t, p.Start(t.Context()), "start Postgres: it is closed")
	if err := p.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestPostgresStrangersNeedThePassword(t *testing.T) {
	p := startPostgres(t, PostgresConfig{})
	_, err := pgx.Connect(t.Context(), strings.Replace(p.URL(), p.password, "guess", 1))
	wantError(t, err, "password authentication failed")
	info, err := os.Stat(p.Dir())
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's folder has mode %v, %v", info.Mode(), err)
	}
	if log, err := os.ReadFile(p.LogPath()); err != nil || strings.Contains(string(log), p.password) {
		t.Errorf("the log holds the password, or cannot be read: %v", err)
	}
}

func TestPostgresComesBack(t *testing.T) {
	p := startPostgres(t, PostgresConfig{})
	url, pid := p.URL(), p.PID()
	execute(t, url, "CREATE TABLE kept AS SELECT 1 AS id")
	wantError(t, p.Start(t.Context()), "start Postgres: it is running")

	for name, stop := range map[string]func() error{
		"Stop(Fast)":      func() error { return p.Stop(t.Context(), Fast) },
		"Stop(Immediate)": func() error { return p.Stop(t.Context(), Immediate) },
		"Kill":            p.Kill,
	} {
		if err := stop(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if alive(pid) || p.PID() != 0 {
			t.Fatalf("after %s process %d runs; PID is %d", name, pid, p.PID())
		}
		if err := stop(); err != nil {
			t.Errorf("%s again: %v", name, err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
		if p.URL() != url || p.PID() == pid || ask(t, url, "SELECT id::text FROM kept") != "1" {
			t.Errorf("after %s it came back as another", name)
		}
		pid = p.PID()
	}
	if err := p.Restart(t.Context(), map[string]string{"max_wal_senders": "3"}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, url, "SHOW max_wal_senders"); got != "3" {
		t.Errorf("restarted with max_wal_senders %s, want 3", got)
	}
	wantError(t, p.Restart(t.Context(), map[string]string{"max_wal_senders": "many"}),
		"restart Postgres: it ended before it was ready", `"max_wal_senders": "many"`)
	if err := p.Restart(t.Context(), map[string]string{"max_wal_senders": "3"}); err != nil {
		t.Errorf("with the mistake mended: %v", err)
	}
}

// A backend in the middle of a statement does not notice that its postmaster
// is gone; a power cut takes it along.
func TestPostgresKillTakesBusyBackends(t *testing.T) {
	p := startPostgres(t, PostgresConfig{})
	conn, err := pgx.Connect(t.Context(), p.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	backend := int(conn.PgConn().PID())
	broken := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$")
		broken <- err
	}()
	eventually(t, "the backend is busy", func() bool {
		return ask(t, p.URL(), "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'") == "1"
	})
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	// It has let go of everything; the kernel may need a moment to forget it.
	eventually(t, "the backend is gone", func() bool { return !alive(backend) })
	if err := <-broken; err == nil {
		t.Error("the endless statement ended well")
	}
}

func TestPostgresStopGivesUp(t *testing.T) {
	p := startPostgres(t, PostgresConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.Stop(ctx, Fast)
	if err == nil && p.PID() != 0 {
		t.Error("stopped without an error, and it runs")
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestPostgresEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, err := StartPostgres(ctx, PostgresConfig{})
	if err != nil {
		t.Fatal(err)
	}
	pid := p.PID()
	cancel()
	eventually(t, "the folder is removed", func() bool { _, err := os.Stat(p.Dir()); return errors.Is(err, os.ErrNotExist) })
	if alive(pid) {
		t.Errorf("process %d runs and has no folder", pid)
	}
}

func TestPostgresCancelledWhileItStarts(t *testing.T) {
	tmp := tempFolder(t)
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // initdb takes longer
	defer cancel()
	if _, err := StartPostgres(ctx, PostgresConfig{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
	wantEmpty(t, tmp)
}

func TestVersionIsNotWaitedFor(t *testing.T) {
	bin := tempFolder(t)
	if err := os.WriteFile(filepath.Join(bin, "postgres"), []byte("#!/bin/sh\nexec sleep 100\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := postgresVersion(ctx, bin); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestPostgresFailsCleanly(t *testing.T) {
	full := filepath.Join(tempFolder(t), "full")
	tmp := tempFolder(t)
	t.Setenv("TMPDIR", tmp)
	if err := os.MkdirAll(filepath.Join(full, "of"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  PostgresConfig
		want []string
	}{
		"a setting":   {PostgresConfig{Settings: map[string]string{"shared_buffers": "lots"}}, []string{"start Postgres: it ended before it was ready: exit status 1", "its log ends with:", `"shared_buffers": "lots"`}},
		"an argument": {PostgresConfig{InitArgs: []string{"--no-such-option"}}, []string{"run initdb: exit status 1", "no-such-option"}},
		"no programs": {PostgresConfig{BinDir: tmp}, []string{"find Postgres: no initdb and postgres in the folder " + tmp}},
		"a folder":    {PostgresConfig{Dir: full}, []string{"make folder: ", "full is not empty"}},
		"a long path": {PostgresConfig{Dir: filepath.Join(tmp, strings.Repeat("x", 100))}, []string{"too long a path for Unix sockets", "TMPDIR"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := StartPostgres(t.Context(), c.cfg)
			wantError(t, err, c.want...)
			wantEmpty(t, tmp)
		})
	}
	if _, err := os.Stat(filepath.Join(full, "of")); err != nil {
		t.Errorf("the folder that was not empty lost something: %v", err)
	}
}

func TestRootIsToldWhereItsServantCannotGo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root drops to another user")
	}
	closed := tempFolder(t)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := StartPostgres(t.Context(), PostgresConfig{Dir: filepath.Join(closed, "pg")})
	wantError(t, err, "make folder: the user ", " cannot enter "+closed, "TMPDIR")
	wantEmpty(t, closed)
}

func TestPostgresInAFolderOfOnesOwn(t *testing.T) {
	dir := filepath.Join(tempFolder(t), "a", "o'brien")
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	p := startPostgres(t, PostgresConfig{Dir: dir, InitArgs: []string{"--locale=C.UTF-8"}})
	if p.Dir() != dir {
		t.Errorf("Dir is %s, want %s", p.Dir(), dir)
	}
	if got := ask(t, p.SocketURL(), "SELECT datcollate FROM pg_database WHERE datname = current_database()"); got != "C.UTF-8" {
		t.Errorf("the locale is %s", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, filepath.Dir(dir))
}

func TestPostgresSideBySide(t *testing.T) {
	var wg sync.WaitGroup
	ports := make([]int, 3)
	for i := range ports {
		wg.Go(func() {
			p, err := StartPostgres(t.Context(), PostgresConfig{})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { p.Close() })
			ports[i] = p.Port()
		})
	}
	wg.Wait()
	if ports[0] == ports[1] || ports[1] == ports[2] || ports[0] == ports[2] {
		t.Errorf("ports are %v", ports)
	}
}

func TestPostgresPicksAnotherPort(t *testing.T) {
	p := startPostgres(t, PostgresConfig{})
	if err := p.Stop(t.Context(), Fast); err != nil {
		t.Fatal(err)
	}
	squatter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	free := p.port
	offers := []int{squatter.Addr().(*net.TCPAddr).Port, free}
	pick := func() (int, error) {
		port := offers[0]
		offers = offers[1:]
		return port, nil
	}
	if err := p.startOnFreePort(t.Context(), pick); err != nil {
		t.Fatal(err)
	}
	if p.Port() != free || ask(t, p.URL(), "SELECT 'here'") != "here" {
		t.Errorf("it listens on %d, want %d", p.Port(), free)
	}
}

// A standby shows what its primary commits, and can be promoted.
func TestStandby(t *testing.T) {
	primary := startPostgres(t, PostgresConfig{})
	execute(t, primary.URL(), "CREATE TABLE shelf (book text)")
	standby := startPostgres(t, PostgresConfig{StandbyOf: primary})
	execute(t, primary.URL(), "INSERT INTO shelf VALUES ('Emma')")
	for deadline := time.Now().Add(time.Minute); ask(t, standby.URL(), "SELECT count(*)::text FROM shelf") != "1"; {
		if time.Now().After(deadline) {
			t.Fatal("the standby does not follow")
		}
	}
	if ask(t, standby.URL(), "SELECT pg_promote()::text || pg_is_in_recovery()") != "truefalse" {
		t.Error("it is not promoted")
	}
	execute(t, standby.URL(), "INSERT INTO shelf VALUES ('Persuasion')")
	if err := standby.Close(); err != nil {
		t.Fatal(err)
	}
}
