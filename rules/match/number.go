package match

import (
	"cmp"
	"math/bits"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// compared compiles new.stock < 5, new.price != old.price and the like, numbers of
// the row beside each other or a literal; nil for all else. A number that is not a
// short decimal is left to HCL.
func (c *compiler) compared(e *hclsyntax.BinaryOpExpr) condition {
	holds := comparison(e.Op)
	left, right := c.operand(e.LHS), c.operand(e.RHS)
	if holds == nil || left == nil || right == nil {
		return nil
	}
	slowly := c.evaluated(e)
	return func(m *Matcher) truth {
		a, formA := left(m)
		b, formB := right(m)
		switch least, most := min(formA, formB), max(formA, formB); {
		case most == short:
			return truthOf(holds(a.compare(b)))
		case most == vague && least != absent:
			return unknown
		case most == absent:
			return nullCompared(e.Op, least == absent)
		}
		return slowly(m)
	}
}

// nullCompared is what a comparison comes out as where one number, or both, are
// NULL.
func nullCompared(op *hclsyntax.Operation, both bool) truth {
	if orders(op) {
		return null
	}
	return truthOf(both == (op == hclsyntax.OpEqual))
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

// operand gives a number, of the row or not.
type operand func(m *Matcher) (decimal, form)

// form is what an operand has come as. The order matters.
type form uint8

const (
	short  form = iota // a decimal
	absent             // NULL
	vague              // the stream does not tell
	long               // text that is not a decimal: it has too many digits, or is 1e5 or NaN
)

// operand compiles a literal, or new.x or old.x where x is a number in conditions;
// nil: it is something else.
func (c *compiler) operand(e hclsyntax.Expression) operand {
	if d, ok := literalDecimal(e); ok {
		return func(*Matcher) (decimal, form) { return d, short }
	}
	column, ok := c.sidedColumn(e)
	if !ok || rule.TypeOf(c.rel.Columns[column.Index].Type) != cty.Number {
		return nil
	}
	return func(m *Matcher) (decimal, form) {
		v, known := m.known(column.Index, column.Side)
		switch {
		case !known:
			return decimal{}, vague
		case v.Kind == viewlet.Null:
			return decimal{}, absent
		}
		if d, ok := parseDecimal(v.Text); ok {
			return d, short
		}
		return decimal{}, long
	}
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
	digits   uint64
	scale    int // how many of them stand behind the point
	negative bool
}

// maxDigits fit into 64 bits, and twice as many into 128.
const maxDigits = 18

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
			d.digits = d.digits*10 + uint64(c-'0')
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
	d.negative = negative && d.digits > 0
	return d, digits > 0
}

func (d decimal) compare(other decimal) int {
	switch {
	case d.negative != other.negative:
		if d.negative {
			return -1
		}
		return 1
	case d.negative:
		return other.compareSize(d)
	}
	return d.compareSize(other)
}

// compareSize compares as if neither was negative.
func (d decimal) compareSize(other decimal) int {
	scale := max(d.scale, other.scale)
	high, low := d.at(scale)
	otherHigh, otherLow := other.at(scale)
	return cmp.Or(cmp.Compare(high, otherHigh), cmp.Compare(low, otherLow))
}

// at gives the digits with so many behind the point, in 128 bits.
func (d decimal) at(scale int) (high, low uint64) {
	factor := uint64(1)
	for range scale - d.scale {
		factor *= 10
	}
	return bits.Mul64(d.digits, factor)
}
