package derive

import "slices"

// expressions reads what a level says besides FROM: its conditions, and the
// columns, functions and subqueries of every expression. What it selects is
// read when something needs it.
func (b *builder) expressions(l *level) error {
	q := l.query
	in := site{level: l}
	for _, s := range l.sources {
		if s.leaf == nil || s.leaf.source != s {
			continue
		}
		for _, name := range []string{"functions", "tablefunc", "values_lists", "tablesample"} {
			if err := b.scan(l, s.rte.get(name), site{source: s}); err != nil {
				return err
			}
		}
		b.unnested(s)
	}
	if l.root != nil {
		if err := b.conditions(l, q.child("jointree")); err != nil {
			return err
		}
		where := q.child("jointree").get("quals")
		if err := b.scan(l, where, site{level: l, where: true}); err != nil {
			return err
		}
		l.where = b.conds(l, where.node, nil)
	}
	for _, name := range []string{"havingQual", "limitOffset", "limitCount", "windowClause"} {
		if err := b.scan(l, q.get(name), in); err != nil {
			return err
		}
	}
	if l.grouped() {
		l.having = b.conds(l, q.get("havingQual").node, nil)
	}
	if l.site == (site{}) || l.mixes() {
		return b.need(l, 0)
	}
	for _, t := range q.list("targetList") {
		if t.node.flag("resjunk") || t.node.int("ressortgroupref") != 0 {
			if err := b.entry(l, t.node); err != nil {
				return err
			}
		}
	}
	return nil
}

// mixes reports whether each column has a part in which rows come out.
func (l *level) mixes() bool {
	q := l.query
	return q.child("setOperations") != nil || q.flag("hasTargetSRFs") || len(q.list("distinctClause")) > 0
}

// need reads the expression of an output, of all when it is 0.
func (b *builder) need(l *level, output int) error {
	for _, t := range l.query.list("targetList") {
		if output == 0 || t.node.int("resno") == output {
			if err := b.entry(l, t.node); err != nil {
				return err
			}
		}
	}
	if l.query.child("setOperations") == nil {
		return nil
	}
	for _, s := range l.sources {
		if s.sub != nil {
			if err := b.need(s.sub, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) entry(l *level, target *node) error {
	if l.scanned[target] {
		return nil
	}
	l.scanned[target] = true
	return b.scan(l, target.get("expr"), site{level: l})
}

// conditions reads the ONs of FROM, which the tree of joins follows.
func (b *builder) conditions(l *level, n *node) error {
	for _, v := range slices.Concat(n.list("fromlist"), []value{n.get("larg"), n.get("rarg")}) {
		if !v.node.is("JOINEXPR") {
			continue
		}
		if err := b.conditions(l, v.node); err != nil {
			return err
		}
		j := l.joined(v.node)
		on := v.node.get("quals")
		if err := b.scan(l, on, site{level: l, on: j}); err != nil {
			return err
		}
		j.on = b.conds(l, on.node, nil)
	}
	return nil
}

// joined gives the join that a JOINEXPR became.
func (l *level) joined(n *node) *join { return l.sources[n.int("rtindex")-1].leaf }

// scan notes the columns and functions that an expression reads, and makes
// levels of its subqueries.
func (b *builder) scan(l *level, v value, at site) error {
	var failed error
	v.walk(func(n *node) bool {
		if failed != nil {
			return false
		}
		switch {
		case n.is("VAR"):
			failed = b.read(l, n)
		case n.is("SUBLINK"):
			failed = b.sublink(l, n, at)
			if failed == nil {
				failed = b.scan(l, n.get("testexpr"), at)
			}
			return false
		case n.is("QUERY"):
			return false
		default:
			b.limits.expression(n)
		}
		return true
	})
	return failed
}

// SubLinkType is in Postgres's primnodes.h.
const (
	existsSublink = "0"
	allSublink    = "1"
	anySublink    = "2"
	exprSublink   = "4"
)

func (b *builder) sublink(l *level, n *node, at site) error {
	if l.sublinks[n] != nil {
		return nil
	}
	sub, err := b.query(n.child("subselect"), l, at)
	if err != nil {
		return err
	}
	l.sublinks[n] = sub
	switch n.text("subLinkType") {
	case existsSublink:
		return nil
	case anySublink:
		sub.compared = b.conds(l, n.child("testexpr"), sub)
	case allSublink:
	default:
		sub.scalar = true
	}
	return b.need(sub, 0)
}

// read notes that a variable is read.
func (b *builder) read(l *level, v *node) error {
	s, err := l.variable(v)
	if err != nil {
		return err
	}
	column := v.int("varattno")
	switch s.rte.text("rtekind") {
	case rteJoin:
		return b.readAlias(s, "joinaliasvars", column)
	case rteGroup:
		return b.readAlias(s, "groupexprs", column)
	}
	if s.sub != nil {
		return b.need(s.sub, max(column, 0))
	}
	s.read[column] = true
	if column < 0 && s.table != nil {
		b.limits.system(s.table, column)
	}
	return nil
}

func (b *builder) readAlias(s *source, field string, column int) error {
	for i, expr := range s.rte.list(field) {
		if column <= 0 || i == column-1 {
			if err := b.scan(s.level, expr, site{level: s.level}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *level) variable(v *node) (*source, error) {
	for range v.int("varlevelsup") {
		if l.outer == nil {
			break
		}
		l = l.outer
	}
	return l.source(v.int("varno"))
}

// ref gives the column or param that an expression is, or what it computes of
// one row's. Its form, zero when the value is none of these as it is, is the one
// before any cast that leaves the bytes alone.
func (l *level) ref(e *node, sub *level) (r ref, f form, ok bool) {
	e = l.withoutCasts(e)
	switch {
	case e.is("PARAM") && e.text("paramkind") == "0":
		return ref{param: e.int("paramid")}, form{e.oid("paramtype"), e.int("paramtypmod")}, true
	case e.is("PARAM") && e.text("paramkind") == "2" && sub != nil && e.int("paramid") <= len(sub.outputs):
		return ref{level: sub, column: e.int("paramid")}, sub.outputForm(e.int("paramid")), true
	case e.is("SUBLINK") && l.sublinks[e] != nil && l.sublinks[e].scalar && e.text("subLinkType") == exprSublink:
		return ref{level: l.sublinks[e], column: 1}, l.sublinks[e].outputForm(1), true
	case !e.is("VAR"):
		return l.compute(e)
	}
	s, err := l.variable(e)
	column := e.int("varattno")
	if err != nil || column <= 0 {
		return ref{}, form{}, false
	}
	field := ""
	switch s.rte.text("rtekind") {
	case rteJoin:
		field = "joinaliasvars"
	case rteGroup:
		field = "groupexprs"
	}
	if field != "" {
		aliased := s.rte.list(field)
		if column > len(aliased) {
			return ref{}, form{}, false
		}
		return s.level.ref(aliased[column-1].node, nil)
	}
	switch {
	case s.sub != nil:
		return ref{level: s.sub, column: column}, form{e.oid("vartype"), e.int("vartypmod")}, column <= len(s.sub.outputs)
	case s.table != nil && column > len(s.table.Columns):
		return ref{}, form{}, false
	}
	return ref{source: s, column: column}, form{e.oid("vartype"), e.int("vartypmod")}, true
}

// withoutCasts leaves out those that change no value's text: to a domain, to a
// type with the same bytes, to an integer of another width.
func (l *level) withoutCasts(e *node) *node {
	for {
		switch {
		case e.is("RELABELTYPE", "COERCETODOMAIN"):
			e = e.child("arg")
		case l.catalog.widens(e):
			e = e.list("args")[0].node
		default:
			return e
		}
	}
}

// formOf gives the form that an expression has from the outside, casts and
// all; the zero form when it can be no column or param.
func (l *level) formOf(e *node) form {
	switch {
	case e.is("VAR"):
		return form{e.oid("vartype"), e.int("vartypmod")}
	case e.is("PARAM"):
		return form{e.oid("paramtype"), e.int("paramtypmod")}
	case e.is("RELABELTYPE", "COERCETODOMAIN"):
		return form{e.oid("resulttype"), e.int("resulttypmod")}
	case e.is("FUNCEXPR"):
		return form{e.oid("funcresulttype"), -1}
	case e.is("OPEXPR"):
		return form{e.oid("opresulttype"), -1}
	case e.is("COERCEVIAIO"):
		return form{e.oid("resulttype"), -1}
	case e.is("SUBLINK") && l.sublinks[e] != nil && len(l.sublinks[e].outputs) > 0:
		return l.sublinks[e].formOf(l.sublinks[e].outputs[0])
	}
	return form{}
}

// outputForm gives an output's type as the column that it is has it; the zero
// form when it is none.
func (l *level) outputForm(column int) form {
	if column < 1 || column > len(l.outputs) {
		return form{}
	}
	_, f, ok := l.ref(l.outputs[column-1], nil)
	if !ok {
		return form{}
	}
	return f
}
