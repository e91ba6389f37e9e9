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

// probe changes one product again and again, times over, and gives how long
// after each commit the fragment was there, in milliseconds. Redis tells when it
// is: asking again and again would keep both cores busy.
func (s *shop) probe(ctx context.Context, table, key string, times int, pause time.Duration) ([]float64, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if err := s.rdb.ConfigSet(ctx, "notify-keyspace-events", "K$").Err(); err != nil {
		return nil, err
	}
	written := s.rdb.Subscribe(ctx, "__keyspace@0__:"+key)
	defer written.Close()
	if _, err := written.Receive(ctx); err != nil {
		return nil, err
	}
	took := make([]float64, 0, times)
	for i := range times {
		name := fmt.Sprintf("Probe %d %d", time.Now().UnixNano(), i)
		if _, err := conn.Exec(ctx, "UPDATE "+table+" SET name = $1 WHERE id = $2", name, s.products+1); err != nil {
			return nil, err
		}
		committed := time.Now()
		there, err := s.shows(ctx, written, key, name)
		if err != nil {
			return nil, err
		}
		took = append(took, float64(max(0, there.Sub(committed)))/float64(time.Millisecond))
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	return took, nil
}

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
	times := max(h.of(2000)/h.runs, 20)
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
		probe := func(table, key string) ([]float64, error) {
			if _, err := s.probe(ctx, table, key, times/4, 0); err != nil {
				return nil, err
			}
			return s.probe(ctx, table, key, times, 0)
		}
		ours := func() ([]float64, error) {
			if err := s.serve(ctx, "latency"); err != nil {
				return nil, err
			}
			defer s.daemon.stop()
			return probe("products", "viewlet:teaser:"+product)
		}
		theirs := func() ([]float64, error) {
			l, err := s.listener(ctx)
			if err != nil {
				return nil, err
			}
			defer l.stop()
			return probe("told", "theirs:teaser:"+product)
		}
		var p50, p99 [2][]float64
		for range h.runs {
			for side, run := range []func() ([]float64, error){ours, theirs} {
				took, err := run()
				if err != nil {
					return err
				}
				p50[side] = append(p50[side], percentile(took, 50))
				p99[side] = append(p99[side], percentile(took, 99))
			}
		}
		const with = "a trigger, pg_notify, and a listener that queries, renders, SETs"
		results = []result{
			{what: "p50", unit: "ms", ours: p50[0], theirs: p50[1], with: with, aim: "<= 1"},
			{what: "p99", unit: "ms", ours: p99[0], theirs: p99[1], with: with, aim: "<= 1", notes: []string{fmt.Sprintf("%d times each", times*h.runs)}},
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
		idle, err := s.probe(ctx, "products", key, h.of(1000), 0)
		if err != nil {
			return err
		}
		writing, stop := context.WithTimeout(ctx, lasting)
		defer stop()
		g, writing := errgroup.WithContext(writing)
		written := make([]int, workers)
		for w := range workers {
			g.Go(func() (err error) { written[w], err = s.write(writing, perSecond/workers, uint64(w)); return err })
		}
		var loaded []float64
		for writing.Err() == nil {
			took, err := s.probe(ctx, "products", key, 10, 10*time.Millisecond)
			if err != nil {
				return err
			}
			loaded = append(loaded, took...)
		}
		if err := g.Wait(); err != nil {
			return err
		}
		third := len(loaded) / 3
		early, late := loaded[:third], loaded[2*third:]
		total := 0
		for _, n := range written {
			total += n
		}
		results = []result{
			{
				what: "p99", unit: "ms", ours: []float64{percentile(loaded, 99)}, theirs: []float64{percentile(idle, 50)}, with: "the idle p50", aim: "<= 10",
				notes: []string{fmt.Sprintf("%.0f changes/s of %d asked for; p50 %.2f ms; %d probes", float64(total)/lasting.Seconds(), perSecond, percentile(loaded, 50), len(loaded))},
			},
			{what: "growth", unit: "ms", ours: []float64{percentile(late, 99)}, theirs: []float64{percentile(early, 99)}, with: "the p99 of the first third; ours is of the last", aim: "about 1"},
		}
		return nil
	})
	return results, err
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
