package viewlet

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// origin is where refreshes come from.
type origin struct {
	floor     LSN       // what may be confirmed while they are held
	commit    LSN       // their transaction, as visibility knows it; zero: none
	xid       uint32    // its id; zero: none
	committed time.Time // zero: no transaction
	asked     bool      // some were asked for beside the source, as of now
	// then are told when they are served, or cannot be.
	then []func(error)
}

// pending is what a lane has yet to do: refreshes fall in, each once, while the
// lane is busy. It remembers what must not be confirmed meanwhile.
type pending struct {
	room  *room
	ready chan struct{} // filled while there is something to take

	mu      sync.Mutex
	set     map[Refresh]struct{}
	spare   map[Refresh]struct{} // an emptied set, to be used again
	whole   bool
	waiting hold      // of what is in set, or whole
	serving hold      // of what was taken
	warming bool      // what was taken is whole
	parked  error     // why it is broken: everything is owed, noted in the store, and nothing is held
	taken   []Refresh // what is being served, unless that is too much to remember
	served  served
}

// hold is what refreshes keep from being confirmed.
type hold struct {
	origin
	held bool
}

// include makes the hold cover what came from there too.
func (h *hold) include(from origin) {
	from.commit = max(h.commit, from.commit)
	if !h.held {
		h.origin, h.held = from, true
		return
	}
	h.floor, h.commit, h.asked = min(h.floor, from.floor), from.commit, h.asked || from.asked
	h.then = append(h.then, from.then...)
	if h.committed.IsZero() || (!from.committed.IsZero() && from.committed.Before(h.committed)) {
		h.committed = from.committed
	}
}

// batch is what a pass has to do. It is worked off from the front, so that a
// pass that failed goes on where it was.
type batch struct {
	keys  []Key
	via   map[string][]string // args of each lookup
	whole bool
	origin
}

func (b *batch) empty() bool { return len(b.keys) == 0 && len(b.via) == 0 && !b.whole }

// absorb makes the other batch part of this one.
func (b *batch) absorb(other batch) {
	b.keys = append(b.keys, other.keys...)
	for via, args := range other.via {
		if b.via == nil {
			b.via = map[string][]string{}
		}
		b.via[via] = append(b.via[via], args...)
	}
	b.commit, b.asked = max(b.commit, other.commit), b.asked || other.asked
}

// size is what the batch takes of the pipeline's room.
func (b *batch) size() int {
	n := len(b.keys)
	for _, args := range b.via {
		n += len(args)
	}
	return n
}

func (p *pending) init(r *room) {
	p.room, p.ready, p.set = r, make(chan struct{}, 1), map[Refresh]struct{}{}
}

// add lets refreshes of one viewlet fall in. It does not block.
func (p *pending) add(refreshes []Refresh, from origin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parked != nil { // all of it is owed already, and will be read once this is visible
		p.waiting.commit = max(p.waiting.commit, from.commit)
		from.tell(p.parked)
		return
	}
	before, fell := len(p.set), false
	for _, r := range refreshes {
		switch {
		case r.Via == Whole:
			p.whole, fell = true, true
		case !p.served.has(r, from):
			p.set[r] = struct{}{}
			fell = true
		}
	}
	if !fell {
		from.tell(nil)
		return
	}
	p.room.take(len(p.set) - before)
	p.waiting.include(from)
	p.signal()
}

func (p *pending) signal() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// take gives what has fallen in, and holds it until done. While a whole pass
// is under way, withWhole false leaves another one waiting.
func (p *pending) take(withWhole bool) batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := batch{origin: p.waiting.origin, whole: withWhole && p.whole}
	for r := range p.set {
		if r.Via == "" {
			b.keys = append(b.keys, r.Key)
			continue
		}
		if b.via == nil {
			b.via = map[string][]string{}
		}
		b.via[r.Via] = append(b.via[r.Via], r.Args)
	}
	if p.taken = p.taken[:0]; withWhole && len(p.set) <= servedMax {
		p.taken = slices.AppendSeq(p.taken, maps.Keys(p.set))
	}
	p.set, p.spare = p.swap()
	if p.waiting.held && !b.empty() {
		from := p.waiting.origin
		if p.whole && !withWhole {
			from.then = nil // told once, when all of what waits is served
		}
		p.serving.include(from)
	}
	if p.whole && !withWhole {
		return b // what waits goes on being held
	}
	p.warming = p.warming || p.whole
	p.whole, p.waiting = false, hold{}
	return b
}

// swap gives an empty set, and keeps the one just read for the next time
// unless it has grown large.
func (p *pending) swap() (set, spare map[Refresh]struct{}) {
	const large = 1 << 14
	used, next := p.set, p.spare
	if next == nil {
		next = map[Refresh]struct{}{}
	}
	if len(used) > large {
		return next, nil
	}
	clear(used)
	return next, used
}

// done lets go of what was taken, and was served with what the snapshot saw, or
// more; nil: nobody knows.
func (p *pending) done(snap *Snapshot) {
	p.mu.Lock()
	served := p.serving.origin
	p.serving, p.warming = hold{}, false
	p.served.note(p.taken, snap)
	p.mu.Unlock()
	served.tell(nil)
}

// tell calls those who wait for an outcome.
func (o origin) tell(err error) {
	for _, then := range o.then {
		then(err)
	}
}

// park lets go of everything: the store has been told that all is owed. Until
// unpark, what falls in is part of that.
func (p *pending) park(cause error) {
	p.mu.Lock()
	waiting, serving := p.waiting.origin, p.serving.origin
	p.room.give(len(p.set))
	clear(p.set)
	p.whole, p.warming, p.parked = false, false, cause
	p.waiting = hold{origin: origin{commit: max(waiting.commit, serving.commit)}}
	p.serving = hold{}
	p.mu.Unlock()
	waiting.tell(cause)
	serving.tell(cause)
}

// unpark puts everything up to be rendered.
func (p *pending) unpark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked, p.whole = nil, true
	p.signal()
}

// floorHeld is the lowest position that is held, if any is.
func (p *pending) floorHeld() (LSN, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.serving.held && p.waiting.held:
		return min(p.serving.floor, p.waiting.floor), true
	case p.serving.held:
		return p.serving.floor, true
	}
	return p.waiting.floor, p.waiting.held
}

// status is what LaneStatus says of it.
func (p *pending) status() (depth int, warming bool, oldest time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.serving
	if p.waiting.held {
		h.include(p.waiting.origin)
	}
	return len(p.set), p.whole || p.warming, h.committed
}
