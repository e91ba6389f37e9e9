package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// verify runs the verb beside a daemon of the site, to its end.
func (s *site) verify(t testing.TB, args ...string) *answer {
	t.Helper()
	p := daemon(t, s.dir, environment(s.db, s.redis), append([]string{"verify", "-c", s.rules()}, args...)...)
	if err := poll(t.Context(), 5*patience, p.hasEnded); err != nil { // it waits for a daemon that may have much to do
		t.Fatalf("wait until %s ends: %v", p.cmd, err)
	}
	return answerOf(t, p)
}

// summed gives the findings of an answer, and the lines of its summary by
// viewlet with the columns that the header names.
func summed(a *answer) (findings []string, rows map[string]string) {
	before, after, _ := strings.Cut(a.stdout, "viewlet ")
	findings = strings.Split(strings.TrimSuffix(before, "\n"), "\n")
	rows = map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(after), "\n")[1:] {
		fields := strings.Fields(strings.ReplaceAll(line, "(of no viewlet)", "(none)"))
		rows[fields[0]] = strings.Join(fields[1:], " ")
	}
	return findings, rows
}

// verifiedRules are rules with a viewlet of each kind that verify tells apart.
const verifiedRules = smallRules + `
viewlet "asked" {
  params = ["id"]
  query  = "SELECT n FROM t WHERE id = @id"
  body   = "asked {{.n}}"
  all    = "SELECT id FROM t"
  keep   = "requested"
}
viewlet "passing" {
  params  = ["id"]
  query   = "SELECT n FROM t WHERE id = @id"
  body    = "passing {{.n}}"
  all     = "SELECT id FROM t"
  timeout = "1h"
}
viewlet "shown" {
  params = ["id"]
  query  = "SELECT n FROM t WHERE id = @id"
  body   = "shown {{if .rows}}{{.n}}{{else}}empty{{end}}"
  all    = "SELECT id FROM t WHERE id <= 3"
  empty  = "render"
}
viewlet "shares" {
  params = ["id"]
  query  = "SELECT 100 / (id - 7) AS share FROM t WHERE id = @id AND id BETWEEN 5 AND 9"
  all    = "SELECT id FROM t WHERE id BETWEEN 5 AND 9"
}
viewlet "derived" {
  params = ["id"]
  query  = "SELECT n FROM t WHERE id = @id"
  body   = "derived {{.n}}"
}
table "t" {
  refresh = [asked(id), passing(id), shown(id), shares(id)]
}
`

// What was done to Redis by hand is found, each in its way, and mended; what
// only looks like it is not found.
func TestVerify(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), smallSchema, map[string]string{"rules/rules.hcl": verifiedRules, "rules/v.txt": "one {{.n}}"})
	p := s.run(t)
	failed := "shares:7 failed: ERROR: division by zero (SQLSTATE 22012)"
	a := s.verify(t)
	a.ends(t, 1) // for what failed
	findings, rows := summed(a)
	if got := strings.Join(findings, "\n"); got != failed {
		t.Errorf("found are\n%s", got)
	}
	for name, want := range map[string]string{"v": "500 0 0 0 0", "asked": "0 0 0 0 0", "passing": "500 0 0 0 0", "shown": "3 0 0 0 0", "shares": "5 0 0 0 1", "derived": "500 0 0 0 0"} {
		if rows[name] != want {
			t.Errorf("of %s it counts %q, want %q", name, rows[name], want)
		}
	}

	redis := s.redis.client
	spoil := func() {
		t.Helper()
		for key, body := range map[string]string{
			"v:1": "tampered", "v:9999": "an orphan", "v:oak": "fits no param", "v:007": "written otherwise", "v:1:2": "too many",
			"gone:1": "no such viewlet", "asked:1": "asked n1", "asked:2": "tampered", "shown:99": "shown n99", "shown:9999": "shown empty",
		} {
			if err := redis.Set(t.Context(), "viewlet:"+key, body, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range []error{
			redis.Del(t.Context(), "viewlet:v:2", "viewlet:passing:2", "viewlet:v:3", "viewlet:derived:1").Err(),
			redis.RPush(t.Context(), "viewlet:v:3", "a list").Err(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	wrong := []string{
		"v:1 different", "v:2 missing", "v:3 different", "v:9999 orphaned", "v:oak orphaned", "v:007 orphaned", "v:1:2 orphaned",
		"gone:1 orphaned", "asked:2 different", "derived:1 missing",
	}
	finds := func(a *answer, mark string) {
		t.Helper()
		found, _ := summed(a)
		want := map[string]bool{failed: true}
		for _, line := range wrong {
			want[line+mark] = true
		}
		for _, line := range found {
			if !want[line] {
				t.Errorf("%s: found is %q", a.line, line)
			}
			delete(want, line)
		}
		for line := range want {
			t.Errorf("%s: %q is not found", a.line, line)
		}
	}
	spoil()
	a = s.verify(t)
	a.ends(t, 1)
	finds(a, "")
	if strings.Contains(a.stderr, "daemon") {
		t.Errorf("beside a daemon it says %q", a.stderr)
	}
	s.want(t, "v:1", "tampered") // nothing was touched

	told := redis.Subscribe(t.Context(), "viewlet:@refreshed")
	defer told.Close()
	if _, err := told.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	a = s.verify(t, "--repair")
	a.ends(t, 1) // one fails still
	finds(a, ", repaired")
	if _, rows = summed(a); rows["v"] != "503 1 2 3 0 6" || rows["(none)"] != "2 0 0 2 0 2" {
		t.Errorf("it counts %v", rows)
	}
	for range wrong {
		if _, err := told.ReceiveMessage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.want(t, "v:1", "one n1")
	s.want(t, "v:2", "one n2")
	s.want(t, "v:3", "one n3")
	s.want(t, "asked:1", "asked n1")
	s.want(t, "asked:2", "asked n2")
	for _, key := range []string{"v:9999", "v:oak", "v:007", "v:1:2", "gone:1", "passing:2"} {
		s.want(t, key, "")
	}

	psql(t, s.db, "DELETE FROM t WHERE id = 7")
	s.verify(t, "--repair").ends(t, 0)
	spoil()
	s.verify(t, "--repair").ends(t, 0) // all of it mended
	s.verify(t).ends(t, 0)
	p.stop(t)
}

// One viewlet, one fragment, and a sample.
func TestVerifySome(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	for _, key := range []string{"v:1", "v:2", "w:1"} {
		if err := s.redis.client.Set(t.Context(), "viewlet:"+key, "tampered", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]string{
		"v":            "v:1 different\nv:2 different\n",
		"v 1":          "v:1 different\n",
		"v 001":        "v:1 different\n",
		"v 3":          "",
		"v 9999":       "",
		"--sample 500": "v:1 different\nv:2 different\nw:1 orphaned\n",
	} {
		a := s.verify(t, strings.Fields(line)...)
		a.ends(t, min(1, len(want)))
		got, _, _ := strings.Cut(a.stdout, "viewlet ")
		for l := range strings.Lines(want) {
			if !strings.Contains(got, l) {
				t.Errorf("%s: %q is not found", a.line, l)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: found is %q", a.line, got)
		}
	}
	_, rows := summed(s.verify(t, "--sample", "10"))
	if !strings.HasPrefix(rows["v"], "10 ") {
		t.Errorf("of a sample of 10 it counts %q", rows["v"])
	}
	p.stop(t)
}

// Without a daemon that could still come, what has changed counts after a while,
// and it is said why. With one that waits for something, after --wait.
func TestVerifyWithoutDaemon(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	p.stop(t)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 1")
	a := s.verify(t)
	a.ends(t, 1)
	if findings, _ := summed(a); len(findings) != 1 || findings[0] != "v:1 different" {
		t.Errorf("found is %q", findings)
	}
	a.says(t, "no daemon streams the slot, so what it has not seen counts as different", "slot="+s.db.slot)
	s.verify(t, "--repair", "--wait", "0s").ends(t, 0)
	s.want(t, "v:1", "one x")
	p = s.run(t)
	s.verify(t).ends(t, 0)
	p.stop(t)
}

// While several writers are at work, nothing is said to be wrong; and what is
// really wrong is mended, without a fragment that gets older by it.
func TestVerifyUnderFire(t *testing.T) {
	t.Parallel()
	files, sql := shopFiles(t)
	s := newSite(t, startPostgres(t), sql, files)
	// A commit that does not wait for the disk is visible before it is in the stream.
	psql(t, s.db, fmt.Sprintf("ALTER DATABASE %s SET synchronous_commit = off", s.db.slot))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := s.run(t, "--http", "127.0.0.1:0", "--verify-rate", "2000/s")
	url := urlOf(t, p)
	during := func(seed uint64, what func()) {
		writing, done := context.WithCancel(t.Context())
		go func() {
			defer done()
			write(t, t.Context(), s.db, seed, 3, 120, shopStatements)
		}()
		for writing.Err() == nil {
			what()
		}
	}
	runs := 0
	during(seed, func() {
		runs++
		a := s.verify(t, "--wait", "5m")
		a.ends(t, 0)
		if findings, _ := summed(a); len(findings) > 1 || findings[0] != "" {
			t.Errorf("a false alarm: %q", findings)
		}
	})
	if drift := drifted(t, url); drift > 0 {
		t.Errorf("%v fragments are said to have drifted", drift)
	}
	if compared := metric(t, url+"/metrics", `cdc_viewlet_verified_total{viewlet="product_teaser"}`); compared == 0 {
		t.Error("nothing was verified in the background")
	}
	p.stop(t)

	p = s.run(t)
	rnd := rand.New(rand.NewPCG(seed, 1<<32))
	during(seed+1, func() {
		runs++
		for range 20 {
			key := fmt.Sprintf("viewlet:product_teaser:%d", rnd.IntN(2500))
			if err := s.redis.client.Set(t.Context(), key, "tampered", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		s.verify(t, "--repair", "--wait", "5m")
	})
	quiet(t, s.db)
	s.verify(t, "--repair", "--wait", "5m")
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	t.Logf("verified %d times", runs)
	p.stop(t)
}

// drifted sums up the drift of all kinds.
func drifted(t testing.TB, url string) (sum float64) {
	t.Helper()
	_, text := get(t, url+"/metrics")
	for _, m := range regexp.MustCompile(`(?m)^cdc_viewlet_drift_total\{.*\} (\d+)$`).FindAllStringSubmatch(text, -1) {
		var n float64
		if _, err := fmt.Sscan(m[1], &n); err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// In the background the daemon finds what is wrong by itself, counts and tells
// it, and mends it.
func TestVerifyRate(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t, "--http", "127.0.0.1:0", "--verify-rate", "30000/m")
	url := urlOf(t, p)
	redis := s.redis.client
	for _, err := range []error{
		redis.Set(t.Context(), "viewlet:v:1", "tampered", 0).Err(),
		redis.Set(t.Context(), "viewlet:v:9999", "an orphan", 0).Err(),
		redis.Set(t.Context(), "viewlet:v:oak", "fits no param", 0).Err(),
		redis.Set(t.Context(), "viewlet:gone:1", "no such viewlet", 0).Err(),
		redis.Del(t.Context(), "viewlet:v:2").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.awaits(t, "v:1", "one n1")
	s.awaits(t, "v:2", "one n2")
	for _, key := range []string{"v:9999", "v:oak", "gone:1"} {
		s.awaits(t, key, "")
		p.says(t, "key="+key+" kind=orphaned")
	}
	p.says(t, "key=v:1 kind=different")
	p.says(t, "key=v:2 kind=missing")
	eventually(t, "all is counted", func() bool { return drifted(t, url) == 5 })
	if code, text := get(t, url+"/metrics"); code != http.StatusOK || !strings.Contains(text, `cdc_viewlet_drift_total{kind="orphaned",viewlet=""} 1`) {
		t.Errorf("what belongs to no viewlet is not counted as such:\n%s", text)
	}
	if n := redis.HLen(t.Context(), "viewlet:@failed").Val(); n > 0 {
		t.Errorf("%d are noted as failed", n)
	}
	p.stop(t)
}
