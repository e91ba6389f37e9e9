package catalog

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
)

// CompareTypes says which plain columns of the rules' calls have another type
// than the params that they stand for. What goes through an expression, or
// stands behind a lookup's columns, is not known here.
func CompareTypes(rules []*rule.Rule, params func(name string) []uint32) hcl.Diagnostics {
	var p source.Problems
	for _, r := range rules {
		if r.Bound == nil {
			continue
		}
		for _, k := range r.Calls {
			x := k.Expansion
			if x == nil {
				continue
			}
			for _, step := range x.Steps {
				compareTypes(&p, r, k, step.Lookup.Name, step.Args, params(step.Lookup.Name))
			}
			compareTypes(&p, r, k, k.Viewlet, x.Outputs, params(k.Viewlet))
		}
	}
	return p.Sorted()
}

// compareTypes goes over the arguments up to the first that is a lookup, which
// may stand for several.
func compareTypes(p *source.Problems, r *rule.Rule, k *rule.Call, called string, args []rule.Ref, types []uint32) {
	for i, arg := range args {
		if arg.Step >= 0 || i >= len(types) {
			return
		}
		in := k.Inputs[arg.Column]
		if in.Constant != nil || in.Expr != nil || len(in.Reads) != 1 {
			continue
		}
		of, found := find(r.Bound, in.Reads[0].Name)
		want, have := kindOf(types[i]), kindOf(of.TypeOID)
		switch {
		case !found || want == "" || have == "" || want == text || want == have:
		case have == text:
			p.Warn(in.Reads[0].At, "Text for another type", "Param %d of %s is a %s, and %s.%s is text: a row whose text is none fails.", i+1, called, want, r.Table, of.Name)
		default:
			p.Error(in.Reads[0].At, "Wrong type", "Param %d of %s is a %s, and %s.%s is of type %s.", i+1, called, want, r.Table, of.Name, of.Type)
		}
	}
}

const text = "text"

// kindOf sorts the types that everybody knows by what values of one another
// they take; empty: another type.
func kindOf(oid uint32) string {
	switch oid {
	case 20, 21, 23, 26, 700, 701, 1700:
		return "number"
	case 16:
		return "boolean"
	case 1082, 1114, 1184:
		return "date"
	case 1083, 1266:
		return "time"
	case 2950:
		return "uuid"
	case 25, 1042, 1043, 18, 19:
		return text
	}
	return ""
}
