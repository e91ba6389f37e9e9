package viewlet

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// lane renders one viewlet: what falls into its pending set while one pass is
// under way is the next pass. Being alone it never races with itself for a key.
type lane struct {
	Lane
	p       *Pipeline
	pending pending
	broken  atomic.Pointer[Broken]
	// rendered is how far the last whole rendering came.
	rendered atomic.Int64
	// failing is how many of the chunks under way failed at their last try.
	failing atomic.Int32
	// still is not nil during a whole rendering.
	still *standstill
	haste haste
	stop  <-chan struct{}
}

// errStopped ends a pass between two chunks. What it had not done stays held.
var errStopped = errors.New("lane is stopping")

// patience is how often a chunk is tried before its whole pass is tried anew,
// which lets go of what the pass keeps open in the database.
const patience = 5

// chunksAtOnce is how much of a batch is taken out of it at once, in chunks.
const chunksAtOnce = 32

func newLane(p *Pipeline, c Lane) *lane {
	l := &lane{Lane: c, p: p}
	l.pending.init(&p.room)
	return l
}

// run serves what falls in until stop is closed or ctx ends. It returns an
// error when the store has forgotten.
func (l *lane) run(ctx context.Context, stop <-chan struct{}) error {
	l.stop = stop
	for {
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return nil
		case <-l.pending.ready:
		}
		if l.stopping() {
			return nil
		}
		b := l.pending.take(true)
		if b.empty() {
			continue
		}
		snap, err := l.serve(ctx, &b)
		if errors.Is(err, errStopped) {
			return nil
		}
		if err != nil {
			return err
		}
		l.pending.done(snap)
		l.p.outage.works(l.p.log, l.Viewlet)
		l.p.poke()
	}
}

func (l *lane) stopping() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// serve passes over the batch until it is done, and gives a snapshot that saw no
// more than any of its queries. errStopped says that it was told to stop before.
func (l *lane) serve(ctx context.Context, b *batch) (*Snapshot, error) {
	if seen := l.early(ctx, b); seen != nil {
		return seen, nil
	}
	pause := l.p.cfg.Backoff()
	if err := l.p.visible.wait(ctx, b.commit); err != nil {
		return nil, errStopped // ctx has ended
	}
	snap := l.p.visible.snapshot()
	for {
		err := l.pass(ctx, b)
		var broken *Broken
		switch {
		case err == nil:
			return snap, nil
		case errors.Is(err, errStopped), errors.Is(err, ErrForgotten):
			return nil, err
		case ctx.Err() != nil:
			return nil, errStopped
		case errors.As(err, &broken):
			if err := l.park(ctx, b, broken); err != nil {
				return nil, err
			}
			if !l.pauseFor(ctx, pause()) {
				return nil, errStopped
			}
			l.pending.unpark()
			*b, snap = l.pending.take(true), nil
		default:
			if l.p.outage.fails(l.Viewlet, err) {
				l.p.log.Warn("cannot refresh, retrying", "viewlet", l.Viewlet, "err", err)
			}
			if !l.pauseFor(ctx, pause()) {
				return nil, errStopped
			}
		}
	}
}

// park notes in the store that the viewlet is broken, and then lets go of all
// that it holds: a viewlet that does not work keeps nobody else waiting.
func (l *lane) park(ctx context.Context, b *batch, cause *Broken) error {
	news := l.broken.Swap(cause) == nil
	if news {
		l.p.log.Error("viewlet is broken; it is rendered whole once it works", "viewlet", l.Viewlet, "err", cause)
	}
	pause := l.p.cfg.Backoff()
	for {
		err := l.p.cfg.Store.Broken(ctx, l.Viewlet, cause)
		if err == nil && news && l.DeleteFailed {
			err = l.clear(ctx)
		}
		if err == nil {
			break
		}
		if errors.Is(err, ErrForgotten) {
			return err
		}
		if l.p.outage.fails(l.Viewlet, err) {
			l.p.log.Warn("cannot note a broken viewlet, retrying", "viewlet", l.Viewlet, "err", err)
		}
		if !l.pauseFor(ctx, pause()) {
			return errStopped
		}
	}
	l.p.room.give(b.size())
	*b = batch{}
	l.pending.park(cause)
	l.p.outage.works(l.p.log, l.Viewlet)
	l.p.poke()
	return nil
}

// clear deletes all of the viewlet.
func (l *lane) clear(ctx context.Context) error {
	snap, err := l.p.cfg.Render.Snapshot(ctx)
	if err != nil {
		return err
	}
	return l.p.cfg.Store.Older(ctx, l.Viewlet, math.MaxUint64, func(keys []Key) error {
		gone := make([]Fragment, len(keys))
		for i, k := range keys {
			gone[i] = Fragment{Key: k, LSN: snap.LSN}
		}
		return l.p.cfg.Store.Store(ctx, l.Viewlet, gone, &Pass{})
	})
}

// pauseFor reports false if the lane is told to stop meanwhile.
func (l *lane) pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-l.stop:
		return false
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// pass renders and writes what the batch asks for, and takes it out of the
// batch as it goes.
func (l *lane) pass(ctx context.Context, b *batch) error {
	if err := l.observed(ctx, b, Pass{Oldest: b.committed}, l.some); err != nil || !b.whole {
		return err
	}
	if err := l.observed(ctx, b, Pass{Whole: true}, l.all); err != nil {
		return err
	}
	b.whole = false
	l.recovered()
	return nil
}

func (l *lane) observed(ctx context.Context, b *batch, done Pass, serve func(context.Context, *batch, *Pass) error) error {
	start := time.Now()
	done.Viewlet = l.Viewlet
	err := serve(ctx, b, &done)
	if done.Took = time.Since(start); done.Refreshes > 0 || err != nil {
		l.p.cfg.Observe(done)
	}
	if done.Failed > 0 {
		facts := []any{"viewlet", l.Viewlet, "failed", done.Failed, "key", done.FailedKey.String(), "err", done.FailedErr}
		if l.DeleteFailed {
			l.p.log.Error("fragments cannot be rendered, and are deleted", facts...)
		} else {
			l.p.log.Error("fragments cannot be rendered, what is in the cache stays", facts...)
		}
	}
	return err
}

func (l *lane) recovered() {
	if l.broken.Swap(nil) != nil {
		l.p.log.Info("viewlet works again", "viewlet", l.Viewlet)
	}
}

// some renders the keys that the batch names, by themselves or by a lookup.
func (l *lane) some(ctx context.Context, b *batch, done *Pass) error {
	if err := l.p.visible.wait(ctx, b.commit); err != nil {
		return err
	}
	if b.asked && !b.whole { // which takes a look of its own
		if _, err := l.p.cfg.Render.Snapshot(ctx); err != nil {
			return err
		}
	}
	var once once
	if len(b.via) > 0 {
		once.note(b.keys)
	}
	crew := newCrew(l, done)
	for len(b.keys) > 0 {
		n := min(chunksAtOnce*l.p.cfg.Chunk, len(b.keys))
		err := crew.write(ctx, b.keys[:n])
		if err = cmp.Or(err, crew.wait()); err != nil {
			return err
		}
		b.keys = b.keys[n:]
		done.Refreshes += n
		l.p.room.give(n)
	}
	for via, args := range b.via {
		err := l.p.cfg.Render.Expand(ctx, l.Viewlet, via, args, func(keys []Key) error {
			return crew.write(ctx, once.filter(keys))
		})
		if err = cmp.Or(err, crew.wait()); err != nil {
			return err
		}
		delete(b.via, via)
		done.Refreshes += len(args)
		l.p.room.give(len(args))
	}
	return nil
}

// all renders every key of the viewlet, and then those that are in the store
// and were not among them: an instance that is gone is deleted. What falls in
// meanwhile is not kept waiting.
func (l *lane) all(ctx context.Context, b *batch, done *Pass) error {
	since, err := l.p.cfg.Render.Snapshot(ctx)
	if err != nil {
		return err
	}
	l.still = newStandstill(since.LSN)
	defer func() { l.still = nil }()
	crew := newCrew(l, done)
	step := func(keys []Key) error {
		if err := crew.write(ctx, keys); err != nil {
			return err
		}
		fresh := l.pending.take(false)
		if fresh.empty() {
			return nil
		}
		b.absorb(fresh)
		if err := crew.wait(); err != nil {
			return err
		}
		return l.observed(ctx, b, Pass{Oldest: fresh.committed}, l.some)
	}
	if !l.Requested { // else all that is to be there is there
		err := l.p.cfg.Render.Expand(ctx, l.Viewlet, Whole, nil, step)
		if err = cmp.Or(err, crew.wait()); err != nil {
			return err
		}
	}
	// What was written at since itself may be from before, unless it was now.
	err = l.p.cfg.Store.Older(ctx, l.Viewlet, since.LSN+1, func(keys []Key) error {
		return step(l.still.others(keys))
	})
	if err = cmp.Or(err, crew.wait()); err != nil {
		return err
	}
	done.Refreshes++
	return l.p.cfg.Store.Whole(ctx, l.Viewlet)
}

// chunk renders keys and writes them. A render that was not written is thrown
// away: by the next try the guard may have forgotten what is newer.
func (l *lane) chunk(ctx context.Context, keys []Key, done *Pass) error {
	pause := l.p.cfg.Backoff()
	var failing int32 // 0 or 1
	defer func() { l.failing.Add(-failing) }()
	for try := 1; ; try++ {
		if done.Whole && l.stopping() {
			return errStopped // a whole viewlet takes too long to be finished
		}
		err := l.write(ctx, keys, done)
		if err == nil && l.failing.Load() == failing { // no other one fails
			l.p.outage.works(l.p.log, l.Viewlet)
		}
		if err == nil || isBroken(err) || errors.Is(err, ErrForgotten) || ctx.Err() != nil || try == patience {
			return err
		}
		l.failing.Add(1 - failing)
		failing = 1
		if l.p.outage.fails(l.Viewlet, err) {
			l.p.log.Warn("cannot refresh fragments, retrying", "viewlet", l.Viewlet, "key", keys[0].String(), "keys", len(keys), "err", err)
		}
		if !l.pauseFor(ctx, pause()) {
			return errStopped
		}
	}
}

func (l *lane) write(ctx context.Context, keys []Key, done *Pass) error {
	if l.Requested {
		snap, err := l.p.cfg.Render.Snapshot(ctx)
		if err != nil {
			return err
		}
		wanted, err := l.p.cfg.Store.Wanted(ctx, l.Viewlet, keys, snap.LSN)
		if err != nil {
			return err
		}
		done.Skipped += len(keys) - len(wanted)
		keys = wanted
	}
	if len(keys) == 0 {
		return nil
	}
	fragments, err := l.p.cfg.Render.Render(ctx, l.Viewlet, keys)
	if err != nil {
		return err
	}
	return l.keep(ctx, fragments, done)
}

// keep writes fragments.
func (l *lane) keep(ctx context.Context, fragments []Fragment, done *Pass) error {
	if err := l.p.cfg.Store.Store(ctx, l.Viewlet, fragments, done); err != nil {
		return err
	}
	if i := slices.IndexFunc(fragments, func(f Fragment) bool { return f.Err != nil }); i >= 0 && done.FailedErr == nil {
		done.FailedKey, done.FailedErr = fragments[i].Key, fragments[i].Err
	}
	if l.still != nil {
		l.still.note(fragments)
	}
	done.Keys += len(fragments)
	return nil
}
