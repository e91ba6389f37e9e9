package derive

import "strings"

// conds reads what must hold for an expression to be true. Whatever names no
// rows is left out: less is known then, and more is refreshed. sub is the
// subquery that the expression compares with.
//
// An expression that is not to be true, as below NOT, gives nothing: false and
// NULL are the same only where a row is let through or not.
func (b *builder) conds(l *level, e *node, sub *level) []*cond {
	switch {
	case e.is("BOOLEXPR") && e.text("boolop") == "and":
		var all []*cond
		for _, arg := range e.list("args") {
			all = append(all, b.conds(l, arg.node, sub)...)
		}
		return all
	case e.is("BOOLEXPR") && e.text("boolop") == "or":
		var ways [][]*cond
		for _, arg := range e.list("args") {
			ways = append(ways, b.conds(l, arg.node, sub))
			if arg.node.is("NULLTEST") {
				b.advise(arg.node.child("arg"), "The query has rows for a @%s that is NULL, and then each row matters: make that a viewlet of its own.")
			}
		}
		return oneOf(ways)
	case e.is("SCALARARRAYOPEXPR") && len(e.list("args")) == 2:
		return b.member(l, e, sub)
	case e.is("OPEXPR"):
		if has, array, any := b.catalog.contains(e); array != nil {
			return b.elements(l, has, array, any, e.oid("inputcollid"))
		}
		if has, json := b.catalog.exists(e); json != nil {
			return b.key(l, has, json)
		}
		b.adviseList(e)
		return b.comparison(l, e, sub)
	case e.is("SUBLINK"):
		return b.existence(l, e)
	}
	return nil
}

// oneOf is what is known when one of several is known to hold.
func oneOf(ways [][]*cond) []*cond {
	for _, way := range ways {
		if len(way) == 0 {
			return nil
		}
	}
	return []*cond{{either: ways}}
}

func (b *builder) existence(l *level, e *node) []*cond {
	sub := l.sublinks[e]
	if sub == nil {
		return nil
	}
	switch e.text("subLinkType") {
	case existsSublink:
		return []*cond{{exists: sub}}
	case anySublink:
		return []*cond{{exists: sub, with: b.conds(l, e.child("testexpr"), sub)}}
	}
	return nil
}

// comparison keeps an equality of columns and params. The operators that
// operator families have as equality are strict: they hold of no NULL.
func (b *builder) comparison(l *level, e *node, sub *level) []*cond {
	args := e.list("args")
	op := b.catalog.Operators[e.oid("opno")]
	if op == nil || !op.Equality || len(args) != 2 {
		return nil
	}
	var ways [][]*cond
	for _, x := range l.either(args[0].node) {
		for _, y := range l.either(args[1].node) {
			way := b.equality(l, op, x, y, sub, e.oid("inputcollid"))
			if len(way) == 0 {
				b.adviseComputed(l, x, y)
				b.adviseComputed(l, y, x)
			}
			ways = append(ways, way)
		}
	}
	if len(ways) == 1 {
		return ways[0]
	}
	b.adviseComputed(l, args[0].node, args[1].node)
	b.adviseComputed(l, args[1].node, args[0].node)
	return oneOf(ways)
}

func (b *builder) equality(l *level, op *Operator, x, y *node, sub *level, collation uint32) []*cond {
	rx, fx, ok := l.ref(x, sub)
	if !ok {
		return nil
	}
	ry, fy, ok := l.ref(y, sub)
	if !ok || rx == ry {
		return nil
	}
	return b.equal(op, rx, fx, ry, fy, collation)
}

func (b *builder) equal(op *Operator, rx ref, fx form, ry ref, fy form, collation uint32) []*cond {
	eq := &equality{a: rx, b: ry, op: op}
	if !b.catalog.Loose[collation] {
		eq.text = b.sameText(op, fx, fy)
		b.adopt(eq, rx, fx, fy)
		b.adopt(eq, ry, fy, fx)
	}
	return []*cond{{eq: eq}}
}

// adviseComputed is for what an expression is compared with.
func (b *builder) adviseComputed(l *level, x, expression *node) {
	reads := false
	(value{node: expression}).walk(func(n *node) bool {
		reads = reads || n.is("VAR")
		return !n.is("QUERY")
	})
	if reads {
		why := strings.ReplaceAll(l.why(expression), "%", "%%")
		b.advise(x, "@%s is compared with an expression that "+why+". A rule that you write can compute it of the row, such as lower(email) or jsondecode(data).slug.")
	}
	if !x.is("PARAM") {
		(value{node: x}).walk(func(n *node) bool {
			b.advise(n, "@%s is part of an expression: compare @%[1]s itself, and let the app give it as that would make it.")
			return !n.is("QUERY")
		})
	}
}

// advise notes why an expression that is a param is not bound by where it
// stands.
func (b *builder) advise(e *node, why string) {
	for e.is("RELABELTYPE", "COERCETODOMAIN") {
		e = e.child("arg")
	}
	if e.is("PARAM") && e.text("paramkind") == "0" && b.advice[e.int("paramid")] == "" {
		b.advice[e.int("paramid")] = why
	}
}

// sameText reports whether values of the two types have the same text when the
// operator says that they are equal.
func (b *builder) sameText(op *Operator, x, y form) bool {
	form := b.catalog.textForm(x)
	if form.typ == 0 || form != b.catalog.textForm(y) {
		return false
	}
	if op.Left == anyEnumType && op.Right == anyEnumType {
		return b.catalog.enum(x.typ)
	}
	return b.compares(op, form)
}

// compares reports whether the operator takes both values as they are.
func (b *builder) compares(op *Operator, f form) bool {
	return f.typ == b.catalog.textForm(form{op.Left, f.mod}).typ && f.typ == b.catalog.textForm(form{op.Right, f.mod}).typ
}

// adopt notes that a param of numeric or character is compared with a column.
// Such a param has the column's form if all that it is compared with has: then
// a fragment is named as the column's values are written.
func (b *builder) adopt(eq *equality, r ref, param, with form) {
	if r.param == 0 || param.typ != bpcharType && param.typ != numericType {
		return
	}
	f := b.catalog.textForm(with)
	if f.typ != param.typ || !b.compares(eq.op, f) {
		f = form{}
	}
	b.adopted[r.param] = append(b.adopted[r.param], adoption{eq, f})
}

type adoption struct {
	*equality
	form
}

// settle decides about the params of numeric and character, when all that they
// are compared with is known.
func (b *builder) settle() {
	for _, all := range b.adopted {
		first := all[0].form
		for _, a := range all {
			if a.form != first {
				first = form{}
			}
		}
		for _, a := range all {
			a.text = first != form{}
		}
	}
}

// either gives what an expression's value is one of: the merged column of a
// FULL JOIN ... USING is a COALESCE of both sides'.
func (l *level) either(e *node) []*node {
	for e.is("RELABELTYPE") {
		e = e.child("arg")
	}
	if e.is("VAR") {
		s, err := l.variable(e)
		if err == nil && s.rte.text("rtekind") == rteJoin && s.level == l {
			if aliased := s.rte.list("joinaliasvars"); e.int("varattno") >= 1 && e.int("varattno") <= len(aliased) {
				return l.either(aliased[e.int("varattno")-1].node)
			}
		}
	}
	if !e.is("COALESCEEXPR", "COALESCE") {
		return []*node{e}
	}
	var parts []*node
	for _, arg := range e.list("args") {
		parts = append(parts, l.either(arg.node)...)
	}
	return parts
}
