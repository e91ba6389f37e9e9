package cache

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func startGroup(t testing.TB, start func(context.Context) (*sandbox.RedisGroup, error)) *sandbox.RedisGroup {
	t.Helper()
	g, err := start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func startCluster(t testing.TB) *sandbox.RedisGroup {
	t.Helper()
	return startGroup(t, func(ctx context.Context) (*sandbox.RedisGroup, error) { return sandbox.StartRedisCluster(ctx, 3) })
}

func TestCluster(t *testing.T) {
	g := startCluster(t)
	open := func(prefix string) (*Cache, error) { return Open(t.Context(), Config{URL: g.URL(), Prefix: prefix}) }
	for _, prefix := range []string{"viewlet:", "{shop}:"} {
		c := must(open(prefix))(t)
		var fragments []viewlet.Fragment
		var all []viewlet.Key
		for i := range 300 {
			fragments = append(fragments, fragment(t, fmt.Sprintf("v:%d", i), 5, fmt.Sprint(i)))
			all = append(all, fragments[i].Key)
		}
		for i, o := range must(c.Store(t.Context(), fragments, Options{}))(t) {
			if o != Written || get(t, c, all[i].String()) != fmt.Sprint(i) {
				t.Fatalf("%s: got %#v", all[i], o)
			}
		}
		if got := must(c.Keep(t.Context(), append(keys(t, "v:x"), all...), 9))(t); !reflect.DeepEqual(got, all) {
			t.Errorf("Keep gave %d keys", len(got))
		}
		if got := must(c.Stale(t.Context(), append(keys(t, "v:y"), all...), 5))(t); !reflect.DeepEqual(got, keys(t, "v:y")) {
			t.Errorf("Stale gave %v", got)
		}
		if got := allKeys(t, c, "v"); len(got) != len(all) {
			t.Errorf("Keys gave %d", len(got))
		}
		if err := c.SaveState(t.Context(), State{System: "1", Timeline: 1}); err != nil {
			t.Error(err)
		}
		checkVerifying(t, c, all)
		if err := c.ForgetGuards(t.Context()); err != nil {
			t.Error(err)
		}
		if got := must(c.Stale(t.Context(), all, 0))(t); len(got) != len(all) {
			t.Errorf("%d guards are left", len(all)-len(got))
		}
		_ = c.Close()
	}
	for _, prefix := range []string{"a{b:", "a}b:", "{}:"} {
		if c, err := open(prefix); err == nil {
			t.Errorf("prefix %q is accepted", prefix)
			_ = c.Close()
		}
	}
}

// checkVerifying looks at all the keys, which hold their index, and mends two.
func checkVerifying(t *testing.T, c *Cache, all []viewlet.Key) {
	t.Helper()
	there := map[string]bool{}
	err := c.Walk(t.Context(), "v:", func(names []string) error {
		for _, name := range names {
			there[name] = true
		}
		return nil
	})
	if err != nil || len(there) != len(all) {
		t.Errorf("Walk gave %d, %v", len(there), err)
	}
	enough, calls := errors.New("enough"), 0
	if err := c.Walk(t.Context(), "", func([]string) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("Walk called %d times, and gave %v", calls, err)
	}
	held := must(c.Held(t.Context(), all))(t)
	for i, f := range held {
		if string(f.Body) != fmt.Sprint(i) || f.LSN != 5 || f.Err != nil {
			t.Fatalf("%s: got %+v", all[i], f)
		}
	}
	if got := must(c.Absent(t.Context(), append(keys(t, "v:x"), all...)))(t); !reflect.DeepEqual(got, keys(t, "v:x")) {
		t.Errorf("absent are %v", got)
	}
	held[1].Body = []byte("was another")
	fresh := []viewlet.Fragment{fragment(t, "v:0", 6, "mended"), fragment(t, "v:1", 6, "mended"), fragment(t, "v:2", 6, "-")}
	if got := must(c.Mend(t.Context(), held[:3], fresh, Options{}))(t); !reflect.DeepEqual(got, []Outcome{Written, Refused, Deleted}) {
		t.Errorf("Mend gave %q", got)
	}
	must(c.Store(t.Context(), []viewlet.Fragment{broken(t, "v:7", 6)}, Options{}))(t)
	if got := must(c.Faults(t.Context(), []string{"v:6", "v:7"}))(t); got[0] != nil || got[1] == nil {
		t.Errorf("Faults gave %v", got)
	}
}

// What the ACL user of the docs may do is enough for a cluster, too.
func TestClusterRights(t *testing.T) {
	g := startCluster(t)
	line := strings.TrimPrefix((&Cache{names: names{"viewlet:"}, cluster: true}).grant(), "ACL SETUSER cdc-viewlet on >PASSWORD ")
	for _, r := range g.Servers {
		if _, err := r.Do(t.Context(), "ACL", "SETUSER", "narrow", "on", ">"+secret, line); err != nil {
			t.Fatal(err)
		}
	}
	_, hosts, _ := strings.Cut(g.URL(), "@")
	c, err := Open(t.Context(), Config{URL: "redis+cluster://narrow:" + secret + "@" + hosts})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	everything(t, c)
	for _, r := range g.Servers {
		opts := must(redis.ParseURL(r.URL()))(t)
		raw := redis.NewClient(opts)
		if log := must(raw.ACLLog(t.Context(), 10).Result())(t); len(log) != 0 {
			t.Errorf("Redis refused something: %+v", log[0])
		}
		_ = raw.Close()
	}
}

// A primary that comes back as another process has lost what it had.
func TestClusterPrimaryRestarted(t *testing.T) {
	g := startCluster(t)
	c := must(Open(t.Context(), Config{URL: g.URL()}))(t)
	defer c.Close()
	must(c.Take(t.Context()))(t)
	if err := c.SaveState(t.Context(), State{System: "1", Timeline: 1}); err != nil {
		t.Fatal(err)
	}
	must(c.SaveLSN(t.Context(), 5))(t)
	if s := must(c.State(t.Context()))(t); s.Elsewhere || !s.Cluster {
		t.Errorf("got %+v", s)
	}
	for _, r := range g.Servers {
		if _, err := r.Do(t.Context(), "EXISTS", "viewlet:@state"); err == nil {
			continue // it would lose the state itself
		}
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.SaveLSN(t.Context(), 6); err == nil {
			t.Error("the state is saved while a primary is down")
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		break
	}
	lost := func() bool { _, err := c.SaveLSN(t.Context(), 7); return errors.Is(err, ErrEmpty) }
	if !eventually(t, lost) {
		t.Error("nobody notices that a primary is another one")
	}
	if s := must(c.State(t.Context()))(t); !s.Elsewhere || s.LSN != 5 {
		t.Errorf("got %+v", s)
	}
}

// With WaitReplicas nothing counts as saved that a replica has not got.
func TestWaitReplicas(t *testing.T) {
	g := startGroup(t, sandbox.StartRedisSentinel)
	replica := g.Servers[1]
	open := func(n int) *Cache {
		t.Helper()
		c := must(Open(t.Context(), Config{URL: g.URL(), WaitReplicas: n, Timeout: 2 * time.Second}))(t)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	c := open(1)
	if err := c.SaveState(t.Context(), State{System: "1"}); err != nil {
		t.Fatal(err)
	}
	for lsn := range viewlet.LSN(50) {
		must(c.SaveLSN(t.Context(), lsn))(t)
		if got, err := replica.Do(t.Context(), "HGET", "viewlet:@state", "lsn"); got != lsn.String() {
			t.Fatalf("the replica has %q, %v after %v was saved", got, err, lsn)
		}
	}
	_, err := open(2).SaveLSN(t.Context(), 60)
	wantProblem(t, err, "save LSN: redis mymaster of", "1 of 2 replicas have", "lower wait_replicas")
}

// In a cluster each primary is asked.
func TestWaitReplicasOfCluster(t *testing.T) {
	g := startCluster(t)
	c := must(Open(t.Context(), Config{URL: g.URL(), WaitReplicas: 1, Timeout: time.Second}))(t)
	defer c.Close()
	if err := c.SaveState(t.Context(), State{System: "1"}); err != nil {
		t.Fatal(err)
	}
	_, err := c.SaveLSN(t.Context(), 1)
	wantProblem(t, err, "0 of 1 replicas have", "lower wait_replicas")
	for _, r := range g.Servers {
		if n, err := r.Do(t.Context(), "DBSIZE"); err != nil || n == "0" {
			t.Errorf("a primary was not asked: it has %s keys, %v", n, err)
		}
	}
}
