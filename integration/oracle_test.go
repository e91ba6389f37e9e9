package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// oracle knows what ought to be in Redis: a fresh render of every instance.
type oracle struct {
	db       *render.Database
	set      *rules.Set
	renderer *render.Renderer
}

func newOracle(t testing.TB, db *database, path string) *oracle {
	t.Helper()
	d, err := render.Connect(t.Context(), render.Config{URL: db.url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	o := &oracle{db: d}
	o.load(t, path)
	return o
}

// load reads the rules, which may have changed.
func (o *oracle) load(t testing.TB, path string) {
	t.Helper()
	set, diags := rules.Load(path)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	r, problems := render.New(o.db, set, 0)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	o.set, o.renderer = set, r
}

// truth renders every instance afresh.
func (o *oracle) truth(t testing.TB) map[string]string {
	t.Helper()
	truth := map[string]string{}
	for _, v := range o.set.Viewlets {
		err := o.renderer.Expand(t.Context(), v.Name, viewlet.Whole, nil, func(keys []viewlet.Key) error {
			return o.render(t.Context(), v.Name, keys, truth)
		})
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
	}
	return truth
}

func (o *oracle) render(ctx context.Context, name string, keys []viewlet.Key, into map[string]string) error {
	fragments, err := o.renderer.Render(ctx, name, keys)
	if err != nil {
		return err
	}
	for _, f := range fragments {
		if f.Err != nil {
			return fmt.Errorf("%s: %w", f.Key, f.Err)
		}
		if f.Body != nil {
			into[f.Key.String()] = string(f.Body)
		}
	}
	return nil
}

// fragments gives all that is in Redis but the daemon's own notes.
func fragments(t testing.TB, r *redisServer) map[string]string {
	t.Helper()
	found := map[string]string{}
	for cursor := uint64(0); ; {
		keys, next, err := r.client.Scan(t.Context(), cursor, "viewlet:*", 5000).Result()
		if err != nil {
			t.Fatal(err)
		}
		keys = slices.DeleteFunc(keys, func(k string) bool { return strings.HasPrefix(k, "viewlet:@") })
		if len(keys) > 0 {
			bodies, err := r.client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
				for _, k := range keys {
					pipe.Get(t.Context(), k)
				}
				return nil
			})
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			for i, k := range keys {
				if body, err := bodies[i].(*redis.StringCmd).Result(); err == nil {
					found[strings.TrimPrefix(k, "viewlet:")] = body
				}
			}
		}
		if cursor = next; cursor == 0 {
			return found
		}
	}
}

// agree compares Redis, or the servers of a cluster, with the truth, which it
// gives: nothing missing, nothing stale, nothing left over. Nothing may be
// changing.
func (o *oracle) agree(t testing.TB, servers ...*redisServer) (want map[string]string) {
	t.Helper()
	want = o.truth(t)
	got := map[string]string{}
	for _, r := range servers {
		maps.Copy(got, fragments(t, r))
	}
	wrong := 0
	tell := func(format string, args ...any) {
		if wrong++; wrong <= 10 {
			t.Errorf(format, args...)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		body, ok := got[key]
		switch {
		case !ok:
			tell("%s is missing", key)
		case body != want[key]:
			tell("%s is stale:\n%s\ninstead of\n%s", key, body, want[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			tell("%s is left over:\n%s", key, got[key])
		}
	}
	if wrong > 0 {
		t.Fatalf("%d of %d fragments are wrong", wrong, len(want))
	}
	if len(want) == 0 {
		t.Fatal("there is nothing to compare")
	}
	return want
}

// site is a folder with rules, between a Postgres and a Redis.
type site struct {
	dir   string
	db    *database
	redis *redisServer
	env   []string // of the daemon, over what names both servers
}

// newSite writes the files to an empty folder, with a postgres block that
// names the test's own slot, and loads the schema.
func newSite(t testing.TB, db *database, schema string, files map[string]string) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), db: db, redis: startRedis(t)}
	all := maps.Clone(files)
	all["rules/own.hcl"] = fmt.Sprintf("postgres {\n  slot        = %q\n  publication = %q\n}\n", db.slot, db.publication)
	writeFiles(t, s.dir, all)
	psql(t, db, schema)
	return s
}

// through has the daemon reach Postgres and Redis through networks, and not
// straight.
func (s *site) through(t testing.TB) (postgres, redis *network) {
	t.Helper()
	postgres, pg := newNetwork(t, s.db.url)
	redis, rd := newNetwork(t, s.redis.URL())
	s.env = append(s.env, "DATABASE_URL="+pg, "REDIS_URL="+rd)
	return postgres, redis
}

func (s *site) rules() string { return filepath.Join(s.dir, "rules") }

// run starts the daemon and waits until it is warm.
func (s *site) run(t testing.TB, args ...string) *program {
	t.Helper()
	p := s.start(t, args...)
	p.says(t, "ready: every fragment is in Redis")
	return p
}

func (s *site) start(t testing.TB, args ...string) *program {
	t.Helper()
	return daemon(t, s.dir, append(environment(s.db, s.redis), s.env...), append([]string{"run", "-c", s.rules()}, args...)...)
}
