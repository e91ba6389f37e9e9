package rules

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// relation is what the rules say of one version of a table, its columns turned
// to positions.
type relation struct {
	of    *viewlet.Relation
	rules []*rule
}

// rule is a table block for one Relation.
type rule struct {
	table *table
	when  condition // nil: always
	calls []*compiledCall
}

// compiledCall is a call for one Relation.
type compiledCall struct {
	call      *call
	via       string
	inputs    []compiledInput
	reads     [oldSide + 1]bool // which sides its columns name
	evaluates bool              // it needs HCL's evaluation
	places    []place           // the columns that this evaluation reads
	functions map[string]function.Function
	broken    bool              // a column of it is gone
	reported  bool              // that it cannot be followed has been said
	rows      map[uint64]string // Via by the inputs that a row lookup gives
}

// compiledInput is one of: a constant, encoded; a column; an expression.
type compiledInput struct {
	constant []byte
	column   place
	expr     hclsyntax.Expression
}

// relation gives what is compiled for a Relation, compiling when it is new.
func (s *Set) relation(rel *viewlet.Relation) *relation {
	m := &s.matcher
	if r := m.relations[rel.ID]; r != nil && r.of == rel {
		return r
	}
	if m.relations == nil || len(m.relations) > 2*len(s.tables)+64 { // dropped tables leave theirs behind
		m.relations = map[uint32]*relation{}
	}
	r := &relation{of: rel}
	for _, t := range s.tables {
		if t.is(rel) {
			c := compiler{set: s, rel: rel, table: t}
			r.rules = append(r.rules, c.rule())
		}
	}
	m.relations[rel.ID] = r
	return r
}

// is reports whether the block is about the relation. What Bind found is the
// same table under a new name too; before Bind a name without schema means any.
func (t *table) is(rel *viewlet.Relation) bool {
	if t.bound != nil {
		return rel.ID == t.bound.OID || rel.Schema == t.bound.Schema && rel.Name == t.bound.Name
	}
	return t.name.Name == rel.Name && (t.name.Schema == "" || t.name.Schema == rel.Schema)
}

// compiler turns a table block into a rule for a Relation.
type compiler struct {
	set     *Set
	rel     *viewlet.Relation
	table   *table
	missing string // the first column that the Relation lacks
}

func (c *compiler) rule() *rule {
	r := &rule{table: c.table}
	if c.table.when != nil {
		r.when = c.condition(c.table.when)
		c.reportMissing(c.table.when.Range(), "decide when; every change counts")
	}
	for _, k := range c.table.calls {
		r.calls = append(r.calls, c.call(k))
	}
	return r
}

func (c *compiler) reportMissing(at hcl.Range, consequence string) {
	if c.missing != "" {
		c.set.matcher.report(at, "%s has no column %q any more to %s", c.rel, c.missing, consequence)
		c.missing = ""
	}
}

func (c *compiler) find(column string) int {
	for i := range c.rel.Columns {
		if c.rel.Columns[i].Name == column {
			return i
		}
	}
	return -1
}

// position is a column's index, or -1 when the Relation lacks it.
func (c *compiler) position(ref columnRef) int {
	i := c.find(ref.name)
	if i < 0 && c.missing == "" {
		c.missing = ref.name
	}
	return i
}

func (c *compiler) call(k *call) *compiledCall {
	out := &compiledCall{call: k, functions: c.set.functions}
	if k.expansion != nil {
		out.via = k.expansion.Name
	}
	out.evaluates = len(k.loops) > 0
	for _, f := range k.loops {
		c.reads(out, f.refs)
	}
	for _, i := range k.inputs {
		out.inputs = append(out.inputs, c.input(out, i))
	}
	out.broken = c.missing != ""
	c.reportMissing(k.at, fmt.Sprintf("follow %s; all of it is refreshed instead", k.viewlet.Name))
	return out
}

// reads notes the columns that HCL's evaluation of a call needs.
func (c *compiler) reads(out *compiledCall, refs []columnRef) {
	for _, ref := range refs {
		out.reads[ref.side] = true
		out.places = append(out.places, place{side: ref.side, index: max(0, c.position(ref)), name: ref.name})
	}
}

func (c *compiler) input(out *compiledCall, i *input) compiledInput {
	switch {
	case i.text != nil:
		return compiledInput{constant: viewlet.AppendArg(nil, *i.text)}
	case i.column != nil:
		out.reads[i.column.side] = true
		return compiledInput{column: place{side: i.column.side, index: max(0, c.position(*i.column)), name: i.column.name}}
	}
	out.evaluates = true
	c.reads(out, i.refs)
	return compiledInput{expr: i.expr}
}
