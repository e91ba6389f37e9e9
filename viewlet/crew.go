package viewlet

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// crew writes the keys of one pass, some chunks side by side: while Postgres
// works for one, another is made pages of and a third is stored. No key is in
// two chunks at a time.
type crew struct {
	lane  *lane
	done  *Pass // of all chunks, good after wait
	group errgroup.Group

	mu     sync.Mutex
	busy   map[Key]struct{} // what is being written
	failed bool
}

func newCrew(l *lane, done *Pass) *crew {
	c := &crew{lane: l, done: done, busy: map[Key]struct{}{}}
	c.group.SetLimit(l.p.cfg.Abreast)
	return c
}

// write hands the keys to whoever is free, and blocks until all of them are
// being written. An error is of any chunk so far; then no
// chunk is under way any more.
func (c *crew) write(ctx context.Context, keys []Key) error {
	for chunk := range slices.Chunk(keys, c.lane.p.cfg.Chunk) {
		chunk, ok := c.begin(chunk)
		if !ok {
			return c.wait()
		}
		if len(chunk) == 0 {
			continue
		}
		c.group.Go(func() error {
			part := Pass{Whole: c.done.Whole}
			err := c.lane.chunk(ctx, chunk, &part)
			c.end(chunk, &part, err)
			return err
		})
	}
	return nil
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
	c.done.add(part)
	if c.done.Whole {
		c.lane.rendered.Store(int64(c.done.Keys))
	}
}
