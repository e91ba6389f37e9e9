package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Walk yields the names of what is under the prefix, product_teaser:42, but for
// our own notes: of one viewlet's part of the key space, or with an empty of of
// all. It does so one SCAN at a time, until there is no more or yield gives an
// error; yield may take its time. What is there from beginning to end comes at
// least once.
func (c *Cache) Walk(ctx context.Context, of string, yield func(names []string) error) error {
	notes := c.names.prefix + "@"
	err := c.scan(ctx, escapeGlob(c.names.prefix+of)+"*", func(found []string) error {
		found = slices.DeleteFunc(found, func(key string) bool { return strings.HasPrefix(key, notes) })
		for i, key := range found {
			found[i] = strings.TrimPrefix(key, c.names.prefix)
		}
		return yield(found)
	})
	if err != nil {
		return fmt.Errorf("walk over %s*: %w", of, err)
	}
	return nil
}

// ErrNotString says that something other than a fragment has a fragment's key.
var ErrNotString = errors.New("it is not a string in Redis")

// Held gives what is in Redis under each of the keys, in their order: a nil Body
// where there is nothing, and ErrNotString as the Err where there is something
// else. LSN is that of the last write, as far as its guard remembers, else zero.
func (c *Cache) Held(ctx context.Context, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	held := make([]viewlet.Fragment, len(keys))
	err := c.ask(ctx, len(keys), func(ctx context.Context, pipe redis.Pipeliner, i int) {
		// In this order: a write in between that leaves a guard shows in it.
		pipe.Get(ctx, c.names.fragment(keys[i]))
		pipe.Get(ctx, c.names.guard(keys[i]))
	}, func(i int, replies []redis.Cmder) error {
		f := &held[i]
		f.Key = keys[i]
		body, err := replies[0].(*redis.StringCmd).Bytes()
		switch {
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			f.Err = ErrNotString
		case err == nil:
			f.Body = append([]byte{}, body...) // an empty one is not nil
		case !errors.Is(err, redis.Nil):
			return err
		}
		f.LSN, err = guarded(replies[1].(*redis.StringCmd))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s and %d more: %w", keys[0], len(keys)-1, err)
	}
	return held, nil
}

// guarded reads a guard; zero where there is none.
func guarded(reply *redis.StringCmd) (viewlet.LSN, error) {
	text, err := reply.Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	lsn, err := strconv.ParseUint(text, 16, 64)
	return viewlet.LSN(lsn), err
}

// Absent gives those of the keys that nothing is under, in the order given.
func (c *Cache) Absent(ctx context.Context, keys []viewlet.Key) ([]viewlet.Key, error) {
	var absent []viewlet.Key
	err := c.ask(ctx, len(keys), func(ctx context.Context, pipe redis.Pipeliner, i int) {
		pipe.Exists(ctx, c.names.fragment(keys[i]))
	}, func(i int, replies []redis.Cmder) error {
		n, err := replies[0].(*redis.IntCmd).Result()
		if n == 0 {
			absent = append(absent, keys[i])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for %s and %d more: %w", keys[0], len(keys)-1, err)
	}
	return absent, nil
}

// Faults tells for each name, product_teaser:42 or product_teaser:*, why it is
// noted as failed; nil where it is not.
func (c *Cache) Faults(ctx context.Context, names []string) ([]error, error) {
	faults := make([]error, len(names))
	err := c.ask(ctx, len(names), func(ctx context.Context, pipe redis.Pipeliner, i int) {
		pipe.HGet(ctx, c.names.failed(), names[i])
	}, func(i int, replies []redis.Cmder) error {
		note, err := replies[0].(*redis.StringCmd).Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		faults[i] = errors.New(decodeFailure(note).Error)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read failures: %w", err)
	}
	return faults, nil
}

// ask puts the same commands for each of n things, in as many pipelines as it
// takes, and lets read have the replies to each.
func (c *Cache) ask(ctx context.Context, n int, put func(ctx context.Context, pipe redis.Pipeliner, i int), read func(i int, replies []redis.Cmder) error) error {
	for start := 0; start < n; start += pipelineFragments {
		end := min(n, start+pipelineFragments)
		err := c.exchange(ctx, func(ctx context.Context) error {
			pipe := c.rdb.Pipeline()
			for i := start; i < end; i++ {
				put(ctx, pipe, i)
			}
			// Its error is the first command's; each is looked at by read.
			replies, _ := pipe.Exec(ctx)
			each := len(replies) / (end - start)
			for i := range end - start {
				if err := read(start+i, replies[i*each:(i+1)*each]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
