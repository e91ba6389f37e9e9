package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Cache is where fragments are. An error means that it cannot be told now.
type Cache interface {
	// Get gives the fragment's bytes, and whether it is there.
	Get(ctx context.Context, key viewlet.Key) (body []byte, found bool, err error)
	// Fill puts a fragment there that a visitor missed, unless something newer
	// has been, or been deleted, under its key. The Body is not nil.
	Fill(ctx context.Context, f viewlet.Fragment) error
}

// Renderer renders what Postgres holds now.
type Renderer interface {
	// Render renders one fragment: a nil Body means that there is no such
	// instance, Fragment.Err that the fragment itself is at fault. An error
	// means that Postgres cannot be asked now. It returns when ctx ends.
	Render(ctx context.Context, key viewlet.Key) (viewlet.Fragment, error)
}

// reader gets fragments from the cache, and renders what is not there, each
// key once however many ask.
type reader struct {
	rules    Rules
	cache    Cache
	asked    *exchanges
	renderer Renderer
	metrics  *Metrics
	log      *slog.Logger

	cacheTimeout  time.Duration
	renderTimeout time.Duration
	room          chan struct{} // holds one for each render under way
	misses        singleflight.Group
	flights       sync.WaitGroup // misses under way, whether or not anyone still waits
	uncached      sparingly
	faults        sparingly
}

func newReader(c Config) *reader {
	return &reader{
		rules:         c.Rules,
		cache:         c.Cache,
		asked:         newExchanges(c.Cache, c.CacheTimeout),
		renderer:      c.Renderer,
		metrics:       c.Metrics,
		log:           c.Log,
		cacheTimeout:  c.CacheTimeout,
		renderTimeout: c.RenderTimeout,
		room:          make(chan struct{}, c.Renders),
	}
}

// read gives the target's fragment, as Renderer.Render does. Its error may also
// be the ArgumentError of Rules.Validate, which only what is not in the cache
// gets to see.
func (rd *reader) read(ctx context.Context, t target) (viewlet.Fragment, error) {
	f, found, reachable := rd.get(ctx, viewlet.NewKey(t.name, t.args...))
	if found {
		rd.metrics.reads.WithLabelValues(t.name, "hit").Inc()
		return f, nil
	}
	if err := ctx.Err(); err != nil {
		return f, err
	}
	rd.metrics.reads.WithLabelValues(t.name, "miss").Inc()
	short, cancel := context.WithTimeout(ctx, rd.renderTimeout)
	defer cancel()
	key, err := rd.rules.Validate(short, t.name, t.args)
	if err != nil {
		return f, fmt.Errorf("validate arguments of %s: %w", t.name, err)
	}
	return rd.miss(ctx, key, reachable)
}

// miss joins the flight of the key, or starts it, and waits for its end or that
// of ctx. A flight goes on when those who wait for it leave.
func (rd *reader) miss(ctx context.Context, key viewlet.Key, reachable bool) (viewlet.Fragment, error) {
	type outcome struct {
		fragment any
		err      error
	}
	landed := make(chan outcome, 1)
	rd.flights.Go(func() {
		f, err, _ := rd.misses.Do(key.String(), func() (any, error) {
			return rd.fly(context.WithoutCancel(ctx), key, reachable)
		})
		landed <- outcome{f, err}
	})
	select {
	case <-ctx.Done():
		return viewlet.Fragment{}, ctx.Err()
	case o := <-landed:
		return o.fragment.(viewlet.Fragment), o.err
	}
}

// fly renders the key and fills the cache. A panic is the fragment's own fault:
// a visitor shall not be able to end the daemon.
func (rd *reader) fly(ctx context.Context, key viewlet.Key, reachable bool) (f viewlet.Fragment, err error) {
	ctx, cancel := context.WithTimeout(ctx, rd.renderTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			rd.log.Error("panic while rendering", "key", key, "panic", p, "stack", string(debug.Stack()))
			f, err = viewlet.Fragment{Key: key, Err: fmt.Errorf("panic: %v", p)}, nil
		}
	}()
	if reachable {
		// Another flight may have landed since; or only the key as the visitor
		// wrote it was not there.
		if f, found, _ := rd.get(ctx, key); found {
			return f, nil
		}
	}
	f, err = rd.render(ctx, key)
	if err == nil && f.Err == nil && f.Body != nil && reachable {
		rd.fill(ctx, f)
	}
	return f, err
}

func (rd *reader) render(ctx context.Context, key viewlet.Key) (viewlet.Fragment, error) {
	select {
	case rd.room <- struct{}{}:
		defer func() { <-rd.room }()
	case <-ctx.Done():
		return viewlet.Fragment{}, fmt.Errorf("wait to render %s: %w", key, ctx.Err())
	}
	rd.metrics.visits.WithLabelValues(key.Viewlet).Inc()
	f, err := rd.renderer.Render(ctx, key)
	if err != nil {
		return f, fmt.Errorf("render %s: %w", key, err)
	}
	f.Key = key
	if f.Err != nil {
		rd.faults.log(rd.log, slog.LevelError, "fragment cannot be rendered", "key", key, "err", f.Err)
	}
	return f, nil
}

// get asks the cache, and reports whether the fragment is there and whether the
// cache answered at all.
func (rd *reader) get(ctx context.Context, key viewlet.Key) (f viewlet.Fragment, found, reachable bool) {
	body, found, err := rd.asked.get(ctx, key)
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) { // else the visitor has left
			rd.uncached.log(rd.log, slog.LevelWarn, "cache cannot be read, serving without it", "key", key, "err", err)
		}
		return f, false, false
	}
	if found && body == nil {
		body = []byte{} // nil would mean that there is no such instance
	}
	return viewlet.Fragment{Key: key, Body: body}, found, true
}

func (rd *reader) fill(ctx context.Context, f viewlet.Fragment) {
	short, cancel := context.WithTimeout(ctx, rd.cacheTimeout)
	defer cancel()
	if err := rd.cache.Fill(short, f); err != nil {
		rd.uncached.log(rd.log, slog.LevelWarn, "cache cannot be filled, serving without it", "key", f.Key, "err", err)
	}
}
