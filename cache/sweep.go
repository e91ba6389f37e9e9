package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Sweep yields everything that is in Redis of a viewlet, some at a time, until
// there is no more or yield gives an error: its fragments' keys, and orphans,
// which are Redis keys within its part of the key space that are not encoded
// as a fragment's. DeleteOrphans takes them. What is there from beginning to
// end comes at least once. Where there is little of the viewlet, yield is called
// with nothing now and then.
//
// A SCAN goes over all of Redis, whatever it looks for. Sweeps of many
// viewlets that are asked for at one time share one. Whoever does not keep up
// with it is not waited for: from there on it gets a scan of its own, which
// waits for it.
func (c *Cache) Sweep(ctx context.Context, name string, yield func(keys []viewlet.Key, orphans []string) error) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	s := &sweep{name: name, gone: ctx.Done(), found: make(chan part, partsAhead)}
	c.sweeps.join(c, s)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p, more := <-s.found:
			if !more && s.err != nil {
				return fmt.Errorf("scan keys of %s: %w", name, s.err)
			}
			if !more {
				return nil
			}
			if err := yield(p.keys, p.orphans); err != nil {
				return err
			}
		}
	}
}

// sweep is one caller of Sweep.
type sweep struct {
	name   string
	gone   <-chan struct{} // closed when nobody reads found any more
	found  chan part       // closed at the end
	err    error           // set before that
	behind progress        // where a shared scan was when found was full; the scan's alone
	alone  bool            // the scan is for nobody else, and waits
}

// partsAhead is how far a scan may be ahead of who reads it.
const partsAhead = 64

// part is what one SCAN found of a viewlet.
type part struct {
	keys    []viewlet.Key
	orphans []string
}

// sweeps shares scans: whoever comes while one is under way waits for the next.
type sweeps struct {
	mu      sync.Mutex
	waiting []*sweep
	running bool
}

func (s *sweeps) join(c *Cache, one *sweep) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, one)
	if !s.running {
		s.running = true
		go s.run(c)
	}
}

// run scans for those who wait until nobody does.
func (s *sweeps) run(c *Cache) {
	for {
		together := s.next()
		if len(together) == 0 {
			return
		}
		err := c.scanFor(together, nil)
		for _, one := range together {
			if one.behind != nil && err == nil {
				one.alone = true
				go one.finish(c)
				continue
			}
			one.err = err
			close(one.found)
		}
	}
}

// finish scans the rest for the sweep alone.
func (s *sweep) finish(c *Cache) {
	s.err = c.scanFor([]*sweep{s}, s.behind)
	close(s.found)
}

// give hands over what a scan found that was so far before. It waits only where
// nobody else does.
func (s *sweep) give(p part, was progress) {
	nothing := len(p.keys) == 0 && len(p.orphans) == 0
	switch {
	case nothing && len(s.found) > 0:
	case s.alone:
		select {
		case s.found <- p:
		case <-s.gone:
		}
	case s.behind == nil:
		select {
		case s.found <- p:
		default:
			s.behind = maps.Clone(was)
		}
	}
}

// served reports whether the scan has nothing more for the sweep.
func (s *sweep) served() bool {
	select {
	case <-s.gone:
		return true
	default:
		return s.behind != nil && !s.alone
	}
}

func (s *sweeps) next() []*sweep {
	s.mu.Lock()
	defer s.mu.Unlock()
	together := s.waiting
	s.waiting, s.running = nil, len(together) > 0
	return together
}

// scanFor goes over all that is under the prefix once, from where another scan
// was, and gives each sweep what is its viewlet's. It ends early when none wants
// more. What begins with an @ is no fragment.
func (c *Cache) scanFor(together []*sweep, from progress) error {
	swept := make(map[string]bool)
	for _, s := range together {
		swept[s.name] = true
	}
	err := c.scanFrom(context.Background(), escapeGlob(c.names.prefix)+"[^@]*", from, func(found []string, was progress) error {
		parts := make(map[string]part)
		for _, redisKey := range found {
			c.sort(redisKey, swept, parts)
		}
		for _, s := range together {
			p := parts[s.name] // of two sweeps of one viewlet, too
			s.give(part{slices.Clip(p.keys), slices.Clip(p.orphans)}, was)
		}
		if !slices.ContainsFunc(together, func(s *sweep) bool { return !s.served() }) {
			return errNobody
		}
		return nil
	})
	if errors.Is(err, errNobody) {
		return nil
	}
	return err
}

// errNobody ends a scan that nobody wants more of.
var errNobody = errors.New("nobody wants more")

// sort puts a Redis key among the keys or the orphans of its viewlet, if that
// is swept.
func (c *Cache) sort(redisKey string, swept map[string]bool, parts map[string]part) {
	rest := strings.TrimPrefix(redisKey, c.names.prefix)
	name, _, _ := strings.Cut(rest, ":")
	if !swept[name] {
		return
	}
	p := parts[name]
	if k, err := viewlet.ParseKey(rest); err == nil {
		p.keys = append(p.keys, k)
	} else {
		p.orphans = append(p.orphans, redisKey)
	}
	parts[name] = p
}
