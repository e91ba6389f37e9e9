package cache

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// scanCount is how many keys one SCAN looks at: a millisecond or less.
const scanCount = 1000

// Keys yields the viewlet's keys in Redis, some at a time, until there are no
// more or yield gives an error. Those that are there from beginning to end
// come at least once, and may come twice, but not in one slice. The slice is
// yield's to keep.
func (c *Cache) Keys(ctx context.Context, name string, yield func([]viewlet.Key) error) error {
	return c.Sweep(ctx, name, func(keys []viewlet.Key, _ []string) error {
		if len(keys) == 0 {
			return nil
		}
		return yield(keys)
	})
}

// DeleteOrphans removes Redis keys that Sweep gave.
func (c *Cache) DeleteOrphans(ctx context.Context, orphans []string) error {
	if err := c.unlink(ctx, orphans); err != nil {
		return fmt.Errorf("delete orphans %q and %d more: %w", orphans[0], len(orphans)-1, err)
	}
	return nil
}

// ForgetGuards removes every watch and every guard. It is for a Postgres whose
// LSNs begin lower than those of the one that it took over from: its fragments
// would be refused until the guards expire, and what others have rendered from the
// old one would not.
func (c *Cache) ForgetGuards(ctx context.Context) error {
	for _, of := range []string{c.names.watch(""), c.names.prefix + "@lsn:{"} {
		err := c.scan(ctx, escapeGlob(of)+"*", func(keys []string) error { return c.unlink(ctx, keys) })
		if err != nil {
			return fmt.Errorf("forget guards: %w", err)
		}
	}
	c.watches.forget()
	return nil
}

// Clear removes everything under the prefix, and tells how many keys that was.
func (c *Cache) Clear(ctx context.Context) (int, error) {
	n := 0
	err := c.scan(ctx, escapeGlob(c.names.prefix)+"*", func(keys []string) error {
		n += len(keys)
		return c.unlink(ctx, keys)
	})
	if err != nil {
		return n, fmt.Errorf("clear: %w", err)
	}
	return n, nil
}

// scan yields the keys that match, sorted and each once, one SCAN at a time
// and one call at a time. There may be none.
func (c *Cache) scan(ctx context.Context, match string, yield func([]string) error) error {
	return c.scanFrom(ctx, match, nil, func(found []string, _ progress) error { return yield(found) })
}

// progress is how far each node has been scanned. A node that is not in it has
// not been begun.
type progress map[string]reached

// reached is the cursor to go on with, 0 at the end, and the run that gave it. To
// a server that has taken the place of another, a cursor means nothing: its
// keys are in another order.
//
// https://redis.io/docs/latest/commands/scan/#scan-guarantees
type reached struct {
	run    string
	cursor uint64
}

// scanFrom is scan from where another one was. It also gives how far that had
// come before it found the keys, good during the call. Where a server took
// another's place meanwhile, it begins anew.
func (c *Cache) scanFrom(ctx context.Context, match string, from progress, yield func(found []string, was progress) error) error {
	var one sync.Mutex
	at := progress{}
	maps.Copy(at, from)
	var stop error // yield's, of whatever node
	return c.eachNode(ctx, func(name string, node redis.Cmdable) error {
		one.Lock()
		was, begun := at[name]
		one.Unlock()
		for !begun || was.cursor != 0 {
			found, now, err := c.scanOnce(ctx, node, was.cursor, match)
			if err != nil {
				return err
			}
			if was.cursor != 0 && now.run != was.run {
				was, begun = reached{}, false
				continue
			}
			slices.Sort(found)
			one.Lock()
			if stop == nil {
				stop = yield(slices.Compact(found), at)
			}
			at[name], was, begun, err = now, now, true, stop
			one.Unlock()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// scanOnce is one SCAN, and tells who answered it.
func (c *Cache) scanOnce(ctx context.Context, node redis.Cmdable, cursor uint64, match string) (found []string, to reached, err error) {
	err = c.exchange(ctx, func(ctx context.Context) (err error) {
		var info *redis.StringCmd
		var scan *redis.ScanCmd
		_, err = node.Pipelined(ctx, func(pipe redis.Pipeliner) error { // over one connection
			info, scan = pipe.Info(ctx, "server"), pipe.Scan(ctx, cursor, match, scanCount)
			return nil
		})
		if err == nil {
			to.run = runID(info.Val())
			found, to.cursor = scan.Val()
		}
		return err
	})
	return found, to, err
}

// eachNode calls fn for Redis, or in a cluster for its masters, at once.
func (c *Cache) eachNode(ctx context.Context, fn func(name string, node redis.Cmdable) error) error {
	if cluster, ok := c.rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error { return fn(node.Options().Addr, node) })
	}
	return fn("", c.rdb)
}

// unlink removes keys one by one, for they may be of many slots.
func (c *Cache) unlink(ctx context.Context, keys []string) error {
	for piece := range slices.Chunk(keys, pipelineFragments) {
		err := c.exchange(ctx, func(ctx context.Context) error {
			_, err := c.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for _, k := range piece {
					pipe.Unlink(ctx, k)
				}
				return nil
			})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
