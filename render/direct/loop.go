package direct

import (
	"maps"
	"slices"
	"text/template/parse"
)

// round is what a {{range}} does with each element.
type round struct {
	steps program
	sets  setters
}

// each is {{range}} over rows, over a list or an object, or up to a number.
func (c *compiler) each(b *parse.BranchNode) step {
	arg := c.commands(b.Pipe.Cmds)
	then, otherwise, sets := c.branches(b)
	if arg == nil {
		return nil
	}
	body := &round{steps: then, sets: sets}
	return func(r *Run) bool {
		v, ok := arg(r)
		if !ok {
			return false
		}
		sets.all(r, v)
		some, ok := r.loop(body, v)
		if !ok && r.leave == loop {
			r.leave, ok = giveUp, true
		}
		if ok && !some {
			return r.do(otherwise)
		}
		return ok
	}
}

// leaving is {{break}} and {{continue}}.
func leaving(why leave) step {
	return func(r *Run) bool {
		r.leave = why
		return false
	}
}

// loop does a round for each of v's elements, and reports whether there were
// some.
func (r *Run) loop(b *round, v datum) (some, ok bool) {
	ok = true
	switch v.kind {
	case nothing:
		return false, true
	case allRows:
		for i := 0; ok && i < len(r.rows); i++ {
			ok = b.do(r, datumOf(i), datum{kind: oneRow, n: int64(r.rows[i])})
		}
		return len(r.rows) > 0, ok
	case long, short:
		if len(b.sets) > 1 {
			return false, false
		}
		for i := int64(0); ok && i < v.n; i++ {
			ok = b.do(r, datum{}, datum{kind: v.kind, n: i})
		}
		return v.n > 0, ok
	}
	switch in := v.any.(type) {
	case []any:
		for i := 0; ok && i < len(in); i++ {
			ok = b.do(r, datumOf(i), datumOf(in[i]))
		}
		return len(in) > 0, ok
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(in)) {
			ok = ok && b.do(r, datumOf(name), datumOf(in[name]))
		}
		return len(in) > 0, ok
	}
	return false, false
}

// do does a round, in which the last variable is the element.
func (b *round) do(r *Run, at, v datum) bool {
	for i, place := range b.sets {
		if i == len(b.sets)-1 {
			r.vars[r.base+place] = v
		} else {
			r.vars[r.base+place] = at
		}
	}
	ok := r.within(b.steps, v)
	if !ok && r.leave == loopRound {
		r.leave, ok = giveUp, true
	}
	return ok
}
