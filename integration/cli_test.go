package integration

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// The command line, as people and scripts meet it, is tried by tables: what is
// typed, and what comes of it. `go test -v -run CLI ./integration` shows all
// that is said.

// secret is the password in every URL that these tests give. Nothing that the
// program writes may have it, or the part of it that needs no encoding.
const secret, telltale = "Tr0ub4dor&3 /@:", "Tr0ub4dor"

// desk is where somebody types: a small shop in Postgres and a Redis, each with
// a user that has the secret for a password.
type desk struct {
	db       *database
	redis    *redisServer
	role     string // owns the database, and may replicate
	postgres string // URLs of the role
	cache    string // and of the user app of Redis
}

const deskSQL = `
SET ROLE %[1]s;
CREATE TABLE categories (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE products (id int PRIMARY KEY, category_id int, name text NOT NULL, price numeric(8,2), description text);
INSERT INTO categories VALUES (1, 'Trees'), (2, 'Shrubs');
INSERT INTO products VALUES (42, 1, 'Oak & Sons', 10.50, NULL), (43, 1, 'Ash', 7, 'tall'), (44, 2, 'Box', NULL, 'low');
RESET ROLE`

// startDesk sets up a desk on the cluster that all tests share.
func startDesk(t testing.TB) *desk {
	t.Helper()
	return newDesk(t, startPostgres, startRedis(t))
}

func newDesk(t testing.TB, start func(testing.TB) *database, r *redisServer) *desk {
	t.Helper()
	d := &desk{redis: r}
	t.Cleanup(func() { // when the database is gone
		if d.db != nil && d.db.PID() != 0 {
			administer(t, d.db.Postgres, "DROP ROLE "+d.role)
		}
	})
	d.db = start(t)
	d.role = d.db.slot
	psql(t, d.db, fmt.Sprintf("CREATE ROLE %[1]s LOGIN REPLICATION PASSWORD '%[2]s'; ALTER DATABASE %[1]s OWNER TO %[1]s; GRANT ALL ON SCHEMA public TO %[1]s", d.role, secret))
	psql(t, d.db, fmt.Sprintf(deskSQL, d.role))
	d.postgres = withUser(t, d.db.url, d.role)
	d.addRedisUser(t, "app", "~*", "&*", "+@all")
	d.cache = withUser(t, r.URL(), "app")
	return d
}

// addRedisUser adds a user with the secret and these rights.
func (d *desk) addRedisUser(t testing.TB, name string, rights ...any) {
	t.Helper()
	if err := d.redis.client.Do(t.Context(), append([]any{"ACL", "SETUSER", name, "on", ">" + secret}, rights...)...).Err(); err != nil {
		t.Fatal(err)
	}
}

// withUser gives the URL with the user and the secret.
func withUser(t testing.TB, server, user string) string {
	t.Helper()
	return changed(t, server, func(u *url.URL) { u.User = url.UserPassword(user, secret) })
}

func changed(t testing.TB, raw string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

// folder makes a folder with these rules and files. The rules are given the
// desk's own slot and publication at their end, so that lines count from their
// beginning.
func (d *desk) folder(t testing.TB, rules string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if rules != "" {
		rules += fmt.Sprintf("\npostgres {\n  slot        = %q\n  publication = %q\n}\n", d.db.slot, d.db.publication)
		writeFiles(t, dir, map[string]string{"rules.hcl": rules})
	}
	writeFiles(t, dir, files)
	return dir
}

// types runs the program in dir to its end, with both servers in its
// environment; env goes over them.
func (d *desk) types(t testing.TB, dir string, env []string, args ...string) *answer {
	t.Helper()
	p := d.starts(t, dir, env, args...)
	p.wait(t)
	return answerOf(t, p)
}

// starts runs the program in dir.
func (d *desk) starts(t testing.TB, dir string, env []string, args ...string) *program {
	t.Helper()
	return daemon(t, dir, append([]string{"DATABASE_URL=" + d.postgres, "REDIS_URL=" + d.cache}, env...), args...)
}

// untouched fails the test when anything was left in Postgres or Redis.
func (d *desk) untouched(t testing.TB) {
	t.Helper()
	if ask[bool](t, d.db, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)", d.db.slot) {
		t.Error("a slot was made")
	}
	if ask[bool](t, d.db, "SELECT EXISTS (SELECT FROM pg_publication)") {
		t.Error("a publication was made")
	}
	keys, err := d.redis.client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) > 0 {
		t.Errorf("in Redis there are %q, %v", keys, err)
	}
}

// answer is what came of a command line.
type answer struct {
	line           string // as it was typed
	code           int
	stdout, stderr string
}

// answerOf reads what a program that has ended wrote. That none of it is a
// password or a stack trace is wanted of every answer.
func answerOf(t testing.TB, p *program) *answer {
	t.Helper()
	a := &answer{
		line: strings.Join(append([]string{filepath.Base(p.cmd.Path)}, p.cmd.Args[1:]...), " "),
		code: p.cmd.ProcessState.ExitCode(), stdout: p.stdout.String(), stderr: p.stderr.String(),
	}
	t.Logf("$ %s\n%s%s(exit code %d)", a.line, a.stdout, a.stderr, a.code)
	for _, sign := range []string{telltale, "goroutine ", "panic:", "DATA RACE", "%!", "<nil>"} {
		if strings.Contains(a.stdout+a.stderr, sign) {
			t.Errorf("%s: it says %q", a.line, sign)
		}
	}
	return a
}

// ends fails the test unless the program ended with this code.
func (a *answer) ends(t testing.TB, code int) {
	t.Helper()
	if a.code != code {
		t.Errorf("%s: exit code %d, want %d", a.line, a.code, code)
	}
}

// says fails the test unless all these words are on stderr, however its lines
// are broken.
func (a *answer) says(t testing.TB, words ...string) {
	t.Helper()
	said := unwrapped(a.stderr)
	for _, w := range words {
		if !strings.Contains(said, unwrapped(w)) {
			t.Errorf("%s: stderr has not %q", a.line, w)
		}
	}
}

// gives fails the test unless stdout is this.
func (a *answer) gives(t testing.TB, want string) {
	t.Helper()
	if a.stdout != want {
		t.Errorf("%s: stdout is %q, want %q", a.line, a.stdout, want)
	}
}

// inOneLine fails the test unless stderr is a line that begins with the
// program's name; a remedy of several lines is indented behind it.
func (a *answer) inOneLine(t testing.TB) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(a.stderr, "\n"), "\n")
	if !strings.HasPrefix(lines[0], "cdc-viewlet: ") {
		t.Errorf("%s: it begins with %q", a.line, lines[0])
	}
	for _, l := range lines[1:] {
		if !strings.HasPrefix(l, "    ") {
			t.Errorf("%s: it goes on with %q", a.line, l)
		}
	}
}

func unwrapped(s string) string { return strings.Join(strings.Fields(s), " ") }

// mistake is a command line, or what it finds, that is wrong, and what is said
// of it.
type mistake struct {
	name  string
	args  []string          // check without
	rules string            // rules.hcl; deskRules without, unless there are files
	files map[string]string // beside it
	env   []string          // over DATABASE_URL and REDIS_URL
	code  int               // 1 without
	says  []string          // on stderr
}

// deskRules are rules without a mistake.
const deskRules = `viewlet "teaser" {
  params = ["id"]
  query  = "SELECT name, price FROM products WHERE id = @id"
  body   = "<b>{{.name}}</b> {{.price}}"
  all    = "SELECT id FROM products"
}
table "products" {
  refresh = teaser(id)
}
`

func (m mistake) typed(t testing.TB, d *desk) *answer {
	t.Helper()
	rules := m.rules
	if m.rules == "" && m.files == nil {
		rules = deskRules
	}
	args := m.args
	if args == nil {
		args = []string{"check"}
	}
	a := d.types(t, d.folder(t, rules, m.files), m.env, args...)
	a.ends(t, cmp.Or(m.code, 1))
	a.says(t, m.says...)
	return a
}
func splitArgs(s string) []string { return strings.Fields(s) }
