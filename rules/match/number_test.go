package match

import (
	"fmt"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// counted is a relation with a number.
var counted = &viewlet.Relation{
	ID: 1, Schema: "public", Name: "products", Identity: viewlet.IdentityFull,
	Columns: []viewlet.Column{{Name: "n", Type: 1700, Key: true}},
}

// comparisonOf parses a comparison, and gives what compiles it for that relation.
func comparisonOf(t *testing.T, written string) (*hclsyntax.BinaryOpExpr, *compiler) {
	t.Helper()
	e, diags := hclsyntax.ParseExpression([]byte(written), "rules.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	c := &compiler{Matcher: New(nil, map[string]function.Function{}, nil), rel: counted, rule: &rule.Rule{}}
	return e.(*hclsyntax.BinaryOpExpr), c
}

// TestComparedAsHCLDoes compiles comparisons and wants of each, for each value
// that a row may have, what HCL's own evaluation gives.
func TestComparedAsHCLDoes(t *testing.T) {
	literals := []string{
		"0", "5", "-5", "5.5", "-0.25", "10.00", "999999999", "1000000000", "0.00000001", "1e3", "123456789.5",
		"-2000000000", "999999999999999999", "0.00000000000000001", "1000000000000000000", "1234567890.123456789",
	}
	values := []viewlet.Value{{Kind: viewlet.Null}, {Kind: viewlet.Unchanged}, {}}
	for _, text := range []string{
		"0", "-0", "0.00", "5", "5.0", "05", "-5", "4.99", "5.5", "5.50", "5.49", "-0.25", "10", "999999999", "1000000000", "0.00000001",
		"1000", "123456789.5", "123456789.4999999999999999", "1e3", "NaN", "Infinity", "-Infinity", "", "-", ".5", "5.", "1.2.3", "99999999999999999999",
		"-2000000000", "-1999999999.5", "-2000000000.000000001", "999999999999999999", "-999999999999999999", "99999999999999999.9", "0.00000000000000001",
		"0.00000000000000002", "-0.00000000000000001", "1000000000000000000", "1234567890.12345678", "-0.0",
	} {
		values = append(values, viewlet.Value{Kind: viewlet.Text, Text: []byte(text)})
	}
	compare := func(written string) (quick, slow condition, m *Matcher) {
		t.Helper()
		e, c := comparisonOf(t, written)
		return c.compared(e), c.evaluated(e), c.Matcher
	}
	for _, op := range []string{"<", "<=", ">", ">=", "==", "!="} {
		for _, literal := range literals {
			for _, written := range []string{"new.n " + op + " " + literal, literal + " " + op + " old.n"} {
				quick, slow, m := compare(written)
				if quick == nil {
					if literal != "1000000000000000000" && literal != "1234567890.123456789" {
						t.Errorf("%s is left to HCL", written)
					}
					continue
				}
				for _, v := range values {
					m.change = &viewlet.Change{Op: viewlet.Update, Rel: counted, Old: viewlet.Tuple{v}, New: viewlet.Tuple{v}}
					if got, want := quick(m), slow(m); got != want {
						t.Errorf("%s of %s: got %d, HCL gives %d", written, shown(v), got, want)
					}
				}
			}
		}
		written := "old.n " + op + " new.n"
		quick, slow, m := compare(written)
		if quick == nil {
			t.Fatalf("%s is left to HCL", written)
		}
		for _, v := range values {
			for _, w := range values {
				m.change = &viewlet.Change{Op: viewlet.Update, Rel: counted, Old: viewlet.Tuple{v}, New: viewlet.Tuple{w}}
				if got, want := quick(m), slow(m); got != want {
					t.Errorf("%s of %s and %s: got %d, HCL gives %d", written, shown(v), shown(w), got, want)
				}
			}
		}
	}
}

// TestComparisonAllocatesNothing: each change of a table passes through it.
func TestComparisonAllocatesNothing(t *testing.T) {
	row := func(text string) viewlet.Tuple { return viewlet.Tuple{{Kind: viewlet.Text, Text: []byte(text)}} }
	for _, written := range []string{"new.n < -2000000000", "new.n != old.n"} {
		e, c := comparisonOf(t, written)
		holds := c.condition(e)
		c.change = &viewlet.Change{Op: viewlet.Update, Rel: counted, Old: row("123456789012.50"), New: row("123456789012.5")}
		if n := testing.AllocsPerRun(100, func() { holds(c.Matcher) }); n != 0 {
			t.Errorf("%s allocates %v times", written, n)
		}
	}
}

func shown(v viewlet.Value) string { return fmt.Sprintf("%d %q", v.Kind, v.Text) }
