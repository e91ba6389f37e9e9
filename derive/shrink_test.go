package derive_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
)

// finding is a result that changed and that no rule named, and what led to it.
type finding struct {
	*schema
	sketch
	start data
	moves []move
	stale string
	told  string // the rules
}

// String writes what it takes to see it by hand.
func (f *finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", f.stale, f.sql)
	for _, ddl := range f.ddl {
		fmt.Fprintf(&b, "  %s\n", ddl)
	}
	for _, t := range slices.Sorted(maps.Keys(f.start)) {
		for _, r := range f.start[t] {
			fmt.Fprintf(&b, "  %s has %s\n", t, row(r))
		}
	}
	for _, m := range f.moves {
		fmt.Fprintf(&b, "  %s\n", m)
	}
	return b.String() + f.told
}

// enough is how often a finding is tried with less of the same: a simpler query,
// or fewer moves or rows.
const enough = 150

// shrinker makes a finding smaller while it stays one.
type shrinker struct {
	*world
	meddle func(*subject)
	known  map[string]*subject // by query; nil: Postgres does not take it
	least  *finding
	left   int
}

// shrink gives the smallest form that it finds: with fewer joins, conditions
// and columns in the query, fewer rows and fewer moves.
func (f *finding) shrink(t *testing.T, meddle func(*subject)) *finding {
	s := &shrinker{world: newWorld(t, f.schema, nil), meddle: meddle, known: map[string]*subject{}, least: f}
	for size := ""; size != s.size(); {
		size = s.size()
		// The query first: with few rows left, only the one may make a difference.
		for _, lessen := range []func(){s.query, s.moves, s.rows} {
			s.left = enough
			lessen()
		}
	}
	return s.least.reduced()
}

func (s *shrinker) size() string {
	return fmt.Sprint(s.least.sql, len(s.least.moves), s.least.start.size())
}

// holds tries a smaller form, and keeps it if it is a finding, too.
func (s *shrinker) holds(f finding) bool {
	q := s.subject(f.sketch)
	if s.left--; s.left < 0 || q == nil {
		return false
	}
	s.refill(f.start)
	clear(q.named)
	if q.results = s.results(q); q.results == nil {
		return false
	}
	s.replay([]*subject{q}, f.moves)
	_, stale := s.compare(q)
	if stale == "" {
		return false
	}
	f.stale, f.told, f.moves = stale, told(q.Result), s.world.moves
	s.least = &f
	return true
}

func (s *shrinker) subject(of sketch) *subject {
	known, is := s.known[of.sql]
	if !is && s.explain(of.sql) == nil {
		known = s.subjects([]sketch{of})[0]
		s.meddle(known)
	}
	s.known[of.sql] = known
	return known
}

// replay makes the moves again, as far as their rows are there.
func (s *shrinker) replay(subjects []*subject, moves []move) {
	began := false
	for _, m := range moves {
		if m.table == "" && began {
			s.commit(subjects, m.look)
			began = false
			continue
		}
		if !began && m.table != "" {
			s.exec("BEGIN")
			began = true
		}
		if m.table != "" {
			s.do(m.change)
		}
	}
	if began {
		s.commit(subjects, false)
	}
	s.lookUp(subjects)
}

// without tries to leave out parts of a list, large ones first. length gives how
// long it is by now.
func without(length func() int, leaveOut func(from, to int) bool) {
	for size := length(); size > 0; size /= 2 {
		for at := 0; at < length(); {
			if !leaveOut(at, min(at+size, length())) {
				at += size
			}
		}
	}
}

// query leaves choices out, and takes simpler ones.
func (s *shrinker) query() {
	without(func() int { return len(s.least.choices) }, func(from, to int) bool {
		return s.redraw(slices.Concat(s.least.choices[:from], s.least.choices[to:]))
	})
	for at := 0; at < len(s.least.choices); at++ {
		choices := slices.Clone(s.least.choices)
		choices[at] = 0
		s.redraw(choices)
	}
}

// redraw tries the query of the choices, if that is a simpler one.
func (s *shrinker) redraw(choices []int) bool {
	f := *s.least
	f.sketch = draw(&tape{choices: choices}, f.relations)
	simpler := len(f.choices) < len(s.least.choices) || len(f.choices) == len(s.least.choices) && slices.Compare(f.choices, s.least.choices) < 0
	return simpler && f.sql != s.least.sql && len(f.sql) <= len(s.least.sql) && s.holds(f)
}

func (s *shrinker) moves() {
	without(func() int { return len(s.least.moves) }, func(from, to int) bool {
		f := *s.least
		f.moves = slices.Delete(slices.Clone(f.moves), from, to)
		return s.holds(f)
	})
}

func (s *shrinker) rows() {
	for _, t := range s.tables {
		without(func() int { return len(s.least.start[t]) }, func(from, to int) bool {
			f := *s.least
			f.start = maps.Clone(f.start)
			f.start[t] = slices.Delete(slices.Clone(f.start[t]), from, to)
			return s.holds(f)
		})
	}
}

// reduced leaves the tables and views out that the query does not read.
func (f *finding) reduced() *finding {
	read := f.sql
	least := *f
	shown := *f.schema
	shown.ddl = nil
	for _, ddl := range slices.Backward(f.ddl) {
		if name := strings.Fields(ddl)[2]; strings.Contains(read, name) || strings.Contains(ddl, "PARTITION OF") && strings.Contains(read, strings.Fields(ddl)[5]) {
			shown.ddl = append(shown.ddl, ddl)
			read += ddl
		}
	}
	slices.Reverse(shown.ddl)
	least.schema = &shown
	return &least
}

func hasLookup(r derive.Rule) bool { return r.Lookup != nil }

// TestShrink takes the rules with lookups away, which the oracle must notice,
// and the shrinker must show by little more than it takes.
func TestShrink(t *testing.T) {
	without := func(s *subject) { s.Rules = slices.DeleteFunc(s.Rules, hasLookup) }
	_, found := playWorld(t, 2, without)
	if found == nil {
		t.Fatal("rules are missing, and the oracle says nothing")
	}
	least := found.shrink(t, without)
	t.Logf("%s\nshrunk: %s", found, least)
	occurrences := strings.Count(least.sql, " AS x")
	if occurrences > 2 || least.start.size() > 2 || len(least.moves) > 2 {
		t.Errorf("%d occurrences, %d rows and %d moves are more than it takes", occurrences, least.start.size(), len(least.moves))
	}
}
