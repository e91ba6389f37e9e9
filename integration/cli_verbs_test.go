package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Here the verbs do what they are for.

func checks(t *testing.T, d *desk) {
	noDatabase := []string{"DATABASE_URL=", "REDIS_URL="}
	folder := map[string]string{
		"rules/teaser.hcl": deskRules,
		"rules/menu.hcl.json": `{
			"viewlet": {"menu": {"query": "SELECT name FROM categories ORDER BY name", "rows": true}},
			"table": {"categories": {"refresh": "${menu()}"}}}`,
		"rules/postgres.hcl": d.slotBlock(),
		"rules/README.md":    "not a rule",
	}
	for _, c := range []struct {
		name, rules string
		files       map[string]string
		env         []string
		args        []string
		gives, says string
	}{
		{name: "with the database", rules: deskRules, gives: "rules.hcl: ok, 1 viewlet, 1 table, 0 warnings; compared with the database\n"},
		{name: "offline", rules: deskRules, env: noDatabase, args: []string{"--offline"}, gives: "rules.hcl: ok, 1 viewlet, 1 table, 0 warnings; not compared with a database\n"},
		{
			name: "offline, what only a database knows", env: noDatabase, args: []string{"--offline"},
			rules: strings.ReplaceAll(deskRules, "products", "nonsense"), gives: "rules.hcl: ok, 1 viewlet, 1 table, 0 warnings; not compared with a database\n",
		},
		{
			name: "a warning", rules: strings.Replace(deskRules, `all    = "SELECT id FROM products"`, "derive = false", 1),
			gives: "rules.hcl: ok, 1 viewlet, 1 table, 1 warning; compared with the database\n", says: "Warning: No list of all instances",
		},
		{name: "a folder", files: folder, args: []string{"-c", "rules"}, gives: "rules: ok, 2 viewlets, 2 tables, 0 warnings; compared with the database\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := d.types(t, d.folder(t, c.rules, c.files), c.env, append([]string{"check"}, c.args...)...)
			a.ends(t, 0)
			a.gives(t, c.gives)
			a.says(t, c.says)
			if c.says == "" && a.stderr != "" {
				t.Errorf("%s: it says %q", a.line, a.stderr)
			}
		})
	}
	t.Cleanup(func() { d.untouched(t) })
}

func renders(t *testing.T, d *desk) {
	dir := d.folder(t, `
		viewlet "teaser" {
			params   = ["id"]
			query    = "SELECT name, price FROM products WHERE id = @id"
			template = "teaser.html"
		}
		viewlet "label" {
			params   = ["id", "lang"]
			query    = "SELECT name, @lang AS language FROM products WHERE id = @id"
			template = "label.txt"
		}
		viewlet "product" {
			params = ["id"]
			query  = "SELECT id, name, price, description FROM products WHERE id = @id"
		}
		viewlet "menu" {
			query = "SELECT name FROM categories ORDER BY name"
			rows  = true
		}
		viewlet "basket" {
			params = ["id"]
			query  = "SELECT name FROM products WHERE id = @id"
			body   = "{{range .rows}}{{.name}}{{else}}empty{{end}}"
			empty  = "render"
		}
		viewlet "price" {
			params = ["id"]
			query  = "SELECT 1 / (price - 7) AS share FROM products WHERE id = @id"
		}
		viewlet "nap" {
			params = ["id"]
			query  = "SELECT pg_sleep(60)::text AS nap FROM products WHERE id = @id"
		}
		viewlet "long" {
			params = ["id"]
			query  = "SELECT repeat(name, 1000) AS name FROM products WHERE id = @id"
		}`, map[string]string{
		"teaser.html":  "<b>{{.name}}</b>{{template \"p.html\" .}}\n",
		"p.html":       " {{with .price}}{{.}}{{else}}ask{{end}}",
		"label.txt":    "{{.name}} ({{.language}})",
		"unused.html":  "{{.nothing}}",
		"unused.thing": "x",
	})
	for _, c := range []struct {
		args  []string
		code  int
		gives string
		says  string
	}{
		{args: []string{"teaser", "42"}, gives: "<b>Oak &amp; Sons</b> 10.50\n"},
		{args: []string{"teaser", "042"}, gives: "<b>Oak &amp; Sons</b> 10.50\n"},
		{args: []string{"teaser", "44"}, gives: "<b>Box</b> ask\n"},
		{args: []string{"label", "42", "sv: %é\n"}, gives: "Oak & Sons (sv: %é\n)"},
		{args: []string{"product", "42"}, gives: `{"id":42,"name":"Oak & Sons","price":10.50,"description":null}`},
		{args: []string{"menu"}, gives: `[{"name":"Shrubs"},{"name":"Trees"}]`},
		{args: []string{"basket", "1"}, gives: "empty"},
		{args: []string{"basket", "--", "-1"}, gives: "empty"},
		{args: []string{"teaser", "1"}, code: 1, says: "cdc-viewlet: render teaser:1: its query has no row, so there is no such fragment"},
		{args: []string{"price", "43"}, code: 1, says: "cdc-viewlet: render price:43: "},
		{args: []string{"price", "43"}, code: 1, says: "division by zero"},
		{args: []string{"nap", "42", "--statement-timeout", "50ms"}, code: 1, says: "statement timeout (SQLSTATE 57014); make the query faster, or raise --statement-timeout"},
		{args: []string{"long", "42", "--max-fragment", "100"}, code: 1, says: "cdc-viewlet: render long:42: the fragment is larger than 100 bytes; let the query return less, or raise --max-fragment"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			a := d.types(t, dir, []string{"REDIS_URL="}, append([]string{"render"}, c.args...)...)
			a.ends(t, c.code)
			a.gives(t, c.gives)
			a.saysInALine(t, c.says)
		})
	}
	t.Cleanup(func() { d.untouched(t) })
}

func TestCLIRefresh(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	dir := d.folder(t, deskRules, nil)
	refresh := func(want string, args ...string) {
		t.Helper()
		a := d.types(t, dir, nil, append([]string{"refresh", "teaser"}, args...)...)
		a.ends(t, 0)
		if got := regexp.MustCompile(` in \S+:`).ReplaceAllString(a.stdout, ":"); got != want {
			t.Errorf("refresh %q gives %q, want %q", args, got, want)
		}
		if a.stderr != "" {
			t.Errorf("refresh %q says %q", args, a.stderr)
		}
	}
	holds := func(want map[string]string) {
		t.Helper()
		for key, body := range want {
			if got, ok := redisGet(t, d.redis, "viewlet:teaser:"+key); got != body || ok != (body != "") {
				t.Errorf("teaser:%s is %q, %t, want %q", key, got, ok, body)
			}
		}
	}
	refresh("teaser:42: 1 rendered: 1 changed, 0 as they were, 0 deleted\n", "42")
	holds(map[string]string{"42": "<b>Oak &amp; Sons</b> 10.50", "43": "", "44": ""})
	refresh("teaser:42: 1 rendered: 0 changed, 1 as they were, 0 deleted\n", "042")

	refresh("teaser:*: 3 rendered: 2 changed, 1 as they were, 0 deleted\n")
	holds(map[string]string{"42": "<b>Oak &amp; Sons</b> 10.50", "43": "<b>Ash</b> 7.00", "44": "<b>Box</b> "})

	d.asOwner(t, "DELETE FROM products WHERE id = 43; UPDATE products SET name = 'Yew' WHERE id = 44")
	if err := d.redis.client.Set(t.Context(), "viewlet:teaser:no:such", "orphan", 0).Err(); err != nil {
		t.Fatal(err)
	}
	refresh("teaser:43: 1 rendered: 0 changed, 0 as they were, 1 deleted\n", "43")
	refresh("teaser:43: 1 rendered: 0 changed, 0 as they were, 0 deleted\n1 without a row, and not in Redis\n", "43")
	d.asOwner(t, "DELETE FROM products WHERE id = 42")
	refresh("teaser:*: 2 rendered: 1 changed, 0 as they were, 1 deleted\n")
	holds(map[string]string{"42": "", "43": "", "44": "<b>Yew</b> ", "no:such": ""})
}

// TestCLIRefreshTellsOfFailures refreshes fragments of which one cannot be
// rendered: the others are.
func TestCLIRefreshTellsOfFailures(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	dir := d.folder(t, query("SELECT name, 1 / (price - 7) AS share FROM products WHERE id = @id"), nil)
	a := d.types(t, dir, nil, "refresh", "teaser")
	a.ends(t, 1)
	a.says(t, "teaser:43: ", "division by zero", "cdc-viewlet: 1 fragment could not be rendered")
	if _, ok := redisGet(t, d.redis, "viewlet:teaser:42"); !ok {
		t.Error("teaser:42 is not there")
	}
	status := d.types(t, dir, nil, "status")
	status.ends(t, 1)
	if !strings.Contains(status.stdout, "1 failed") || !strings.Contains(status.stdout, "teaser:43: ") {
		t.Errorf("status gives %q", status.stdout)
	}
}

// TestCLILife goes the way of a shop whose DBA makes what the daemon's role may
// not: from before the first run until everything is gone.
func TestCLILife(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	dir := d.folder(t, deskRules, nil)
	status := func(code int, want ...string) {
		t.Helper()
		a := d.types(t, dir, nil, "status")
		a.ends(t, code)
		for _, w := range want {
			if !strings.Contains(unwrapped(a.stdout), w) {
				t.Errorf("status has no %q", w)
			}
		}
	}
	slot := "slot " + d.db.slot
	status(1, slot+" does not exist: `cdc-viewlet run` or `cdc-viewlet setup` makes it", "nothing written yet", "teaser not rendered whole yet")

	// The role owns no table and creates nothing.
	role, daemonURL := d.addRole(t, "daemon", "REPLICATION")
	d.asOwner(t, "GRANT SELECT ON products TO "+role)
	d.postgres = daemonURL
	printed := d.types(t, dir, nil, "setup", "--print")
	printed.ends(t, 0)
	d.untouched(t)
	d.dba(t, printed.stdout)
	again := d.types(t, dir, nil, "setup")
	again.ends(t, 0)
	if want := fmt.Sprintf("publication %[1]s: 1 table, was there\nslot %[1]s: was there, at ", d.db.slot); !strings.HasPrefix(again.stdout, want) {
		t.Errorf("setup gives %q", again.stdout)
	}
	status(0, slot+", nobody streams it")

	p := d.starts(t, dir, nil, "run", "--log-level", "debug")
	p.says(t, "ready: every fragment is in Redis")
	d.asOwner(t, "UPDATE products SET name = 'Yew' WHERE id = 42")
	quiet(t, d.db)
	if body, _ := redisGet(t, d.redis, "viewlet:teaser:42"); body != "<b>Yew</b> 10.50" {
		t.Errorf("teaser:42 is %q", body)
	}
	status(0, slot+", streaming, walsender pid ", "fresh as of ", "teaser fresh")
	d.types(t, dir, nil, "teardown", "--fragments").saysInALine(t, `cdc-viewlet: slot "`+d.db.slot+`" is in use by the server process `, "; to mend it: stop the daemon that streams it")
	if _, ok := redisGet(t, d.redis, "viewlet:teaser:42"); !ok {
		t.Error("teardown took the fragments of a daemon that runs")
	}
	p.stop(t)
	if a := answerOf(t, p); a.stdout != "" {
		t.Errorf("run gives %q", a.stdout)
	}
	status(0, slot+", nobody streams it", "fresh as of ", "teaser rendered, and no daemon keeps it fresh now")

	d.postgres = withUser(t, d.db.url, d.role)
	unmade := d.types(t, dir, nil, "teardown", "--print")
	unmade.ends(t, 0)
	status(0, slot+", nobody streams it")
	d.dba(t, unmade.stdout)
	status(1, slot+" does not exist")
	all := d.types(t, dir, nil, "teardown", "--fragments")
	all.ends(t, 0)
	if !strings.Contains(all.stdout, "are gone\n") || !strings.Contains(all.stdout, "keys deleted\n") {
		t.Errorf("teardown gives %q", all.stdout)
	}
	d.untouched(t)
}

// dba pipes SQL into psql as a superuser, which sends a statement at a time.
func (d *desk) dba(t testing.TB, sql string) {
	t.Helper()
	for statement := range strings.SplitSeq(sql, ";\n") {
		psql(t, d.db, statement)
	}
}

// TestCLISetup makes and drops by itself.
func TestCLISetup(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	dir := d.folder(t, deskRules, nil)
	made := d.types(t, dir, nil, "setup")
	made.ends(t, 0)
	if want := fmt.Sprintf("publication %[1]s: 1 table, made\nslot %[1]s: made, at ", d.db.slot); !strings.HasPrefix(made.stdout, want) {
		t.Errorf("setup gives %q", made.stdout)
	}
	dropped := d.types(t, dir, nil, "teardown")
	dropped.ends(t, 0)
	dropped.gives(t, fmt.Sprintf("slot %[1]s and publication %[1]s are gone\n", d.db.slot))
	d.untouched(t)
}

// TestCLIJSONLog wants every line on stderr to be JSON, whatever happens.
func TestCLIJSONLog(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	run := func(env []string, rules string) *program {
		return d.starts(t, d.folder(t, rules, nil), env, "run", "--log-format", "json", "--log-level", "debug")
	}
	lines := func(p *program) (lines []map[string]any) {
		t.Helper()
		for line := range strings.Lines(p.stderr.String()) {
			var l map[string]any
			if err := json.Unmarshal([]byte(line), &l); err != nil || l["msg"] == nil || l["level"] == nil {
				t.Errorf("stderr has %q: %v", line, err)
			}
			lines = append(lines, l)
		}
		answerOf(t, p)
		return lines
	}
	noAll := strings.Replace(deskRules, `all    = "SELECT id FROM products"`, "derive = false", 1) // a warning
	p := run(nil, noAll)
	p.says(t, "ready: every fragment is in Redis")
	p.stop(t)
	if got := lines(p)[0]; got["level"] != "WARN" || got["problem"] != "No list of all instances" || got["at"] != "rules.hcl:1" {
		t.Errorf("the warning is %v", got)
	}
	for name, p := range map[string]*program{
		"rules":    run(nil, query("SELECT nmae FROM products WHERE id = @id")),
		"Postgres": run([]string{"DATABASE_URL=postgres://app:" + telltale + "@127.0.0.1:1/shop"}, deskRules),
		"Redis":    run([]string{"REDIS_URL=redis://app:" + telltale + "@127.0.0.1:1"}, deskRules),
		"usage":    run([]string{"REDIS_URL="}, deskRules),
	} {
		if code := p.wait(t); code == 0 {
			t.Errorf("%s: exit code 0", name)
		}
		got := lines(p)
		errors := slices.DeleteFunc(got, func(l map[string]any) bool { return l["level"] == "DEBUG" })
		if len(errors) != 1 || errors[0]["level"] != "ERROR" {
			t.Errorf("%s: it logs %v", name, errors)
		}
	}
}

// TestCLIHTTP gives arguments that fit and others over HTTP.
func TestCLIHTTP(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	p := d.starts(t, d.folder(t, deskRules, nil), nil, "run", "--http", "127.0.0.1:0")
	p.says(t, "ready: every fragment is in Redis")
	at := regexp.MustCompile(`url=(http://127\.0\.0\.1:\d+)`).FindStringSubmatch(p.stderr.String())
	if at == nil {
		t.Fatal("it does not say where it serves")
	}
	for _, c := range []struct {
		ask  string
		code int
		says string
	}{
		{"GET /viewlet/teaser/42", http.StatusOK, "<b>Oak &amp; Sons</b> 10.50"},
		{"GET /viewlet/teaser/1", http.StatusNotFound, ""},
		{"GET /viewlet/teaser/oak", http.StatusBadRequest, `id is of type integer, and "oak" does not fit it`},
		{"GET /viewlet/teaser/42%27%20OR%201=1", http.StatusBadRequest, "does not fit it"},
		{"GET /viewlet/teaser/99999999999", http.StatusBadRequest, "does not fit it"},
		{"GET /viewlet/teaser/42/43", http.StatusBadRequest, "teaser takes 1 argument"},
		{"GET /viewlet/teaser", http.StatusBadRequest, "teaser takes 1 argument"},
		{"GET /viewlet/taeser/42", http.StatusNotFound, `there is no viewlet "taeser". Did you mean "teaser"?`},
		{"POST /refresh/teaser/oak", http.StatusBadRequest, "does not fit it"},
		{"POST /refresh/teaser/42/43", http.StatusBadRequest, "teaser takes 1 argument"},
		{"POST /refresh/taeser/42", http.StatusNotFound, `Did you mean "teaser"?`},
		{"GET /refresh/teaser/42", http.StatusMethodNotAllowed, ""},
	} {
		method, path, _ := strings.Cut(c.ask, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, at[1]+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", c.ask, err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.code || !strings.Contains(string(body), c.says) {
			t.Errorf("%s: %d %q, %v, want %d %q", c.ask, res.StatusCode, body, err, c.code, c.says)
		}
	}
	if keys, err := d.redis.client.Keys(t.Context(), "viewlet:teaser:*").Result(); err != nil || len(keys) != 3 {
		t.Errorf("Redis has %q, %v", keys, err)
	}
	p.stop(t)
	answerOf(t, p)
}
