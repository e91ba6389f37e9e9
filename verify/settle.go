package verify

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// doubt is a fragment that differed when it was last looked at. Either a commit
// that the render saw is on its way to the store, or the store is wrong.
//
// It is wrong if nothing has written it when all that the render saw has arrived.
// But a lookup that runs late may not name it any more, because of a commit since
// that names it by itself; so that has to arrive, too. Hence looksAlike.
type doubt struct {
	key         viewlet.Key
	viewlet     string
	held, fresh trace
	alike       int // looks that saw the same
}

// looksAlike is how many looks must see the same, with all that one saw having
// arrived before the next.
const looksAlike = 3

// trace tells whether a fragment is still the same.
type trace struct {
	there bool
	sum   [sha256.Size]byte
	lsn   viewlet.LSN // of the last write; zero: not remembered
}

func traceOf(f viewlet.Fragment) trace {
	return trace{there: there(f), sum: sha256.Sum256(f.Body), lsn: f.LSN}
}

func there(f viewlet.Fragment) bool { return f.Body != nil || f.Err != nil }

func (was trace) sameBytes(now trace) bool { return was.there == now.there && was.sum == now.sum }

// unwritten reports whether nobody has written it. A write is remembered for
// longer than a doubt takes to be settled.
func (was trace) unwritten(now trace) bool {
	return was.sameBytes(now) && (was.lsn == now.lsn || now.lsn == 0)
}

func (f *Finding) doubt() doubt {
	return doubt{key: f.Key, viewlet: f.Viewlet, held: traceOf(f.Held), fresh: traceOf(f.Fresh), alike: 1}
}

// again is the doubt after one more look.
func (d doubt) again(f *Finding) doubt {
	now := f.doubt()
	if d.held.unwritten(now.held) && d.fresh.sameBytes(now.fresh) {
		now.alike = d.alike + 1
	}
	return now
}

// doubts gathers what is to be looked at again.
type doubts struct {
	settling sync.Mutex // one at a time

	mu    sync.Mutex
	open  map[viewlet.Key]doubt
	since time.Time // when the first of them was added
}

// So many are looked at again at once, or those of so long.
const (
	doubtsMany = 1000
	doubtsLong = time.Second
)

func (d *doubts) add(one doubt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.open) == 0 {
		d.open, d.since = map[viewlet.Key]doubt{}, time.Now()
	}
	d.open[one.key] = one
}

func (d *doubts) take() []doubt {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := slices.Collect(maps.Values(d.open))
	d.open = nil
	return taken
}

// takeDue gives nothing while there are few, and new ones.
func (d *doubts) takeDue() []doubt {
	d.mu.Lock()
	due := len(d.open) >= doubtsMany || len(d.open) > 0 && time.Since(d.since) >= doubtsLong
	d.mu.Unlock()
	if !due {
		return nil
	}
	return d.take()
}

// looksMax is how often a fragment is looked at that is not the same each time.
const looksMax = 10

// settle looks at the doubts again, each time when the store has passed what the
// last look saw, until none is left or nothing can be said of those that are.
func (c *Check) settle(ctx context.Context, open []doubt) error {
	c.doubts.settling.Lock()
	defer c.doubts.settling.Unlock()
	for range looksMax {
		if len(open) == 0 {
			return nil
		}
		seen, err := c.cfg.Truth.Visible(ctx)
		if err == nil {
			err = c.cfg.Passed(ctx, seen)
		}
		if err == nil {
			open, err = c.lookAgain(ctx, open, seen)
		}
		if err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.unsettled += len(open)
	c.mu.Unlock()
	return nil
}

// lookAgain tells of what has turned out to differ, and gives what is still in
// doubt. All that was visible at passed has arrived.
func (c *Check) lookAgain(ctx context.Context, open []doubt, passed viewlet.LSN) (still []doubt, err error) {
	slices.SortFunc(open, func(a, b doubt) int { return strings.Compare(a.viewlet, b.viewlet) })
	for len(open) > 0 {
		n := 1
		for n < len(open) && n < c.cfg.Chunk && open[n].viewlet == open[0].viewlet {
			n++
		}
		rest, err := c.lookAgainAt(ctx, open[:n], passed)
		if err != nil {
			return nil, err
		}
		still, open = append(still, rest...), open[n:]
	}
	return still, nil
}

// lookAgainAt is for doubts of one viewlet.
func (c *Check) lookAgainAt(ctx context.Context, open []doubt, passed viewlet.LSN) (still []doubt, err error) {
	keys := make([]viewlet.Key, len(open))
	before := make(map[viewlet.Key]doubt, len(open))
	for i, d := range open {
		keys[i], before[d.key] = d.key, d
	}
	seen, err := c.sightings(ctx, open[0].viewlet, keys)
	if err != nil {
		return nil, err
	}
	var certain []Finding
	for _, s := range seen {
		d := before[s.Key].again(&s)
		if s.Kind == Failed || d.alike == looksAlike {
			certain = append(certain, s)
		} else {
			still = append(still, d)
		}
	}
	return still, c.conclude(ctx, certain, passed)
}

// conclude tells of findings, once it is known whether they are failed ones, or
// none that a change could mend.
func (c *Check) conclude(ctx context.Context, findings []Finding, passed viewlet.LSN) error {
	if len(findings) == 0 {
		return nil
	}
	names := []string{Finding{Viewlet: findings[0].Viewlet, Whole: true}.Name()}
	for _, f := range findings {
		names = append(names, f.Name())
	}
	faults, err := c.cfg.Store.Faults(ctx, names)
	if err != nil {
		return err
	}
	for i := range findings {
		f := &findings[i]
		if f.Kind != Failed && !f.Stray {
			for _, fault := range []error{faults[0], faults[i+1]} {
				if fault != nil {
					f.Kind, f.Err = Failed, fault
				}
			}
		}
		if err := c.unmask(ctx, f); err != nil {
			return err
		}
		if f.Stray {
			f.Fresh = viewlet.Fragment{Key: f.Key, LSN: passed}
		}
	}
	return c.tell(ctx, findings)
}

// unmask finds out whether what is there has a key that no instance can have.
func (c *Check) unmask(ctx context.Context, f *Finding) error {
	if f.Stray || !there(f.Held) {
		return nil
	}
	named, err := c.cfg.Truth.Names(ctx, f.Key)
	if err != nil || named {
		return err
	}
	f.Kind, f.Err, f.Stray = Orphaned, nil, true
	return nil
}
