package match

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

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

// condition decides on the change that the Matcher is at.
type condition func(m *Matcher) truth

func always(*Matcher) truth { return yes }

// condition compiles a when for a relation: changed, op, &&, ||, ! and plain
// comparisons into Go, so that a change that nothing wants costs nothing, the rest into HCL's own
// evaluation.
func (c *compiler) condition(e hclsyntax.Expression) condition {
	e = source.Unwrap(e)
	switch e := e.(type) {
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
		case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
			quick := c.equal(e.LHS, e.RHS)
			if quick == nil {
				break
			}
			if e.Op == hclsyntax.OpNotEqual {
				return not(quick)
			}
			return quick
		}
		if quick := c.compared(e); quick != nil {
			return quick
		}
	}
	return c.evaluated(e)
}

func not(a condition) condition {
	return func(m *Matcher) truth {
		switch t := a(m); t {
		case yes, no:
			return yes - t
		default:
			return t
		}
	}
}

func both(a, b condition) condition {
	return func(m *Matcher) truth {
		if left := a(m); left != no {
			return min(left, b(m))
		}
		return no
	}
}

func either(a, b condition) condition {
	return func(m *Matcher) truth {
		if left := a(m); left != yes {
			return max(left, b(m))
		}
		return yes
	}
}

func (c *compiler) changed(e *hclsyntax.FunctionCallExpr) condition {
	names, _ := rule.ChangedNames(e)
	at := make([]int, 0, len(c.rel.Columns))
	for _, name := range names {
		column, ok := c.find(rule.Column{Name: name})
		if !ok {
			return always
		}
		at = append(at, column.Index)
	}
	if len(names) == 0 {
		for i := range c.rel.Columns {
			at = append(at, i)
		}
	}
	return func(m *Matcher) truth { return truthOf(slices.ContainsFunc(at, m.changed)) }
}

// equal compiles op == "insert" and new.name == "x" or == old.name where both
// are text; nil for what needs HCL's idea of equality.
func (c *compiler) equal(left, right hclsyntax.Expression) condition {
	if _, literal := literalText(left); literal {
		left, right = right, left
	}
	text, literal := literalText(right)
	if literal && hcl.ExprAsKeyword(left) == "op" {
		return func(m *Matcher) truth { return truthOf(m.change.Op.String() == text) }
	}
	a, ok := c.textColumn(left)
	if !ok {
		return nil
	}
	if literal {
		return func(m *Matcher) truth {
			v, known := m.known(a.Index, a.Side)
			if !known {
				return unknown
			}
			return truthOf(v.Kind == viewlet.Text && string(v.Text) == text)
		}
	}
	b, ok := c.textColumn(right)
	if !ok {
		return nil
	}
	return func(m *Matcher) truth {
		v, knownA := m.known(a.Index, a.Side)
		w, knownB := m.known(b.Index, b.Side)
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

// textColumn gives new.x or old.x where x is text in conditions.
func (c *compiler) textColumn(e hclsyntax.Expression) (column rule.Column, ok bool) {
	column, ok = c.sidedColumn(e)
	return column, ok && rule.TypeOf(c.rel.Columns[column.Index].Type) == cty.String
}

// sidedColumn gives new.x or old.x, with its position.
func (c *compiler) sidedColumn(e hclsyntax.Expression) (column rule.Column, ok bool) {
	t, ok := e.(*hclsyntax.ScopeTraversalExpr)
	if !ok {
		return rule.Column{}, false
	}
	column, ok = rule.ColumnOf(t.Traversal, new(source.Problems))
	if !ok || column.Side == rule.BareSide {
		return rule.Column{}, false
	}
	return c.find(column)
}

// evaluated leaves an expression to HCL. What fails counts as true, and is
// reported once.
func (c *compiler) evaluated(e hclsyntax.Expression) condition {
	columns, _ := rule.Columns(e, rule.ConditionScope(), new(source.Problems))
	for i := range columns {
		var ok bool
		if columns[i], ok = c.find(columns[i]); !ok {
			return always
		}
	}
	reported, where := false, c.rule.At
	functions := rule.WithChanged(c.functions, c.anyChanged)
	return func(m *Matcher) truth {
		ctx := m.context(functions, columns, rule.BareSide)
		ctx.Variables["op"] = cty.StringVal(m.change.Op.String())
		t, err := outcome(e, ctx)
		if err != nil && !reported {
			reported = true
			m.report(where, "decide when for %s: %w; it counts as true", m.change.Rel, err)
		}
		return t
	}
}

// anyChanged answers a changed(...) that stands within an expression of HCL's.
func (m *Matcher) anyChanged(names []cty.Value) bool {
	for i, column := range m.change.Rel.Columns {
		asked := len(names) == 0 || slices.ContainsFunc(names, func(n cty.Value) bool { return n.AsString() == column.Name })
		if asked && m.changed(i) {
			return true
		}
	}
	return false
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
	v, err := convert.Convert(v, cty.Bool)
	switch {
	case err != nil:
		return yes, err
	case !v.IsKnown():
		return unknown, nil
	case v.IsNull():
		return null, nil
	}
	return truthOf(v.True()), nil
}

func orders(op *hclsyntax.Operation) bool {
	return op == hclsyntax.OpLessThan || op == hclsyntax.OpLessThanOrEqual ||
		op == hclsyntax.OpGreaterThan || op == hclsyntax.OpGreaterThanOrEqual
}
