package cache

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

//go:embed keep.lua
var keepLua string

// Keep tells which of the keys are in Redis, in the order given. The guards of
// the others move on to lsn, so that nothing older is stored there any more by who
// has a Watch. It is for who has the State.
func (c *Cache) Keep(ctx context.Context, keys []viewlet.Key, lsn viewlet.LSN) (present []viewlet.Key, err error) {
	for piece := range slices.Chunk(keys, pipelineFragments) {
		is, err := c.keep(ctx, piece, lsn)
		if err != nil {
			return nil, fmt.Errorf("look for %s and %d more: %w", piece[0], len(piece)-1, err)
		}
		for i, k := range piece {
			if is[i] {
				present = append(present, k)
			}
		}
	}
	return present, nil
}

func (c *Cache) keep(ctx context.Context, keys []viewlet.Key, lsn viewlet.LSN) (is []bool, err error) {
	all := make([]int, len(keys))
	for i := range all {
		all[i] = i
	}
	calls := c.group(all, func(i int) (viewlet.Key, viewlet.Watch, int) { return keys[i], viewlet.Watch{}, 0 })
	for _, call := range calls {
		call.script = c.scripts.keep
		call.args = []any{c.guardTTL.Milliseconds(), comparable16(lsn)}
		for _, i := range call.at {
			call.keys = append(call.keys, c.names.fragment(keys[i]), c.names.guard(keys[i]))
		}
		if !c.cluster && !c.doubt.is() {
			call.keys = append(call.keys, c.names.watch(call.viewlet))
		}
	}
	if err := c.pipeline(ctx, calls); err != nil {
		return nil, err
	}
	is = make([]bool, len(keys))
	return is, deal(calls, func(i int, letter byte) { is[i] = letter == 'p' })
}

// Stale gives those of the keys that nothing was stored for at since or later,
// as far as the guards remember, in the order given. More than the GuardTTL
// after a fragment was stored, it may count as stale without being so.
func (c *Cache) Stale(ctx context.Context, keys []viewlet.Key, since viewlet.LSN) ([]viewlet.Key, error) {
	var stale []viewlet.Key
	limit := string(comparable16(since))
	for piece := range slices.Chunk(keys, pipelineFragments) {
		guards := make([]string, len(piece))
		for i, k := range piece {
			guards[i] = c.names.guard(k)
		}
		seen, err := c.getAll(ctx, guards)
		if err != nil {
			return nil, fmt.Errorf("read guards of %s and %d more: %w", piece[0], len(piece)-1, err)
		}
		for i, lsn := range seen {
			if lsn < limit { // also where there is none
				stale = append(stale, piece[i])
			}
		}
	}
	return stale, nil
}

// getAll gives what each key holds; nothing where there is none.
func (c *Cache) getAll(ctx context.Context, keys []string) (texts []string, err error) {
	texts = make([]string, len(keys))
	if !c.cluster { // in one the keys are of many slots
		err = c.exchange(ctx, func(ctx context.Context) error {
			values, err := c.rdb.MGet(ctx, keys...).Result()
			for i, v := range values {
				texts[i], _ = v.(string)
			}
			return err
		})
		return texts, err
	}
	err = c.exchange(ctx, func(ctx context.Context) error {
		cmds, err := c.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, k := range keys {
				pipe.Get(ctx, k)
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		for i, cmd := range cmds {
			if texts[i], err = cmd.(*redis.StringCmd).Result(); err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
		}
		return nil
	})
	return texts, err
}
