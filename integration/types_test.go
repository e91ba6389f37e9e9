package integration

import (
	"strings"
	"testing"
)

// check knows a column that cannot be the argument it is given as.
func TestCheckTypes(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), "CREATE TABLE t (id int PRIMARY KEY, n text, u uuid, big bigint)", map[string]string{"rules/rules.hcl": `
		viewlet "v" {
		  params = ["id"]
		  query  = "SELECT n FROM t WHERE id = @id"
		  all    = "SELECT id FROM t"
		}
		lookup "ids_of" {
		  params = ["u"]
		  query  = "SELECT id FROM t WHERE u = @u"
		}
		table "t" {
		  refresh = [v(id), v(new.big), v(new.n), v(ids_of(new.u))]
		}
		table "t" {
		  refresh = [v(new.u), v(ids_of(new.big))]
		}`})
	p := daemon(t, s.dir, environment(s.db, s.redis), "check", "-c", s.rules())
	if code := p.wait(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	said := p.stderr.String()
	for what, times := range map[string]int{
		"Error: Wrong type":                       2,
		"Warning: Text for another type":          1,
		"public.t.u is of type uuid":              0,
		"Param 1 of v is a number, and t.u is of": 1,
		"Param 1 of ids_of is a uuid":             1,
	} {
		if n := strings.Count(strings.Join(strings.Fields(said), " "), what); n != times {
			t.Errorf("%q is said %d times, want %d", what, n, times)
		}
	}
}
