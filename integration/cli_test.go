package integration

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The command line, as people and scripts meet it, is tried by tables: what is
// typed, and what comes of it. `go test -v -run CLI ./integration` shows all
// that is said.

// secret is the password in every URL that these tests give. Nothing that the
// program writes may have the part of it that needs no encoding.
const secret, telltale = "Tr0ub4dor&3 /@:", "Tr0ub4dor"

// desk is where somebody types: a small shop in Postgres and a Redis, each with
// a user that has the secret for a password.
type desk struct {
	db       *database
	redis    *redisServer
	role     string // owns the database, and may replicate
	postgres string // URL of the role
	cache    string // and of a user of Redis
}

const deskSQL = `
CREATE TABLE categories (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE products (id int PRIMARY KEY, category_id int, name text NOT NULL, price numeric(8,2), description text);
INSERT INTO categories VALUES (1, 'Trees'), (2, 'Shrubs');
INSERT INTO products VALUES (42, 1, 'Oak & Sons', 10.50, NULL), (43, 1, 'Ash', 7, 'tall'), (44, 2, 'Box', NULL, 'low')`

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

// TestCLIRefuses holds all that is refused, and the verbs that touch nothing: one
// desk serves them, and is as it was when they are through.
func TestCLIRefuses(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	for _, of := range []struct {
		what  string
		tries func(*testing.T, *desk)
	}{
		{"silent servers", silentServers}, // first, for they take their time
		{"rules files", rulesFiles},
		{"unreadable rules", unreadableRules},
		{"templates", templates},
		{"queries", queries},
		{"rules of tables", rulesOfTables},
		{"many mistakes", manyMistakes},
		{"Postgres URL", postgresURL},
		{"roles", roles},
		{"Redis URL", redisURL},
		{"Redis refuses", redisRefuses},
		{"Redis is loading", redisLoads},
		{"usage", usage},
		{"check", checks},
		{"render", renders},
	} {
		t.Run(of.what, func(t *testing.T) {
			t.Parallel()
			of.tries(t, d)
		})
	}
	t.Cleanup(func() { d.untouched(t) })
}

// startDesk sets up a desk on the cluster that all tests share.
func startDesk(t testing.TB) *desk {
	t.Helper()
	return newDesk(t, startPostgres)
}

func newDesk(t testing.TB, start func(testing.TB) *database) *desk {
	t.Helper()
	d := &desk{redis: startRedis(t)}
	t.Cleanup(func() { // when the database is gone
		if d.db != nil && d.db.PID() != 0 {
			administer(t, d.db.Postgres, "DROP ROLE "+d.role)
		}
	})
	d.db = start(t)
	d.role = d.db.slot
	psql(t, d.db, fmt.Sprintf("CREATE ROLE %[1]s LOGIN REPLICATION PASSWORD '%[2]s'; ALTER DATABASE %[1]s OWNER TO %[1]s; GRANT ALL ON SCHEMA public TO %[1]s", d.role, secret))
	d.asOwner(t, deskSQL)
	d.postgres = withUser(t, d.db.url, d.role)
	d.cache = d.redisUser(t, "app", "~*", "&*", "+@all")
	return d
}

// asOwner runs statements as the role.
func (d *desk) asOwner(t testing.TB, sql string) {
	t.Helper()
	psql(t, d.db, fmt.Sprintf("SET ROLE %s; %s; RESET ROLE", d.role, sql))
}

// addRole makes another role and gives its URL.
func (d *desk) addRole(t testing.TB, suffix, options string) (name, url string) {
	t.Helper()
	name = d.role + "_" + suffix
	psql(t, d.db, fmt.Sprintf("CREATE ROLE %s LOGIN %s PASSWORD '%s'", name, options, secret))
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY ", "DROP ROLE "} {
			if _, err := d.db.pool.Exec(context.Background(), sql+name); err != nil {
				t.Errorf("%s%s: %v", sql, name, err)
			}
		}
	})
	return name, withUser(t, d.db.url, name)
}

// redisUser adds a user with these rights to Redis and gives its URL.
//
// https://redis.io/docs/latest/commands/acl-setuser/
func (d *desk) redisUser(t testing.TB, name string, rights ...any) string {
	t.Helper()
	return addRedisUser(t, d.redis, name, rights...)
}

func addRedisUser(t testing.TB, r *redisServer, name string, rights ...any) string {
	t.Helper()
	if err := r.client.Do(t.Context(), append([]any{"ACL", "SETUSER", name, "on", ">" + secret}, rights...)...).Err(); err != nil {
		t.Fatal(err)
	}
	return withUser(t, r.URL(), name)
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

// folder makes a folder with these rules and files. Rules without a postgres
// block are given one with the desk's own slot and publication, at their end,
// so that lines count from their beginning.
func (d *desk) folder(t testing.TB, rules string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if rules != "" && !strings.Contains(rules, "postgres {") {
		rules += "\n" + d.slotBlock()
	}
	if rules != "" {
		writeFiles(t, dir, map[string]string{"rules.hcl": rules})
	}
	writeFiles(t, dir, files)
	return dir
}

func (d *desk) slotBlock() string {
	return fmt.Sprintf("postgres {\n  slot        = %q\n  publication = %q\n}\n", d.db.slot, d.db.publication)
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
	return daemon(t, dir, append(d.env(), env...), args...)
}

// env gives the variables by which the program finds both servers.
func (d *desk) env() []string {
	return []string{promptly, "DATABASE_URL=" + d.postgres, "REDIS_URL=" + d.cache}
}

// promptly lets a program with the race detector in it end when it is done, and
// not a second later.
//
// https://go.dev/doc/articles/race_detector#Options
const promptly = "GORACE=atexit_sleep_ms=0"

// typesAlone runs the program to its end in dir, without servers.
func typesAlone(t testing.TB, dir string, args ...string) *answer {
	t.Helper()
	p := daemon(t, dir, []string{promptly}, args...)
	p.wait(t)
	return answerOf(t, p)
}

// untouched fails the test when anything was left in Postgres or Redis, but for
// the trace of the question whether Redis takes writes, which goes by itself.
func (d *desk) untouched(t testing.TB) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var left int
	err := d.db.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1)
		+ (SELECT count(*) FROM pg_publication WHERE pubname = $2)`, d.db.slot, d.db.publication).Scan(&left)
	if err != nil || left > 0 {
		t.Errorf("%d slots and publications were made, %v", left, err)
	}
	keys, err := d.redis.client.Keys(ctx, "*").Result()
	keys = slices.DeleteFunc(keys, func(key string) bool { return key == "viewlet:@lsn:{viewlet:@probe}" })
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
	t.Logf("$ %s\n%s%s(exit code %d)", strings.ReplaceAll(a.line, telltale, "*"), a.stdout, a.stderr, a.code)
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
			t.Errorf("%s: stderr has no %q:\n%s", a.line, w, a.stderr)
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

// saysInALine fails the test unless stderr is these words, in lines that each
// begin with the program's name; SQL of several lines is indented below.
func (a *answer) saysInALine(t testing.TB, words ...string) {
	t.Helper()
	for l := range strings.Lines(a.stderr) {
		if !strings.HasPrefix(l, "cdc-viewlet: ") && !strings.HasPrefix(l, "    ") {
			t.Errorf("%s: it has the line %q", a.line, l)
		}
	}
	a.says(t, words...)
}

func unwrapped(s string) string { return strings.Join(strings.Fields(s), " ") }

// mistake is what somebody does who has made one, and what is said of it.
type mistake struct {
	name  string
	rules string            // rules.hcl; deskRules without, unless there are files
	files map[string]string // beside it
	args  []string          // behind the verb
	env   []string          // over DATABASE_URL and REDIS_URL
	code  int               // 1 without
	says  []string          // on stderr
}

// types runs the verb into the mistake.
func (m mistake) types(t testing.TB, d *desk, verb ...string) *answer {
	t.Helper()
	rules := m.rules
	if rules == "" && m.files == nil {
		rules = deskRules
	}
	a := d.types(t, d.folder(t, rules, m.files), m.env, append(verb, m.args...)...)
	a.ends(t, cmp.Or(m.code, 1))
	return a
}

// silentServers are a host that takes connections and says nothing, as some
// firewalls do, and a Redis that hangs.
func silentServers(t *testing.T, d *desk) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	hanging := startRedis(t)
	app := addRedisUser(t, hanging, "app", "~*", "&*", "+@all")
	if err := hanging.Pause(); err != nil {
		t.Fatal(err)
	}
	dir := d.folder(t, deskRules, nil)
	postgres := d.starts(t, dir, []string{"DATABASE_URL=" + changed(t, d.postgres, func(u *url.URL) { u.Host = silent.Addr().String() })}, "run")
	redis := d.starts(t, dir, []string{"REDIS_URL=" + app}, "run")
	for p, says := range map[*program][]string{
		postgres: {"timeout", "; see whether that is a Postgres, whether it is up, and whether a firewall stands before it"},
		redis:    {"it did not answer within 10s: see whether it is up, overloaded, or behind a firewall"},
	} {
		p.wait(t)
		a := answerOf(t, p)
		a.ends(t, 1)
		a.saysInALine(t, says...)
	}
}
