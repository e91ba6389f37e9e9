package integration

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// A new template reaches fragments that no query names, though nothing has
// been written to Postgres since they were rendered.
func TestNewTemplateOnIdleDatabase(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": strings.Replace(smallRules, "all      =", "keep = \"requested\"\n  all =", 1)})
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	quiet(t, s.db)
	if code, body := get(t, url+"/viewlet/v/1"); code != http.StatusOK || body != "one n1" {
		t.Fatalf("a miss gives %d %s", code, body)
	}
	s.want(t, "v:1", "one n1")
	writeFiles(t, s.dir, map[string]string{"rules/v.txt": "two {{.n}}"})
	p.signal(t, syscall.SIGHUP)
	eventually(t, "it is ready again", func() bool { return strings.Count(p.stderr.String(), "ready: every fragment") == 2 })
	s.want(t, "v:1", "two n1")
	p.stop(t)
}
