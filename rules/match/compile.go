package match

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// relation is what the rules say of one version of a table, their columns
// turned to positions.
type relation struct {
	of    *viewlet.Relation
	rules []*compiledRule
}

// compiledRule is a Rule for one Relation.
type compiledRule struct {
	*rule.Rule
	when  condition // nil: always
	calls []*compiledCall
}

// compiledCall is a Call for one Relation.
type compiledCall struct {
	*rule.Call
	via       string
	inputs    []rule.Input           // the Call's, with positions
	sides     [rule.OldSide + 1]bool // that its columns name
	evaluates bool                   // it needs HCL's evaluation
	columns   []rule.Column          // that this evaluation reads
	broken    bool                   // a column of it is gone
	reported  bool                   // that it cannot be followed has been said
	rows      map[uint64]string      // Via by the inputs that a row lookup gives
}

// relation gives what is compiled for a Relation, compiling when it is new.
func (m *Matcher) relation(rel *viewlet.Relation) *relation {
	if r := m.relations[rel.ID]; r != nil && r.of == rel {
		return r
	}
	if m.relations == nil || len(m.relations) > 2*len(m.rules)+64 { // dropped tables leave theirs behind
		m.relations = map[uint32]*relation{}
	}
	r := &relation{of: rel}
	for _, t := range m.rules {
		if t.IsAbout(rel) {
			c := compiler{Matcher: m, rel: rel, rule: t}
			r.rules = append(r.rules, c.compile())
		}
	}
	m.relations[rel.ID] = r
	return r
}

// compiler turns a Rule into one for a Relation.
type compiler struct {
	*Matcher
	rel     *viewlet.Relation
	rule    *rule.Rule
	missing string // the first column that the Relation lacks
}

func (c *compiler) compile() *compiledRule {
	r := &compiledRule{Rule: c.rule}
	if c.rule.When != nil {
		r.when = c.condition(c.rule.When)
		c.reportMissing(c.rule.When.Range(), "decide when; every change counts")
	}
	for _, k := range c.rule.Calls {
		r.calls = append(r.calls, c.call(k))
	}
	return r
}

func (c *compiler) call(k *rule.Call) *compiledCall {
	out := &compiledCall{Call: k, evaluates: len(k.Loops) > 0, inputs: slices.Clone(k.Inputs)}
	if k.Expansion != nil {
		out.via = k.Expansion.Name
	}
	for _, l := range k.Loops {
		out.columns = append(out.columns, c.place(out, l.Reads)...)
	}
	for i := range out.inputs {
		in := &out.inputs[i]
		in.Reads = c.place(out, in.Reads)
		if in.Expr != nil {
			out.evaluates = true
			out.columns = append(out.columns, in.Reads...)
		}
	}
	out.broken = c.reportMissing(k.At, fmt.Sprintf("follow %s; all of it is refreshed instead", k.Viewlet))
	return out
}

// place gives the columns with their positions, and notes their sides.
func (c *compiler) place(out *compiledCall, columns []rule.Column) []rule.Column {
	placed := make([]rule.Column, len(columns))
	for i, column := range columns {
		placed[i], _ = c.find(column)
		out.sides[column.Side] = true
	}
	return placed
}

// find gives a column with its position. One that the Relation lacks is
// remembered for reportMissing.
func (c *compiler) find(column rule.Column) (found rule.Column, ok bool) {
	i := slices.IndexFunc(c.rel.Columns, func(of viewlet.Column) bool { return of.Name == column.Name })
	if i < 0 {
		if c.missing == "" {
			c.missing = column.Name
		}
		return column, false
	}
	column.Index = i
	return column, true
}

func (c *compiler) reportMissing(at hcl.Range, consequence string) (missing bool) {
	if c.missing == "" {
		return false
	}
	c.report(at, "%s has no column %q any more to %s", c.rel, c.missing, consequence)
	c.missing = ""
	return true
}
