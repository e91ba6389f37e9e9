package rules

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// when reads the condition of a table block.
func (d *decoder) when(t *table, a *hcl.Attribute) {
	e, diags := native(a.Expr, true)
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() {
		return
	}
	if !d.changedCalls(t, e) {
		return
	}
	refs, ok := d.columns(e, scope{"op": cty.DynamicVal})
	for _, r := range refs {
		if r.side == bare {
			ok = false
			d.error(r.at, "Which side?", "A condition sees the row before and after: write new.%s or old.%s, or changed(%q).", r.name, r.name, r.name)
		}
	}
	if !ok {
		return
	}
	v, diags := e.Value(conditionContext(d.set.functions, refs, cty.DynamicVal))
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() {
		return
	}
	if _, err := convert.Convert(v, cty.Bool); err != nil {
		d.error(e.Range(), "Not a condition", "when is true or false, such as changed(\"name\") or new.price > 10; this is %s.", v.Type().FriendlyName())
		return
	}
	t.when, t.whenRef = e, refs
	t.source += " when " + d.set.source(a.Expr.Range()) + environment(e)
}

// conditionContext is what a condition is checked in, each column being of the
// given unknown value.
func conditionContext(functions map[string]function.Function, refs []columnRef, column cty.Value) *hcl.EvalContext {
	ctx := scope{"op": cty.UnknownVal(cty.String)}.context(functions, refs)
	ctx.Functions = withChanged(functions, func([]cty.Value) (bool, bool) { return false, false })
	return ctx
}

// withChanged adds changed to the functions. ask says whether one of those
// columns changed, and whether that is known.
func withChanged(functions map[string]function.Function, ask func(names []cty.Value) (changed, known bool)) map[string]function.Function {
	functions = maps.Clone(functions)
	functions["changed"] = function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "columns", Type: cty.String},
		Type:     function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			changed, known := ask(args)
			if !known {
				return cty.UnknownVal(cty.Bool), nil
			}
			return cty.BoolVal(changed), nil
		},
	})
	return functions
}

// changedCalls notes which columns the condition asks after; they are texts,
// so that the catalog can be asked for them.
func (d *decoder) changedCalls(t *table, e hclsyntax.Expression) bool {
	ok := true
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		f, isCall := n.(*hclsyntax.FunctionCallExpr)
		if !isCall {
			return nil
		}
		if f.Name != "changed" {
			ok = d.functionInWhen(f) && ok
			return nil
		}
		names, all := changedNames(f)
		if !all {
			ok = false
			d.error(f.Range(), "Which column?", "changed takes the names of columns in quotes: changed(\"name\", \"price\"). Without any it means any column.")
		}
		for i, name := range names {
			t.changed = append(t.changed, columnRef{name: name, at: f.Args[i].Range()})
		}
		if all && len(names) == 0 {
			t.changed = append(t.changed, columnRef{at: f.Range()})
		}
		return nil
	})
	return ok
}

// changedNames gives the columns that a changed(...) names; all is false when
// one of its arguments is no text.
func changedNames(f *hclsyntax.FunctionCallExpr) (names []string, all bool) {
	for _, a := range f.Args {
		v, diags := a.Value(nil)
		if diags.HasErrors() || f.ExpandFinal || v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
			return nil, false
		}
		names = append(names, v.AsString())
	}
	return names, true
}

func (d *decoder) functionInWhen(f *hclsyntax.FunctionCallExpr) bool {
	if _, known := d.set.functions[f.Name]; known {
		return true
	}
	if d.set.lookups[f.Name] != nil || d.set.viewlets[f.Name] != nil {
		d.error(f.Range(), "Call in a condition", "A condition sees the row alone, new.x and old.x, before any query runs.")
		return false
	}
	names := append([]string{"changed"}, sortedKeys(d.set.functions)...)
	d.error(f.NameRange, "Unknown function", "There is no function %q.%s", f.Name, didYouMean(f.Name, names, "%q"))
	return false
}

// truth is what a condition comes out as. The order matters: and takes the
// least of its sides, or the greatest.
type truth uint8

const (
	no truth = iota
	null
	unknown // the stream does not tell: counts as true
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// condition decides on the change that the matcher is at.
type condition func(m *matcher) truth

// condition compiles a when for a relation: changed, op, &&, || and ! into Go,
// so that a change that nothing wants costs nothing, the rest into HCL's own
// evaluation.
func (c *compiler) condition(e hclsyntax.Expression) condition {
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.condition(e.Expression)
	case *hclsyntax.UnaryOpExpr:
		if e.Op == hclsyntax.OpLogicalNot {
			return not(c.condition(e.Val))
		}
	case *hclsyntax.FunctionCallExpr:
		if e.Name == "changed" {
			return c.changed(e)
		}
	case *hclsyntax.BinaryOpExpr:
		switch e.Op {
		case hclsyntax.OpLogicalAnd:
			return both(c.condition(e.LHS), c.condition(e.RHS))
		case hclsyntax.OpLogicalOr:
			return either(c.condition(e.LHS), c.condition(e.RHS))
		case hclsyntax.OpEqual:
			if quick := c.equal(e); quick != nil {
				return quick
			}
		case hclsyntax.OpNotEqual:
			if quick := c.equal(e); quick != nil {
				return not(quick)
			}
		}
	}
	return c.evaluated(e)
}

func not(a condition) condition {
	return func(m *matcher) truth {
		switch t := a(m); t {
		case yes:
			return no
		case no:
			return yes
		default:
			return t
		}
	}
}

func both(a, b condition) condition {
	return func(m *matcher) truth {
		if left := a(m); left != no {
			return min(left, b(m))
		}
		return no
	}
}

func either(a, b condition) condition {
	return func(m *matcher) truth {
		if left := a(m); left != yes {
			return max(left, b(m))
		}
		return yes
	}
}

func (c *compiler) changed(e *hclsyntax.FunctionCallExpr) condition {
	var at []int
	names, _ := changedNames(e)
	for _, name := range names {
		i := c.position(columnRef{name: name, at: e.Range()})
		if i < 0 {
			return func(*matcher) truth { return yes }
		}
		at = append(at, i)
	}
	if len(names) == 0 {
		for i := range c.rel.Columns {
			at = append(at, i)
		}
	}
	return func(m *matcher) truth { return truthOf(slices.ContainsFunc(at, m.changed)) }
}

// equal compiles op == "insert" and new.name == "x" or == old.name where both
// are text; nil for what needs HCL's idea of equality.
func (c *compiler) equal(e *hclsyntax.BinaryOpExpr) condition {
	left, right := e.LHS, e.RHS
	if _, literal := literalText(left); literal {
		left, right = right, left
	}
	text, literal := literalText(right)
	if literal && hcl.ExprAsKeyword(left) == "op" {
		return func(m *matcher) truth { return truthOf(m.change.Op.String() == text) }
	}
	a := c.textColumn(left)
	if a == nil {
		return nil
	}
	if literal {
		return func(m *matcher) truth {
			v, known := m.value(*a)
			if !known {
				return unknown
			}
			return truthOf(v.Kind == viewlet.Text && string(v.Text) == text)
		}
	}
	b := c.textColumn(right)
	if b == nil {
		return nil
	}
	return func(m *matcher) truth {
		v, knownA := m.value(*a)
		w, knownB := m.value(*b)
		if !knownA || !knownB {
			return unknown
		}
		return truthOf(same(v, w))
	}
}

func literalText(e hclsyntax.Expression) (string, bool) {
	t, ok := e.(*hclsyntax.TemplateExpr)
	if !ok || !t.IsStringLiteral() {
		return "", false
	}
	v, diags := t.Value(nil)
	return v.AsString(), !diags.HasErrors()
}

// textColumn gives where a column stands that is text in conditions, or nil.
func (c *compiler) textColumn(e hclsyntax.Expression) *place {
	t, ok := e.(*hclsyntax.ScopeTraversalExpr)
	if !ok {
		return nil
	}
	ref, diag := columnOf(t.Traversal)
	if diag != nil || ref.side == bare {
		return nil
	}
	i := c.find(ref.name)
	if i < 0 || typeOf(c.rel.Columns[i].Type) != cty.String {
		return nil
	}
	return &place{side: ref.side, index: i}
}

// evaluated leaves an expression to HCL. What fails counts as true, and is
// reported once.
func (c *compiler) evaluated(e hclsyntax.Expression) condition {
	refs, _ := (&decoder{set: c.set}).columns(e, scope{"op": cty.DynamicVal})
	places := make([]place, 0, len(refs))
	for _, r := range refs {
		i := c.position(r)
		if i < 0 {
			return func(*matcher) truth { return yes }
		}
		places = append(places, place{side: r.side, index: i, name: r.name})
	}
	reported := false
	where := c.table.at
	functions := withChanged(c.set.functions, c.askChanged())
	return func(m *matcher) truth {
		ctx := m.context(places, bare, nil)
		ctx.Functions = functions
		ctx.Variables["op"] = cty.StringVal(m.change.Op.String())
		t, err := outcome(e, ctx)
		if err != nil && !reported {
			reported = true
			m.report(where, "decide when for %s: %w; it counts as true", m.change.Rel, err)
		}
		return t
	}
}

// askChanged answers a changed(...) that stands within an expression of HCL's.
func (c *compiler) askChanged() func([]cty.Value) (bool, bool) {
	m := &c.set.matcher
	return func(names []cty.Value) (changed, known bool) {
		for i, column := range m.change.Rel.Columns {
			asked := len(names) == 0 || slices.ContainsFunc(names, func(n cty.Value) bool { return n.AsString() == column.Name })
			if asked && m.changed(i) {
				return true, true
			}
		}
		return false, true
	}
}

// outcome evaluates a condition. A comparison with null is null, as in SQL.
func outcome(e hclsyntax.Expression, ctx *hcl.EvalContext) (truth, error) {
	if b, ok := e.(*hclsyntax.BinaryOpExpr); ok && orders(b.Op) {
		left, diags := b.LHS.Value(ctx)
		right, more := b.RHS.Value(ctx)
		if !diags.HasErrors() && !more.HasErrors() && left.IsKnown() && right.IsKnown() && (left.IsNull() || right.IsNull()) {
			return null, nil
		}
	}
	v, diags := e.Value(ctx)
	if diags.HasErrors() {
		return yes, brief(diags)
	}
	if v, err := convert.Convert(v, cty.Bool); err != nil {
		return yes, err
	} else if !v.IsKnown() {
		return unknown, nil
	} else if v.IsNull() {
		return null, nil
	} else {
		return truthOf(v.True()), nil
	}
}

func orders(op *hclsyntax.Operation) bool {
	return op == hclsyntax.OpLessThan || op == hclsyntax.OpLessThanOrEqual ||
		op == hclsyntax.OpGreaterThan || op == hclsyntax.OpGreaterThanOrEqual
}
