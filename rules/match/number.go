package match

import (
	"cmp"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// compared compiles new.stock < 5 and the like, a number of the row beside a
// literal; nil for all else. A number that is not a short decimal is left to
// HCL.
func (c *compiler) compared(e *hclsyntax.BinaryOpExpr) condition {
	holds := comparison(e.Op)
	column, side, literal := c.numberColumn(e.LHS), e.RHS, 1
	if column == nil {
		column, side, literal = c.numberColumn(e.RHS), e.LHS, -1
	}
	if holds == nil || column == nil {
		return nil
	}
	number, ok := literalDecimal(side)
	if !ok {
		return nil
	}
	slowly := c.evaluated(e)
	return func(m *Matcher) truth {
		v, known := m.known(column.Index, column.Side)
		switch {
		case !known:
			return unknown
		case v.Kind == viewlet.Null:
			return nullCompared(e.Op)
		}
		d, ok := parseDecimal(v.Text)
		if !ok {
			return slowly(m)
		}
		return truthOf(holds(d.compare(number) * literal))
	}
}

// nullCompared is what a comparison of NULL with a number comes out as.
func nullCompared(op *hclsyntax.Operation) truth {
	if orders(op) {
		return null
	}
	return truthOf(op == hclsyntax.OpNotEqual)
}

// comparison gives what the operator says of cmp.Compare's result; nil for an
// operator that does not compare.
func comparison(op *hclsyntax.Operation) func(int) bool {
	switch op {
	case hclsyntax.OpEqual:
		return func(c int) bool { return c == 0 }
	case hclsyntax.OpNotEqual:
		return func(c int) bool { return c != 0 }
	case hclsyntax.OpLessThan:
		return func(c int) bool { return c < 0 }
	case hclsyntax.OpLessThanOrEqual:
		return func(c int) bool { return c <= 0 }
	case hclsyntax.OpGreaterThan:
		return func(c int) bool { return c > 0 }
	case hclsyntax.OpGreaterThanOrEqual:
		return func(c int) bool { return c >= 0 }
	}
	return nil
}

// numberColumn gives new.x or old.x where x is a number in conditions; nil: it
// is something else.
func (c *compiler) numberColumn(e hclsyntax.Expression) *rule.Column {
	column, ok := c.sidedColumn(e)
	if !ok || rule.TypeOf(c.rel.Columns[column.Index].Type) != cty.Number {
		return nil
	}
	return &column
}

func literalDecimal(e hclsyntax.Expression) (decimal, bool) {
	switch e.(type) {
	case *hclsyntax.LiteralValueExpr, *hclsyntax.UnaryOpExpr: // a negative one is the latter
	default:
		return decimal{}, false
	}
	v, diags := e.Value(nil)
	if diags.HasErrors() || !v.IsKnown() || v.IsNull() || v.Type() != cty.Number {
		return decimal{}, false
	}
	return parseDecimal([]byte(v.AsBigFloat().Text('f', -1)))
}

// decimal is a number of at most maxDigits digits, some of them fractional.
type decimal struct {
	digits int64
	scale  int // how many of them stand behind the point
}

// maxDigits fit into 64 bits, whatever both scales are.
const maxDigits = 9

// parseDecimal reads -12.50; not 1e5, NaN, or what has more digits than fit.
func parseDecimal(text []byte) (d decimal, ok bool) {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	digits, point := 0, -1
	for i, c := range text {
		switch {
		case c >= '0' && c <= '9':
			d.digits = d.digits*10 + int64(c-'0')
			digits++
		case c == '.' && point < 0:
			point = i
		default:
			return decimal{}, false
		}
		if digits > maxDigits {
			return decimal{}, false
		}
	}
	if point >= 0 {
		d.scale = len(text) - point - 1
	}
	if negative {
		d.digits = -d.digits
	}
	return d, digits > 0
}

func (d decimal) compare(other decimal) int {
	a, b := d.digits, other.digits
	for range other.scale - d.scale {
		a *= 10
	}
	for range d.scale - other.scale {
		b *= 10
	}
	return cmp.Compare(a, b)
}
