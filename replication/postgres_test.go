package replication

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// patience is how long a test waits for what should come soon.
const patience = 60 * time.Second

// shared is the server of all tests that need no special one.
var shared *server

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "replication-test-")
	if err == nil {
		shared, err = startServer(dir, "", "wal_level=logical", "max_replication_slots=40", "max_wal_senders=40")
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
		shared.stop()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// server is a throw-away Postgres.
type server struct {
	data string
	port int
	cmd  *exec.Cmd
	log  *bytes.Buffer
}

// newServer starts a server of its own for a test; from as startServer has it.
func newServer(t testing.TB, from string, settings ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "replication-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s, err := startServer(dir, from, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

// startServer starts Postgres in dir; with from, as a standby of the server
// behind that URL.
func startServer(dir, from string, settings ...string) (*server, error) {
	owner, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	s := &server{data: filepath.Join(dir, "data"), log: &bytes.Buffer{}}
	fill := program("initdb", "-D", s.data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
	if from != "" {
		fill = program("pg_basebackup", "-D", s.data, "-R", "--no-sync", "-c", "fast", "-d", from)
	}
	fill.SysProcAttr, fill.Dir = owner, dir
	if out, err := fill.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", fill.Args, err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	args := []string{"-D", s.data, "-p", strconv.Itoa(s.port), "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	s.cmd = program("postgres", args...)
	s.cmd.SysProcAttr, s.cmd.Dir, s.cmd.Stderr = owner, dir, s.log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	return s, s.ready()
}

// unprivileged gives dir to the user that Postgres is to run as: it refuses root.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() != 0 {
		return attr, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, os.Chown(dir, uid, gid)
}

// client is one of Postgres's client programs, which not every PGBIN has.
func client(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	if cmd := program(name, args...); executable(cmd.Path) {
		return cmd
	}
	if !executable(name) {
		t.Skipf("there is no %s", name)
	}
	return exec.Command(name, args...)
}

func executable(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// program is one of Postgres's programs: of PGBIN, else of the newest version
// that Debian has installed, else of PATH.
func program(name string, args ...string) *exec.Cmd {
	bin := os.Getenv("PGBIN")
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); bin == "" && len(found) > 0 {
		bin = slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	}
	if bin == "" {
		return exec.Command(name, args...)
	}
	return exec.Command(filepath.Join(bin, name), args...)
}

func version(bin string) int {
	v, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return v
}

func (s *server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for poll := time.NewTicker(20 * time.Millisecond); ; {
		conn, err := pgconn.Connect(ctx, s.url("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			s.stop()
			return fmt.Errorf("wait for Postgres: %w\n%s", err, s.log)
		case <-poll.C:
		}
	}
}

// shutDown ends the server as an operator does: it finishes what it does.
func (s *server) shutDown() {
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	_ = s.cmd.Wait()
}

// stop ends the server at once and waits until it is gone.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	_ = s.cmd.Wait()
}

// url is the server's, with settings of the session as name, value pairs.
func (s *server) url(database string, settings ...string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: fmt.Sprintf("127.0.0.1:%d", s.port), Path: database}
	q := url.Values{"sslmode": {"disable"}}
	for i := 0; i < len(settings); i += 2 {
		q.Set(settings[i], settings[i+1])
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// database makes an empty database for the test, and drops it with its slots.
func (s *server) database(t testing.TB) *database {
	t.Helper()
	name := "t_" + strings.ToLower(strings.Map(func(r rune) rune {
		if r == '/' || r == '#' || r == '-' {
			return '_'
		}
		return r
	}, t.Name()))
	admin := dial(t, s.url("postgres"))
	admin.exec("CREATE DATABASE " + quoteIdent(name))
	db := &database{server: s, name: name, sql: dial(t, s.url(name))}
	t.Cleanup(func() {
		for _, r := range db.sql.rows("SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = current_database()") {
			if !r.null(1) {
				db.sql.exec("SELECT pg_terminate_backend(" + r.string(1) + ", 10000)")
			}
			db.sql.exec("SELECT pg_drop_replication_slot(" + quoteLiteral(r.string(0)) + ")")
		}
		db.sql.close()
		admin.exec("DROP DATABASE " + quoteIdent(name) + " WITH (FORCE)")
	})
	return db
}

// database is a test's own, and what the test says to it.
type database struct {
	*server
	name string
	sql  *session
}

// cfg is the test's own slot and publication.
func (db *database) cfg(settings ...string) Config {
	slot := db.name
	if len(slot) > maxName {
		slot = slot[:maxName]
	}
	return Config{URL: db.url(db.name, settings...), Slot: slot, Publication: slot}
}

// session is a connection whose statements succeed, or the test fails.
type session struct {
	t    testing.TB
	conn *pgconn.PgConn
}

func dial(t testing.TB, url string) *session {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t, conn}
	t.Cleanup(s.close)
	return s
}

func (s *session) close() { _ = s.conn.Close(context.Background()) }

func (s *session) exec(sql string) { s.t.Helper(); s.rows(sql) }

func (s *session) rows(sql string) []row {
	s.t.Helper()
	rows, err := query(context.Background(), s.conn, sql)
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

func (s *session) string(sql string) string { s.t.Helper(); return s.rows(sql)[0].string(0) }

// eventually waits until the query answers t.
func (s *session) eventually(sql string) {
	s.t.Helper()
	deadline := time.After(patience)
	for poll := time.NewTicker(20 * time.Millisecond); !s.rows(sql)[0].bool(0); {
		select {
		case <-deadline:
			s.t.Fatalf("waited in vain for: %s", sql)
		case <-poll.C:
		}
	}
}
