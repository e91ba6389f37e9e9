package render

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Snapshot tells which transactions a query that starts now would see.
func (r *Renderer) Snapshot(ctx context.Context) (viewlet.Snapshot, error) { return r.db.Settled(ctx) }

// Render gives one fragment for each of the viewlet's keys, in their order,
// from one query. What is one key's fault, in its data or in its template, is
// that fragment's Err; a *viewlet.Broken is the viewlet's; any other error the
// world's.
func (r *Renderer) Render(ctx context.Context, name string, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	fragments, _, err := r.Timed(ctx, name, keys)
	return fragments, err
}

// Timed is Render, and how much of its time went to waiting for Postgres.
func (r *Renderer) Timed(ctx context.Context, name string, keys []viewlet.Key) (fragments []viewlet.Fragment, query time.Duration, err error) {
	c, ok := r.viewlets[name]
	if !ok {
		return nil, 0, fmt.Errorf("render %s: there is no such viewlet", name)
	}
	if c.unparsed != nil {
		return nil, 0, &viewlet.Broken{Err: c.unparsed}
	}
	fragments, query, err = r.renderOnce(ctx, c, keys, false)
	if outdated(err) {
		fragments, query, err = r.renderOnce(ctx, c, keys, true)
	}
	if err != nil {
		return nil, query, brokenIfQuery(err)
	}
	return fragments, query, nil
}

// renderOnce renders with the plan that there is. fresh is true when another
// plan has just failed.
func (r *Renderer) renderOnce(ctx context.Context, c *compiledViewlet, keys []viewlet.Key, fresh bool) ([]viewlet.Fragment, time.Duration, error) {
	plan, err := r.plan(ctx, c)
	if err != nil {
		return nil, 0, err
	}
	ch := &chunk{r: r, c: c, plan: plan, fresh: fresh, fragments: make([]viewlet.Fragment, 0, len(keys))}
	if plan.form != nil {
		ch.room.sheet = plan.form.Sheet(r.maxFragment)
	}
	if err = ch.render(ctx, keys); err == nil {
		err = ch.verdict()
	}
	if outdated(err) {
		c.forget(plan)
	}
	return ch.fragments, ch.queried, err
}

// outdated reports whether a query that failed may do better when it is
// compiled anew.
func outdated(err error) bool {
	f := faultOf(err)
	return f == faultOfSchema || f == faultOfQuery
}

// brokenIfQuery marks an error that is the query's fault.
func brokenIfQuery(err error) error {
	var q *QueryError
	var broken *viewlet.Broken
	switch {
	case errors.As(err, &broken):
		return err
	case errors.As(err, &q), faultOf(err) == faultOfQuery:
		return &viewlet.Broken{Err: err}
	}
	return err
}

// chunk is the rendering of some keys.
type chunk struct {
	r         *Renderer
	c         *compiledViewlet
	plan      *plan
	fresh     bool // the plan was compiled because another one failed
	fragments []viewlet.Fragment
	queried   time.Duration // spent in queries
	room      room
}

// render appends the keys' fragments. A chunk that fails by its data is
// halved until only the guilty fragment bears the error.
func (ch *chunk) render(ctx context.Context, keys []viewlet.Key) error {
	if len(keys) == 0 {
		return nil
	}
	if ch.plan.many == nil && len(keys) > 1 {
		return ch.halves(ctx, keys)
	}
	began := time.Now()
	found, at, err := ch.query(ctx, keys)
	ch.queried += time.Since(began)
	if err != nil {
		if !ch.ofData(err) {
			return err
		}
		if len(keys) > 1 {
			return ch.halves(ctx, keys)
		}
		ch.fragments = append(ch.fragments, viewlet.Fragment{Key: keys[0], LSN: at.lsn, Seen: at.sees, Err: err})
		return nil
	}
	for i, key := range keys {
		f := viewlet.Fragment{Key: key, LSN: at.lsn, Seen: at.sees}
		f.Body, f.Err = ch.body(key, found, i)
		ch.fragments = append(ch.fragments, f)
	}
	return nil
}

func (ch *chunk) halves(ctx context.Context, keys []viewlet.Key) error {
	half := len(keys) / 2
	if err := ch.render(ctx, keys[:half]); err != nil {
		return err
	}
	return ch.render(ctx, keys[half:])
}

// ofData reports whether one key's data may be at fault. Postgres has told of
// a fresh plan what is wrong with the query; what comes up when it runs comes
// of the data, as a syntax error in to_tsquery's argument does.
func (ch *chunk) ofData(err error) bool {
	f := faultOf(err)
	return f == faultOfData || f == faultOfQuery && ch.fresh && !denied(err)
}

// verdict gives the error when all keys fail in a way that tells more of the
// query than of them: a function's body reads a table that is gone.
func (ch *chunk) verdict() error {
	for _, f := range ch.fragments {
		if faultOf(f.Err) != faultOfQuery || len(ch.fragments) == 1 && !inFunction(f.Err) {
			return nil
		}
	}
	if len(ch.fragments) == 0 {
		return nil
	}
	return ch.fragments[0].Err
}
