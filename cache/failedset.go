package cache

import (
	"maps"
	"sync"
	"time"
)

// mostFailed is how many failed names are remembered.
const mostFailed = 10_000

// countEvery is how soon what other processes have noted is known.
const countEvery = time.Minute

// failedSet remembers which names may be failed: all that are, and perhaps some
// that are no longer. When they are too many, any name may be; Redis has them.
type failedSet struct {
	mu     sync.Mutex
	names  map[string]struct{}
	many   bool           // more than are remembered, and none is
	counts map[string]int // fragments, by viewlet
	// changes counts those of counts: what was read meanwhile is none to trust.
	changes int
	// added since a count of all began; nil: none is under way
	added   map[string]struct{}
	counted time.Time
}

func (s *failedSet) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(name)
	if s.added != nil && len(s.added) <= mostFailed {
		s.added[name] = struct{}{}
	}
}

func (s *failedSet) remember(name string) {
	if s.many {
		return
	}
	if s.names == nil {
		s.names = make(map[string]struct{})
	}
	s.names[name] = struct{}{}
	if len(s.names) > mostFailed {
		s.names, s.many = nil, true
	}
}

func (s *failedSet) remove(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		delete(s.names, name)
	}
}

// count adds to how many of a viewlet are failed.
func (s *failedSet) count(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = make(map[string]int)
	}
	if n != 0 {
		s.counts[name] = max(0, s.counts[name]+n)
		s.changes++
	}
}

// may reports whether the name may be failed.
func (s *failedSet) may(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, is := s.names[name]
	return is || s.many
}

func (s *failedSet) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.names) == 0 && !s.many
}

func (s *failedSet) of(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[name]
}

// all gives the viewlets that have failed fragments, and how many.
func (s *failedSet) all() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	some := maps.Clone(s.counts)
	maps.DeleteFunc(some, func(_ string, n int) bool { return n == 0 })
	return some
}

// since tells the changes so far.
func (s *failedSet) since() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

// recount corrects a viewlet's count, unless there were changes since.
func (s *failedSet) recount(name string, n, since int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes == since {
		s.counts[name] = n
	}
}

// outdated reports, to one caller, that all are to be counted again.
func (s *failedSet) outdated(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.counted) < countEvery {
		return false
	}
	s.counted = now
	return true
}

// begin and end enclose a count of all.
func (s *failedSet) begin() (since int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.added = make(map[string]struct{})
	return s.changes
}

func (s *failedSet) end(since int, names map[string]struct{}, counts map[string]int, many bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := s.added
	s.added = nil
	if err != nil {
		s.counted = time.Time{}
		return
	}
	if s.changes == since {
		s.counts = counts
	}
	if s.names, s.many = names, many; many {
		s.names = nil
	}
	for name := range added {
		s.remember(name)
	}
}
