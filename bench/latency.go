package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// Rows 5 and 6: how soon a change is in Redis.

// probes is how long it took until changes were in the cache, in milliseconds.
type probes struct {
	committed []float64 // from when the commit was acknowledged
	sent      []float64 // from when the writer sent its UPDATE
}

// probe changes one product again and again, times over. Redis tells when the
// fragment is there: asking again and again would keep both cores busy.
func (s *shop) probe(ctx context.Context, table, key string, times int, pause time.Duration) (took probes, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return took, err
	}
	defer conn.Release()
	if err := s.rdb.ConfigSet(ctx, "notify-keyspace-events", "K$").Err(); err != nil {
		return took, err
	}
	written := s.rdb.Subscribe(ctx, "__keyspace@0__:"+key)
	defer written.Close()
	if _, err := written.Receive(ctx); err != nil {
		return took, err
	}
	for i := range times {
		sent := time.Now()
		name := fmt.Sprintf("Probe %d %d", sent.UnixNano(), i)
		if _, err := conn.Exec(ctx, "UPDATE "+table+" SET name = $1 WHERE id = $2", name, s.products+1); err != nil {
			return took, err
		}
		committed := time.Now()
		there, err := s.shows(ctx, written, key, name)
		if err != nil {
			return took, err
		}
		took.committed = append(took.committed, milliseconds(max(0, there.Sub(committed))))
		took.sent = append(took.sent, milliseconds(there.Sub(sent)))
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	return took, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// shows gives when the fragment was written that has the text.
func (s *shop) shows(ctx context.Context, written *redis.PubSub, key, text string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if _, err := written.ReceiveMessage(ctx); err != nil {
			return time.Time{}, fmt.Errorf("wait until %s shows %q: %w", key, text, err)
		}
		there := time.Now()
		body, err := s.rdb.Get(ctx, key).Result()
		if err != nil {
			return there, err
		}
		if strings.Contains(body, text) {
			return there, nil
		}
	}
}

func latency(ctx context.Context, h *house) (results []result, err error) {
	times := h.of(2000)
	err = h.in(ctx, "latency", func(db *database) error {
		s := &shop{database: db, products: h.of(10_000)}
		if err := s.fill(ctx, s.products, 100); err != nil {
			return err
		}
		if err := s.exec(ctx, toldSQL...); err != nil {
			return err
		}
		product := fmt.Sprint(s.products + 1)
		// Each is alone, and warm.
		probe := func(table, key string) (probes, error) {
			if took, err := s.probe(ctx, table, key, 100, 0); err != nil {
				return took, err
			}
			return s.probe(ctx, table, key, times, 0)
		}
		ours := func() (probes, error) {
			if err := s.serve(ctx, "latency"); err != nil {
				return probes{}, err
			}
			defer s.daemon.stop()
			return probe("products", "viewlet:teaser:"+product)
		}
		theirs := func() (probes, error) {
			l, err := s.listener(ctx)
			if err != nil {
				return probes{}, err
			}
			defer l.stop()
			return probe("told", "theirs:teaser:"+product)
		}
		var p50, p99, whole [2][]float64
		for range h.runs {
			for side, run := range []func() (probes, error){ours, theirs} {
				took, err := run()
				if err != nil {
					return err
				}
				p50[side] = append(p50[side], percentile(took.committed, 50))
				p99[side] = append(p99[side], percentile(took.committed, 99))
				whole[side] = append(whole[side], percentile(took.sent, 50))
			}
		}
		const with = "a trigger, pg_notify, and a listener that queries, renders, SETs"
		results = []result{
			{what: "p50", unit: "ms", ours: p50[0], theirs: p50[1], with: with, aim: "<= 1"},
			{what: "p99", unit: "ms", ours: p99[0], theirs: p99[1], with: with, aim: "<= 1"},
			{
				what: "whole", unit: "ms", ours: whole[0], theirs: whole[1], with: "p50 of the same from when the writer sends its UPDATE", aim: "stated",
				notes: []string{fmt.Sprintf("%d times in each run", times)},
			},
		}
		return nil
	})
	return results, err
}

// steady changes rows at a steady rate, some far more often than others.
func steady(ctx context.Context, h *house) (results []result, err error) {
	const perSecond = 5000
	lasting := time.Minute
	if h.quick {
		lasting = 6 * time.Second
	}
	err = h.withShop(ctx, "steady", h.of(100_000), 100, func(s *shop) error {
		key := fmt.Sprintf("viewlet:teaser:%d", s.products+1)
		var idle, p50, p99, early, late, written []float64
		probes := 0
		for range h.runs {
			if _, err := s.probe(ctx, "products", key, 100, 0); err != nil { // until what was written is served
				return err
			}
			quiet, err := s.probe(ctx, "products", key, h.of(1000), 0)
			if err != nil {
				return err
			}
			loaded, n, err := s.loaded(ctx, key, perSecond, lasting)
			if err != nil {
				return err
			}
			third := len(loaded) / 3
			idle = append(idle, percentile(quiet.committed, 50))
			p50, p99 = append(p50, percentile(loaded, 50)), append(p99, percentile(loaded, 99))
			early, late = append(early, percentile(loaded[:third], 99)), append(late, percentile(loaded[2*third:], 99))
			written = append(written, float64(n)/lasting.Seconds())
			probes += len(loaded)
		}
		results = []result{
			{
				what: "p99", unit: "ms", ours: p99, theirs: idle, with: "the idle p50", aim: "<= 10",
				notes: []string{fmt.Sprintf("%.0f changes/s of %d asked for; p50 %.2f ms (medians); %d probes", median(written), perSecond, median(p50), probes)},
			},
			{what: "growth", unit: "ms", ours: late, theirs: early, with: "the p99 of the first third; ours is of the last", aim: "about 1"},
		}
		return nil
	})
	return results, err
}

// loaded probes, again after 10 ms, while others write, and gives how long each took, in
// milliseconds, and how much was written.
func (s *shop) loaded(ctx context.Context, key string, perSecond int, lasting time.Duration) (took []float64, total int, err error) {
	writing, stop := context.WithTimeout(ctx, lasting)
	defer stop()
	g, writing := errgroup.WithContext(writing)
	written := make([]int, workers)
	for w := range workers {
		g.Go(func() (err error) { written[w], err = s.write(writing, perSecond/workers, uint64(w)); return err })
	}
	for writing.Err() == nil {
		probed, err := s.probe(ctx, "products", key, 10, 10*time.Millisecond)
		if err != nil {
			return nil, 0, err
		}
		took = append(took, probed.committed...)
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	for _, n := range written {
		total += n
	}
	return took, total, nil
}

// write changes so many rows a second, each in a transaction, until ctx ends.
func (s *shop) write(ctx context.Context, perSecond int, seed uint64) (int, error) {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(seed, 7)), 1.1, 1, uint64(s.products-1))
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	began, n := time.Now(), 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		for due := int(time.Since(began).Seconds() * float64(perSecond)); n < due; n++ {
			_, err := conn.Exec(ctx, repriced+" WHERE id = $1", int(zipf.Uint64())+1)
			if ctx.Err() != nil {
				return n, nil
			}
			if err != nil {
				return n, err
			}
		}
		select {
		case <-ctx.Done():
			return n, nil
		case <-tick.C:
		}
	}
}
