package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Truth is what the database shows now. Many goroutines call it at once.
type Truth interface {
	// Expand, via viewlet.Whole, yields every key of the viewlet, in pieces. The
	// slice is yield's to keep.
	Expand(ctx context.Context, name, via string, args []string, yield func([]viewlet.Key) error) error
	// Render gives one fragment for each of the viewlet's keys, in their order.
	// An error is a *viewlet.Broken, or the world's.
	Render(ctx context.Context, name string, keys []viewlet.Key) ([]viewlet.Fragment, error)
	// Names reports whether an instance can have this key: its arguments fit
	// their params, and are written as the database writes them.
	Names(ctx context.Context, key viewlet.Key) (bool, error)
	// Visible gives a position that every commit which is visible now is before.
	// It may take a second.
	Visible(ctx context.Context) (viewlet.LSN, error)
}

// Store is where the fragments are. Many goroutines call it at once.
type Store interface {
	// Walk yields the names of what is there, of one viewlet or with an empty
	// of of all, some at a time and sometimes none. A name may come twice.
	Walk(ctx context.Context, of string, yield func(names []string) error) error
	// Held gives what is there under each of the keys, in their order: a nil Body
	// where there is nothing, an Err where it is no fragment. LSN is that of the
	// last write, as far as it is remembered; else zero.
	Held(ctx context.Context, keys []viewlet.Key) ([]viewlet.Fragment, error)
	// Absent gives those of the keys that there is nothing under.
	Absent(ctx context.Context, keys []viewlet.Key) ([]viewlet.Key, error)
	// Faults gives for each name, product_teaser:42 or product_teaser:*, why it
	// is noted as failed; nil where it is not.
	Faults(ctx context.Context, names []string) ([]error, error)
}

// Config is what a Check works with. Those without a default must be given.
type Config struct {
	Viewlets []Viewlet
	Truth    Truth
	Store    Store
	// Passed blocks until everything that was committed before lsn is in the
	// store. One goroutine calls it at a time.
	Passed func(ctx context.Context, lsn viewlet.LSN) error
	// Found is told what differs, once that is certain, by one goroutine at a
	// time. Its error ends the check.
	Found func(ctx context.Context, findings []Finding) error
	// Compared is told of how many more fragments of a viewlet were compared, by
	// many goroutines. May be nil.
	Compared func(name string, n int)

	// Sample is how many instances of each viewlet are looked at, chosen at
	// random; all when zero.
	Sample int
	// Pace blocks before so many keys are looked at. With it, work is done by one
	// goroutine, and nothing is kept open in the database meanwhile. May be nil.
	Pace func(ctx context.Context, keys int) error
	// Chunk is how many keys are rendered by one query; 200 when zero.
	Chunk int
	// Workers is how many chunks are compared at once; 4 when zero.
	Workers int
}

// Viewlet says what is to be in the store of one viewlet.
type Viewlet struct {
	Name   string
	Params int
	// Partial is for one of which not all instances are kept, or not for ever:
	// what is not there is not missing.
	Partial bool
}

// Check compares. It is made by New, for one call of All, Viewlet or Key.
type Check struct {
	cfg      Config
	viewlets map[string]Viewlet
	doubts   doubts
	slice    int // about how many keys are held at once when there is a Pace

	mu        sync.Mutex
	broken    map[string]bool // told already
	unsettled int
}

// New gives a Check that has compared nothing.
func New(cfg Config) *Check {
	cfg.Chunk = cmp.Or(cfg.Chunk, 200)
	cfg.Workers = cmp.Or(cfg.Workers, 4)
	if cfg.Compared == nil {
		cfg.Compared = func(string, int) {}
	}
	if cfg.Pace != nil {
		cfg.Workers = 1
	}
	c := &Check{cfg: cfg, slice: 50_000, viewlets: make(map[string]Viewlet, len(cfg.Viewlets)), broken: map[string]bool{}}
	for _, v := range cfg.Viewlets {
		c.viewlets[v.Name] = v
	}
	return c
}

// All compares every viewlet, and finds what is in the store and belongs to
// none.
func (c *Check) All(ctx context.Context) error { return c.compareAll(ctx, "", c.cfg.Viewlets) }

// Viewlet compares one viewlet of the Config.
func (c *Check) Viewlet(ctx context.Context, name string) error {
	return c.compareAll(ctx, name, []Viewlet{c.viewlets[name]})
}

// Key compares one fragment.
func (c *Check) Key(ctx context.Context, key viewlet.Key) error {
	if err := c.compare(ctx, key.Viewlet, []viewlet.Key{key}); err != nil {
		return err
	}
	return c.settle(ctx, c.doubts.take())
}

// Unsettled is how many fragments changed so fast that nothing can be said of
// them.
func (c *Check) Unsettled() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unsettled
}

// compareAll compares what is in the store, and then looks for what is not.
func (c *Check) compareAll(ctx context.Context, of string, viewlets []Viewlet) error {
	err := c.together(ctx, func(ctx context.Context, work work) error {
		return c.eachHeld(ctx, of, func(name string, keys []viewlet.Key) error {
			return work(func() error { return c.compare(ctx, name, keys) })
		})
	})
	if err != nil {
		return err
	}
	for _, v := range viewlets {
		if v.Partial {
			continue
		}
		err := c.together(ctx, func(ctx context.Context, work work) error {
			return c.eachInstance(ctx, v.Name, func(keys []viewlet.Key) error {
				return work(func() error { return c.seek(ctx, v.Name, keys) })
			})
		})
		if err != nil {
			return err
		}
	}
	return c.settle(ctx, c.doubts.take())
}

// work has something done, by now or by and by.
type work func(func() error) error

// together lets produce hand out work to the Workers, and waits for them. One
// alone does it at once.
func (c *Check) together(ctx context.Context, produce func(ctx context.Context, work work) error) error {
	if c.cfg.Workers == 1 {
		return produce(ctx, func(do func() error) error { return do() })
	}
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(c.cfg.Workers)
	err := produce(working, func(do func() error) error { g.Go(do); return working.Err() })
	if failed := g.Wait(); failed != nil {
		return failed
	}
	return err
}

// pace waits where that is asked for.
func (c *Check) pace(ctx context.Context, keys int) error {
	if c.cfg.Pace == nil {
		return nil
	}
	return c.cfg.Pace(ctx, keys)
}

// compare looks at keys of a viewlet, or with an empty name at what is in the
// store and belongs to none.
func (c *Check) compare(ctx context.Context, name string, keys []viewlet.Key) error {
	if err := c.pace(ctx, len(keys)); err != nil {
		return err
	}
	c.cfg.Compared(name, len(keys))
	return c.look(ctx, name, keys)
}

// seek looks at those of the keys that are not in the store.
func (c *Check) seek(ctx context.Context, name string, keys []viewlet.Key) error {
	if err := c.pace(ctx, len(keys)); err != nil {
		return err
	}
	absent, err := c.cfg.Store.Absent(ctx, keys)
	if err != nil || len(absent) == 0 {
		return err
	}
	c.cfg.Compared(name, len(absent))
	return c.look(ctx, name, absent)
}

// look is the first look at keys. What differs is looked at again by and by.
func (c *Check) look(ctx context.Context, name string, keys []viewlet.Key) error {
	seen, err := c.sightings(ctx, name, keys)
	if err != nil {
		return err
	}
	for _, s := range seen {
		c.doubts.add(s.doubt())
	}
	return c.settle(ctx, c.doubts.takeDue())
}

// isBroken notes an error that says that the viewlet cannot be rendered, and
// tells of it the first time.
func (c *Check) isBroken(ctx context.Context, name string, err error) (bool, error) {
	var broken *viewlet.Broken
	if !errors.As(err, &broken) {
		return false, nil
	}
	c.mu.Lock()
	again := c.broken[name]
	c.broken[name] = true
	c.mu.Unlock()
	if again {
		return true, nil
	}
	return true, c.tell(ctx, []Finding{{Viewlet: name, Whole: true, Kind: Failed, Err: broken}})
}

func (c *Check) tell(ctx context.Context, findings []Finding) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.cfg.Found(ctx, findings); err != nil {
		return fmt.Errorf("tell of %s: %w", findings[0].Name(), err)
	}
	return nil
}
