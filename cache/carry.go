package cache

import (
	"context"
	"fmt"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Carry sends the fragments' bodies to Redis and has them sent back, in one
// pipeline and touching no key: what a write takes but for the write.
//
// https://redis.io/docs/latest/commands/echo/
func (c *Cache) Carry(ctx context.Context, fragments []viewlet.Fragment) error {
	err := c.exchange(ctx, func(ctx context.Context) error {
		pipe := c.rdb.Pipeline()
		for i := range fragments {
			pipe.Echo(ctx, fragments[i].Body)
		}
		_, err := pipe.Exec(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("carry fragments to the cache and back: %w", err)
	}
	return nil
}
