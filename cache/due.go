package cache

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// A failed fragment is tried again when it has been failing for as long again
// as it had been at the last try, within these limits.
const (
	soonestTry = 2 * time.Second
	latestTry  = 5 * time.Minute
)

// due is when a failed fragment is tried again.
func (f Failure) due() time.Time {
	return f.At.Add(min(max(f.At.Sub(f.Since), soonestTry), latestTry))
}

// Due yields those of the viewlet's failed fragments that are to be tried again
// by now, some at a time, until there are no more or yield gives an error. It
// tells when the turn of the next one comes; zero when none is failed. Redis
// is asked only if some are, as far as is known.
func (c *Cache) Due(ctx context.Context, name string, now time.Time, yield func([]viewlet.Key) error) (next time.Time, err error) {
	if err := c.recount(ctx); err != nil {
		return next, fmt.Errorf("read failures: %w", err)
	}
	if c.failed.of(name) == 0 {
		return next, nil
	}
	n, since := 0, c.failed.since()
	err = c.scanFailed(ctx, name, func(pairs []string) error {
		var keys []viewlet.Key
		for i := 0; i+1 < len(pairs); i += 2 {
			k, err := viewlet.ParseKey(pairs[i])
			if err != nil || k.Viewlet != name {
				continue // the whole viewlet's note, or another's
			}
			n++
			due := decodeFailure(pairs[i+1]).due()
			if !due.After(now) {
				keys = append(keys, k)
			} else if next.IsZero() || due.Before(next) {
				next = due
			}
		}
		if len(keys) == 0 {
			return nil
		}
		next = now.Add(soonestTry) // unless they succeed
		return yield(keys)
	})
	if err != nil {
		return next, fmt.Errorf("read failures of %s: %w", name, err)
	}
	c.failed.recount(name, n, since)
	return next, nil
}

// recount reads the failures that others may have noted or removed, now and
// then.
func (c *Cache) recount(ctx context.Context) error {
	if !c.failed.outdated(time.Now()) {
		return nil
	}
	names, counts := make(map[string]struct{}), make(map[string]int)
	many := false
	since := c.failed.begin()
	err := c.scanFailed(ctx, "", func(pairs []string) error {
		for i := 0; i+1 < len(pairs); i += 2 {
			of, args, _ := strings.Cut(pairs[i], ":")
			if args == viewlet.Whole {
				continue
			}
			counts[of]++
			if many = many || len(names) == mostFailed; !many {
				names[pairs[i]] = struct{}{}
			}
		}
		return nil
	})
	c.failed.end(since, names, counts, many, err)
	return err
}
