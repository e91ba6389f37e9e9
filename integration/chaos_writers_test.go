package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// pace is how often a writer of the chaos begins a transaction, so that the
// daemon keeps up with them between two faults.
const pace = 40 * time.Millisecond

// runThroughFaults writes until ctx ends, and connects again when Postgres was
// away.
func (w *writer) runThroughFaults(t *testing.T, ctx context.Context) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := w.run(ctx, 10); err != nil && wrong(err) && ctx.Err() == nil {
			t.Errorf("a writer: %v", err)
			return
		}
	}
}

// wrong says that a writer's statement was wrong, and not that Postgres was
// away, or is starting: class 57, or no connection at all.
//
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func wrong(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !strings.HasPrefix(pg.Code, "57") && !strings.HasPrefix(pg.Code, "08")
}

const (
	witnesses     = 20
	witnessSchema = `CREATE TABLE witness (id int PRIMARY KEY, n bigint NOT NULL); INSERT INTO witness SELECT i, 0 FROM generate_series(0, 19) i`
	witnessRules  = `
viewlet "witness" {
  params = ["id"]
  query  = "SELECT n FROM witness WHERE id = @id"
  all    = "SELECT id FROM witness"
  body   = "{{.n}}"
}
table "witness" {
  refresh = witness(id)
}`
)

// witness counts rows up, and remembers behind which position each count is
// committed: once that is confirmed, Redis must have it, or a higher one.
type witness struct {
	mu      sync.Mutex
	commits []commit // by position
	looks   int
}

type commit struct {
	end viewlet.LSN // behind the commit
	id  int
	n   int64
}

func (w *witness) run(t *testing.T, ctx context.Context, db *database) {
	tick := time.NewTicker(pace / 4)
	defer tick.Stop()
	var conn *pgx.Conn
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close(context.WithoutCancel(ctx))
			}
			return
		case <-tick.C:
		}
		if conn == nil || conn.IsClosed() {
			conn, _ = pgx.Connect(ctx, db.url)
			continue
		}
		// One that fails may have been committed: then nobody knows of it.
		if c, err := count(ctx, conn, i%witnesses); err == nil {
			w.mu.Lock()
			w.commits = append(w.commits, c)
			w.mu.Unlock()
		}
	}
}

func count(ctx context.Context, conn *pgx.Conn, id int) (c commit, err error) {
	c.id = id
	if err := conn.QueryRow(ctx, "UPDATE witness SET n = n + 1 WHERE id = $1 RETURNING n", id).Scan(&c.n); err != nil {
		return c, err
	}
	var end string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&end); err != nil {
		return c, err
	}
	c.end, err = viewlet.ParseLSN(end)
	return c, err
}

// check reads what is confirmed, and then Redis. One that does not answer is
// for the next check.
func (w *witness) check(t *testing.T, c *chaos) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var text string
	if err := c.db.pool.QueryRow(ctx, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", c.db.slot).Scan(&text); err != nil {
		return
	}
	confirmed, err := viewlet.ParseLSN(text)
	must(t, err)
	keys := make([]string, witnesses)
	for id := range keys {
		keys[id] = fmt.Sprintf("viewlet:witness:%d", id)
	}
	values, err := c.redis.client.MGet(ctx, keys...).Result()
	if err != nil {
		return
	}
	if saved, err := c.redis.client.HGet(ctx, "viewlet:@state", "lsn").Result(); err != nil {
		return
	} else if lsn, err := viewlet.ParseLSN(saved); err != nil || lsn < confirmed {
		t.Fatalf("%v is confirmed, and the state in Redis says %q", confirmed, saved)
	}
	w.looks++
	for id, n := range w.countedBefore(confirmed) {
		value, _ := values[id].(string)
		if got, err := strconv.ParseInt(value, 10, 64); err != nil || got < n {
			t.Fatalf("%v is confirmed, witness:%d was %d before it, and Redis has %q", confirmed, id, n, value)
		}
	}
}

// countedBefore gives the highest counts that were committed before lsn.
func (w *witness) countedBefore(lsn viewlet.LSN) map[int]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[int]int64{}
	for _, c := range w.commits {
		if c.end <= lsn {
			counts[c.id] = max(counts[c.id], c.n)
		}
	}
	return counts
}

// visitor reads fragments over HTTP that may not be there, and asks for some to
// be rendered: what it brings into Redis must be as right as the rest.
type visitor struct {
	asks   atomic.Pointer[program] // the daemon
	served atomic.Int64
}

func (v *visitor) run(ctx context.Context, rnd *rand.Rand) {
	client := &http.Client{Timeout: time.Second}
	tick := time.NewTicker(pace / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, rest, _ := strings.Cut(v.asks.Load().stderr.String(), "url=http://")
		host, _, listens := strings.Cut(rest, "\n")
		if !listens {
			continue
		}
		method, path := http.MethodGet, "/viewlet/"
		if rnd.IntN(5) == 0 {
			method, path = http.MethodPost, "/refresh/"
		}
		name := []string{"product_teaser", "product_page", "latest_reviews", "witness"}[rnd.IntN(4)]
		req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s%s%s/%d", host, path, name, rnd.IntN(2600)), nil)
		if err != nil {
			panic(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			continue // the daemon was killed, or waits for a server
		}
		if resp.StatusCode == http.StatusOK {
			v.served.Add(1)
		}
		resp.Body.Close()
	}
}
