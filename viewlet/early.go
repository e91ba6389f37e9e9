package viewlet

import "context"

// earlyMost is how many transactions a batch may wait for that is tried early.
const earlyMost = 16

// haste keeps a lane from rendering too early again and again: after each time
// that was in vain, it lets twice as many batches pass.
type haste struct{ vain, pass int }

func (h *haste) may() bool {
	if h.pass > 0 {
		h.pass--
		return false
	}
	return true
}

func (h *haste) note(served bool) {
	if h.vain = min(2*h.vain+1, 63); served {
		h.vain = 0
	}
	h.pass = h.vain
}

// early serves a small batch without a look at what is visible before it: its
// keys are rendered at once, and are good if their own queries saw every
// transaction that the batch waits for. That is a round trip to Postgres less
// for a change that comes alone.
//
// It gives what the queries saw at least. Nil: they did not see enough, or
// something failed, nothing was done, and the batch is to be served as any other.
func (l *lane) early(ctx context.Context, b *batch) *Snapshot {
	if l.Requested || b.asked || b.whole || len(b.via) > 0 || len(b.keys) > l.p.cfg.Chunk {
		return nil
	}
	xids := l.p.visible.unseen(b.commit, earlyMost)
	if len(xids) == 0 || !l.haste.may() {
		return nil
	}
	var seen *Snapshot
	// An error is met again by the pass that follows, and told by that.
	_ = l.observed(ctx, b, Pass{Oldest: b.committed}, func(ctx context.Context, b *batch, done *Pass) error {
		fragments, err := l.p.cfg.Render.Render(ctx, l.Viewlet, b.keys)
		if err != nil || len(fragments) == 0 || !saw(fragments, xids) || l.keep(ctx, fragments, done) != nil {
			return nil
		}
		seen = fragments[0].Seen
		done.Refreshes = len(b.keys)
		l.p.room.give(len(b.keys))
		b.keys = nil
		return nil
	})
	if l.haste.note(seen != nil); seen != nil {
		l.p.visible.settle(*seen)
	}
	return seen
}

// saw reports whether each fragment is known to show all of the transactions.
func saw(fragments []Fragment, xids []uint32) bool {
	var last *Snapshot
	for _, f := range fragments {
		if f.Seen == nil {
			return false
		}
		if f.Seen == last {
			continue
		}
		for _, xid := range xids {
			if !f.Seen.Sees(xid) {
				return false
			}
		}
		last = f.Seen
	}
	return true
}
