package cache

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const errReplicas = "replicas have what was written"

// awaitReplicas returns when enough replicas have all that was written so far.
func (c *Cache) awaitReplicas(ctx context.Context) error {
	return c.exchange(ctx, func(ctx context.Context) error {
		return c.eachNode(ctx, func(_ string, node redis.Cmdable) error { return c.awaitNode(ctx, node) })
	})
}

// awaitNode asks one primary. WAIT is about the writes of its own connection,
// and replicas get writes in order: so one more write stands for all before it.
//
// https://redis.io/docs/latest/commands/wait/
func (c *Cache) awaitNode(ctx context.Context, node redis.Cmdable) error {
	key, err := c.waitKey(ctx, node)
	if err != nil {
		return err
	}
	var waited *redis.Cmd
	_, err = node.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, key, "", time.Minute)
		waited = pipe.Do(ctx, "WAIT", c.replicas, (c.timeout / 2).Milliseconds())
		return nil
	})
	if err != nil {
		return err
	}
	have, err := waited.Int()
	if err == nil && have < c.replicas {
		err = fmt.Errorf("%d of %d %s, within %v", have, c.replicas, errReplicas, c.timeout/2)
	}
	return err
}

// waitKey gives a key that is in one of the primary's slots.
func (c *Cache) waitKey(ctx context.Context, node redis.Cmdable) (string, error) {
	for i := 0; ; i++ {
		key := c.names.wait(i)
		err := node.Set(ctx, key, "", time.Minute).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "MOVED ") && !strings.HasPrefix(err.Error(), "ASK ") {
			return key, err
		}
	}
}
