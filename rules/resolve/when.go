package resolve

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
)

// When reads a table block's condition into the rule, and tells p what is
// wrong.
func (n *Names) When(into *rule.Rule, attr hcl.Expression, p *source.Problems) {
	e, diags := source.Native(attr)
	if !p.Add(diags) || !n.conditionCalls(into, e, p) {
		return
	}
	reads, ok := rule.Columns(e, rule.ConditionScope(), p)
	for _, c := range reads {
		if c.Side == rule.BareSide {
			ok = false
			p.Error(c.At, "Which side?", "A condition sees the row before and after: write new.%s or old.%s, or changed(%q).", c.Name, c.Name, c.Name)
		}
	}
	if !ok {
		return
	}
	v, diags := e.Value(rule.ConditionContext(n.Functions, reads, rule.Unknown))
	if !p.Add(diags) {
		return
	}
	if _, err := convert.Convert(v, cty.Bool); err != nil {
		p.Error(e.Range(), "Not a condition", "when is true or false, such as changed(\"name\") or new.price > 10; this is %s.", v.Type().FriendlyName())
		return
	}
	into.When, into.Reads = e, reads
	into.Source += " when " + n.written(e, attr.Range())
}

// conditionCalls notes which columns the condition asks changed after; they
// are texts, so that the catalog can be asked for them.
func (n *Names) conditionCalls(into *rule.Rule, e hclsyntax.Expression, p *source.Problems) (ok bool) {
	before := p.Errors()
	for _, f := range source.Nodes[*hclsyntax.FunctionCallExpr](e) {
		if f.Name != "changed" {
			n.conditionFunction(f, p)
			continue
		}
		names, texts := rule.ChangedNames(f)
		if !texts {
			p.Error(f.Range(), "Which column?", "changed takes the names of columns in quotes: changed(\"name\", \"price\"). Without any it means any column.")
			continue
		}
		for i, name := range names {
			into.Changed = append(into.Changed, rule.Column{Name: name, At: f.Args[i].Range()})
		}
		if len(names) == 0 {
			into.Changed = append(into.Changed, rule.Column{At: f.Range()})
		}
	}
	return p.Errors() == before
}

func (n *Names) conditionFunction(f *hclsyntax.FunctionCallExpr, p *source.Problems) {
	_, function := n.Functions[f.Name]
	_, viewlet := n.Viewlets[f.Name]
	switch {
	case function:
	case viewlet, n.Lookups[f.Name] != nil:
		p.Error(f.Range(), "Call in a condition", "A condition sees the row alone, new.x and old.x, before any query runs.")
	default:
		names := append([]string{"changed"}, sortedKeys(n.Functions)...)
		p.Error(f.NameRange, "Unknown function", "There is no function %q.%s", f.Name, hint.DidYouMean(f.Name, names, "%q"))
	}
}
