package viewlet

import (
	"context"
	"sync"
)

// watermark is a position that only rises, and that can be waited for.
type watermark struct {
	mu    sync.Mutex
	lsn   LSN
	risen chan struct{} // closed at the next rise; nil: nobody waits
}

func (w *watermark) get() LSN {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lsn
}

func (w *watermark) raise(lsn LSN) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if lsn <= w.lsn {
		return
	}
	w.lsn = lsn
	if w.risen != nil {
		close(w.risen)
		w.risen = nil
	}
}

func (w *watermark) wait(ctx context.Context, lsn LSN) error {
	for {
		risen := w.below(lsn)
		if risen == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-risen:
		}
	}
}

// below gives what is closed at the next rise, or nil once lsn is reached.
func (w *watermark) below(lsn LSN) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lsn >= lsn {
		return nil
	}
	if w.risen == nil {
		w.risen = make(chan struct{})
	}
	return w.risen
}

// room counts the refreshes that wait, and holds the source back when there
// are too many.
type room struct {
	max  int
	mu   sync.Mutex
	used int
	free chan struct{} // closed when half is free again; nil: nobody waits
}

func (r *room) take(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used += n
}

func (r *room) give(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	if r.free != nil && r.used <= r.max/2 {
		close(r.free)
		r.free = nil
	}
}

// full is nil while there is room, else what is closed when there is again.
func (r *room) full() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used < r.max {
		return nil
	}
	if r.free == nil {
		r.free = make(chan struct{})
	}
	return r.free
}
