package derive

// member reads x = ANY(array): an element of the array is x.
func (b *builder) member(l *level, e *node, sub *level) []*cond {
	x, array := e.list("args")[0].node, e.list("args")[1].node
	op := b.catalog.Operators[e.oid("opno")]
	if op == nil || !op.Equality || !e.flag("useOr") {
		return nil
	}
	if list := elementsOf(array); list != nil {
		var ways [][]*cond
		for _, y := range list {
			ways = append(ways, b.equality(l, op, x, y.node, sub, e.oid("inputcollid")))
		}
		return oneOf(ways)
	}
	rx, fx, ok := l.ref(x, sub)
	if !ok {
		return nil
	}
	element, f, ok := l.element(array)
	if !ok {
		b.adviseArray(l, x, array)
		return nil
	}
	return b.equal(op, rx, fx, element, f, e.oid("inputcollid"))
}

// elementsOf gives what an array is written of; nil: it is not.
func elementsOf(array *node) []value {
	for array.is("RELABELTYPE") {
		array = array.child("arg")
	}
	if !array.is("ARRAYEXPR", "ARRAY") || array.flag("multidims") {
		return nil
	}
	return array.list("elements")
}

func (b *builder) adviseArray(l *level, x, array *node) {
	b.adviseComputed(l, x, array)
	b.adviseIn(array)
}

// adviseList is for a param that is a list, and so no key of one row.
func (b *builder) adviseList(e *node) {
	if op := b.catalog.Operators[e.oid("opno")]; op != nil && op.Left == anyArrayType {
		for _, arg := range e.list("args") {
			b.adviseIn(arg.node)
		}
	}
}

func (b *builder) adviseIn(list *node) {
	(value{node: list}).walk(func(n *node) bool {
		b.advise(n, "@%s is a list, and one row is in the fragments of many lists: make a viewlet for one element.")
		return !n.is("QUERY")
	})
}

// contains gives the two sides of array @> ARRAY[x, y], <@ and &&: what is
// among the elements of the first, or with any one of which is. A nil array: it
// is none of them.
//
// https://www.postgresql.org/docs/current/functions-array.html
func (c *Catalog) contains(e *node) (has []value, array *node, any bool) {
	op, args := c.Operators[e.oid("opno")], e.list("args")
	if op == nil || op.Schema != "pg_catalog" || op.Left != anyArrayType || len(args) != 2 {
		return nil, nil, false
	}
	left, right := args[0].node, args[1].node
	switch op.Name {
	case "@>":
	case "<@":
		left, right = right, left
	case "&&":
		if any = true; elementsOf(right) == nil {
			left, right = right, left
		}
	default:
		return nil, nil, false
	}
	if has = elementsOf(right); len(has) == 0 {
		return nil, nil, false
	}
	return has, left, any
}

// elements says that each of some values is an element of the array, or that
// any is. Arrays compare elements with the equality of their type.
func (b *builder) elements(l *level, has []value, array *node, any bool, collation uint32) []*cond {
	var all []*cond
	var ways [][]*cond
	for _, x := range has {
		way := b.elementIs(l, x.node, array, collation)
		all, ways = append(all, way...), append(ways, way)
	}
	if any {
		return oneOf(ways)
	}
	return all
}

func (b *builder) elementIs(l *level, x, array *node, collation uint32) []*cond {
	rx, fx, ok := l.ref(x, nil)
	if !ok {
		return nil
	}
	element, f, ok := l.element(array)
	if !ok {
		b.adviseArray(l, x, array)
		return nil
	}
	eq := &equality{a: rx, b: element}
	if eq.text = !b.catalog.Loose[collation] && b.catalog.sameForm(fx, f); !eq.text {
		return nil
	}
	return []*cond{{eq: eq}}
}

// exists gives the sides of jsonb ? text: what the jsonb has as one of its
// strings or keys. A nil json: it is another operator.
//
// https://www.postgresql.org/docs/current/functions-json.html#FUNCTIONS-JSONB-OP-TABLE
func (c *Catalog) exists(e *node) (has, json *node) {
	op, args := c.Operators[e.oid("opno")], e.list("args")
	if op == nil || op.Schema != "pg_catalog" || op.Name != "?" || op.Left != jsonbType || op.Right != textType || len(args) != 2 {
		return nil, nil
	}
	return args[1].node, args[0].node
}

func (b *builder) key(l *level, x, json *node) []*cond {
	rx, fx, ok := l.ref(x, nil)
	if !ok {
		return nil
	}
	key, f, ok := l.keys(json)
	if !ok {
		b.adviseComputed(l, x, json)
		return nil
	}
	if !b.catalog.sameForm(fx, f) {
		return nil
	}
	return []*cond{{eq: &equality{a: rx, b: key, text: true}}}
}

// unnested reads unnest(array) in FROM: each of its rows is an element. Those of
// an array of rows have their fields as columns.
func (b *builder) unnested(s *source) {
	functions := s.rte.list("functions")
	if len(functions) != 1 {
		return
	}
	call := functions[0].node.child("funcexpr")
	f, args := b.catalog.Functions[call.oid("funcid")], call.list("args")
	if f == nil || f.Schema != "pg_catalog" || f.Name != "unnest" || len(args) != 1 {
		return
	}
	if r, of, ok := s.level.element(args[0].node); ok && b.catalog.textForm(of) != (form{}) {
		s.element = r
	}
}
