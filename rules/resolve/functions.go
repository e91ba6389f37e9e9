package resolve

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// Constants is what an expression that no row has a part in is evaluated in.
func Constants() *hcl.EvalContext {
	return &hcl.EvalContext{Functions: map[string]function.Function{"env": envFunction}}
}

// Functions are those that refresh and when may call on the values of a row,
// beside changed, which only when has.
func Functions() map[string]function.Function {
	all := maps.Clone(standardFunctions)
	all["env"] = envFunction
	return all
}

var standardFunctions = map[string]function.Function{
	"abs":        stdlib.AbsoluteFunc,
	"ceil":       stdlib.CeilFunc,
	"coalesce":   coalesceFunction,
	"concat":     stdlib.ConcatFunc,
	"contains":   stdlib.ContainsFunc,
	"distinct":   stdlib.DistinctFunc,
	"floor":      stdlib.FloorFunc,
	"format":     stdlib.FormatFunc,
	"join":       stdlib.JoinFunc,
	"jsondecode": stdlib.JSONDecodeFunc,
	"length":     stdlib.LengthFunc,
	"lower":      stdlib.LowerFunc,
	"max":        stdlib.MaxFunc,
	"min":        stdlib.MinFunc,
	"range":      stdlib.RangeFunc,
	"regex":      stdlib.RegexFunc,
	"replace":    stdlib.ReplaceFunc,
	"split":      stdlib.SplitFunc,
	"strlen":     stdlib.StrlenFunc,
	"substr":     stdlib.SubstrFunc,
	"tonumber":   stdlib.MakeToFunc(cty.Number),
	"tostring":   stdlib.MakeToFunc(cty.String),
	"trim":       stdlib.TrimFunc,
	"trimprefix": stdlib.TrimPrefixFunc,
	"trimspace":  stdlib.TrimSpaceFunc,
	"trimsuffix": stdlib.TrimSuffixFunc,
	"upper":      stdlib.UpperFunc,
}

// coalesceFunction gives the first argument that is not null, as SQL's does:
// null when all are, which the standard one calls an error.
var coalesceFunction = function.New(&function.Spec{
	VarParam: &function.Parameter{
		Name: "values", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true,
	},
	Type: func(args []cty.Value) (cty.Type, error) { return stdlib.CoalesceFunc.ReturnTypeForValues(args) },
	Impl: func(args []cty.Value, result cty.Type) (cty.Value, error) {
		for _, a := range args {
			if !a.IsKnown() || !a.IsNull() {
				return stdlib.CoalesceFunc.Call(args)
			}
		}
		return cty.NullVal(result), nil
	},
})

// envFunction gives an environment variable's value.
var envFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "name", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		name := args[0].AsString()
		value, ok := os.LookupEnv(name)
		if !ok {
			return cty.NilVal, fmt.Errorf("the environment variable %s is not set; set it, or leave this attribute out", name)
		}
		return cty.StringVal(value), nil
	},
})

// Reserved reports whether a call of a viewlet or lookup with that name would
// mean something else.
func Reserved(name string) bool {
	_, standard := standardFunctions[name]
	return standard || slices.Contains([]string{"all", "changed", "env", "new", "old", "op"}, name)
}
