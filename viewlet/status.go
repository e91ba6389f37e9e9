package viewlet

import (
	"sync/atomic"
	"time"
)

// Status is where a Pipeline stands, for people and for metrics.
type Status struct {
	Changes, Transactions uint64 // delivered by the source since New
	Received, Confirmed   LSN
	// Oldest is the commit time of the oldest change that is not in the store
	// yet; zero: there is none.
	Oldest time.Time
	Lanes  []LaneStatus
}

// LaneStatus is where one viewlet's lane stands.
type LaneStatus struct {
	Viewlet string
	Depth   int  // refreshes that wait
	Warming bool // the whole viewlet is being rendered, or waits to be
	// Rendered is how many fragments the last whole rendering has made so far.
	Rendered int
	Broken   error // why the viewlet cannot be rendered; nil: it can
}

// Warm reports whether no viewlet that works waits to be rendered whole.
func (s Status) Warm() bool {
	for _, l := range s.Lanes {
		if l.Warming && l.Broken == nil {
			return false
		}
	}
	return true
}

type traffic struct{ changes, transactions atomic.Uint64 }

// Status is for any goroutine.
func (p *Pipeline) Status() Status {
	s := Status{
		Changes:      p.intake.traffic.changes.Load(),
		Transactions: p.intake.traffic.transactions.Load(),
		Received:     LSN(p.seen.Load()),
		Confirmed:    p.confirmed.get(),
		Lanes:        make([]LaneStatus, len(p.order)),
	}
	for i, l := range p.order {
		depth, warming, oldest := l.pending.status()
		s.Lanes[i] = LaneStatus{Viewlet: l.Viewlet, Depth: depth, Warming: warming, Rendered: int(l.rendered.Load())}
		if b := l.broken.Load(); b != nil {
			s.Lanes[i].Broken = b.Err
		}
		if !oldest.IsZero() && (s.Oldest.IsZero() || oldest.Before(s.Oldest)) {
			s.Oldest = oldest
		}
	}
	return s
}
