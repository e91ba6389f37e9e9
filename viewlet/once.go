package viewlet

import (
	"hash/maphash"
	"sync"
)

// once drops keys that a pass has had before, as far back as memory allows.
type once struct{ had map[Key]struct{} }

const onceMax = 1 << 16

func (o *once) note(keys []Key) {
	if o.had == nil {
		o.had = make(map[Key]struct{}, len(keys))
	}
	for _, k := range keys[:min(len(keys), onceMax-min(len(o.had), onceMax))] {
		o.had[k] = struct{}{}
	}
}

func (o *once) filter(keys []Key) []Key {
	kept := keys[:0]
	for _, k := range keys {
		if _, again := o.had[k]; again {
			continue
		}
		if len(o.had) < onceMax {
			o.had[k] = struct{}{}
		}
		kept = append(kept, k)
	}
	return kept
}

// standstill remembers what a whole rendering wrote at the very position that
// it began at: while Postgres writes nothing, positions do not tell it from
// what was there before. It is a set of hashes, of 128 bits; what it cannot
// hold is rendered twice.
type standstill struct {
	since LSN
	seeds [2]maphash.Seed
	mu    sync.Mutex
	had   map[[2]uint64]struct{}
}

const standstillMax = 1 << 20

func newStandstill(since LSN) *standstill {
	return &standstill{
		since: since,
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		had:   map[[2]uint64]struct{}{},
	}
}

func (s *standstill) hash(k Key) [2]uint64 {
	return [2]uint64{maphash.String(s.seeds[0], k.Args), maphash.String(s.seeds[1], k.Args)}
}

func (s *standstill) note(fragments []Fragment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range fragments {
		if f.LSN <= s.since && len(s.had) < standstillMax {
			s.had[s.hash(f.Key)] = struct{}{}
		}
	}
}

// others drops the keys that were noted.
func (s *standstill) others(keys []Key) []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := keys[:0]
	for _, k := range keys {
		if _, noted := s.had[s.hash(k)]; !noted {
			kept = append(kept, k)
		}
	}
	return kept
}
