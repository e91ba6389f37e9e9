package rule

import (
	"maps"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
)

// Side says which image of a row a column is read from.
type Side uint8

// The sides of a change.
const (
	BareSide Side = iota // x: the new one, the old one, or each in turn
	NewSide              // new.x
	OldSide              // old.x
)

// Or gives the side, or for a bare column the one of the image at hand.
func (s Side) Or(image Side) Side {
	if s == BareSide {
		return image
	}
	return s
}

// Column is one that an expression reads.
type Column struct {
	Side  Side
	Name  string
	At    hcl.Range
	Index int // in the Relation that a rule was compiled for; else 0
}

// Columns gives the columns that an expression reads: all of its names that
// the scope does not define. Without ok, p is told what is wrong with them.
func Columns(e hclsyntax.Expression, in Scope, p *source.Problems) (columns []Column, ok bool) {
	ok = true
	for _, t := range e.Variables() {
		if _, defined := in[t.RootName()]; defined {
			continue
		}
		c, good := ColumnOf(t, p)
		if good {
			columns = append(columns, c)
		}
		ok = ok && good
	}
	return columns, ok
}

// ColumnOf reads x, new.x, old.x, and new["odd name"]; row["odd name"] is a
// bare one.
func ColumnOf(t hcl.Traversal, p *source.Problems) (c Column, ok bool) {
	root, at := t.RootName(), t.SourceRange()
	side, parted := map[string]Side{"new": NewSide, "old": OldSide}[root]
	if root == "row" && len(t) > 1 {
		parted = true
	}
	switch {
	case !parted && len(t) > 1:
		p.Error(at, "Not a column", "%s is a column, and has no parts. A column of one side is new.%s or old.%s; a JSON column is opened with jsondecode(%s).", root, root, root, root)
		return c, false
	case !parted:
		return Column{Name: root, At: at}, true
	case len(t) < 2:
		p.Error(at, "Which column?", "%s is a whole row. Name the column: %s.id.", root, root)
		return c, false
	}
	name := ""
	switch step := t[1].(type) {
	case hcl.TraverseAttr:
		name = step.Name
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String {
			name = step.Key.AsString()
		}
	}
	switch {
	case name == "":
		p.Error(at, "Not a column", "A column has a name: %s.id, or %s[\"an odd name\"].", root, root)
		return c, false
	case len(t) > 2:
		p.Error(at, "Not a column", "%s.%s is a column, and has no parts. A JSON column is opened with jsondecode(%s.%s).", root, name, root, name)
		return c, false
	}
	return Column{Side: side, Name: name, At: at}, true
}

// Context is what an expression is evaluated in: the columns that it reads,
// each with what value gives for it, and the functions.
func Context(functions map[string]function.Function, columns []Column, value func(Column) cty.Value) *hcl.EvalContext {
	vars := make(map[string]cty.Value, len(columns)+3)
	var sides [OldSide + 1]map[string]cty.Value
	for _, c := range columns {
		if sides[c.Side] == nil {
			sides[c.Side] = map[string]cty.Value{}
		}
		sides[c.Side][c.Name] = value(c)
	}
	for side, name := range []string{BareSide: "row", NewSide: "new", OldSide: "old"} {
		if sides[side] != nil {
			vars[name] = cty.ObjectVal(sides[side])
		}
	}
	maps.Copy(vars, sides[BareSide])
	return &hcl.EvalContext{Variables: vars, Functions: functions}
}

// Unknown stands for every column before there is a row.
func Unknown(Column) cty.Value { return cty.DynamicVal }

// TypeOf says what a column is in expressions, by its type's OID: those of
// booleans, integers, floats and numeric are fixed in pg_type.dat.
func TypeOf(oid uint32) cty.Type {
	switch oid {
	case 16:
		return cty.Bool
	case 20, 21, 23, 26, 700, 701, 1700:
		return cty.Number
	}
	return cty.String
}

// Text is a value as Postgres writes it: integers without exponent, booleans
// as t and f. known is false for null, for what is not known yet, and for a
// list or object.
func Text(v cty.Value) (text string, known bool) {
	v, _ = v.UnmarkDeep()
	switch {
	case v.IsNull() || !v.IsKnown():
		return "", false
	case v.Type() == cty.Bool && v.True():
		return "t", true
	case v.Type() == cty.Bool:
		return "f", true
	case v.Type() == cty.Number && v.AsBigFloat().IsInf():
		if v.AsBigFloat().Signbit() {
			return "-Infinity", true
		}
		return "Infinity", true
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", false
	}
	return s.AsString(), true
}

// True reports whether an if came out as true.
func True(v cty.Value) bool {
	b, err := convert.Convert(v, cty.Bool)
	return err == nil && b.IsKnown() && !b.IsNull() && b.True()
}
