package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// Chaos: several writers over the sample shop and the awkward tables, while
// everything breaks at moments that a seed draws. At quiet points all is
// compared with fresh renders, and at random moments what is confirmed with
// what is written.
//
//	go test ./integration -run TestChaos -v -args -chaos-kills 1000 -chaos-seed 42
func TestChaos(t *testing.T) {
	t.Parallel()
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	c := newChaos(t, seed)
	defer c.told(t)
	between := min(25, max(8, *chaosKills/10)) // two rests
	for c.kills < *chaosKills {
		for range between {
			c.round(t)
		}
		c.rest(t)
	}
}

// chaos is one run of it. All but its writers, its witness and its visitor is
// one goroutine's.
type chaos struct {
	*site
	seed       uint64
	rnd        *rand.Rand
	oracle     *oracle
	daemons    []*program
	toPostgres *network
	toRedis    *network
	writers    *sync.WaitGroup
	rested     context.CancelFunc // ends the writers
	witness    *witness
	visitor    *visitor
	lost       bool // Redis has lost something since the last rest
	edition    int  // of a template
	edited     bool // since the last rest

	kills, rests int
	faults       map[string]int
	slowest      time.Duration // from the last commit to all of it confirmed
}

func newChaos(t *testing.T, seed uint64) *chaos {
	files, sql := shopFiles(t)
	files["rules/kinds.hcl"], files["rules/children.txt"] = kindsTables, "{{range .rows}}{{.slug}}: {{.title}}\n{{end}}"
	files["rules/witness.hcl"] = witnessRules
	db := startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{
		"wal_sender_timeout": "10s",
		// After the crash of a backend Postgres waits so long for who has connected,
		// and whose words a network holds back.
		"authentication_timeout": "10s",
	}})
	c := &chaos{
		site: newSite(t, db, strings.Join([]string{
			sql, kindsSchema, `ALTER TABLE "My.Shop"."Order Items" REPLICA IDENTITY FULL`, `ALTER TABLE blobs REPLICA IDENTITY FULL`, witnessSchema,
		}, ";"), files),
		seed: seed, rnd: rand.New(rand.NewPCG(seed, 0)), faults: map[string]int{}, witness: &witness{}, visitor: &visitor{},
	}
	c.toPostgres, c.toRedis = c.through(t)
	c.revive(t)
	c.settled(t)
	c.oracle = newOracle(t, db, c.rules())
	c.oracle.agree(t, c.redis)
	c.write(t)
	t.Cleanup(func() { c.rested(); c.writers.Wait() })
	return c
}

// write lets the writers work until the next rest.
func (c *chaos) write(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	c.rested, c.writers = end, &sync.WaitGroup{}
	for i, statements := range [][]func(*rand.Rand) string{shopStatements, kindsStatements(), append(kindsStatements(), shopStatements...)} {
		w := &writer{db: c.db, rnd: rand.New(rand.NewPCG(c.seed, uint64(1+i+10*c.rests))), statements: statements, rollbacks: true}
		c.writers.Go(func() { w.runThroughFaults(t, ctx) })
	}
	c.writers.Go(func() { c.witness.run(t, ctx, c.db) })
	c.writers.Go(func() { c.visitor.run(ctx, rand.New(rand.NewPCG(c.seed, uint64(9+10*c.rests)))) })
}

// round has one or two faults, and then the daemon end, or not.
func (c *chaos) round(t *testing.T) {
	c.revive(t)
	if c.rnd.IntN(3) > 0 { // else it is struck while it starts
		c.streaming(t)
	}
	var mends []func()
	for _, m := range c.draw() {
		c.faults[m.name]++
		mends = append(mends, m.strike(t, c))
	}
	if mends != nil {
		c.pause(500)
		c.check(t)
	}
	for _, mend := range slices.Backward(mends) {
		mend()
	}
	c.pause(700)
	c.check(t)
	c.end(t)
}

// streaming waits until the first daemon streams, or waits for a slot that
// another one has, for a few seconds at most.
func (c *chaos) streaming(t *testing.T) {
	_ = poll(t.Context(), 5*time.Second, func() bool { // what keeps it longer is a fault, too
		said := c.daemons[0].stderr.String()
		return c.daemons[0].hasEnded() || strings.Contains(said, "rules in force") || strings.Contains(said, "waiting as standby")
	})
}

// pause lets a drawn time go by, up to so many milliseconds.
func (c *chaos) pause(ms int) {
	<-time.After(time.Duration(c.rnd.IntN(ms)) * time.Millisecond)
}

// end ends the first daemon in most rounds, by kill -9 or SIGTERM.
func (c *chaos) end(t *testing.T) {
	how := c.rnd.IntN(5)
	switch {
	case how == 0:
		return
	case how == 1:
		c.daemons[0].signal(t, syscall.SIGTERM)
		c.daemons[0].wait(t)
	default:
		c.daemons[0].kill()
	}
	c.kills++
	c.check(t) // nobody writes what is missing now
	c.revive(t)
}

// revive starts a daemon where none runs, as a service manager does: one that
// finds a server away at its start ends. It never panics.
func (c *chaos) revive(t *testing.T) {
	alive := c.daemons[:0]
	for _, p := range c.daemons {
		if !p.hasEnded() {
			alive = append(alive, p)
			continue
		}
		if said := p.stderr.String(); p.cmd.ProcessState.ExitCode() > 1 && !strings.Contains(said, "cdc-viewlet: ") || strings.Contains(said, "DATA RACE") {
			t.Fatalf("a daemon ended with %s", p.cmd.ProcessState)
		}
	}
	c.daemons = alive
	if len(c.daemons) == 0 {
		c.another(t)
	}
	c.visitor.asks.Store(c.daemons[0])
}

// another starts one more daemon.
func (c *chaos) another(t *testing.T) {
	c.daemons = append(c.daemons, c.start(t, "--http", "127.0.0.1:0"))
}

// edit changes a template and has all daemons read it. One that cannot compare
// it with Postgres just now keeps the old one.
func (c *chaos) edit(t *testing.T) {
	c.edited = true
	c.edition++
	writeFiles(t, c.dir, map[string]string{"rules/children.txt": fmt.Sprintf("%d: {{range .rows}}{{.slug}} {{.title}}\n{{end}}", c.edition)})
	for _, p := range c.daemons {
		p.signal(t, syscall.SIGHUP)
	}
}

// reread has the newest template in force.
func (c *chaos) reread(t *testing.T) {
	for _, p := range c.daemons {
		p.kill()
	}
	c.revive(t)
	c.oracle.load(t, c.rules())
	c.edited = false
}

// check reads what is confirmed, and then whether all of it is in Redis.
func (c *chaos) check(t *testing.T) {
	if c.lost {
		return // until it is rendered afresh, much is missing
	}
	c.witness.check(t, c)
}

// rest ends the writers and waits until all that they did is confirmed. Then
// Redis has what fresh renders give, and nothing else.
func (c *chaos) rest(t *testing.T) {
	c.rested()
	c.writers.Wait()
	began := time.Now()
	if c.edited {
		c.reread(t)
	}
	c.revive(t)
	lsn := mark(t, c.db)
	err := poll(t.Context(), 5*patience, func() bool {
		c.revive(t)
		return confirmed(t, c.db) >= lsn
	})
	if err != nil {
		t.Fatalf("wait until all is confirmed to %s: %v", lsn, err)
	}
	c.settled(t)
	c.slowest = max(c.slowest, time.Since(began))
	c.check(t)
	c.oracle.agree(t, c.redis)
	c.rests++
	c.lost = false
	t.Logf("%d ends of the daemon; all is right", c.kills)
	c.write(t)
}

// settled waits until the daemon that has the slot says that it is warm: after
// Redis has lost something, what is confirmed may be on its way once more.
func (c *chaos) settled(t *testing.T) {
	eventually(t, "a daemon is warm", func() bool {
		c.revive(t)
		for _, p := range c.daemons {
			said := p.stderr.String()
			session := said[max(0, strings.LastIndex(said, "rules in force")):]
			if strings.Contains(session, "ready: every fragment is in Redis") && !strings.Contains(session, "session ended") {
				return true
			}
		}
		return false
	})
}

// told says how much was tried.
func (c *chaos) told(t *testing.T) {
	total := 0
	for n := range maps.Values(c.faults) {
		total += n
	}
	t.Logf("seed %d: %d ends of the daemon, %d faults of %d kinds, %d comparisons, %d looks at what is confirmed, %d fragments read over HTTP; at rest within %s",
		c.seed, c.kills, total, len(c.faults), c.rests, c.witness.looks, c.visitor.served.Load(), c.slowest.Round(time.Millisecond))
	t.Logf("faults: %v", c.faults)
	if log, err := os.ReadFile(c.db.LogPath()); t.Failed() && err == nil {
		t.Logf("the log of Postgres ends with\n%s", log[max(0, len(log)-5000):])
	}
}
