package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/web"
)

// server gives the daemon over HTTP.
func (d *daemon) server() *web.Server {
	return web.New(web.Config{
		Rules: served{d}, Cache: servedCache{d}, Renderer: served{d}, Door: served{d}, Daemon: served{d},
		Metrics: d.metrics, Log: d.app.log,
	})
}

// served is the daemon as web sees it: whatever rules are in force.
type served struct{ d *daemon }

// Viewlet is a method of web.Rules.
func (s served) Viewlet(name string) (web.Viewlet, error) {
	set := s.d.edition().set
	v := set.Viewlet(name)
	if v == nil {
		reason := fmt.Sprintf("there is no viewlet %q", name)
		if like := set.Suggest(name); like != "" {
			reason += "." + like
		}
		return web.Viewlet{}, web.UnknownViewletError{Reason: reason}
	}
	return web.Viewlet{Params: len(v.Params), ContentType: contentType(v)}, nil
}

func contentType(v *rules.Viewlet) string {
	switch {
	case v.Template == nil:
		return "application/json"
	case v.Template.HTML:
		return "text/html; charset=utf-8"
	}
	return "text/plain; charset=utf-8"
}

// Validate is a method of web.Rules.
func (s served) Validate(ctx context.Context, name string, args []string) (viewlet.Key, error) {
	key, err := s.d.edition().renderer.Canonical(ctx, name, args)
	var unfit *render.ArgumentError
	if errors.As(err, &unfit) {
		return key, web.ArgumentError{Reason: unfit.Error()}
	}
	return key, err
}

// watchTimeout is how long a visitor waits for the cache before a fragment is
// rendered that is not stored then.
const watchTimeout = 250 * time.Millisecond

// Render is a method of web.Renderer.
func (s served) Render(ctx context.Context, key viewlet.Key) (viewlet.Fragment, error) {
	late := latecomer{s.d.edition().renderer, s.d.db, s.d.cache}
	var w viewlet.Watch
	if late.Storable(key.Viewlet) {
		short, cancel := context.WithTimeout(ctx, watchTimeout)
		w, _ = late.watch(short, key.Viewlet) // without, Fill does not store it
		cancel()
	}
	fragments, err := late.renderUnder(ctx, w, key.Viewlet, []viewlet.Key{key})
	if err != nil {
		return viewlet.Fragment{}, err
	}
	return fragments[0], nil
}

// Refresh is a method of web.Door.
func (s served) Refresh(_ context.Context, r viewlet.Refresh) (<-chan error, error) {
	pipe := s.d.pipeline()
	if pipe == nil {
		return nil, errors.New("not streaming yet")
	}
	done := make(chan error, 1)
	if !pipe.Refresh(r, func(err error) { done <- err }) {
		return nil, fmt.Errorf("there is no viewlet %q", r.Viewlet)
	}
	return done, nil
}

// Status is a method of web.Daemon.
func (s served) Status() web.Status {
	d := s.d
	pipe := d.pipeline()
	d.mu.Lock()
	status := web.Status{State: d.state, Reason: d.reason, Reconnects: d.again, Slot: d.slot, RendersFromStandby: d.db.StandbyServes()}
	d.mu.Unlock()
	if pipe == nil {
		return status
	}
	now := pipe.Status()
	status.Changes, status.Transactions = now.Changes, now.Transactions
	status.Received, status.Confirmed, status.ServerEnd = now.Received, now.Confirmed, now.Received
	status.Oldest = now.Oldest
	failed := d.cache.FailedCounts()
	for _, l := range now.Lanes {
		status.Lanes = append(status.Lanes, web.Lane{Viewlet: l.Viewlet, Depth: l.Depth, Broken: l.Broken != nil, Failed: failed[l.Viewlet]})
	}
	return status
}

// servedCache is the cache with each viewlet's options.
type servedCache struct{ d *daemon }

// Get is a method of web.Cache.
func (s servedCache) Get(ctx context.Context, key viewlet.Key) ([]byte, bool, error) {
	return s.d.cache.Get(ctx, key)
}

// Fill is a method of web.Cache. What the cache does not take, because
// something just as new has been there, is left to the key's lane, and waited
// for, lest those who ask meanwhile miss it too; or, where lanes render only what
// is there, rendered once more: that is newer than what the cache has just been
// seen to know.
func (s servedCache) Fill(ctx context.Context, f viewlet.Fragment) error {
	ed := s.d.edition()
	v := ed.set.Viewlet(f.Key.Viewlet)
	if v == nil || !ed.renderer.Storable(f.Key.Viewlet) {
		return nil
	}
	options := cache.Options{TTL: v.Timeout}
	stored, err := s.d.cache.Fill(ctx, f, options)
	if err != nil || stored || f.Body == nil || f.Err != nil {
		return err
	}
	if v.Requested {
		late := latecomer{ed.renderer, s.d.db, s.d.cache}
		again, err := late.Render(ctx, v.Name, []viewlet.Key{f.Key})
		if err == nil && again[0].Err == nil && again[0].Body != nil {
			if _, err = s.d.cache.Store(ctx, again, options); errors.Is(err, cache.ErrUnwatched) {
				return nil // the next who misses it may be luckier
			}
		}
		return err
	}
	done := make(chan struct{})
	if pipe := s.d.pipeline(); pipe == nil || !pipe.Refresh(viewlet.Refresh{Key: f.Key}, func(error) { close(done) }) {
		return nil
	}
	select {
	case <-done:
	case <-ctx.Done(): // the lane has much to do
	}
	return nil
}
