package derive

import "slices"

// class is a set of columns and params that are not NULL and have the same
// text, wherever the facts hold.
type class struct {
	params  []int
	columns []ref   // of tables
	equal   []*tied // classes that are equal as an operator sees it
}

type tied struct {
	*class
	op      *Operator
	swapped bool // the operator has the other class at its left
}

// classes sorts what the facts say of columns and params into classes, in the
// order in which they say it.
func (f *facts) classes() []*class {
	u := union{}
	for _, eq := range f.eqs {
		u.find(eq.a)
		u.find(eq.b)
		if eq.text {
			u.join(eq.a, eq.b)
		}
	}
	for _, s := range f.same {
		if f.certain(s.a) || f.certain(s.b) {
			u.join(s.a, s.b)
		}
	}
	byRoot := map[ref]*class{}
	var all []*class
	for _, r := range u.order {
		root := u.find(r)
		c := byRoot[root]
		if c == nil {
			c = &class{}
			byRoot[root] = c
			all = append(all, c)
		}
		c.add(r)
	}
	for _, eq := range f.eqs {
		a, b := byRoot[u.find(eq.a)], byRoot[u.find(eq.b)]
		if !eq.text && a != b {
			a.equal = append(a.equal, &tied{class: b, op: eq.op})
			b.equal = append(b.equal, &tied{class: a, op: eq.op, swapped: true})
		}
	}
	return all
}

func (c *class) add(r ref) {
	switch {
	case r.param > 0:
		c.params = append(c.params, r.param)
	case r.source != nil && r.source.table != nil && r.known() != nil:
		c.columns = append(c.columns, r)
	}
}

// known gives what the catalog says of a table's column, or what is known of
// what is computed of some, or nil.
func (r ref) known() *Column {
	if c := r.computed(); c != nil {
		return &c.Column
	}
	if columns := r.source.table.Columns; r.column <= len(columns) && columns[r.column-1].Name != "" {
		return &columns[r.column-1]
	}
	return nil
}

// neverNull reports whether the value is not NULL in any row of any result.
func (r ref) neverNull() bool {
	switch {
	case r.param > 0:
		return true
	case r.source != nil:
		return r.source.table != nil && r.known() != nil && r.known().NotNull && r.source.leaf.kept()
	case r.column > len(r.level.outputs) || r.level.root == nil || len(r.level.query.list("groupingSets")) > 0:
		return false
	}
	if s := r.level.site.source; s != nil && !s.leaf.kept() {
		return false
	}
	out, _, ok := r.level.ref(r.level.outputs[r.column-1], nil)
	return ok && !r.level.scalar && out.neverNull()
}

// kept reports whether no outer join puts NULLs in its place.
func (j *join) kept() bool {
	for ; j != nil && j.parent != nil; j = j.parent {
		if j.parent.kind == full || j.parent.kind == left && j == j.parent.right {
			return false
		}
	}
	return true
}

// of gives the class's columns of one source, and behind them what is computed
// of others.
func (c *class) of(s *source) []ref {
	var columns, computed []ref
	for _, r := range c.columns {
		switch {
		case r.source != s:
		case r.computed() == nil:
			columns = append(columns, r)
		default:
			computed = append(computed, r)
		}
	}
	return append(columns, computed...)
}

// sent gives a column of the source that the stream sends.
func (c *class) sent(s *source) (ref, bool) {
	columns := c.of(s)
	i := slices.IndexFunc(columns, func(r ref) bool { return !r.known().Generated })
	if i < 0 {
		return ref{}, false
	}
	return columns[i], true
}

// union is a union-find over refs.
type union struct {
	up    map[ref]ref
	order []ref
}

func (u *union) find(r ref) ref {
	if u.up == nil {
		u.up = map[ref]ref{}
	}
	up, ok := u.up[r]
	if !ok {
		u.up[r] = r
		u.order = append(u.order, r)
		return r
	}
	if up == r {
		return r
	}
	root := u.find(up)
	u.up[r] = root
	return root
}

func (u *union) join(a, b ref) {
	if a, b = u.find(a), u.find(b); a != b {
		u.up[b] = a
	}
}
