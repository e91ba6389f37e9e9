package integration

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// mishap is something that breaks, and is mended.
type mishap struct {
	name   string
	strike func(*testing.T, *chaos) (mend func())
}

// draw gives no fault in every second round, and else one, or two of different
// parts. A network's comes before a
// server's, and so is mended after it: what a hanging server does not take
// stands in the network.
func (c *chaos) draw() []mishap {
	if c.rnd.IntN(2) == 0 {
		return nil
	}
	first, second := c.rnd.IntN(len(faults)), c.rnd.IntN(len(faults))
	if first > second {
		first, second = second, first
	}
	one, other := faults[first], faults[second]
	drawn := []mishap{one[c.rnd.IntN(len(one))]}
	if first != second && c.rnd.IntN(2) == 0 {
		drawn = append(drawn, other[c.rnd.IntN(len(other))])
	}
	return drawn
}

// faults are those of each part.
var faults = [][]mishap{
	networkFaults("postgres", func(c *chaos) *network { return c.toPostgres }),
	networkFaults("redis", func(c *chaos) *network { return c.toRedis }),
	postgresFaults,
	redisFaults,
	daemonFaults,
}

func networkFaults(name string, of func(*chaos) *network) []mishap {
	all := []mishap{{"network to " + name + " cut", func(t *testing.T, c *chaos) func() { return of(c).cut(t) }}}
	for _, way := range []struct {
		what string
		do   func(*network, testing.TB, direction) func()
	}{
		{"held", (*network).hold},
		{"lost", (*network).lose},
		{"delayed", (*network).delay},
		{"throttled", (*network).throttle},
		{"broken", (*network).breakOff},
	} {
		for _, d := range []direction{toServer, toDaemon} {
			all = append(all, mishap{fmt.Sprintf("network to %s %s %s", name, way.what, d), func(t *testing.T, c *chaos) func() { return way.do(of(c), t, d) }})
		}
	}
	return all
}

func nothing() {}

var postgresFaults = []mishap{
	{"postgres restarted at once", func(t *testing.T, c *chaos) func() {
		must(t, c.db.Stop(t.Context(), sandbox.Immediate))
		return func() { c.startPostgres(t) }
	}},
	{"postgres killed", func(t *testing.T, c *chaos) func() {
		must(t, c.db.Kill())
		return func() { c.startPostgres(t) }
	}},
	{"postgres crashed by a backend", func(t *testing.T, c *chaos) func() {
		var pid int
		if err := c.db.pool.QueryRow(t.Context(), "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid() ORDER BY md5(pid::text || $1) LIMIT 1",
			fmt.Sprint(c.rnd.Int())).Scan(&pid); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		return func() { c.awaitPostgres(t) }
	}},
	{"walsender terminated", func(t *testing.T, c *chaos) func() {
		_, _ = c.db.pool.Exec(t.Context(), "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
		return nothing
	}},
	{"all connections terminated", func(t *testing.T, c *chaos) func() {
		_, _ = c.db.pool.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type IN ('client backend', 'walsender')")
		return func() { c.awaitPostgres(t) }
	}},
}

func (c *chaos) startPostgres(t *testing.T) {
	must(t, c.db.Start(t.Context()))
	c.awaitPostgres(t)
}

// awaitPostgres waits until the pool's connections work again.
func (c *chaos) awaitPostgres(t *testing.T) {
	c.db.pool.Reset()
	eventually(t, "Postgres takes queries", func() bool {
		_, err := c.db.pool.Exec(t.Context(), "SELECT 1")
		return err == nil
	})
}

var redisFaults = []mishap{
	{"redis killed, and back empty", func(t *testing.T, c *chaos) func() {
		c.lost = true
		must(t, c.redis.Kill())
		return func() { must(t, c.redis.Start(t.Context())) }
	}},
	{"redis flushed", func(t *testing.T, c *chaos) func() {
		c.lost = true
		must(t, c.redis.client.FlushAll(t.Context()).Err())
		return nothing
	}},
	{"redis without its scripts", func(t *testing.T, c *chaos) func() {
		must(t, c.redis.client.ScriptFlush(t.Context()).Err())
		return nothing
	}},
	{"redis paused", func(t *testing.T, c *chaos) func() {
		must(t, c.redis.Pause())
		return func() { must(t, c.redis.Resume()) }
	}},
	{"redis read-only", func(t *testing.T, c *chaos) func() {
		must(t, c.redis.client.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
		return func() { must(t, c.redis.client.ReplicaOf(context.WithoutCancel(t.Context()), "NO", "ONE").Err()) }
	}},
	{"redis out of memory", func(t *testing.T, c *chaos) func() {
		must(t, c.redis.client.ConfigSet(t.Context(), "maxmemory", "1").Err())
		return func() { must(t, c.redis.client.ConfigSet(t.Context(), "maxmemory", "0").Err()) }
	}},
	{"redis's clients killed", func(t *testing.T, c *chaos) func() {
		must(t, c.redis.client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
		return nothing
	}},
}

var daemonFaults = []mishap{
	{"daemon stopped", func(t *testing.T, c *chaos) func() {
		p := c.daemons[0]
		p.signal(t, syscall.SIGSTOP)
		return func() { p.signal(t, syscall.SIGCONT) }
	}},
	{"daemon stopped, and another takes over", func(t *testing.T, c *chaos) func() {
		p := c.daemons[0]
		p.signal(t, syscall.SIGSTOP)
		_, _ = c.db.pool.Exec(t.Context(), "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
		c.another(t)
		c.pause(1500)
		return func() { p.signal(t, syscall.SIGCONT) }
	}},
	{"template changed", func(t *testing.T, c *chaos) func() {
		c.edit(t)
		return nothing
	}},
	{"second daemon", func(t *testing.T, c *chaos) func() {
		c.another(t)
		return nothing
	}},
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
