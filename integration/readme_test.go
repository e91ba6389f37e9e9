package integration

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// What README.md and docs/ show is done here as it is written.
//
// A fence is what its language says: sql is for psql, console has commands
// behind "$ " and under each what it prints, where … stands for anything. The
// content of a file follows a line that begins with its name: `rules.hcl`: ...

// fence is one fenced block of a page.
type fence struct {
	section string // the heading that it stands under
	file    string // the file that it is; empty: none
	lang    string
	body    string
}

// fences gives those of a page, a path below the repository.
func fences(t testing.TB, page string) []fence {
	t.Helper()
	var found []fence
	var open *fence
	section, before := "", ""
	for line := range strings.Lines(readPage(t, page)) {
		text := strings.TrimSpace(line)
		switch {
		case open != nil && text == "```":
			found, open, before = append(found, *open), nil, ""
		case open != nil:
			open.body += line
		case strings.HasPrefix(text, "```"):
			open = &fence{section: section, file: fileNamed.FindString(before), lang: strings.TrimPrefix(text, "```")}
			open.file = strings.Trim(open.file, "`:")
		case strings.HasPrefix(line, "#"):
			section = strings.TrimSpace(strings.TrimLeft(line, "#"))
		case text != "":
			before = text
		}
	}
	if open != nil {
		t.Fatalf("%s: a fence is not closed", page)
	}
	return found
}

var fileNamed = regexp.MustCompile("^`[^` ]+`:")

// under gives the fences of one section that have the language; any if empty.
func under(t testing.TB, page, section, lang string) []fence {
	t.Helper()
	var found []fence
	for _, f := range fences(t, page) {
		if f.section == section && (lang == "" || f.lang == lang) {
			found = append(found, f)
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s has nothing in %s under %q", page, cmp.Or(lang, "a fence"), section)
	}
	return found
}

func readPage(t testing.TB, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository(t), page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pages are README.md and all of docs/.
func pages(t testing.TB) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(repository(t), "docs", "*.md"))
	if err != nil || len(found) < 6 {
		t.Fatalf("docs/ has %v, %v", found, err)
	}
	all := []string{"README.md"}
	for _, path := range found {
		all = append(all, "docs/"+filepath.Base(path))
	}
	return all
}

// command is what a console fence shows.
type command struct{ line, prints string }

func commands(f fence) []command {
	var all []command
	for line := range strings.Lines(f.body) {
		if typed, ok := strings.CutPrefix(strings.TrimSpace(line), "$ "); ok {
			all = append(all, command{line: typed})
		} else if len(all) > 0 {
			all[len(all)-1].prints += line
		}
	}
	return all
}

// shown makes a pattern of what a page shows.
func shown(text string) *regexp.Regexp {
	return regexp.MustCompile("(?s)" + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(text)), "…", ".*"))
}

// reader is somebody who does what a page says, in an empty folder.
type reader struct {
	dir    string
	env    []string
	daemon *program // the one that runs; nil: none
}

// newReader takes the URLs of both servers. redis-cli needs the name of Redis's
// default user, which others may leave out.
func newReader(t testing.TB, postgres, redis string) *reader {
	t.Helper()
	path := filepath.Dir(buildDaemon(t)) + string(os.PathListSeparator) + os.Getenv("PATH")
	return &reader{dir: t.TempDir(), env: []string{
		"PATH=" + path, "LC_ALL=C.UTF-8", "DATABASE_URL=" + postgres, "REDIS_URL=" + strings.Replace(redis, "://:", "://default:", 1), "PSQLRC=/dev/null",
	}}
}

func (r *reader) does(t testing.TB, f fence) {
	t.Helper()
	switch {
	case f.file != "":
		writeFiles(t, r.dir, map[string]string{f.file: f.body})
	case f.lang == "sh":
		r.exports(t, f.body)
	case f.lang == "sql":
		r.psql(t, f.body)
	case f.lang == "console":
		for _, c := range commands(f) {
			r.types(t, c)
		}
	default:
		t.Fatalf("what is to be done with this in %q?\n%s", f.lang, f.body)
	}
}

// exports checks the form of what our servers' URLs take the place of.
func (r *reader) exports(t testing.TB, body string) {
	t.Helper()
	for line := range strings.Lines(body) {
		if !regexp.MustCompile(`^export (DATABASE_URL=postgres|REDIS_URL=redis)://\S+\n$`).MatchString(line) {
			t.Errorf("no URL that the daemon takes: %s", line)
		}
	}
}

func (r *reader) psql(t testing.TB, sql string) {
	t.Helper()
	r.sh(t, `psql -q -v ON_ERROR_STOP=1 "$DATABASE_URL" >/dev/null`, sql)
}

// sh gives what a command prints on stdout.
func (r *reader) sh(t testing.TB, line, stdin string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Env, cmd.Stdin = r.dir, append(os.Environ(), r.env...), strings.NewReader(stdin)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s%s", line, err, stdin, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// types types a command, and wants it to print what is shown. A look into
// Redis is repeated: what is to be seen there comes a moment later.
func (r *reader) types(t testing.TB, c command) {
	t.Helper()
	want := shown(c.prints)
	if strings.HasPrefix(c.line, "cdc-viewlet run") {
		r.daemon = run(t, r.dir, r.env, "sh", "-c", "exec "+c.line)
		eventually(t, "the daemon says "+c.prints, func() bool { return want.MatchString(r.daemon.stderr.String()) || r.daemon.hasEnded() })
		if r.daemon.hasEnded() {
			t.Fatalf("the daemon ended: %s", r.daemon.stderr.String())
		}
		return
	}
	if r.daemon != nil && strings.HasPrefix(c.line, "cdc-viewlet teardown") {
		r.endsDaemon(t)
	}
	exact := regexp.MustCompile("^" + want.String() + "$")
	var got string
	prints := func() bool {
		got = strings.TrimSpace(r.sh(t, c.line, ""))
		return exact.MatchString(got)
	}
	ok := prints()
	if !ok && strings.HasPrefix(c.line, "redis-cli") {
		ok = poll(t.Context(), patience, prints) == nil
	}
	if !ok {
		t.Fatalf("$ %s\nprints\n%s\nand the page shows\n%s", c.line, got, c.prints)
	}
}

// endsDaemon is Ctrl-C.
func (r *reader) endsDaemon(t testing.TB) {
	t.Helper()
	r.daemon.signal(t, syscall.SIGINT)
	if code := r.daemon.wait(t); code != 0 {
		t.Errorf("the daemon ended with %d after Ctrl-C", code)
	}
	r.daemon = nil
}

const exampleSection = "An example, from an empty folder"

func TestReadmeExample(t *testing.T) {
	t.Parallel()
	db, redis := startOwnPostgres(t, sandbox.PostgresConfig{}), startRedis(t) // its slot has the name of all examples
	r := newReader(t, db.url, redis.URL())
	for _, f := range under(t, "README.md", exampleSection, "") {
		r.does(t, f)
	}
	if r.daemon != nil {
		t.Error("the example does not end its daemon")
	}
	if slots := ask[int](t, db, "SELECT count(*) FROM pg_replication_slots"); slots != 0 {
		t.Errorf("the example leaves %d slots", slots)
	}
	if left := ask[int](t, db, "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_tables WHERE schemaname = 'public')"); left != 0 {
		t.Errorf("the example leaves %d tables and publications", left)
	}
	if keys := redis.client.DBSize(t.Context()).Val(); keys != 0 {
		t.Errorf("the example leaves %d keys in Redis", keys)
	}
}

// The grants of README.md, and those of docs/deploy.md with the users of
// docs/redis.md, are all that the daemon needs, and none of it makes the role a
// superuser.
func TestDeploy(t *testing.T) {
	t.Parallel()
	for page, section := range map[string]string{"README.md": "Beside your Postgres", "docs/deploy.md": "The role"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			db, redis := startOwnPostgres(t, sandbox.PostgresConfig{}), startRedis(t)
			admin := newReader(t, db.url, redis.URL())
			for _, f := range under(t, "docs/redis.md", "Users", "console") {
				for _, c := range commands(f) {
					admin.types(t, command{strings.Replace(c.line, "redis-cli ", `redis-cli -u "$REDIS_URL" `, 1), c.prints})
				}
			}
			daemon := newReader(t, as(t, db.url, "cdc_viewlet"), as(t, redis.URL(), "cdc-viewlet"))
			grantAsWritten(t, admin, under(t, page, section, "sql"))
			publishAsOwner(t, admin, daemon)
			serveAs(t, daemon, redis)
			removeAsWritten(t, admin, daemon, db)
		})
	}
}

// as is the URL with the user, whose password is the one of the pages.
func as(t testing.TB, raw, user string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, "secret")
	return u.String()
}

const asOwner = "SET ROLE shop_owner;\n"

// grantAsWritten makes the example's table, of an owner of its own, and runs
// the first block of SQL as a superuser, the others as that owner.
func grantAsWritten(t testing.TB, admin *reader, sql []fence) {
	t.Helper()
	admin.psql(t, "CREATE ROLE shop_owner; GRANT CREATE ON SCHEMA public TO shop_owner;")
	admin.psql(t, `SELECT format('ALTER DATABASE %I OWNER TO shop_owner', current_database()) \gexec`)
	for _, f := range under(t, "README.md", exampleSection, "sql") {
		admin.psql(t, asOwner+f.body)
	}
	admin.psql(t, sql[0].body)
	for _, f := range sql[1:] {
		admin.psql(t, asOwner+f.body)
	}
}

// publishAsOwner does what setup --print says; the slot is the daemon's.
func publishAsOwner(t testing.TB, admin, daemon *reader) {
	t.Helper()
	for _, f := range under(t, "README.md", exampleSection, "") {
		if f.file != "" {
			daemon.does(t, f)
		}
	}
	sql, _, found := strings.Cut(daemon.sh(t, "cdc-viewlet setup --print", ""), "SELECT pg_create_logical_replication_slot")
	if !found {
		t.Fatalf("setup --print makes no slot: %s", sql)
	}
	admin.psql(t, asOwner+sql)
}

// serveAs runs the daemon, and reads as the user of docs/redis.md that can.
func serveAs(t testing.TB, daemon *reader, redis *redisServer) {
	t.Helper()
	daemon.sh(t, "cdc-viewlet check", "")
	daemon.types(t, command{"cdc-viewlet run", `msg="ready: every fragment is in Redis" rendered=2`})
	shop := newReader(t, "", as(t, redis.URL(), "shop"))
	shop.types(t, command{`redis-cli -u "$REDIS_URL" --raw EVAL "return 1" 0 2>/dev/null`, "NOPERM…"})
	shop.types(t, command{`redis-cli -u "$REDIS_URL" --raw SET viewlet:product_teaser:42 x 2>/dev/null`, "NOPERM…"})
	shop.types(t, command{`redis-cli -u "$REDIS_URL" --raw GET viewlet:product_teaser:43`, "<a href=\"/products/43\">Ash stool</a>, € 45.50"})
	daemon.sh(t, "cdc-viewlet refresh product_teaser", "")
	daemon.sh(t, "cdc-viewlet status", "")
}

func removeAsWritten(t testing.TB, admin, daemon *reader, db *database) {
	t.Helper()
	for _, f := range under(t, "docs/deploy.md", "Monitoring", "sql") {
		admin.psql(t, f.body)
	}
	daemon.endsDaemon(t)
	admin.sh(t, "cp "+daemon.dir+"/* .", "")
	for _, f := range under(t, "docs/deploy.md", "Removal", "") {
		admin.does(t, f)
	}
	if ask[bool](t, db, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cdc_viewlet') OR EXISTS (SELECT FROM pg_replication_slots) OR EXISTS (SELECT FROM pg_publication)`) {
		t.Error("something is left after the removal")
	}
}

// All examples of docs/rules.md together are rules that check has nothing
// against.
func TestRulesPage(t *testing.T) {
	t.Parallel()
	r := newReader(t, startPostgres(t).url, startRedis(t).URL())
	for i, f := range fences(t, "docs/rules.md") {
		if f.lang == "hcl" && f.file == "" {
			f.file = fmt.Sprintf("%03d.hcl", i)
		}
		if f.file != "" || f.lang == "sql" {
			r.does(t, f)
		}
	}
	verdict := r.sh(t, "cdc-viewlet check -c .", "")
	if !shown(".: ok, … viewlets, … tables, 0 warnings").MatchString(verdict) {
		t.Errorf("check says: %s", verdict)
	}
	block := slices.IndexFunc(fences(t, "docs/rules.md"), func(f fence) bool { return f.section == "postgres and redis" })
	writeFiles(t, r.dir, map[string]string{"servers.hcl": fences(t, "docs/rules.md")[block].body})
	r.sh(t, "cdc-viewlet check --offline -c .", "")
}

// odd is what arguments may be. A single or a double dot is left out: URL
// libraries take them for steps in a path.
var odd = []string{
	"42", "", " ", "a:b", "100%", "%41", "two words", "a/b", "/", "?x=1&y=2", "#", "+", "{x}", "[x]", "!'()*", "~-._",
	`"quoted"`, `\`, "blå", "ürsprünglich", "日本", "🌳", "e\u0301", "two\nlines", "tab\t", "@lsn", "a;b,c=$d", "<b>", "^|`", "\x7f",
}

// The functions of README.md name every fragment as the daemon does, in Redis
// and over HTTP. Each language that is installed is tried, on a real Redis. The
// client libraries need not be there: stubs take their place, which ask Redis
// by redis-cli. Go has the real one.
func TestReadmeSnippets(t *testing.T) {
	t.Parallel()
	redis := startRedis(t)
	var want, wantRendered strings.Builder
	for i, arg := range odd {
		value := fmt.Sprintf("fragment %d", i)
		key := viewlet.NewKey("weird", arg)
		if err := redis.client.Set(t.Context(), "viewlet:"+key.String(), value, 0).Err(); err != nil {
			t.Fatal(err)
		}
		missed := "/viewlet/" + strings.ReplaceAll(viewlet.NewKey("weird", arg, "sv").String(), ":", "/")
		fmt.Fprintf(&want, "%s\n%s\n", value, missed)
		fmt.Fprintf(&wantRendered, "%s\n%s\n", value, "rendered")
	}
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) }))
	t.Cleanup(daemon.Close)
	for _, s := range snippets {
		t.Run(s.lang, func(t *testing.T) {
			t.Parallel()
			program, err := exec.LookPath(s.program)
			if err != nil {
				t.Skipf("there is no %s here", s.program)
			}
			dir := t.TempDir()
			writeFiles(t, dir, s.files(under(t, "README.md", "In your app", s.lang)[0].body))
			cmd := exec.CommandContext(t.Context(), program, append(s.args(dir), odd...)...)
			cmd.Dir = cmp.Or(s.in, dir)
			cmd.Env = append(os.Environ(), newReader(t, "", redis.URL()).env...)
			cmd.Env = append(cmd.Env, "VIEWLET_URL="+daemon.URL, "PYTHONPATH="+dir, "RUBYLIB="+dir)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			got, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			sameLines(t, string(got), map[bool]string{true: wantRendered.String(), false: want.String()}[s.renders])
		})
	}
}

func sameLines(t testing.TB, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range w {
		if i >= len(g) || g[i] != w[i] {
			t.Errorf("for %q: got %q, want %q", odd[min(i/2, len(odd)-1)], strings.Join(g[min(i, len(g)):min(i+1, len(g))], ""), w[i])
		}
	}
}

// snippet says how a function of README.md is run: for each argument a it
// prints viewlet("weird", a), which is in Redis, and viewlet("weird", a, "sv"),
// which is not.
type snippet struct {
	lang, program string
	files         func(code string) map[string]string
	args          func(dir string) []string
	in            string // where it runs; empty: in its folder
	renders       bool   // what it misses by itself
}

// askRedis is Lua that answers a GET as JSON: ["..."] or [false].
const askRedis = `return cjson.encode({redis.call('GET', KEYS[1])})`

var snippets = []snippet{
	{
		lang: "python", program: "python3",
		args: func(string) []string { return []string{"main.py"} },
		files: func(code string) map[string]string {
			return map[string]string{"shop.py": code, "redis.py": fmt.Sprintf(`import json, subprocess

class Redis:
    @classmethod
    def from_url(cls, url, decode_responses=False):
        assert decode_responses
        self = cls()
        self.url = url
        return self

    def get(self, key):
        out = subprocess.run(["redis-cli", "-u", self.url, "EVAL", "%s", "1", key], capture_output=True, check=True)
        return json.loads(out.stdout)[0] or None
`, askRedis), "main.py": `import sys
from shop import viewlet

for a in sys.argv[1:]:
    print(viewlet("weird", a))
    print(viewlet("weird", a, "sv"))
`}
		},
	},
	{
		lang: "php", program: "php",
		args: func(string) []string { return []string{"shop.php"} },
		files: func(code string) map[string]string {
			return map[string]string{"shop.php": code + `
foreach (array_slice($argv, 1) as $a) echo viewlet('weird', $a), "\n", viewlet('weird', $a, 'sv'), "\n";
`, "vendor/autoload.php": fmt.Sprintf(`<?php
namespace Predis;

class Client {
    function __construct(private string $url) {}
    function get(string $key): ?string {
        $ask = implode(' ', array_map('escapeshellarg', ['redis-cli', '-u', $this->url, 'EVAL', "%s", '1', $key]));
        return json_decode(shell_exec("$ask 2>/dev/null"))[0] ?: null;
    }
}
`, askRedis)}
		},
	},
	{
		lang: "ruby", program: "ruby",
		args: func(string) []string { return []string{"shop.rb"} },
		files: func(code string) map[string]string {
			return map[string]string{"shop.rb": code + `
ARGV.each { |a| puts viewlet("weird", a), viewlet("weird", a, "sv") }
`, "redis.rb": fmt.Sprintf(`require "json"

class Redis
  def initialize(url:) = @url = url
  def get(key) = JSON.parse(IO.popen(["redis-cli", "-u", @url, "EVAL", "%s", "1", key, err: "/dev/null"]).read)[0] || nil
end
`, askRedis)}
		},
	},
	{
		lang: "js", program: "node",
		args: func(string) []string { return []string{"main.mjs"} },
		files: func(code string) map[string]string {
			return map[string]string{
				"shop.mjs":                        code,
				"node_modules/redis/package.json": `{"name": "redis", "type": "module", "exports": "./index.js"}`,
				"node_modules/redis/index.js": fmt.Sprintf(`import { execFileSync } from "node:child_process";

export const createClient = ({ url }) => ({
  async connect() { return this; },
  async get(key) {
    return JSON.parse(execFileSync("redis-cli", ["-u", url, "EVAL", "%s", "1", key], { stdio: ["ignore", "pipe", "ignore"] }))[0] || null;
  },
});
`, askRedis),
				"main.mjs": `import { viewlet } from "./shop.mjs";

for (const a of process.argv.slice(2)) console.log((await viewlet("weird", a)) + "\n" + (await viewlet("weird", a, "sv")));
`,
			}
		},
	},
	{
		lang: "go", program: "go", in: "..", renders: true,
		args: func(dir string) []string {
			return []string{"run", filepath.Join(dir, "shop.go"), filepath.Join(dir, "main.go")}
		},
		files: func(code string) map[string]string {
			return map[string]string{"shop.go": "package main\n\n" + code, "main.go": `package main

import (
	"context"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"
)

func main() {
	opts, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		panic(err)
	}
	cache = redis.NewClient(opts)
	render := func() (string, error) { return "rendered", nil }
	for _, a := range os.Args[1:] {
		for _, args := range [][]string{{a}, {a, "sv"}} {
			html, err := viewlet(context.Background(), render, "weird", args...)
			if err != nil {
				panic(err)
			}
			fmt.Println(html)
		}
	}
}
`}
		},
	},
}

// Every verb and flag that a page shows is one that the program has, and every
// verb that it has is on some page.
func TestPagesShowRealCommands(t *testing.T) {
	t.Parallel()
	r := newReader(t, "", "")
	help := map[string]string{}
	for _, line := range verbLine.FindAllStringSubmatch(r.sh(t, "cdc-viewlet --help", ""), -1) {
		help[line[1]] = r.sh(t, "cdc-viewlet "+line[1]+" --help", "")
	}
	seen := map[string]bool{"help": true}
	for _, page := range pages(t) {
		for _, mention := range mentions(readPage(t, page)) {
			verb, rest := mention[0], mention[1:]
			text, known := help[verb]
			if !known {
				t.Errorf("%s shows cdc-viewlet %s, and there is no such verb", page, verb)
			}
			seen[verb] = true
			for _, flag := range rest {
				if !regexp.MustCompile(`(^|[\s,])` + regexp.QuoteMeta(flag) + `[\s,]`).MatchString(text) {
					t.Errorf("%s shows cdc-viewlet %s %s, which has no such flag", page, verb, flag)
				}
			}
		}
	}
	for verb := range help {
		if !seen[verb] {
			t.Errorf("no page shows cdc-viewlet %s", verb)
		}
	}
}

var (
	verbLine = regexp.MustCompile(`(?m)^  ([a-z]+) {2,}`)
	// A verb in a code span, on a line of a fence, or behind a path.
	mention = regexp.MustCompile("(?:`|^ *|\\$ |/|\"|ExecStart=\\S*)cdc-viewlet ([a-z]+)((?: +[^`|\n#]*)?)")
	flags   = regexp.MustCompile(`(?:^|\s)(--?[a-z][a-z-]*)`)
)

// mentions gives each command of cdc-viewlet in the code of a page: its verb,
// and its flags.
func mentions(text string) [][]string {
	var all [][]string
	inFence := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inFence = !inFence
		}
		for _, m := range mention.FindAllStringSubmatch(line, -1) {
			if !inFence && !strings.HasPrefix(m[0], "`") {
				continue // prose
			}
			found := []string{m[1]}
			for _, flag := range flags.FindAllStringSubmatch(m[2], -1) {
				found = append(found, flag[1])
			}
			all = append(all, found)
		}
	}
	return all
}

// Every relative link leads to a file, and with a # to a heading of it.
func TestPagesLinkToWhatThereIs(t *testing.T) {
	t.Parallel()
	for _, page := range append(pages(t), "CHANGELOG.md", "CONTRIBUTING.md") {
		for _, m := range link.FindAllStringSubmatch(readPage(t, page), -1) {
			target, anchor, _ := strings.Cut(strings.Join(strings.Fields(m[1]), ""), "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join(repository(t), path)); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(readPage(t, path)), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", page, m[1], path)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)]+)\)`)

// anchors gives the fragments by which a page's headings are linked to.
func anchors(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			continue
		}
		heading := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
		all = append(all, strings.ReplaceAll(regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(heading, ""), " ", "-"))
	}
	return all
}

// docs/http.md names exactly the metrics that the daemon exposes, and what
// other pages name is among them.
func TestPagesNameTheMetrics(t *testing.T) {
	t.Parallel()
	exposed := exposedMetrics(t)
	for _, page := range pages(t) {
		named := map[string]bool{}
		for _, name := range metricName.FindAllString(readPage(t, page), -1) {
			if named[name] = true; !exposed[name] {
				t.Errorf("%s names %s, which the daemon does not expose", page, name)
			}
		}
		for name := range exposed {
			if page == "docs/http.md" && !named[name] {
				t.Errorf("%s does not name %s", page, name)
			}
		}
	}
}

var metricName = regexp.MustCompile(`\bcdc_viewlet_[a-z_]+`)

// exposedMetrics runs the daemon on the example's rules, and makes it count
// everything once.
func exposedMetrics(t testing.TB) map[string]bool {
	t.Helper()
	db, redis := startPostgres(t), startRedis(t)
	r := newReader(t, db.url, redis.URL())
	for _, f := range under(t, "README.md", exampleSection, "") {
		if f.file != "" || f.lang == "sql" {
			r.does(t, f)
		}
	}
	writeFiles(t, r.dir, map[string]string{"slot.hcl": fmt.Sprintf("postgres {\n  slot = %q\n  publication = %q\n}\n", db.slot, db.publication)})
	r.types(t, command{"cdc-viewlet run -c . --http 127.0.0.1:0 --verify-rate 1000/s", "every fragment is in Redis"})
	base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(r.daemon.stderr.String())
	if err := redis.client.Del(t.Context(), "viewlet:product_teaser:42").Err(); err != nil {
		t.Fatal(err)
	}
	fetch(t, base+"/viewlet/product_teaser/42")
	psql(t, db, "UPDATE products SET price = 1")
	quiet(t, db)
	if err := redis.client.Set(t.Context(), "viewlet:product_teaser:42", "tampered", 0).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is found", func() bool { return strings.Contains(fetch(t, base+"/metrics"), "cdc_viewlet_drift_total") })
	exposed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (cdc_viewlet_\S+)`).FindAllStringSubmatch(fetch(t, base+"/metrics"), -1) {
		exposed[m[1]] = true
	}
	r.endsDaemon(t)
	return exposed
}

func fetch(t testing.TB, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v\n%s", url, resp.Status, err, body)
	}
	return string(body)
}

// What the pages say to look for in the log is what the daemon logs.
func TestPagesQuoteTheLog(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	for _, files := range goFiles(t) {
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	for page, heading := range map[string]string{"docs/deploy.md": "Log lines, with their level:", "docs/reliability.md": "Of the log"} {
		_, table, found := strings.Cut(readPage(t, page), heading)
		table, _, _ = strings.Cut(table, "\n## ")
		lines := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (info|warn|error) \\|").FindAllStringSubmatch(table, -1)
		if !found || len(lines) < 5 {
			t.Fatalf("%s has a table of %d log lines", page, len(lines))
		}
		for _, m := range lines {
			level := strings.ToUpper(m[2][:1]) + m[2][1:]
			if !strings.Contains(code.String(), fmt.Sprintf(".%s(%q", level, m[1])) {
				t.Errorf("%s: nothing logs %q at level %s", page, m[1], m[2])
			}
		}
	}
}

// The tests that docs/reliability.md names are there.
func TestPagesNameRealTests(t *testing.T) {
	t.Parallel()
	real := map[string]bool{}
	for _, files := range goFiles(t) {
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
				real[string(m[1])] = true
			}
		}
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(readPage(t, "docs/reliability.md"), -1)
	if len(named) < 30 {
		t.Fatalf("docs/reliability.md names %d tests", len(named))
	}
	for _, m := range named {
		if !real[m[1]] {
			t.Errorf("docs/reliability.md names %s, which is no test", m[1])
		}
	}
}
