package viewlet

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// crew writes the keys of one pass, some chunks side by side: while Postgres
// works for one, another is made pages of and a third is stored. No key is in
// two chunks at a time. One chunk is always the lane's to have under way; for
// more there are a few places that all lanes share, so that a slow viewlet does
// not take all of the database's connections.
type crew struct {
	lane  *lane
	done  *Pass // of all chunks, good after wait
	group errgroup.Group
	own   chan struct{} // filled while the lane's own chunk is under way

	mu     sync.Mutex
	busy   map[Key]struct{} // what is being written
	failed bool
}

func newCrew(l *lane, done *Pass) *crew {
	return &crew{lane: l, done: done, own: make(chan struct{}, 1), busy: map[Key]struct{}{}}
}

// write begins to write the keys, and blocks until all of them are being
// written. An error is of any chunk so far; then no chunk is under way any more.
func (c *crew) write(ctx context.Context, keys []Key) error {
	for chunk := range slices.Chunk(keys, c.lane.p.cfg.Chunk) {
		chunk, ok := c.begin(chunk)
		if !ok {
			return c.wait()
		}
		if len(chunk) == 0 {
			continue
		}
		place := c.place()
		c.group.Go(func() error {
			defer func() { <-place }()
			part := Pass{Whole: c.done.Whole}
			err := c.lane.chunk(ctx, chunk, &part)
			c.end(chunk, &part, err)
			return err
		})
	}
	return nil
}

// place blocks until one more chunk may be under way, and gives what is to be
// received from when it is not any more.
func (c *crew) place() chan struct{} {
	select {
	case c.own <- struct{}{}:
		return c.own
	default:
	}
	select {
	case c.own <- struct{}{}:
		return c.own
	case c.lane.p.extra <- struct{}{}:
		return c.lane.p.extra
	}
}

// wait returns when no chunk is under way, with the first error of one.
func (c *crew) wait() error { return c.group.Wait() }

// begin notes the keys that are being written, and drops those that are so
// already: their chunk was begun in this pass, too. It reports false when a
// chunk has failed.
func (c *crew) begin(keys []Key) ([]Key, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begun := make([]Key, 0, len(keys))
	for _, k := range keys {
		if _, is := c.busy[k]; !is {
			c.busy[k] = struct{}{}
			begun = append(begun, k)
		}
	}
	return begun, !c.failed
}

func (c *crew) end(keys []Key, part *Pass, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		delete(c.busy, k)
	}
	c.failed = c.failed || err != nil
	c.done.Add(part)
	if c.done.Whole {
		c.lane.rendered.Store(int64(c.done.Keys))
	}
}
