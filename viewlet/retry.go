package viewlet

import (
	"context"
	"time"
)

// Failures remembers, for as long as they last, which fragments could not be
// rendered. Many lanes call it at once.
type Failures interface {
	// Due yields those of the viewlet's failed fragments whose turn it is to be
	// tried again, some at a time, and tells when the turn of the next one
	// comes; zero when none is failed.
	Due(ctx context.Context, viewlet string, yield func([]Key) error) (next time.Time, err error)
	// Still notes that fragments, each with an Err, have failed again.
	Still(ctx context.Context, fragments []Fragment) error
	// Forgive lets go of fragments that are not to be in the store.
	Forgive(ctx context.Context, keys []Key) error
}

// retryPiece is how many failed fragments are tried again at once at first, and
// after one of them has failed again; each piece in which all of them work
// doubles it, up to retryMost.
const (
	retryPiece = 20
	retryMost  = 1280
)

// retryLook is how often a lane looks for failed fragments at most.
const retryLook = time.Second

// retry tries the lane's failed fragments again until ctx ends, each when its
// turn comes. It does so beside the lane, so that what takes long to fail keeps
// no change waiting: what it renders is thrown away, and what does not fail any
// more falls into the lane.
//
// A lane that is broken, or renders all, is left in peace.
func (l *lane) retry(ctx context.Context) {
	pause, failing := l.p.cfg.Backoff(), "failed fragments of "+l.Viewlet
	wait := retryLook
	for sleep(ctx, wait) {
		wait = retryLook
		if _, warming, _ := l.pending.status(); warming || l.broken.Load() != nil {
			continue
		}
		began, piece := time.Now(), retryPiece
		var trying time.Duration
		next, err := l.p.cfg.Failures.Due(ctx, l.Viewlet, func(keys []Key) error {
			defer func(since time.Time) { trying += time.Since(since) }(time.Now())
			return l.tryAgain(ctx, keys, &piece)
		})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if l.p.outage.fails(failing, err) {
				l.p.log.Warn("cannot try failed fragments again, retrying", "viewlet", l.Viewlet, "err", err)
			}
			wait = max(retryLook, pause())
			continue
		}
		l.p.outage.works(l.p.log, failing)
		pause = l.p.cfg.Backoff()
		if !next.IsZero() {
			// Looking costs, too, when there are many.
			wait = max(retryLook, min(time.Until(next), time.Minute), 3*(time.Since(began)-trying))
		}
	}
}

// tryAgain renders failed fragments, and lets those that work fall into the
// lane. At most a quarter of the time is spent on it, and by one lane at a time.
// What is known of the size of the next piece is in piece.
func (l *lane) tryAgain(ctx context.Context, keys []Key, piece *int) error {
	for len(keys) > 0 {
		n := min(*piece, len(keys))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case l.p.retrying <- struct{}{}:
		}
		began := time.Now()
		work, err := l.tryPiece(ctx, keys[:n])
		<-l.p.retrying
		if err != nil {
			return err
		}
		if work {
			*piece = min(2**piece, retryMost)
		} else {
			*piece = retryPiece
		}
		if keys = keys[n:]; !sleep(ctx, 3*time.Since(began)) {
			return ctx.Err()
		}
	}
	return nil
}

// tryPiece reports whether none of the keys failed again.
func (l *lane) tryPiece(ctx context.Context, keys []Key) (work bool, err error) {
	keys, err = l.kept(ctx, keys)
	if err != nil || len(keys) == 0 {
		return true, err
	}
	fragments, err := l.p.cfg.Render.Render(ctx, l.Viewlet, keys)
	if isBroken(err) {
		return false, l.refresh(ctx, keys[:1]) // the lane will see
	}
	if err != nil {
		return false, err
	}
	var good []Key
	var failed []Fragment
	for _, f := range fragments {
		if f.Err == nil {
			good = append(good, f.Key)
		} else {
			failed = append(failed, f)
		}
	}
	if len(failed) > 0 {
		if err := l.p.cfg.Failures.Still(ctx, failed); err != nil {
			return false, err
		}
	}
	return len(failed) == 0, l.refresh(ctx, good)
}

// kept lets go of those of the keys that are in the store no more, where only
// what is there is rendered.
func (l *lane) kept(ctx context.Context, keys []Key) ([]Key, error) {
	if !l.Requested {
		return keys, nil
	}
	snap, err := l.p.cfg.Render.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	wanted, err := l.p.cfg.Store.Wanted(ctx, l.Viewlet, keys, snap.LSN)
	if err != nil || len(wanted) == len(keys) {
		return wanted, err
	}
	is := make(map[Key]bool, len(wanted))
	for _, k := range wanted {
		is[k] = true
	}
	var gone []Key
	for _, k := range keys {
		if !is[k] {
			gone = append(gone, k)
		}
	}
	return wanted, l.p.cfg.Failures.Forgive(ctx, gone)
}

// refresh lets keys fall into the lane, and waits until they are served.
func (l *lane) refresh(ctx context.Context, keys []Key) error {
	if len(keys) == 0 {
		return nil
	}
	served := make(chan struct{})
	refreshes := make([]Refresh, len(keys))
	for i, k := range keys {
		refreshes[i] = Refresh{Key: k}
	}
	l.pending.add(refreshes, l.p.now(func(error) { close(served) }))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-served:
		return nil
	}
}
