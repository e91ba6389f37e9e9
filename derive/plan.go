package derive

import "slices"

// plan says how a row of a source names keys.
type plan struct {
	classes []*class
	origin  *source // nil: the plan is for all keys
	direct  []ref   // by param-1: the origin's column; zero: not direct
	from    []ref   // by param-1: the column that a lookup takes it from; zero: direct
	tables  []*source
	hops    []hop // how the tables are reached, from the origin on
}

// hop is an equality by which one source reaches another.
type hop struct{ from, to ref }

// solver finds plans, one source after another: a plan's lookup goes only over
// sources that have plans already. So no two sources can be in each other's
// lookups, which docs/derive.md shows to be needed: with both of them changed,
// neither lookup would find the old row of the other.
type solver struct {
	params int
	order  []*source
	solved map[*source]bool
}

// attempt makes a plan for each way in which a row of the origin makes a
// difference, over sources that may gives. Without ok there are params, from 1,
// that one of the ways cannot name.
func (s *solver) attempt(ways []*facts, origin *source, may map[*source]bool) (plans []*plan, missing []int) {
	for _, f := range ways {
		p := &plan{classes: f.classes(), origin: origin, direct: make([]ref, s.params), from: make([]ref, s.params)}
		for _, param := range p.reach(s, may) {
			if !slices.Contains(missing, param) {
				missing = append(missing, param)
			}
		}
		plans = append(plans, p)
	}
	slices.Sort(missing)
	return plans, missing
}

// reach finds each param, in the origin or in the nearest source, and gives
// those that it does not find.
func (p *plan) reach(s *solver, may map[*source]bool) (missing []int) {
	visited, back := p.visit(s, may)
	for i := range s.params {
		c := p.classOf(i + 1)
		if c == nil {
			missing = append(missing, i+1)
			continue
		}
		if r, ok := c.sent(p.origin); ok {
			p.direct[i] = r
			continue
		}
		at := slices.IndexFunc(visited, func(v *source) bool { return v != p.origin && len(c.of(v)) > 0 })
		if at < 0 {
			missing = append(missing, i+1)
			continue
		}
		p.from[i] = c.of(visited[at])[0]
		p.include(visited[at], back)
	}
	return missing
}

func (p *plan) classOf(param int) *class {
	i := slices.IndexFunc(p.classes, func(c *class) bool { return slices.Contains(c.params, param) })
	if i < 0 {
		return nil
	}
	return p.classes[i]
}

// visit goes from the origin over equalities to all sources that it may use,
// nearest first.
func (p *plan) visit(s *solver, may map[*source]bool) (visited []*source, back map[*source]hop) {
	back = map[*source]hop{}
	visited = []*source{p.origin}
	for i := 0; i < len(visited); i++ {
		for _, to := range s.order {
			if _, seen := back[to]; seen || to == p.origin || !may[to] {
				continue
			}
			if h, ok := p.hop(visited[i], to); ok {
				back[to] = h
				visited = append(visited, to)
			}
		}
	}
	return visited, back
}

func (p *plan) hop(from, to *source) (hop, bool) {
	for _, c := range p.classes {
		a, ok := c.sent(from)
		if from != p.origin && len(c.of(from)) > 0 {
			a, ok = c.of(from)[0], true
		}
		if !ok {
			continue
		}
		if b := c.of(to); len(b) > 0 {
			return hop{a, b[0]}, true
		}
		for _, t := range c.equal {
			if b := t.of(to); len(b) > 0 {
				return hop{a, b[0]}, true
			}
		}
	}
	return hop{}, false
}

// include adds a source and those between it and the origin.
func (p *plan) include(to *source, back map[*source]hop) {
	if to == p.origin || slices.Contains(p.tables, to) {
		return
	}
	h := back[to]
	p.include(h.from.source, back)
	p.tables = append(p.tables, to)
	p.hops = append(p.hops, h)
}
