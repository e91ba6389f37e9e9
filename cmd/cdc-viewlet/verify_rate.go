package main

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/cdc-viewlet/cdc-viewlet/verify"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// parseRate reads how many fragments are to be verified in a time: 50/s.
func parseRate(text string) (rate.Limit, error) {
	seconds := map[string]float64{"s": 1, "m": 60, "h": 3600}
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	per, known := seconds[strings.TrimSpace(unit)]
	if err != nil || !known || n <= 0 || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, usagef("--verify-rate %q: write a number of fragments in a second, a minute or an hour, such as 50/s or 3000/m", text)
	}
	return rate.Limit(n / per), nil
}

// verifyForEver compares Redis with fresh renders, all of it again and again, no
// faster than the rate. What differs is counted, told and refreshed.
func (d *daemon) verifyForEver(ctx context.Context, ed *edition, pipe *viewlet.Pipeline) {
	const soonest = time.Second // from the beginning of one round to the next
	if d.verifyRate == 0 || d.warm(ctx) != nil {
		return
	}
	chunk := int(min(200, max(1, float64(d.verifyRate))))
	pace := rate.NewLimiter(d.verifyRate, chunk)
	primary := truth{latecomer{ed.renderer.OnPrimary(), d.db, d.cache}, true}
	drift := &drift{d: d, ed: ed, pipe: pipe}
	failing := newBackoff()
	for ctx.Err() == nil {
		next := time.After(soonest)
		err := verify.New(verify.Config{
			Viewlets: viewletsToVerify(ed.set), Truth: primary, Store: d.cache,
			Passed: pipe.Wait, Found: drift.found, Compared: d.metrics.Verified, Pace: pace.WaitN, Chunk: chunk,
		}).All(ctx)
		if err == nil {
			failing = newBackoff()
		} else if ctx.Err() == nil {
			d.app.log.Warn("cannot verify, trying again", "err", err)
			next = time.After(max(soonest, failing()))
		}
		select {
		case <-ctx.Done():
		case <-next:
		}
	}
}

// drift takes care of what the background check finds.
type drift struct {
	d    *daemon
	ed   *edition
	pipe *viewlet.Pipeline
}

// found counts findings, tells of them and mends them. What is failed is known
// already, and tried again elsewhere.
func (dr *drift) found(ctx context.Context, findings []verify.Finding) error {
	var strays []verify.Finding
	for _, f := range findings {
		if f.Kind == verify.Failed {
			continue
		}
		dr.d.metrics.Drifted(f.Viewlet, string(f.Kind))
		dr.d.app.log.Warn("fragment in Redis was not as Postgres renders it, mending it", "key", f.Name(), "kind", f.Kind)
		if f.Stray {
			strays = append(strays, f) // no lane renders it
		} else {
			dr.pipe.Refresh(viewlet.Refresh{Key: f.Key})
		}
	}
	_, err := mend(ctx, dr.d.cache, dr.ed.set, strays)
	return err
}
