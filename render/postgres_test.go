package render

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// patience is how long a test waits for what should come soon.
const patience = 60 * time.Second

// cluster is the server of all tests that need no special one.
var cluster *sandbox.Postgres

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if cluster, err = sandbox.StartPostgres(context.Background(), sandbox.PostgresConfig{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cluster.Close()
	return m.Run()
}

// site is a database of its own and, once load was called, a Renderer on it.
type site struct {
	testing.TB
	url   string
	admin *pgx.Conn
	db    *Database
	set   *rules.Set
	r     *Renderer
}

var databases atomic.Int64

// newSite makes a database with what the SQL makes in it.
func newSite(t testing.TB, sql string) *site {
	t.Helper()
	s := &site{TB: t}
	name := fmt.Sprintf("test_%d", databases.Add(1))
	s.admin = s.dial(cluster.URL())
	s.exec("CREATE DATABASE " + name)
	s.url = strings.Replace(cluster.URL(), "/postgres?", "/"+name+"?", 1)
	s.admin = s.dial(s.url)
	s.exec(sql)
	return s
}

func (s *site) dial(url string) *pgx.Conn {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), url)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// as gives the site's URL for another role, which has no password.
func (s *site) as(role string) string {
	u, err := url.Parse(s.url)
	if err != nil {
		s.Fatal(err)
	}
	socket, err := url.Parse(cluster.SocketURL())
	if err != nil {
		s.Fatal(err)
	}
	socket.User, socket.Path = url.User(role), u.Path
	return socket.String()
}

func (s *site) exec(sql string, args ...any) {
	s.Helper()
	if len(args) == 0 {
		args = append(args, pgx.QueryExecModeSimpleProtocol)
	}
	if _, err := s.admin.Exec(s.Context(), sql, args...); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
}

// text gives what the query selects, rows and columns in Postgres's text form;
// a NULL is <NULL>.
func (s *site) text(sql string) [][]string {
	s.Helper()
	results, err := s.admin.PgConn().Exec(s.Context(), sql).ReadAll()
	if err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
	var rows [][]string
	for _, r := range results {
		for _, row := range r.Rows {
			var values []string
			for _, v := range row {
				if v == nil {
					v = []byte("<NULL>")
				}
				values = append(values, string(v))
			}
			rows = append(rows, values)
		}
	}
	return rows
}

func (s *site) one(sql string) string {
	s.Helper()
	rows := s.text(sql)
	if len(rows) != 1 || len(rows[0]) != 1 {
		s.Fatalf("%s: got %d rows, want one value", sql, len(rows))
	}
	return rows[0][0]
}

// connect opens the Database as cfg says, on the site's URL unless cfg has one.
func (s *site) connect(cfg Config) {
	s.Helper()
	if cfg.URL == "" {
		cfg.URL = s.url
	}
	db, err := Connect(s.Context(), cfg)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(db.Close)
	s.db = db
}

// load reads rules.hcl and the templates beside it, a txtar archive, or the
// text of rules.hcl alone. What is wrong with them fails the test, but for
// problems of the templates and queries, which it gives.
func (s *site) load(archive string) []Problem {
	s.Helper()
	s.set = loadRules(s, archive)
	if s.db == nil {
		s.connect(Config{})
	}
	var problems []Problem
	s.r, problems = New(s.db, s.set, 0)
	return problems
}

func loadRules(t testing.TB, archive string) *rules.Set {
	t.Helper()
	dir := t.TempDir()
	a := txtar.Parse([]byte(archive))
	if len(a.Files) == 0 || len(a.Comment) > 0 {
		a.Files = append(a.Files, txtar.File{Name: "rules.hcl", Data: a.Comment})
	}
	for _, f := range a.Files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, diags := rules.Load(filepath.Join(dir, "rules.hcl"))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return set
}

// loadSound is load for rules with which nothing is wrong.
func (s *site) loadSound(archive string) {
	s.Helper()
	for _, p := range s.load(archive) {
		s.Fatalf("%s: %v", p.Attr, p.Err)
	}
	problems, _, err := s.r.Check(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, p := range problems {
		if !p.Warning {
			s.Fatalf("%+v: %v", p, p.Err)
		}
	}
}

// keysOf makes a key of each argument.
func keysOf(name string, args ...string) []viewlet.Key {
	keys := make([]viewlet.Key, len(args))
	for i, a := range args {
		keys[i] = viewlet.NewKey(name, a)
	}
	return keys
}

// render renders the keys, and checks that each has its fragment.
func (s *site) render(name string, keys ...viewlet.Key) []viewlet.Fragment {
	s.Helper()
	fragments, err := s.r.Render(s.Context(), name, keys)
	if err != nil {
		s.Fatalf("render %s: %v", name, err)
	}
	if len(fragments) != len(keys) {
		s.Fatalf("render %s: got %d fragments for %d keys", name, len(fragments), len(keys))
	}
	for i, f := range fragments {
		if f.Key != keys[i] {
			s.Fatalf("render %s: fragment %d is %s, want %s", name, i, f.Key, keys[i])
		}
	}
	return fragments
}

// body renders one fragment, which must be without an Err.
func (s *site) body(name string, args ...string) string {
	s.Helper()
	f := s.render(name, viewlet.NewKey(name, args...))[0]
	if f.Err != nil {
		s.Fatalf("render %s: %v", f.Key, f.Err)
	}
	if f.Body == nil {
		return "<nothing>"
	}
	return string(f.Body)
}

// fault renders one fragment, and gives its Err.
func (s *site) fault(name string, args ...string) error {
	s.Helper()
	return s.render(name, viewlet.NewKey(name, args...))[0].Err
}

// eventually tries until try gives nil.
func eventually(t testing.TB, try func() error) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}
