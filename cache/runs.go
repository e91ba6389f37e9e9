package cache

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// runs are the run_ids of the processes that have the data, sorted: Redis's, or
// those of a Cluster's primaries. A process that is another has another one.
//
// https://redis.io/docs/latest/commands/info/
type runs []string

func (r runs) String() string { return strings.Join(r, " ") }

// include reports whether all of those noted are among them. Where none were,
// nothing is known against it.
func (r runs) include(noted string) bool {
	for _, id := range strings.Fields(noted) {
		if !slices.Contains(r, id) {
			return false
		}
	}
	return true
}

// runs asks who has the data.
func (c *Cache) runs(ctx context.Context) (runs, error) {
	if !c.cluster {
		var info string
		err := c.exchange(ctx, func(ctx context.Context) (err error) {
			info, err = c.rdb.Eval(ctx, "return redis.call('INFO', 'server')", []string{c.names.state()}).Text()
			return err
		})
		return runs{runID(info)}, err
	}
	var mu sync.Mutex
	var all runs
	err := c.exchange(ctx, func(ctx context.Context) error {
		return c.eachNode(ctx, func(_ string, node redis.Cmdable) error {
			info, err := node.Info(ctx, "server").Result()
			mu.Lock()
			defer mu.Unlock()
			all = append(all, runID(info))
			return err
		})
	})
	slices.Sort(all)
	return all, err
}

func runID(info string) string {
	_, id, _ := strings.Cut(info, "run_id:")
	id, _, _ = strings.Cut(id, "\r")
	return id
}

// stillHeld gives the holder, with the runs that are to be noted with what is
// written now, and the one that the script must find itself in; empty: any.
// ErrEmpty when a Cluster has lost a primary since the State was taken; one that
// is new has lost nothing.
func (c *Cache) stillHeld(ctx context.Context) (by holder, within string, err error) {
	took := c.holder.Load()
	if took == nil {
		return holder{}, "", nil
	}
	if !c.cluster {
		return *took, took.runs.String(), nil
	}
	now, err := c.runs(ctx)
	if err != nil {
		return holder{}, "", err
	}
	if !now.include(took.runs.String()) {
		return holder{}, "", ErrEmpty
	}
	by = holder{took.session, now}
	c.holder.CompareAndSwap(took, &by) // not if it was taken again meanwhile
	return by, "", nil
}
