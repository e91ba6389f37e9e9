package match

import (
	"bytes"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// at gives a column of one side of the change as far as the stream tells it.
// Unchanged remains only when the old row does not have the value either.
func (m *Matcher) at(index int, s rule.Side) viewlet.Value {
	inNew, inOld := value(m.change.New, index), value(m.change.Old, index)
	switch {
	case s == rule.NewSide:
		if inNew.Kind == viewlet.Unchanged && inOld.Kind == viewlet.Text && m.identifies(index) {
			return inOld
		}
		return inNew
	case m.change.Op == viewlet.Insert || !m.identifies(index):
		return viewlet.Value{}
	case m.change.Old == nil && m.change.Rel.Identity != viewlet.IdentityFull:
		return inNew // the replica identity did not change
	}
	return inOld
}

func value(t viewlet.Tuple, index int) viewlet.Value {
	if index >= len(t) {
		return viewlet.Value{}
	}
	return t[index]
}

// identifies reports whether old rows have the column.
func (m *Matcher) identifies(index int) bool {
	rel := m.change.Rel
	return rel.Identity == viewlet.IdentityFull || rel.Columns[index].Key
}

// known is at, and whether the stream tells the value.
func (m *Matcher) known(index int, s rule.Side) (v viewlet.Value, known bool) {
	v = m.at(index, s)
	return v, v.Kind == viewlet.Text || v.Kind == viewlet.Null
}

// changed reports whether a column changed, or whether that is not known. The
// row that came or went changed in all of them.
func (m *Matcher) changed(index int) bool {
	if m.change.Op != viewlet.Update {
		return true
	}
	if value(m.change.New, index).Kind == viewlet.Unchanged {
		return false
	}
	after, knownAfter := m.known(index, rule.NewSide)
	before, knownBefore := m.known(index, rule.OldSide)
	return !knownAfter || !knownBefore || !same(before, after)
}

func same(a, b viewlet.Value) bool { return a.Kind == b.Kind && bytes.Equal(a.Text, b.Text) }

// context makes what an expression sees of the change, bare columns from the
// image at hand.
func (m *Matcher) context(functions map[string]function.Function, columns []rule.Column, image rule.Side) *hcl.EvalContext {
	m.notSent.null, m.notSent.unchanged = false, false
	return rule.Context(functions, columns, func(c rule.Column) cty.Value {
		v, t := m.at(c.Index, c.Side.Or(image)), rule.TypeOf(m.change.Rel.Columns[c.Index].Type)
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
	})
}

// typed reads Postgres's text form.
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
