package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// failures is what the list in Redis says, of which only so much is held as
// people read.
type failures struct {
	all    int
	first  map[string]cache.Failure // by name, and in the order of names
	broken map[string]bool          // viewlets that are so as a whole
	counts map[string]int           // other fragments, by viewlet
}

const mostShown = 20

// readFailures reads the list, as far as it is about the viewlet if one is
// named.
func readFailures(ctx context.Context, redis *cache.Cache, name string) (failures, error) {
	f := failures{first: map[string]cache.Failure{}, broken: map[string]bool{}, counts: map[string]int{}}
	err := redis.Failed(ctx, func(some map[string]cache.Failure) error {
		for failed, why := range some {
			of, args, _ := strings.Cut(failed, ":")
			if name != "" && of != name {
				continue
			}
			if args == viewlet.Whole {
				f.broken[of] = true
			} else {
				f.counts[of]++
			}
			f.all++
			f.first[failed] = why
		}
		for _, last := range slices.Sorted(maps.Keys(f.first))[min(mostShown, len(f.first)):] {
			delete(f.first, last)
		}
		return nil
	})
	return f, err
}
