package rules

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// place is where a column stands in a Relation.
type place struct {
	side  side
	index int
	name  string
}

// or gives the side, or for a bare column the one of the image at hand.
func (s side) or(image side) side {
	if s == bare {
		return image
	}
	return s
}

// at gives a column of one side of the change as far as the stream tells it.
// Unchanged remains only when the old row does not have the value either.
func (m *matcher) at(index int, s side) viewlet.Value {
	if s == newSide {
		v := value(m.change.New, index)
		if v.Kind == viewlet.Unchanged {
			if old := value(m.change.Old, index); old.Kind == viewlet.Text && m.identifies(index) {
				return old
			}
		}
		return v
	}
	if m.change.Op == viewlet.Insert || !m.identifies(index) {
		return viewlet.Value{}
	}
	if m.change.Old == nil && m.change.Rel.Identity != viewlet.IdentityFull {
		return value(m.change.New, index) // the replica identity did not change
	}
	return value(m.change.Old, index)
}

func value(t viewlet.Tuple, index int) viewlet.Value {
	if index >= len(t) {
		return viewlet.Value{}
	}
	return t[index]
}

// identifies reports whether old rows have the column.
func (m *matcher) identifies(index int) bool {
	rel := m.change.Rel
	return rel.Identity == viewlet.IdentityFull || rel.Columns[index].Key
}

// value gives a column, and whether the stream tells it.
func (m *matcher) value(p place) (v viewlet.Value, known bool) {
	v = m.at(p.index, p.side)
	return v, v.Kind == viewlet.Text || v.Kind == viewlet.Null
}

// changed reports whether a column changed, or whether that is not known. The
// row that came or went changed in all of them.
func (m *matcher) changed(index int) bool {
	if m.change.Op != viewlet.Update {
		return true
	}
	if value(m.change.New, index).Kind == viewlet.Unchanged {
		return false
	}
	after, knownAfter := m.value(place{side: newSide, index: index})
	before, knownBefore := m.value(place{side: oldSide, index: index})
	return !knownAfter || !knownBefore || !same(before, after)
}

func same(a, b viewlet.Value) bool { return a.Kind == b.Kind && bytes.Equal(a.Text, b.Text) }

// context makes the variables that an expression sees: the columns at those
// places, bare ones from one side, and what the scope defines.
func (m *matcher) context(places []place, image side, in scope) *hcl.EvalContext {
	m.notSent.null, m.notSent.unchanged = false, false
	vars := make(map[string]cty.Value, len(places)+len(in)+2)
	sides := map[side]map[string]cty.Value{}
	for _, p := range places {
		v := m.variable(p, image)
		if p.side == bare {
			vars[p.name] = v
			continue
		}
		if sides[p.side] == nil {
			sides[p.side] = map[string]cty.Value{}
		}
		sides[p.side][p.name] = v
	}
	for s, columns := range sides {
		vars[map[side]string{newSide: "new", oldSide: "old"}[s]] = cty.ObjectVal(columns)
	}
	for name, v := range in {
		if v.IsWhollyKnown() { // else a for over the row will tell
			vars[name] = v
		}
	}
	return &hcl.EvalContext{Variables: vars}
}

func (m *matcher) variable(p place, image side) cty.Value {
	v := m.at(p.index, p.side.or(image))
	t := typeOf(m.change.Rel.Columns[p.index].Type)
	switch v.Kind {
	case viewlet.Text:
		return typed(string(v.Text), t)
	case viewlet.Null:
		m.notSent.null = true
		return cty.NullVal(t)
	case viewlet.Unchanged:
		m.notSent.unchanged = true
	}
	return cty.DynamicVal
}

// typeOf says what a column is in expressions, by its type's OID: those of
// booleans, integers, floats and numeric are fixed in pg_type.dat.
func typeOf(oid uint32) cty.Type {
	switch oid {
	case 16:
		return cty.Bool
	case 20, 21, 23, 26, 700, 701, 1700:
		return cty.Number
	}
	return cty.String
}

func typed(text string, t cty.Type) cty.Value {
	switch t {
	case cty.Bool:
		return cty.BoolVal(text == "t")
	case cty.Number:
		if n, err := cty.ParseNumberVal(text); err == nil {
			return n
		}
		switch text {
		case "Infinity":
			return cty.PositiveInfinity
		case "-Infinity":
			return cty.NegativeInfinity
		}
	}
	return cty.StringVal(text)
}

// infinite gives Postgres's text form of an infinite number.
func infinite(n *big.Float) string {
	if n.Signbit() {
		return "-Infinity"
	}
	return "Infinity"
}

// argument evaluates one argument. Without ok the call names no fragment.
func (m *matcher) argument(k *compiledCall, e hclsyntax.Expression, ctx *hcl.EvalContext) (text string, ok bool) {
	v, ok := m.evaluate(k, e, ctx)
	if !ok {
		return "", false
	}
	if text, ok = argumentText(v); !ok {
		m.giveUp(k, fmt.Errorf("an argument is %s, not one value", v.Type().FriendlyName()))
	}
	return text, ok
}

// evaluate gives a value that is known and not null. Otherwise ok is false:
// null, also one that an operation refuses, names no fragment; neither does
// what the stream does not tell. Where fragments might be missed, all of the
// viewlet are refreshed.
func (m *matcher) evaluate(k *compiledCall, e hclsyntax.Expression, ctx *hcl.EvalContext) (v cty.Value, ok bool) {
	v, diags := e.Value(ctx)
	switch {
	case diags.HasErrors():
		if !m.notSent.null {
			m.giveUp(k, brief(diags))
		}
	case v.IsKnown() && v.IsNull():
	case !v.IsWhollyKnown():
		if m.notSent.unchanged {
			m.giveUp(k, errUnchanged)
		}
	default:
		return v, true
	}
	return v, false
}

var errUnchanged = errors.New("the stream leaves out a large value that did not change, which an argument computes with; REPLICA IDENTITY FULL sends it")

// brief says what HCL found in one line.
func brief(diags Diagnostics) error {
	for _, d := range diags {
		if d.Severity == Error {
			return fmt.Errorf("%s: %s", d.Summary, d.Detail)
		}
	}
	return diags
}
