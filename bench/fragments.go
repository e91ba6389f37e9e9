package main

import (
	"context"
	"fmt"
	"time"
)

// Rows 3, 4, 7 and 9: how fast fragments are written.

const repriced = "UPDATE products SET price = price + 0.01"

func fragments(ctx context.Context, h *house) (results []result, err error) {
	n := h.of(100_000)
	err = h.withShop(ctx, "fragments", n, 100, func(s *shop) error {
		r, err := s.refresher(ctx)
		if err != nil {
			return err
		}
		defer r.close()
		ours, theirs, err := h.alternate(
			func() (float64, error) { return s.follows(ctx, repriced+fmt.Sprintf(" WHERE id <= %d", n), n) },
			func() (float64, error) { return r.rate(ctx, upTo(n), n, r.refresh) },
		)
		results = []result{{
			unit: "kfrag/s", ours: ours, theirs: theirs, with: "one query, template and SET each; 4 workers, handed the ids", aim: ">= 4",
			notes: []string{fmt.Sprintf("%d rows in one transaction, from its commit on; aimed at 120 kfrag/s", n)},
		}}
		return err
	})
	return results, err
}

// rate gives how many thousand fragments a second the refresher writes.
func (r *refresher) rate(ctx context.Context, ids []int, fragments int, refresh func(context.Context, int) error) (float64, error) {
	began := time.Now()
	err := r.refreshAll(ctx, ids, refresh)
	return float64(fragments) / time.Since(began).Seconds() / 1000, err
}

func upTo(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i + 1
	}
	return ids
}

func fanOut(ctx context.Context, h *house) (results []result, err error) {
	const perCategory = 100
	categories := h.of(1000)
	n := categories * perCategory
	err = h.withShop(ctx, "lookup", n, perCategory, func(s *shop) error {
		r, err := s.refresher(ctx)
		if err != nil {
			return err
		}
		defer r.close()
		change := fmt.Sprintf("UPDATE categories SET name = name || '.' WHERE id < %d", categories)
		ids := upTo(categories)
		for i := range ids {
			ids[i]--
		}
		ours, theirs, err := h.alternate(
			func() (float64, error) { return s.follows(ctx, change, n) },
			func() (float64, error) { return r.rate(ctx, ids, n, r.refreshCategory) },
		)
		results = []result{{
			unit: "kfrag/s", ours: ours, theirs: theirs, with: "the same, and one lookup query a category", aim: ">= 5",
			notes: []string{fmt.Sprintf("%d categories of %d products each", categories, perCategory)},
		}}
		return err
	})
	return results, err
}

// huge is one transaction that touches more rows than fit into memory. It is
// measured once, between two runs of row 3.
func huge(ctx context.Context, h *house) (results []result, err error) {
	n, small := h.of(5_000_000), h.of(100_000)
	err = h.withShop(ctx, "huge", small, 100, func(s *shop) error {
		few := repriced + fmt.Sprintf(" WHERE id <= %d", small)
		before, err := s.follows(ctx, few, small)
		if err != nil {
			return err
		}
		err = s.exec(ctx, fmt.Sprintf("INSERT INTO products SELECT i, 'Product & thing ' || i, 1, i %% %d FROM generate_series(%d, %d) i", small/100, small+2, small+1+n))
		if err != nil {
			return err
		}
		began := time.Now()
		s.rendered += float64(n)
		if err := s.daemon.rendered(ctx, s.rendered); err != nil {
			return err
		}
		rate := float64(n) / time.Since(began).Seconds() / 1000
		peak := s.daemon.peakMiB()
		after, err := s.follows(ctx, few, small)
		results = []result{
			{unit: "kfrag/s", ours: []float64{rate, rate}, theirs: []float64{before, after}, with: "row 3, ours, before and after", aim: ">= 0.7", notes: []string{fmt.Sprintf("%d rows in one transaction", n)}},
			{what: "memory", unit: "MiB", ours: []float64{peak}, with: "peak RSS", aim: "<= 256"},
		}
		return err
	})
	return results, err
}

// warmUp renders everything, from nothing.
func warmUp(ctx context.Context, h *house) (results []result, err error) {
	n, small := h.of(1_000_000), h.of(100_000)
	err = h.in(ctx, "warmup", func(db *database) error {
		if err := db.fill(ctx, n, 100); err != nil {
			return err
		}
		var peaks []float64
		runs := 0
		warm := func() (*shop, error) {
			runs++
			if err := db.rdb.FlushAll(ctx).Err(); err != nil {
				return nil, err
			}
			d, err := db.daemon(ctx, fmt.Sprintf("warmup_%d", runs), shopRules)
			return &shop{database: db, products: n, perCategory: 100, daemon: d, rendered: float64(n + 1)}, err
		}
		var s *shop
		ours, theirs, err := h.alternate(
			func() (float64, error) {
				var err error
				if s, err = warm(); err != nil {
					return 0, err
				}
				ready, err := s.daemon.ready(ctx)
				peaks = append(peaks, s.daemon.peakMiB())
				return float64(n) / ready.Sub(s.daemon.began).Seconds() / 1000, err
			},
			func() (float64, error) {
				defer s.daemon.stop()
				return s.follows(ctx, repriced+fmt.Sprintf(" WHERE id <= %d", small), small)
			},
		)
		results = []result{
			{unit: "kfrag/s", ours: ours, theirs: theirs, with: "row 3, ours", aim: ">= 1", notes: []string{fmt.Sprintf("%d fragments, from the daemon's start", n)}},
			{what: "memory", unit: "MiB", ours: peaks, with: "peak RSS", aim: "flat"},
		}
		return err
	})
	return results, err
}
