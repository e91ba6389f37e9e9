package derive

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Query is a viewlet's query, as Postgres analysed it.
type Query struct {
	Viewlet string
	Params  []string // the n-th is $n of the tree
	Tree    Tree     // pg_proc.prosqlbody
	SQL     string   // as it is written
	// Written reports whether the viewlet has rules of its own for a table, or
	// ignores it: then none is derived, and others may stand on it. Nil: none.
	Written func(viewlet.TableName) bool
	// Taken reports whether something else has a name already that a lookup
	// might get: a viewlet, a written lookup, or one derived before. Nil:
	// nothing has.
	Taken func(name string) bool
}

// Result is what is derived from a query.
type Result struct {
	Rules  []Rule // in the order in which the query names the tables
	Limits []Limit
	Tables []viewlet.TableName // that the query reads, views unfolded, each once
	// All selects every instance, and perhaps more; empty: unknown, or there
	// are no params.
	All string
}

// Rule says which fragments a change of a row refreshes.
type Rule struct {
	Table   viewlet.TableName
	Viewlet string
	// Columns are those that the query reads: an UPDATE that changes none of
	// them refreshes nothing. Empty: only rows that come or go do.
	Columns []string
	// Every: it reads the row as a whole, or more than the stream tells apart.
	Every bool
	// Touched: it reads which transaction wrote the row, so that an UPDATE which
	// changes nothing refreshes, too.
	Touched bool
	Args    []Arg
	// Lookup gives what the arguments have from it; nil: nothing.
	Lookup *Lookup
	Why    string // the equalities from the row to the params, as the query has them
}

// Arg is one argument of a Rule's refresh: a column of the row or, when that
// is empty, all columns of the Lookup.
type Arg struct{ Column string }

// Derive says which fragments a changed row of each table that the query reads
// makes stale. The error is for a tree that it cannot read; what it can read
// and not follow is a Limit.
func Derive(q Query, c *Catalog) (*Result, error) {
	b := &builder{catalog: c, views: map[*Relation]bool{}, adopted: map[int][]adoption{}, advice: map[int]string{}}
	b.limits = &limits{catalog: c, unseen: map[*Relation]bool{}}
	top, err := b.query(only(q.Tree.root), nil, site{})
	if err != nil {
		return nil, fmt.Errorf("derive rules of %s: %w", q.Viewlet, err)
	}
	b.settle()
	b.limits.moment(q)
	d := &deriver{Query: q, builder: b, ways: map[*source][]*facts{}}
	d.solver = solver{params: len(q.Params), order: b.tables, solved: map[*source]bool{}}
	for _, s := range b.tables {
		d.ways[s] = factsOf(c, top, s)
		d.solved[s] = b.limits.unseen[s.table] || d.written(s)
	}
	plans := d.solve()
	r := &Result{Rules: d.rules(plans)}
	r.All = d.instances(top)
	r.Limits = b.limits.all
	for _, s := range b.tables {
		if !slices.Contains(r.Tables, s.table.TableName) {
			r.Tables = append(r.Tables, s.table.TableName)
		}
	}
	return r, nil
}

type deriver struct {
	Query
	*builder
	solver
	ways map[*source][]*facts
}

// published gives the tables under whose names the stream sends the changes of
// a source's rows.
func (s *source) published() []viewlet.TableName {
	r := s.table
	switch {
	case r.Root != (viewlet.TableName{}):
		return []viewlet.TableName{r.Root}
	case !s.rte.flag("inh"): // ONLY
		return []viewlet.TableName{r.TableName}
	}
	return append([]viewlet.TableName{r.TableName}, r.Heirs...)
}

func (d *deriver) written(s *source) bool {
	return d.Written != nil && !slices.ContainsFunc(s.published(), func(t viewlet.TableName) bool { return !d.Written(t) })
}

// solve makes the plans, round by round, until a round solves nothing.
func (d *deriver) solve() map[*source][]*plan {
	plans := map[*source][]*plan{}
	for {
		may := maps.Clone(d.solved)
		progress := false
		for _, s := range d.tables {
			if d.solved[s] {
				continue
			}
			if p, missing := d.attempt(d.ways[s], s, may); len(missing) == 0 {
				plans[s], d.solved[s], progress = p, true, true
			}
		}
		if !progress {
			break
		}
	}
	for _, s := range d.tables {
		if !d.solved[s] {
			d.unsolved(s)
		}
	}
	return plans
}

// unsolved says why a source has no plan.
func (d *deriver) unsolved(s *source) {
	everything := map[*source]bool{}
	for _, t := range d.tables {
		everything[t] = true
	}
	_, missing := d.attempt(d.ways[s], s, d.solved)
	over, never := d.attempt(d.ways[s], s, everything)
	limit := Limit{Table: s.table.TableName, Params: d.names(missing)}
	table := quoteHCL(TableLabel(limit.Table))
	switch {
	case len(never) > 0:
		limit.Params = d.names(never)
		limit.Reason = fmt.Sprintf("A row of %s names no %s: no equality of columns leads from it to %s.", d.called(s), list(limit.Params), list(limit.Params))
		if why := d.explain(s, never); why != "" {
			limit.Reason += " (" + why + ")"
		}
	case d.mutual(over):
		limit.Reason = fmt.Sprintf("A row of %s names %s only through %s, which itself needs it: when both change, their old rows no longer meet.", d.called(s), list(limit.Params), d.tablesOf(over))
	default:
		limit.Reason = fmt.Sprintf("A row of %s names %s only through %s, whose own rows do not.", d.called(s), list(limit.Params), d.tablesOf(over))
	}
	limit.Remedy = fmt.Sprintf("Write table %s { refresh = ... }, ignore = [%s] where it does not matter, or give the fragments a timeout.", table, table)
	d.limits.add(limit)
}

// mutual reports whether the plans go through a source that cannot do without
// others that have none either.
func (d *deriver) mutual(plans []*plan) bool {
	everything := map[*source]bool{}
	for _, t := range d.tables {
		everything[t] = true
	}
	for _, p := range plans {
		for _, t := range p.tables {
			if _, never := d.attempt(d.ways[t], t, everything); !d.solved[t] && len(never) > 0 {
				return false
			}
		}
	}
	return true
}

// explain says of the first param that it can why a row of the source does not
// name it.
func (d *deriver) explain(s *source, params []int) string {
	for _, p := range params {
		name := d.Params[p-1]
		if d.loose(p) {
			return fmt.Sprintf("@%s is of a type whose equal values have several texts, such as 1.5 and 1.50, and texts are what keys are made of; those of one numeric(8,2) or char(3) have one.", name)
		}
		if advice := d.advice[p]; advice != "" {
			return fmt.Sprintf(advice, name)
		}
		if other := d.boundBy(p); other != nil && other != s && !s.level.withinRecursive() {
			every := fmt.Sprintf(", such as [for x in [...] : %s(..., x)]", d.Viewlet)
			if len(params) == d.params {
				every = fmt.Sprintf(": refresh = all(%s)", d.Viewlet)
			}
			return fmt.Sprintf("Rows of %[2]s name @%[1]s, but no equality of columns leads there from a row of %[3]s. If that is in the fragments of every @%[1]s, name them all%[4]s.", name, d.called(other), d.called(s), every)
		}
	}
	return ""
}

// boundBy gives a source whose rows name the param.
func (d *deriver) boundBy(param int) *source {
	for _, s := range d.tables {
		if _, missing := d.attempt(d.ways[s], s, d.solved); !slices.Contains(missing, param) {
			return s
		}
	}
	return nil
}

// loose reports whether the param is compared with a column, but with an
// equality that holds between values of different texts.
func (d *deriver) loose(param int) bool {
	for _, ways := range d.ways {
		for _, f := range ways {
			if slices.ContainsFunc(f.eqs, func(eq *equality) bool { return !eq.text && (eq.a.param == param || eq.b.param == param) }) {
				return true
			}
		}
	}
	return false
}

func (d *deriver) names(params []int) []string {
	var names []string
	for _, p := range params {
		names = append(names, "@"+d.Params[p-1])
	}
	return names
}

// called is a source as the query calls it.
func (d *deriver) called(s *source) string {
	if s.name == s.table.Name || s.name == "" {
		return s.table.String()
	}
	return s.table.String() + " (" + s.name + ")"
}

func (d *deriver) tablesOf(plans []*plan) string {
	var names []string
	for _, p := range plans {
		for _, t := range p.tables {
			if name := d.called(t); !slices.Contains(names, name) && !d.solved[t] {
				names = append(names, name)
			}
		}
	}
	return list(names)
}

func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
