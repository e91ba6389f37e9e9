// Package catalog compares rules with the tables that the database has.
package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
	"github.com/cdc-viewlet/cdc-viewlet/rules/resolve"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Identity is a table that needs another replica identity for rules to be
// followed: FULL, or the default one.
//
// https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-REPLICA-IDENTITY
type Identity struct {
	Table *viewlet.Table
	Full  bool
}

// Compare says what the catalog's tables lack of what the rules, each bound to
// its table, ask of them. tables are all that there are, for suggestions.
// columns names those that each lookup's query selects; a lookup that is
// missing is not checked.
func Compare(rules []*rule.Rule, names *resolve.Names, tables map[viewlet.TableName]*viewlet.Table, columns map[string][]string) (hcl.Diagnostics, []Identity) {
	c := &comparison{Names: names, rules: rules, columns: columns, seen: map[uint32]bool{}, needed: map[uint32]Identity{}}
	for name, t := range tables {
		if t != nil {
			c.tables = append(c.tables, name.String())
		}
	}
	slices.Sort(c.tables)
	for _, r := range rules {
		c.rule(r)
	}
	needed := slices.Collect(maps.Values(c.needed))
	slices.SortFunc(needed, func(a, b Identity) int { return cmp.Compare(a.Table.OID, b.Table.OID) })
	return c.Sorted(), needed
}

type comparison struct {
	*resolve.Names
	source.Problems
	rules   []*rule.Rule
	tables  []string // their names
	columns map[string][]string
	seen    map[uint32]bool // the tables checked, by OID
	needed  map[uint32]Identity
}

func (c *comparison) rule(r *rule.Rule) {
	if r.Bound == nil {
		c.unknownTable(r)
		return
	}
	if !c.seen[r.Bound.OID] {
		c.seen[r.Bound.OID] = true
		c.publishable(r)
	}
	if unpublishable(r.Bound) != "" {
		return
	}
	c.condition(r)
	for _, k := range r.Calls {
		c.call(r, k)
	}
}

func (c *comparison) unknownTable(r *rule.Rule) {
	remedy := hint.DidYouMean(r.Table.String(), c.tables, "%q")
	if remedy == "" && r.Table.Schema == "" {
		remedy = " It may be in a schema that is not on the search_path: write \"schema." + r.Table.Name + "\"."
	}
	c.Error(r.Label, "Unknown table", "The database has no table %s.%s", r.Table, remedy)
}

// condition checks what a when reads.
func (c *comparison) condition(r *rule.Rule) {
	ok := true
	for _, read := range r.Reads {
		of, found := c.column(r, read)
		ok = ok && found
		if found && read.Side == rule.OldSide && !oldSent(r, of) && (r.On[viewlet.Update] || r.On[viewlet.Delete]) {
			c.Warn(read.At, "Old value is not sent", "Postgres does not send the old value of %s.%s, so this condition counts as true. %s", r.Table, of.Name, identityFull(r))
		}
	}
	for _, asked := range r.Changed {
		c.changed(r, asked)
	}
	if ok && r.When != nil {
		c.types(r.When, rule.ConditionContext(c.Functions, r.Reads, typedBy(r)))
	}
}

func (c *comparison) changed(r *rule.Rule, asked rule.Column) {
	if asked.Name == "" {
		if r.On[viewlet.Update] && slices.ContainsFunc(r.Bound.Columns, func(of viewlet.TableColumn) bool { return !oldSent(r, of) && !of.Generated }) {
			c.Warn(asked.At, "Old row is not sent", "Postgres does not send the old row of %s, so every UPDATE counts as a change. %s", r.Table, identityFull(r))
		}
		return
	}
	if of, ok := c.column(r, asked); ok && r.On[viewlet.Update] && !oldSent(r, of) {
		c.Warn(asked.At, "Old value is not sent", "Postgres does not send the old value of %s.%s, so it counts as changed by every UPDATE. %s", r.Table, of.Name, identityFull(r))
	}
}

func (c *comparison) call(r *rule.Rule, k *rule.Call) {
	for _, l := range k.Loops {
		c.computed(r, k, l.CollExpr, l.Scope, l.Reads)
	}
	for _, in := range k.Inputs {
		if in.Expr != nil {
			c.computed(r, k, in.Expr, k.Scope, in.Reads)
			continue
		}
		for _, read := range in.Reads {
			c.argument(r, read)
		}
	}
	if k.Expansion != nil {
		c.counts(k)
	}
}

// computed checks an expression that decides which fragment is refreshed.
func (c *comparison) computed(r *rule.Rule, k *rule.Call, e hclsyntax.Expression, in rule.Scope, reads []rule.Column) {
	ok := true
	for _, read := range reads {
		of, found := c.argument(r, read)
		ok = ok && found
		if found && of.Toastable && read.Side != rule.OldSide && !oldSent(r, of) && r.On[viewlet.Update] {
			c.Warn(read.At, "Large values are not sent", "An UPDATE that leaves a large value of %s.%s alone does not send it. Then this expression cannot be computed, and all of %s is refreshed. %s", r.Table, of.Name, k.Viewlet, identityFull(r))
		}
	}
	if ok {
		c.types(e, in.Within(rule.Context(c.Functions, reads, typedBy(r))))
	}
}

// argument checks a column that decides which fragment is refreshed.
func (c *comparison) argument(r *rule.Rule, read rule.Column) (of viewlet.TableColumn, ok bool) {
	of, ok = c.column(r, read)
	if !ok || read.Side == rule.NewSide || oldSent(r, of) || !r.On[viewlet.Update] && !r.On[viewlet.Delete] {
		return of, ok
	}
	c.identity(r.Bound, true)
	if r.Why != "" { // told in the same words for every viewlet that needs it
		c.Error(read.At, "Old values are not sent", "Postgres sends no more of an old row of %s than its replica identity, so a fragment that a row has left would stay as it is. %s `cdc-viewlet setup --replica-identity` does it for all such tables.", r.Table, identityFull(r))
		return of, false
	}
	c.Error(read.At, "Old value is not sent", "Postgres does not send the old value of %s.%s, so the fragment that the row belonged to would stay as it is. %s Or write new.%s if rows never leave it, and never go.", r.Table, of.Name, identityFull(r), of.Name)
	return of, false
}

// column finds a column that an expression reads; without ok what is wrong
// with it has been said.
func (c *comparison) column(r *rule.Rule, read rule.Column) (of viewlet.TableColumn, ok bool) {
	if of, ok = find(r.Bound, read.Name); !ok {
		names := make([]string, len(r.Bound.Columns))
		for i, other := range r.Bound.Columns {
			names[i] = other.Name
		}
		c.Error(read.At, "Unknown column", "The table %s has no column %q.%s", r.Table, read.Name, hint.DidYouMean(read.Name, names, "%q"))
		return of, false
	}
	if of.Generated {
		c.Error(read.At, "Generated column", "The stream leaves generated columns out, and %s.%s is one. Use the columns that it is made from.", r.Table, of.Name)
	}
	return of, !of.Generated
}

func find(t *viewlet.Table, column string) (of viewlet.TableColumn, ok bool) {
	i := slices.IndexFunc(t.Columns, func(of viewlet.TableColumn) bool { return of.Name == column })
	if i < 0 {
		return of, false
	}
	return t.Columns[i], true
}

// typedBy gives columns of their types, though not their values.
func typedBy(r *rule.Rule) func(rule.Column) cty.Value {
	return func(read rule.Column) cty.Value {
		of, _ := find(r.Bound, read.Name)
		return cty.UnknownVal(rule.TypeOf(of.TypeOID))
	}
}

// types evaluates an expression to find what can never work, and warns where
// == has sides of different types, which are never equal.
func (c *comparison) types(e hclsyntax.Expression, ctx *hcl.EvalContext) {
	if _, diags := e.Value(ctx); !c.Add(diags) {
		return
	}
	for _, o := range source.Nodes[*hclsyntax.BinaryOpExpr](e) {
		if o.Op != hclsyntax.OpEqual && o.Op != hclsyntax.OpNotEqual {
			continue
		}
		left, diags := o.LHS.Value(ctx)
		right, more := o.RHS.Value(ctx)
		l, r := left.Type(), right.Type()
		if !diags.HasErrors() && !more.HasErrors() && l.IsPrimitiveType() && r.IsPrimitiveType() && l != r {
			c.Warn(o.Range(), "Never equal", "The left side is a %s and the right side a %s, which are never equal. Integers and numerics are numbers here, booleans are true or false, everything else is text.", l.FriendlyName(), r.FriendlyName())
		}
	}
}

// counts compares the columns of a call's lookups with the params that they
// stand for.
func (c *comparison) counts(k *rule.Call) {
	x := k.Expansion
	for i, step := range x.Steps {
		if have, known := c.count(x, step.Args); known && have != len(step.Lookup.Params) {
			c.Error(k.Steps[i], "Wrong number of arguments", "The lookup %s has %s, and this call gives %d: a lookup stands for as many as its query has columns.%s", step.Lookup.Name, hint.Count(len(step.Lookup.Params), "param"), have, c.selected(x, step.Args))
		}
	}
	params := c.Viewlets[k.Viewlet]
	if have, known := c.count(x, x.Outputs); known && have != len(params) {
		c.Error(k.At, "Wrong number of arguments", "%s has %s, and this call gives %d: a lookup stands for as many as its query has columns.%s", hint.Call(k.Viewlet, params), hint.Count(len(params), "param"), have, c.selected(x, x.Outputs))
	}
}

func (c *comparison) count(x *rule.Expansion, refs []rule.Ref) (n int, known bool) {
	for _, r := range refs {
		if r.Step < 0 {
			n++
			continue
		}
		columns, ok := c.columns[x.Steps[r.Step].Lookup.Name]
		if !ok {
			return 0, false
		}
		n += len(columns)
	}
	return n, true
}

// selected says which columns the lookups among the arguments have.
func (c *comparison) selected(x *rule.Expansion, refs []rule.Ref) string {
	var text strings.Builder
	for _, r := range refs {
		if r.Step >= 0 {
			name := x.Steps[r.Step].Lookup.Name
			fmt.Fprintf(&text, " %s selects %s.", name, hint.List(c.columns[name]))
		}
	}
	return text.String()
}
