// Package rule is what a table block says, its names resolved: columns in, calls of viewlets out.
package rule

import (
	"maps"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Rule is one table block. Several may be about the same table.
type Rule struct {
	Table     viewlet.TableName
	Bound     *viewlet.Table // what the catalog says; nil: unknown
	At, Label hcl.Range      // the block's head, and the table's name in it
	On        [viewlet.Truncate + 1]bool
	When      hclsyntax.Expression // nil: always
	Reads     []Column             // what When reads
	Changed   []Column             // what When asks of changed; without a name: any
	Calls     []*Call
	Source    string // on and when as written
	Text      string // the whole block as HCL
	Why       string // what a derived rule comes from; empty: it was written
}

// IsAbout reports whether the rule names the relation. What it was bound to is
// the same table under a new name too; before that a name without schema means
// any.
func (r *Rule) IsAbout(rel *viewlet.Relation) bool {
	if r.Bound != nil {
		return rel.ID == r.Bound.OID || rel.Schema == r.Bound.Schema && rel.Name == r.Bound.Name
	}
	return r.Table.Name == rel.Name && (r.Table.Schema == "" || r.Table.Schema == rel.Schema)
}

// Call is one viewlet that a rule refreshes, with its arguments. A for over
// literals has become one Call for each round.
type Call struct {
	Viewlet   string
	Expansion *Expansion // how the inputs become keys; nil: every fragment
	Inputs    []Input
	Steps     []hcl.Range // where each of the Expansion's steps stands
	Loops     []Loop      // the fors over values of the row around it, outermost first
	Scope     Scope
	At        hcl.Range
	Source    string // as written
}

// Lookups are those that the call runs, inner ones before outer ones.
func (k *Call) Lookups() []*Lookup {
	if k.Expansion == nil {
		return nil
	}
	lookups := make([]*Lookup, len(k.Expansion.Steps))
	for i, step := range k.Expansion.Steps {
		lookups[i] = step.Lookup
	}
	return lookups
}

// Input is an argument that needs the row alone: a constant, a column, or an
// expression.
type Input struct {
	Constant []byte               // encoded; nil: none
	Expr     hclsyntax.Expression // nil: the one column of Reads
	Reads    []Column
}

// Loop is a for over values of the row.
type Loop struct {
	*hclsyntax.ForExpr
	Reads []Column // by its list and its if
	Scope Scope    // around it
}

// Scope is what the fors around an expression define: a value, or an unknown
// one when it comes from the row.
type Scope map[string]cty.Value

// With adds the variables of one round of a for.
func (s Scope) With(e *hclsyntax.ForExpr, key, value cty.Value) Scope {
	round := maps.Clone(s)
	if round == nil {
		round = Scope{}
	}
	if e.KeyVar != "" {
		round[e.KeyVar] = key
	}
	round[e.ValVar] = value
	return round
}

// Unknown reports whether the expression reads a variable that comes from the
// row.
func (s Scope) Unknown(e hclsyntax.Expression) bool {
	for _, t := range e.Variables() {
		if v, ok := s[t.RootName()]; ok && !v.IsWhollyKnown() {
			return true
		}
	}
	return false
}

// Within lets the scope's variables hide those of ctx.
func (s Scope) Within(ctx *hcl.EvalContext) *hcl.EvalContext {
	if len(s) == 0 {
		return ctx
	}
	inner := ctx.NewChild()
	inner.Variables = s
	return inner
}

// Literals are the variables that do not come from the row.
func (s Scope) Literals() Scope {
	known := maps.Clone(s)
	maps.DeleteFunc(known, func(_ string, v cty.Value) bool { return !v.IsWhollyKnown() })
	return known
}
