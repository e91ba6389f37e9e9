package rule

import (
	"maps"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// ConditionScope is what a condition knows besides columns.
func ConditionScope() Scope { return Scope{"op": cty.UnknownVal(cty.String)} }

// ConditionContext is what a condition is checked in before there is a change,
// each column being what value gives for it.
func ConditionContext(functions map[string]function.Function, reads []Column, value func(Column) cty.Value) *hcl.EvalContext {
	return ConditionScope().Within(Context(WithChanged(functions, nil), reads, value))
}

// WithChanged adds changed to the functions. ask says whether one of those
// columns changed, or with none whether any did; nil: not known yet.
func WithChanged(functions map[string]function.Function, ask func(names []cty.Value) bool) map[string]function.Function {
	functions = maps.Clone(functions)
	functions["changed"] = function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "columns", Type: cty.String},
		Type:     function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if ask == nil {
				return cty.UnknownVal(cty.Bool), nil
			}
			return cty.BoolVal(ask(args)), nil
		},
	})
	return functions
}

// ChangedNames gives the columns that a changed(...) names; ok is false when
// one of its arguments is no text.
func ChangedNames(f *hclsyntax.FunctionCallExpr) (names []string, ok bool) {
	for _, a := range f.Args {
		v, diags := a.Value(nil)
		if diags.HasErrors() || f.ExpandFinal || v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
			return nil, false
		}
		names = append(names, v.AsString())
	}
	return names, true
}
