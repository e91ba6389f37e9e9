package match

import (
	"github.com/zclconf/go-cty/cty/function"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Fires reports for each call of a bound rule whether any change could make it
// name a fragment: one whose values nobody knows yet, of each operation that the
// rule is on.
func Fires(r *rule.Rule, functions map[string]function.Function) []bool {
	fires := make([]bool, len(r.Calls))
	rel := &viewlet.Relation{ID: r.Bound.OID, Schema: r.Bound.Schema, Name: r.Bound.Name, Identity: r.Bound.Identity}
	for _, c := range r.Bound.Columns {
		if !c.Generated {
			rel.Columns = append(rel.Columns, viewlet.Column{Name: c.Name, Type: c.TypeOID, Key: c.Identity})
		}
	}
	m := New([]*rule.Rule{r}, functions, new(rule.Expansions))
	compiled := m.relation(rel).rules[0]
	for op := viewlet.Insert; op <= viewlet.Delete; op++ {
		m.change = &viewlet.Change{Op: op, Rel: rel}
		if !r.On[op] || compiled.when != nil && compiled.when(m) <= null {
			continue
		}
		for i, k := range compiled.calls {
			missing := op == viewlet.Insert && k.sides[rule.OldSide] || op == viewlet.Delete && k.sides[rule.NewSide]
			fires[i] = fires[i] || !missing || k.Expansion == nil
		}
	}
	return fires
}
