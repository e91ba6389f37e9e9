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

// TestComparedAsHCLDoes compiles comparisons and wants of each, for each value
// that a row may have, what HCL's own evaluation gives.
func TestComparedAsHCLDoes(t *testing.T) {
	rel := &viewlet.Relation{
		ID: 1, Schema: "public", Name: "products", Identity: viewlet.IdentityFull,
		Columns: []viewlet.Column{{Name: "n", Type: 1700, Key: true}},
	}
	literals := []string{"0", "5", "-5", "5.5", "-0.25", "10.00", "999999999", "1000000000", "0.00000001", "1e3", "123456789.5"}
	values := []viewlet.Value{{Kind: viewlet.Null}, {Kind: viewlet.Unchanged}, {}}
	for _, text := range []string{
		"0", "-0", "0.00", "5", "5.0", "05", "-5", "4.99", "5.5", "5.50", "5.49", "-0.25", "10", "999999999", "1000000000", "0.00000001",
		"1000", "123456789.5", "123456789.4999999999999999", "1e3", "NaN", "Infinity", "-Infinity", "", "-", ".5", "5.", "1.2.3", "99999999999999999999",
	} {
		values = append(values, viewlet.Value{Kind: viewlet.Text, Text: []byte(text)})
	}
	m := New(nil, map[string]function.Function{}, nil)
	for _, literal := range literals {
		for _, op := range []string{"<", "<=", ">", ">=", "==", "!="} {
			for _, written := range []string{"new.n " + op + " " + literal, literal + " " + op + " old.n"} {
				e, diags := hclsyntax.ParseExpression([]byte(written), "rules.hcl", hcl.InitialPos)
				if diags.HasErrors() {
					t.Fatal(diags)
				}
				c := compiler{Matcher: m, rel: rel, rule: &rule.Rule{}}
				quick := c.compared(e.(*hclsyntax.BinaryOpExpr))
				if quick == nil {
					if literal != "1000000000" && literal != "123456789.5" {
						t.Errorf("%s is left to HCL", written)
					}
					continue
				}
				slow := c.evaluated(e)
				for _, v := range values {
					m.change = &viewlet.Change{Op: viewlet.Update, Rel: rel, Old: viewlet.Tuple{v}, New: viewlet.Tuple{v}}
					if got, want := quick(m), slow(m); got != want {
						t.Errorf("%s of %s: got %d, HCL gives %d", written, shown(v), got, want)
					}
				}
			}
		}
	}
}

func shown(v viewlet.Value) string { return fmt.Sprintf("%d %q", v.Kind, v.Text) }
