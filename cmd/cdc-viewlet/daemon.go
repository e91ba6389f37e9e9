package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

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

	mu      sync.Mutex
	current *edition
	pipe    *viewlet.Pipeline // nil: no session runs
	state   web.State
	reason  string
	again   uint64 // sessions after the first
}

// edition is one set of rules, compiled, and the tables that it names.
type edition struct {
	*inspection
	written *rules.Set // before anything was derived
	cfg     replication.Config
	// schema marks what the queries read in the database, as it was before the
	// rules were derived; empty: not known.
	schema string
	said   string // what was last told of a schema that the rules do not fit
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

// run holds sessions until ctx ends. What breaks one is the world's fault, and
// is tried again; what Postgres lacks, a replication.Problem, ends it if the
// first session meets it.
func (d *daemon) run(ctx context.Context, reload <-chan struct{}) error {
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
		if time.Since(began) > time.Minute {
			pause = newBackoff()
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
	cfg := ed.cfg
	cfg.OnStandby = func(int) { d.become(web.Standby, "another daemon streams the slot") }
	tables, err := tablesNow(ctx, ed)
	if err != nil {
		return err
	}
	made, err := replication.Setup(ctx, cfg, tables)
	if err != nil {
		return err
	}
	stream, err := replication.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stream.Close() // again, when it was run
	// Whoever had the slot until now may have had other rules.
	if tables, err = tablesNow(ctx, ed); err != nil {
		return err
	}
	added, _, err := replication.Publish(ctx, cfg, tables)
	if err != nil {
		return err
	}
	made.Added = append(made.Added, added...)
	begin, err := d.takeStock(ctx, ed, stream, made)
	if err != nil {
		return err
	}
	st := &store{cache: d.cache, set: ed.set, reached: begin.reached, stateful: true}
	st.unsettled.Store(len(begin.unpublished) > 0)
	pipe := viewlet.New(d.pipelineConfig(ed, st, stream.Start))
	pipe.Expect(begin.committing)
	for _, name := range begin.stale {
		pipe.Refresh(viewlet.Refresh{Key: viewlet.Key{Viewlet: name}, Via: viewlet.Whole})
	}
	d.app.log.Info("rules in force", "viewlets", len(ed.set.Viewlets), "tables", len(tables), "to_render_whole", len(begin.stale))
	d.hold(pipe)
	defer d.hold(nil)
	g, ctx := errgroup.WithContext(ctx)
	watching, stopWatching := context.WithCancel(ctx)
	g.Go(func() error { d.watch(watching, pipe); return nil })
	g.Go(func() error { return d.remove(ctx, begin.gone) })
	g.Go(func() error { return d.watchTables(watching, ed, tables) })
	g.Go(func() error { return d.settle(watching, pipe, st, begin) })
	g.Go(func() error {
		defer stopWatching()
		return pipe.Run(ctx, stream)
	})
	return g.Wait()
}

// tablesNow gives the rules' tables as they are now. One that was dropped
// since the rules were checked harms only the viewlets that need it.
func tablesNow(ctx context.Context, ed *edition) ([]viewlet.Table, error) {
	conn, err := replication.Connect(ctx, ed.cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	names := ed.set.TableNames()
	found, err := replication.Tables(ctx, conn, names)
	if err != nil {
		return nil, err
	}
	var tables []viewlet.Table
	for _, name := range names {
		t, ok := found[name]
		if ok && (t.Kind == 'r' || t.Kind == 'p') && t.Persistence == 'p' {
			tables = append(tables, t)
		}
	}
	return tables, nil
}

// errTables ends a session because a table was dropped or made: a publication
// loses a table that is dropped, and does not get the one that takes its name.
var errTables = errors.New("a table of the rules was dropped or made anew")

// watchTables looks now and then whether the rules' tables are the same ones.
func (d *daemon) watchTables(ctx context.Context, ed *edition, were []viewlet.Table) error {
	const often = 5 * time.Second
	tick := time.NewTicker(often)
	defer tick.Stop()
	same := func(a, b viewlet.Table) bool { return a.OID == b.OID }
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		are, err := tablesNow(ctx, ed)
		if err != nil {
			continue // the stream meets it too
		}
		if !slices.EqualFunc(were, are, same) {
			return errTables
		}
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
	d.app.log.Info("ready: every fragment is in Redis", "rendered", rendered(pipe.Status()), "took", time.Since(began).Round(time.Millisecond))
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

func logWarming(log *slog.Logger, s viewlet.Status) {
	warming := 0
	for _, l := range s.Lanes {
		if l.Warming {
			warming++
		}
	}
	log.Info("warming up", "viewlets_to_go", warming, "rendered", rendered(s))
}

// goneFingerprint is of no viewlet: some of its fragments may be there still.
const goneFingerprint = "gone"

// stock is what a session begins with.
type stock struct {
	stale      []string // viewlets to be rendered whole
	gone       []string // viewlets that Redis has and the rules have not
	committing []uint32 // transactions that will not come, and are not visible yet
	// unpublished are open transactions of which not all will come.
	unpublished []uint32
	reached     viewlet.LSN
}

// takeStock compares what Redis says of itself with the slot and with the
// rules. What it cannot vouch for is to be rendered whole. The stream is open,
// and nobody reads it yet, so it is quick.
func (d *daemon) takeStock(ctx context.Context, ed *edition, stream *replication.Stream, made replication.State) (stock, error) {
	if err := d.cache.Ping(ctx); err != nil {
		return stock{}, err
	}
	state, err := d.cache.State(ctx)
	if err != nil {
		return stock{}, err
	}
	var s stock
	for name := range state.Fingerprints {
		if ed.set.Viewlet(name) != nil {
			continue
		}
		// Should it come back before all is deleted, nothing of it is good.
		if err := d.cache.SaveFingerprint(ctx, name, goneFingerprint); err != nil {
			return stock{}, err
		}
		s.gone = append(s.gone, name)
	}
	if why := gap(state, ed.cfg.Slot, d.db.Name(), stream, made.SlotCreated); why != "" {
		d.app.log.Info("everything is rendered afresh", "why", why)
		if state, err = d.beginAnew(ctx, ed, state, stream, s.gone); err != nil {
			return stock{}, err
		}
	}
	s.reached = state.LSN
	missed := ed.set.RefreshedBy(made.Added)
	for _, v := range ed.set.Viewlets {
		if missed[v.Name] || state.Fingerprints[v.Name] != ed.set.Fingerprint(v.Name) {
			s.stale = append(s.stale, v.Name)
		}
	}
	if len(s.stale) == 0 {
		return s, nil
	}
	if s.committing, err = d.db.Committing(ctx); err != nil {
		return s, err
	}
	s.unpublished, err = d.db.Unpublished(ctx, ed.cfg.Publication)
	return s, err
}

// beginAnew makes Redis vouch for nothing but the stream's beginning. What is
// gone from the rules stays noted until it is deleted.
func (d *daemon) beginAnew(ctx context.Context, ed *edition, old cache.State, stream *replication.Stream, gone []string) (cache.State, error) {
	anew := cache.State{
		System: stream.SystemID, Timeline: uint32(stream.Timeline), Slot: ed.cfg.Slot, Database: d.db.Name(),
		LSN: stream.Start, Fingerprints: map[string]string{},
	}
	for _, name := range gone {
		anew.Fingerprints[name] = goneFingerprint
	}
	if old.System != anew.System || old.Timeline != anew.Timeline {
		if err := d.cache.ForgetGuards(ctx); err != nil {
			return anew, err
		}
	}
	return anew, d.cache.SaveState(ctx, anew)
}

// gap says why what is in Redis cannot be taken up where it was left; empty
// when it can.
func gap(state cache.State, slot, database string, stream *replication.Stream, slotCreated bool) string {
	switch {
	case state.System == "":
		return "redis holds nothing yet"
	case state.System != stream.SystemID:
		return "redis was filled from another server"
	case state.Timeline != uint32(stream.Timeline):
		return "the server is on another timeline: a standby was promoted"
	case slotCreated:
		return "the slot is new"
	case state.Slot != slot || state.Database != database:
		return "redis was filled from another slot or database"
	case state.Elsewhere && state.Cluster:
		return "redis failed over or was restarted: a primary of the cluster is another one"
	case state.Elsewhere && stream.Start > state.LSN:
		return fmt.Sprintf("redis failed over or was restarted, and has lost what was written last: the slot is at %v, and redis only at %v", stream.Start, state.LSN)
	case stream.Start > state.LSN:
		return fmt.Sprintf("the slot is at %v, and redis only at %v", stream.Start, state.LSN)
	}
	return ""
}
