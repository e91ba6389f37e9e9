package derive

import (
	"maps"
	"slices"
)

// facts are what holds whenever a row of one source, the origin, makes a
// difference to the query's result: there are rows of the other sources, one
// of each that is real, for which all the equalities hold at once. Why is
// proved in docs/derive.md; the names here are those of the proof.
type facts struct {
	catalog *Catalog
	inside  map[*level]bool // the origin's level, and those that its rows go to
	real    map[*join]bool  // not made of NULLs by an outer join
	live    map[*level]bool // FROM has a row that WHERE lets through
	rows    map[*level]bool // has a row
	solid   map[ref]bool    // not NULL
	held    map[*cond]bool
	eqs     []*equality
	same    []sameness
	choices [][][]*cond
}

// sameness: an output is the value of the column that it is selected from, or
// both are NULL.
type sameness struct{ a, b ref }

// maxWays bounds in how many ways the branches of ORs and UNIONs are combined.
// What is beyond it is left out, as if nothing were known of it.
const maxWays = 64

// factsOf gives the facts for each way in which a row of the source can make a
// difference: one must hold. A nil source stands for any row of the whole query
// top.
func factsOf(c *Catalog, top *level, origin *source) []*facts {
	f := &facts{
		catalog: c, inside: map[*level]bool{}, real: map[*join]bool{}, live: map[*level]bool{},
		rows: map[*level]bool{}, solid: map[ref]bool{}, held: map[*cond]bool{},
	}
	if origin == nil {
		f.row(top)
	} else {
		for l := origin.level; l != nil; l = l.site.parent() {
			f.inside[l] = true
		}
		f.join(origin.leaf)
	}
	ways := 1
	return f.ways(&ways)
}

// ways resolves the choices one after another.
func (f *facts) ways(count *int) []*facts {
	for len(f.choices) > 0 {
		choice := f.choices[0]
		f.choices = f.choices[1:]
		if *count+len(choice)-1 > maxWays {
			continue
		}
		*count += len(choice) - 1
		var all []*facts
		for _, conds := range choice {
			way := f.clone()
			way.hold(conds)
			all = append(all, way.ways(count)...)
		}
		return all
	}
	return []*facts{f}
}

func (f *facts) clone() *facts {
	c := *f
	c.real, c.live, c.rows, c.solid = maps.Clone(f.real), maps.Clone(f.live), maps.Clone(f.rows), maps.Clone(f.solid)
	c.held = maps.Clone(f.held)
	c.eqs, c.same, c.choices = slices.Clone(f.eqs), slices.Clone(f.same), slices.Clone(f.choices)
	return &c
}

// join says that the join's row is not one that an outer join above it made of
// NULLs.
func (f *facts) join(j *join) {
	if f.real[j] {
		return
	}
	f.real[j] = true
	switch j.kind {
	case leaf:
		switch s := j.source; {
		case s == nil:
		case s.sub != nil:
			f.row(s.sub)
		case s.element != ref{}:
			f.equate(ref{source: s, column: 1}, s.element)
		}
	case inner:
		f.join(j.left)
		f.join(j.right)
	case left:
		f.join(j.left)
	}
	f.matched(j)
	if j.parent == nil {
		f.enter(j.level)
		return
	}
	f.join(j.parent)
	if j.parent.kind == left && j == j.parent.right {
		f.join(j.parent.left)
	}
	f.matched(j.parent)
}

// matched says that ON holds where both sides are real.
func (f *facts) matched(j *join) {
	if j.kind != leaf && f.real[j.left] && f.real[j.right] {
		f.hold(j.on)
	}
}

// enter says that FROM of the level has a row that WHERE lets through.
func (f *facts) enter(l *level) {
	if f.live[l] {
		return
	}
	f.live[l] = true
	if l.root != nil {
		f.join(l.root)
		f.hold(l.where)
		f.hold(l.grouping())
	}
	f.row(l)
}

// row says that the level has a row, and that it is one which makes the
// difference where the origin is inside.
func (f *facts) row(l *level) {
	if f.rows[l] {
		return
	}
	f.rows[l] = true
	for i := range l.outputs {
		if out, is, ok := l.ref(l.outputs[i], nil); ok && l.root != nil && f.catalog.sameTexts(is, l.formOf(l.outputs[i])) && f.usable(l, i+1) {
			f.equate(ref{level: l, column: i + 1}, out)
		}
	}
	for i, c := range l.computed {
		if at := len(l.outputs) + i + 1; c.inner != (ref{}) && f.usable(l, at) {
			f.equate(ref{level: l, column: at}, c.inner)
		}
	}
	if setop := l.query.child("setOperations"); setop != nil && !l.recursive {
		f.operand(&branch{l, setop})
	}
	if !l.always() {
		f.enter(l)
	}
	f.rise(l.site)
	if f.inside[l] {
		f.comparable(l.compared)
	}
}

// comparable says that a change of a row that an outer one is compared with, as
// in NOT IN, makes a difference only where the two are equal. A NULL would make
// one everywhere.
func (f *facts) comparable(conds []*cond) {
	for _, c := range conds {
		if c.eq != nil && c.eq.a.neverNull() && c.eq.b.neverNull() {
			f.hold([]*cond{c})
		}
	}
}

// rise says what a row of a level, or a change of one, means where it goes to.
func (f *facts) rise(at site) {
	switch {
	case at.source != nil:
		f.join(at.source.leaf)
	case at.on != nil:
		f.join(at.on.left)
		f.join(at.on.right)
	case at.where:
		f.enter(at.level)
	case at.level != nil:
		f.row(at.level)
	}
}

// usable reports whether the row of a level that makes the difference has, as
// this output, the value that the origin's companion has. A row taken away
// from a LIMIT lets in another one.
func (f *facts) usable(l *level, output int) bool {
	return !f.inside[l] || l.keeps(f.catalog, output)
}

// hold says that the conditions hold.
func (f *facts) hold(conds []*cond) {
	for _, c := range conds {
		if f.held[c] {
			continue
		}
		f.held[c] = true
		switch {
		case c.eq != nil:
			f.eqs = append(f.eqs, c.eq)
			f.notNull(c.eq.a)
			f.notNull(c.eq.b)
		case c.exists != nil:
			f.row(c.exists)
			f.hold(c.with)
		case c.branch != nil:
			f.operand(c.branch)
		default:
			f.choices = append(f.choices, f.deciding(c.either))
		}
	}
}

// deciding leaves, of several ways, those of the subquery that the origin is
// in: it makes no difference where another one holds anyway.
func (f *facts) deciding(ways [][]*cond) [][]*cond {
	var decide [][]*cond
	for _, way := range ways {
		if f.decides(way) {
			decide = append(decide, way)
		}
	}
	if len(decide) > 0 {
		return decide
	}
	return ways
}

func (f *facts) decides(conds []*cond) bool {
	return slices.ContainsFunc(conds, func(c *cond) bool {
		return c.exists != nil && f.inside[c.exists] || slices.ContainsFunc(c.either, f.decides)
	})
}

// notNull says that the value is not NULL, and so comes from a row.
func (f *facts) notNull(r ref) {
	if r.param > 0 || f.solid[r] {
		return
	}
	f.solid[r] = true
	switch {
	case r.source != nil && r.source.leaf != nil:
		f.join(r.source.leaf)
	case r.level != nil && r.level.site.source != nil:
		f.join(r.level.site.source.leaf)
	case r.level != nil:
		f.row(r.level)
	}
	for i := range f.same {
		f.spread(f.same[i])
	}
}

func (f *facts) equate(a, b ref) {
	s := sameness{a, b}
	f.same = append(f.same, s)
	f.spread(s)
}

func (f *facts) spread(s sameness) {
	if f.certain(s.a) {
		f.notNull(s.b)
	}
	if f.certain(s.b) {
		f.notNull(s.a)
	}
}

// certain reports whether the value is known not to be NULL.
func (f *facts) certain(r ref) bool {
	if r.param > 0 || f.solid[r] {
		return true
	}
	s := r.source
	return s != nil && s.table != nil && r.known() != nil && r.known().NotNull && f.real[s.leaf]
}

// operand says that a set operation has a row from the branch.
func (f *facts) operand(b *branch) {
	l, n := b.level, b.node
	if !n.is("SETOPERATIONSTMT") {
		f.operandRow(l, l.sources[n.int("rtindex")-1].sub)
		return
	}
	left, right := &branch{l, n.child("larg")}, &branch{l, n.child("rarg")}
	inLeft, inRight := f.insideOf(left), f.insideOf(right)
	switch op := n.text("op"); {
	case op == setUnion && inLeft:
		f.operand(left)
	case op == setUnion && inRight:
		f.operand(right)
	case op == setUnion:
		f.choices = append(f.choices, [][]*cond{{{branch: left}}, {{branch: right}}})
	case op == setExcept && !inRight:
		f.operand(left)
	default:
		f.operand(left)
		f.operand(right)
	}
}

// SetOperation is in Postgres's parsenodes.h; INTERSECT is 2.
const (
	setUnion  = "1"
	setExcept = "3"
)

func (f *facts) insideOf(b *branch) bool {
	if b.node.is("SETOPERATIONSTMT") {
		return f.insideOf(&branch{b.level, b.node.child("larg")}) || f.insideOf(&branch{b.level, b.node.child("rarg")})
	}
	return f.inside[b.level.sources[b.node.int("rtindex")-1].sub]
}

// operandRow says that a row of the set operation is, column by column, one of
// the operand. Where the two have different types, the value is cast: a date
// to a timestamp has another text.
func (f *facts) operandRow(l, operand *level) {
	setop := l.query.child("setOperations")
	types, mods := setop.list("colTypes"), setop.list("colTypmods")
	f.row(operand)
	for i := range min(len(types), len(mods), len(operand.outputs)) {
		as := f.catalog.textForm(form{types[i].oid(), mods[i].int()})
		if as != (form{}) && as == f.catalog.textForm(operand.formOf(operand.outputs[i])) && f.usable(l, i+1) {
			f.equate(ref{level: l, column: i + 1}, ref{level: operand, column: i + 1})
		}
	}
}
