package cache

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Sweep yields everything that is in Redis of a viewlet, some at a time, until
// there is no more or yield gives an error: its fragments' keys, and orphans,
// which are Redis keys within its part of the key space that are not encoded
// as a fragment's. DeleteOrphans takes them. What is there from beginning to
// end comes at least once.
//
// A SCAN goes over all of Redis, whatever it looks for. Sweeps of many
// viewlets that are asked for at one time share one. Whoever does not keep up
// with it is not waited for: it misses something, and gets a scan of its own,
// which waits for it.
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
	missed bool            // found was full: the scan's alone
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
		err := c.scanFor(together)
		for _, one := range together {
			if one.missed && err == nil {
				one.alone = true
				go one.finish(c.scanFor)
				continue
			}
			one.err = err
			close(one.found)
		}
	}
}

// finish scans for the sweep alone.
func (s *sweep) finish(scan func([]*sweep) error) {
	s.err = scan([]*sweep{s})
	close(s.found)
}

// give hands over what was found. It waits only where nobody else does.
func (s *sweep) give(p part) {
	if s.alone {
		select {
		case s.found <- p:
		case <-s.gone:
		}
		return
	}
	select {
	case s.found <- p:
	default:
		s.missed = true
	}
}

func (s *sweeps) next() []*sweep {
	s.mu.Lock()
	defer s.mu.Unlock()
	together := s.waiting
	s.waiting, s.running = nil, len(together) > 0
	return together
}

// scanFor goes over all that is under the prefix once, and gives each sweep
// what is its viewlet's. It ends early when all have gone.
func (c *Cache) scanFor(together []*sweep) error {
	byName := make(map[string][]*sweep)
	for _, s := range together {
		byName[s.name] = append(byName[s.name], s)
	}
	return c.scan(context.Background(), escapeGlob(c.names.prefix)+"*", func(found []string) error {
		parts := make(map[string]*part)
		for _, redisKey := range found {
			c.sort(redisKey, byName, parts)
		}
		for name, p := range parts {
			for _, s := range byName[name] {
				s.give(*p)
			}
		}
		return someoneLeft(together)
	})
}

// sort puts a Redis key among the keys or the orphans of its viewlet, if that
// is swept.
func (c *Cache) sort(redisKey string, byName map[string][]*sweep, parts map[string]*part) {
	rest := strings.TrimPrefix(redisKey, c.names.prefix)
	name, _, _ := strings.Cut(rest, ":")
	if byName[name] == nil {
		return
	}
	if parts[name] == nil {
		parts[name] = &part{}
	}
	if k, err := viewlet.ParseKey(rest); err == nil {
		parts[name].keys = append(parts[name].keys, k)
	} else {
		parts[name].orphans = append(parts[name].orphans, redisKey)
	}
}

func someoneLeft(together []*sweep) error {
	for _, s := range together {
		select {
		case <-s.gone:
		default:
			return nil
		}
	}
	return context.Canceled
}
