package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/web"
)

// daemon is what `run` keeps running: one session after the other, each from
// the slot to Redis. A connection that breaks ends its session, and the next
// one takes up where the last confirmed.
type daemon struct {
	app      *app
	db       *render.Database
	cache    *cache.Cache
	metrics  *web.Metrics
	progress func(viewlet.Status) // told now and then; may be nil
	// advanced says that the last session has confirmed something.
	advanced atomic.Bool
	// verifyRate is how many fragments are verified a second; zero: none.
	verifyRate rate.Limit

	mu      sync.Mutex
	current *edition
	pipe    *viewlet.Pipeline // nil: no session runs
	state   web.State
	reason  string
	again   uint64 // sessions after the first
	renew   string // why the next session is to make the slot anew; empty: it is not
	slot    web.Slot
}

// edition is one set of rules, compiled, and the tables that it names.
type edition struct {
	*inspection
	written *rules.Set // before anything was derived
	cfg     replication.Config
	// schema marks what the queries read in the database, as it was before the
	// rules were derived; empty: not known.
	schema string
	said   string // what was last told of a schema that cannot be used; empty: nothing
}

// prepare compares rules with the database and tells what is wrong with them;
// errReported beside what there is if they cannot be used.
func (a *app) prepare(ctx context.Context, set *rules.Set, db *render.Database) (*edition, error) {
	cfg, err := a.replicationConfig(set)
	if err != nil {
		return nil, err
	}
	in, err := a.inspect(ctx, set, db, cfg, nil)
	if err != nil {
		return nil, err
	}
	a.tell(in.set, in.diags)
	ed := &edition{inspection: in, written: set, cfg: cfg}
	if in.diags.HasErrors() {
		return ed, errReported
	}
	return ed, nil
}

// errReload ends a session because there are new rules.
var errReload = errors.New("new rules")

// run holds sessions, and watches the slot, until ctx ends. What breaks a session
// is the world's fault, and is tried again; what Postgres lacks, a
// replication.Problem, ends it if the first session meets it.
func (d *daemon) run(ctx context.Context, reload <-chan struct{}) error {
	var watch sync.WaitGroup
	defer watch.Wait()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watch.Go(func() { d.watchSlot(watching) })
	return d.sessions(ctx, reload)
}

func (d *daemon) sessions(ctx context.Context, reload <-chan struct{}) error {
	pause := newBackoff()
	for first := true; ; first = false {
		began := time.Now()
		err := d.reloadable(ctx, reload)
		var lacks replication.Problem
		switch {
		case ctx.Err() != nil:
			d.become(web.Stopping, "")
			return nil
		case errors.Is(err, errReload):
			continue
		case first && errors.As(err, &lacks):
			return err
		}
		if d.advanced.Swap(false) || time.Since(began) > time.Minute {
			pause = newBackoff()
		}
		if errors.Is(err, replication.ErrUnpublished) {
			d.mu.Lock()
			d.renew = replication.ErrUnpublished.Error()
			d.mu.Unlock()
		}
		d.become(web.Starting, "the last session ended")
		wait := pause()
		d.app.log.Warn("session ended, beginning another", "err", err, "in", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		d.mu.Lock()
		d.again++
		d.mu.Unlock()
	}
}

func newBackoff() func() time.Duration {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 100 * time.Millisecond
	b.MaxInterval = 15 * time.Second
	return b.NextBackOff
}

// reloadable holds a session, and ends it when there are new rules that can be
// used. A bad new file is told, and the old rules stay in force.
func (d *daemon) reloadable(ctx context.Context, reload <-chan struct{}) error {
	sessionCtx, end := context.WithCancel(ctx)
	defer end()
	done := make(chan error, 1)
	go func() {
		defer end() // nothing else goes on when it has ended
		done <- d.session(sessionCtx)
	}()
	tick := time.NewTicker(schemaEvery)
	defer tick.Stop()
	for {
		var next *edition
		select {
		case err := <-done:
			return err
		case <-tick.C:
			if next = d.followSchema(sessionCtx); next == nil {
				continue
			}
		case <-reload:
			var err error
			if next, err = d.nextEdition(ctx); err != nil {
				d.app.log.Error("rules not reloaded, the old ones stay in force", "err", err)
				continue
			}
			d.app.log.Info("rules reloaded", "viewlets", len(next.set.Viewlets))
		}
		end()
		<-done
		d.mu.Lock()
		d.current = next
		d.mu.Unlock()
		return errReload
	}
}

func (d *daemon) nextEdition(ctx context.Context) (*edition, error) {
	set, err := d.app.loadRules()
	if err != nil {
		return nil, errors.New("the rules have mistakes")
	}
	if set.Redis != d.edition().written.Redis || set.Postgres != d.edition().written.Postgres {
		return nil, errors.New("the postgres or redis block has changed; restart for that")
	}
	next, err := d.app.prepare(ctx, set, d.db)
	if errors.Is(err, errReported) {
		return nil, errors.New("the rules do not fit the database")
	}
	if err != nil {
		return nil, err
	}
	return next, replication.Preflight(ctx, next.cfg, next.tables)
}

func (d *daemon) edition() *edition {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// session streams the slot until ctx ends or something breaks.
func (d *daemon) session(ctx context.Context) error {
	ed := d.edition()
	stream, made, err := d.open(ctx, ed)
	if err != nil {
		return err
	}
	defer stream.Close() // again, when it was run
	var begin stock
	err = stream.During(ctx, func(ctx context.Context) (err error) {
		begin, err = d.begin(ctx, ed, stream, made)
		return err
	})
	if err != nil {
		return err
	}
	st := &store{cache: d.cache, set: ed.set, reached: begin.reached, vouched: begin.vouched}
	st.unsettled.Store(len(begin.unpublished) > 0)
	pipe := viewlet.New(d.pipelineConfig(ed, st, stream.Start))
	pipe.Expect(begin.committing)
	notes := newShapeNotes(d.cache)
	for _, name := range begin.stale {
		notes.render(pipe, name, begin.shapes[name])
	}
	d.app.log.Info("rules in force", "viewlets", len(ed.set.Viewlets), "tables", len(begin.published.tables), "to_render_whole", len(begin.stale))
	d.hold(pipe)
	defer d.hold(nil)
	g, ctx := errgroup.WithContext(ctx)
	watching, stopWatching := context.WithCancel(ctx)
	g.Go(func() error { d.watch(watching, pipe); return nil })
	g.Go(func() error {
		if err := d.remove(ctx, begin.gone); err != nil {
			return err
		}
		d.verifyForEver(watching, ed, pipe) // what was yet to be removed would be orphaned
		return nil
	})
	g.Go(func() error { return d.watchTables(watching, ed, begin, pipe, notes) })
	g.Go(func() error { return d.settle(watching, pipe, st, begin) })
	over := make(chan struct{})
	g.Go(func() error { return notes.run(ctx, over) })
	g.Go(func() error {
		defer stopWatching()
		defer close(over)
		return pipe.Run(ctx, stream)
	})
	err = g.Wait()
	d.advanced.Store(pipe.Status().Confirmed > stream.Start)
	return err
}

// open makes what is missing of the publication and the slot, and waits until it
// has the slot.
func (d *daemon) open(ctx context.Context, ed *edition) (*replication.Stream, replication.State, error) {
	cfg := ed.cfg
	cfg.OnStandby = func(int) { d.become(web.Standby, "another daemon streams the slot") }
	d.mu.Lock()
	cfg.Renew = d.renew
	d.mu.Unlock()
	now, err := publishedNow(ctx, ed)
	if err != nil {
		return nil, replication.State{}, err
	}
	made, err := replication.Setup(ctx, cfg, now.tables)
	if err != nil {
		return nil, made, err
	}
	d.mu.Lock()
	d.renew = "" // done; or left to the daemon that has the slot
	d.mu.Unlock()
	stream, err := replication.Open(ctx, cfg)
	return stream, made, err
}

// errTables ends a session because a table was dropped or made, or the
// publication altered: a publication loses a table that is dropped, and does not
// get the one that takes its name; and what was not published does not come.
var errTables = errors.New("a table of the rules was dropped or made anew, or its publication was altered")

// watchTables looks now and then whether the rules' tables are the same ones,
// and still published as they were; and has whatever a table refreshes rendered
// whole when it has another shape, though the stream goes on.
func (d *daemon) watchTables(ctx context.Context, ed *edition, begin stock, pipe *viewlet.Pipeline, notes *shapeNotes) error {
	tick := time.NewTicker(tablesEvery)
	defer tick.Stop()
	for were := begin.shapes; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		are, err := publishedNow(ctx, ed)
		if err != nil {
			continue // the stream meets it too
		}
		if !are.same(begin.published) {
			return errTables
		}
		shapes := are.shapesOf(ed.set)
		d.renderReshaped(pipe, notes, were, shapes)
		were = shapes
	}
}

// settle renders once more what was rendered while transactions were open that
// began before their tables were published: what they had written by then never
// comes. Until then the state vouches for none of it.
func (d *daemon) settle(ctx context.Context, pipe *viewlet.Pipeline, st *store, begin stock) error {
	if len(begin.unpublished) == 0 {
		return nil
	}
	d.app.log.Warn("transactions are open that began before their tables were published; what those refresh is rendered again once they have ended",
		"transactions", len(begin.unpublished), "viewlets", len(begin.stale))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		snap, err := d.db.Snapshot(ctx)
		if err == nil && !slices.ContainsFunc(begin.unpublished, func(xid uint32) bool { return !snap.Sees(xid) }) {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	st.unsettled.Store(false)
	for _, name := range begin.stale {
		pipe.Refresh(viewlet.Refresh{Key: viewlet.Key{Viewlet: name}, Via: viewlet.Whole})
	}
	return nil
}

// remove deletes the fragments of viewlets that the rules no longer have.
func (d *daemon) remove(ctx context.Context, viewlets []string) error {
	for _, name := range viewlets {
		snap, err := d.db.Snapshot(ctx)
		if err != nil {
			return err
		}
		d.app.log.Info("viewlet is not in the rules any more, deleting its fragments", "viewlet", name)
		if err := removeViewlet(ctx, d.cache, name, snap.LSN); err != nil {
			return fmt.Errorf("delete fragments of %s: %w", name, err)
		}
	}
	return nil
}

func (d *daemon) pipelineConfig(ed *edition, st *store, start viewlet.LSN) viewlet.Config {
	cfg := viewlet.Config{
		Match: ed.set, Render: ed.renderer, Store: st, Failures: st, Start: start,
		Backoff: newBackoff, Observe: d.metrics.Observe, Log: d.app.log,
	}
	for _, v := range ed.set.Viewlets {
		cfg.Lanes = append(cfg.Lanes, viewlet.Lane{Viewlet: v.Name, Requested: v.Requested, DeleteFailed: v.DeleteFailed})
	}
	return cfg
}

func (d *daemon) hold(pipe *viewlet.Pipeline) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pipe = pipe
}

func (d *daemon) pipeline() *viewlet.Pipeline {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pipe
}

func (d *daemon) become(state web.State, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state, d.reason = state, reason
}

func (d *daemon) is(state web.State) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state == state
}

// watch tells of the warm-up until it is over, and of the state.
func (d *daemon) watch(ctx context.Context, pipe *viewlet.Pipeline) {
	const often, seldom = 200 * time.Millisecond, 5 * time.Second
	began := time.Now()
	d.become(web.Warming, "rendering what is not in Redis yet")
	tick := time.NewTicker(often)
	defer tick.Stop()
	for told := began; ; {
		status := pipe.Status()
		if d.progress != nil {
			d.progress(status)
		}
		if status.Warm() {
			break
		}
		if d.progress == nil && time.Since(told) > seldom {
			told = time.Now()
			logWarming(d.app.log, status)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	d.become(web.Streaming, "")
	status := pipe.Status()
	facts := []any{"rendered", rendered(status), "took", time.Since(began).Round(time.Millisecond)}
	if names := broken(status); names != "" {
		facts = append(facts, "but_not_of", names)
	}
	d.app.log.Info("ready: every fragment is in Redis", facts...)
}

// warm returns when every fragment is in Redis, and that has been told.
func (d *daemon) warm(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if d.is(web.Streaming) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func rendered(s viewlet.Status) (keys int) {
	for _, l := range s.Lanes {
		keys += l.Rendered
	}
	return keys
}

// broken names the viewlets that cannot be rendered.
func broken(s viewlet.Status) string {
	var names []string
	for _, l := range s.Lanes {
		if l.Broken != nil {
			names = append(names, l.Viewlet)
		}
	}
	return strings.Join(names, " ")
}

func logWarming(log *slog.Logger, s viewlet.Status) {
	warming := 0
	for _, l := range s.Lanes {
		if l.Warming {
			warming++
		}
	}
	log.Info("warming up", "viewlets_to_go", warming, "rendered", rendered(s))
}
