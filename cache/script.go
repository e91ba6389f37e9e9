package cache

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// scriptBytes is about how much one script call carries: Redis serves nobody
// else while it runs.
const scriptBytes = 512 << 10

// call runs a script once, on the fragments that at indexes.
type call struct {
	script  *redis.Script
	viewlet string        // whose fragments they are
	watch   viewlet.Watch // what all have as theirs
	at      []int
	size    int
	keys    []string
	args    []any
	reply   *redis.Cmd
}

// group divides the fragments that indexes names among calls: as many as fit
// into each, of one viewlet and one Watch, and in a cluster of one slot.
func (c *Cache) group(indexes []int, about func(i int) (k viewlet.Key, w viewlet.Watch, size int)) []*call {
	type kind struct {
		viewlet string
		watch   viewlet.Watch
		slot    string
	}
	var calls []*call
	open := make(map[kind]*call)
	for _, i := range indexes {
		k, w, size := about(i)
		of := kind{viewlet: k.Viewlet, watch: w}
		if c.cluster {
			of.slot = hashTag(c.names.fragment(k))
		}
		into := open[of]
		if into == nil || len(into.at) == c.perCall || into.size+size > scriptBytes {
			into = &call{viewlet: of.viewlet, watch: of.watch}
			open[of] = into
			calls = append(calls, into)
		}
		into.at, into.size = append(into.at, i), into.size+size
	}
	return calls
}

// pipeline makes the calls in one exchange; in one more if Redis has forgotten
// the scripts.
func (c *Cache) pipeline(ctx context.Context, calls []*call) error {
	return c.exchange(ctx, func(ctx context.Context) error {
		pipe := c.rdb.Pipeline()
		for _, call := range calls {
			call.reply = call.script.EvalSha(ctx, pipe, call.keys, call.args...)
		}
		// Its error is the first command's; each is looked at below.
		_, _ = pipe.Exec(ctx)
		forgotten := c.rdb.Pipeline()
		for _, call := range calls {
			if redis.HasErrorPrefix(call.reply.Err(), "NOSCRIPT") {
				call.reply = call.script.Eval(ctx, forgotten, call.keys, call.args...)
			}
		}
		_, _ = forgotten.Exec(ctx)
		for _, call := range calls {
			if err := call.reply.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// deal hands each letter of the replies to its fragment.
func deal(calls []*call, each func(i int, letter byte)) error {
	for _, call := range calls {
		letters, err := call.reply.Text()
		if err != nil || len(letters) != len(call.at) {
			return fmt.Errorf("read reply to %d fragments: %q, %v", len(call.at), letters, err)
		}
		for n, i := range call.at {
			each(i, letters[n])
		}
	}
	return nil
}
