package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Bind compares the rules with the catalog, and from then on Match knows the
// tables by what they were bound to. tables has what TableNames asked for; one
// that is missing or nil does not exist. columns names those that each
// lookup's query selects; a lookup that is missing is not checked. Bind may be
// called again, but not while Match runs.
func (s *Set) Bind(tables map[viewlet.TableName]*viewlet.Table, columns map[string][]string) Diagnostics {
	b := &binder{set: s, tables: tables, columns: columns, seen: map[uint32]bool{}}
	s.matcher.relations = nil
	for _, t := range s.tables {
		t.bound = tables[t.name]
	}
	for _, t := range s.tables {
		b.rule(t)
	}
	return sortDiagnostics(b.diags)
}

type binder struct {
	set     *Set
	tables  map[viewlet.TableName]*viewlet.Table
	columns map[string][]string
	seen    map[uint32]bool // the tables checked, by OID
	diags   Diagnostics
}

func (b *binder) error(at hcl.Range, summary, format string, args ...any) {
	b.diags = append(b.diags, problem(Error, at, summary, format, args...))
}

func (b *binder) warn(at hcl.Range, summary, format string, args ...any) {
	b.diags = append(b.diags, problem(Warning, at, summary, format, args...))
}

func (b *binder) rule(t *table) {
	if t.bound == nil {
		b.unknownTable(t)
		return
	}
	if !b.seen[t.bound.OID] {
		b.seen[t.bound.OID] = true
		b.publishable(t)
	}
	if unpublishable(t.bound) != "" {
		return
	}
	b.condition(t)
	for _, k := range t.calls {
		b.call(t, k)
	}
}

func (b *binder) unknownTable(t *table) {
	var names []string
	for n, found := range b.tables {
		if found != nil {
			names = append(names, n.String())
		}
	}
	slices.Sort(names)
	hint := didYouMean(t.name.String(), names, "%q")
	if hint == "" && t.name.Schema == "" {
		hint = " It may be in a schema that is not on the search_path: write \"schema." + t.name.Name + "\"."
	}
	b.error(t.label, "Unknown table", "The database has no table %s.%s", t.name, hint)
}

// column finds a column that an expression reads; without ok what is wrong
// with it has been said.
func (b *binder) column(t *table, ref columnRef) (c viewlet.TableColumn, ok bool) {
	var names []string
	for _, c := range t.bound.Columns {
		if c.Name == ref.name {
			if c.Generated {
				b.error(ref.at, "Generated column", "The stream leaves generated columns out, and %s.%s is one. Use the columns that it is made from.", t.name, c.Name)
			}
			return c, !c.Generated
		}
		names = append(names, c.Name)
	}
	b.error(ref.at, "Unknown column", "The table %s has no column %q.%s", t.name, ref.name, didYouMean(ref.name, names, "%q"))
	return c, false
}

// old reports whether old rows have the column. A table that has no identity
// at all is a problem of its own, and not one of each column.
func old(t *table, c viewlet.TableColumn) bool {
	return c.Identity || t.bound.Identity == viewlet.IdentityFull || !slices.ContainsFunc(t.bound.Columns, func(c viewlet.TableColumn) bool { return c.Identity })
}

// condition checks what a when reads.
func (b *binder) condition(t *table) {
	ok := true
	for _, ref := range t.whenRef {
		c, found := b.column(t, ref)
		ok = ok && found
		if found && ref.side == oldSide && !old(t, c) && (t.on[viewlet.Update] || t.on[viewlet.Delete]) {
			b.warn(ref.at, "Old value is not sent", "Postgres does not send the old value of %s.%s, so this condition counts as true. %s", t.name, c.Name, identityFull(t))
		}
	}
	for _, ref := range t.changed {
		b.changed(t, ref)
	}
	if ok && t.when != nil {
		b.types(t, t.when, conditionContext(b.set.functions, t.whenRef, cty.DynamicVal), t.whenRef)
	}
}

func (b *binder) changed(t *table, ref columnRef) {
	if ref.name == "" {
		if t.on[viewlet.Update] && slices.ContainsFunc(t.bound.Columns, func(c viewlet.TableColumn) bool { return !old(t, c) && !c.Generated }) {
			b.warn(ref.at, "Old row is not sent", "Postgres does not send the old row of %s, so every UPDATE counts as a change. %s", t.name, identityFull(t))
		}
		return
	}
	if c, ok := b.column(t, ref); ok && t.on[viewlet.Update] && !old(t, c) {
		b.warn(ref.at, "Old value is not sent", "Postgres does not send the old value of %s.%s, so it counts as changed by every UPDATE. %s", t.name, c.Name, identityFull(t))
	}
}

func (b *binder) call(t *table, k *call) {
	for _, l := range k.loops {
		b.computed(t, k, l.CollExpr, l.refs)
	}
	for _, i := range k.inputs {
		if i.column != nil {
			b.argument(t, *i.column)
		} else {
			b.computed(t, k, i.expr, i.refs)
		}
	}
	b.counts(k)
}

// argument checks a column that decides which fragment is refreshed.
func (b *binder) argument(t *table, ref columnRef) (c viewlet.TableColumn, ok bool) {
	c, ok = b.column(t, ref)
	if !ok || ref.side == newSide || old(t, c) || !t.on[viewlet.Update] && !t.on[viewlet.Delete] {
		return c, ok
	}
	b.error(ref.at, "Old value is not sent", "Postgres does not send the old value of %s.%s, so the fragment that the row belonged to would stay as it is. %s Or write new.%s if rows never leave it, and never go.", t.name, c.Name, identityFull(t), c.Name)
	return c, false
}

// computed checks an expression that decides which fragment is refreshed.
func (b *binder) computed(t *table, k *call, e hclsyntax.Expression, refs []columnRef) {
	ok := true
	for _, ref := range refs {
		c, found := b.argument(t, ref)
		ok = ok && found
		if found && c.Toastable && ref.side != oldSide && !old(t, c) && t.on[viewlet.Update] {
			b.warn(ref.at, "Large values are not sent", "An UPDATE that leaves a large value of %s.%s alone does not send it. Then this expression cannot be computed, and all of %s is refreshed. %s", t.name, c.Name, k.viewlet.Name, identityFull(t))
		}
	}
	if ok {
		b.types(t, e, k.scope.context(b.set.functions, refs), refs)
	}
}

// types evaluates an expression with columns of their types, though not their
// values, to find what can never work.
func (b *binder) types(t *table, e hclsyntax.Expression, ctx *hcl.EvalContext, refs []columnRef) {
	sides := map[side]map[string]cty.Value{newSide: {}, oldSide: {}}
	for _, ref := range refs {
		i := slices.IndexFunc(t.bound.Columns, func(c viewlet.TableColumn) bool { return c.Name == ref.name })
		v := cty.UnknownVal(typeOf(t.bound.Columns[i].TypeOID))
		if ref.side == bare {
			ctx.Variables[ref.name] = v
		} else {
			sides[ref.side][ref.name] = v
		}
	}
	for s, name := range map[side]string{newSide: "new", oldSide: "old"} {
		if len(sides[s]) > 0 {
			ctx.Variables[name] = cty.ObjectVal(sides[s])
		}
	}
	_, diags := e.Value(ctx)
	b.diags = append(b.diags, diags...)
	if !diags.HasErrors() {
		b.equalities(e, ctx)
	}
}

// equalities warns where == has sides of different types, which are never
// equal.
func (b *binder) equalities(e hclsyntax.Expression, ctx *hcl.EvalContext) {
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		o, ok := n.(*hclsyntax.BinaryOpExpr)
		if !ok || o.Op != hclsyntax.OpEqual && o.Op != hclsyntax.OpNotEqual {
			return nil
		}
		left, diags := o.LHS.Value(ctx)
		right, more := o.RHS.Value(ctx)
		if diags.HasErrors() || more.HasErrors() {
			return nil
		}
		l, r := left.Type(), right.Type()
		if l.IsPrimitiveType() && r.IsPrimitiveType() && l != r {
			b.warn(o.Range(), "Never equal", "The left side is a %s and the right side a %s, which are never equal. Integers and numerics are numbers here, booleans are true or false, everything else is text.", l.FriendlyName(), r.FriendlyName())
		}
		return nil
	})
}

// counts compares the columns of a call's lookups with the params that they
// stand for.
func (b *binder) counts(k *call) {
	for _, l := range k.lookups {
		if have, known := b.count(k, l.args); known && have != len(l.Params) {
			b.error(l.at, "Wrong number of arguments", "The lookup %s has %s, and this call gives %d: a lookup stands for as many as its query has columns.%s", l.Name, plural(len(l.Params), "param"), have, b.selected(k, l.args))
		}
	}
	if have, known := b.count(k, k.outputs); known && !k.whole && have != len(k.viewlet.Params) {
		b.error(k.at, "Wrong number of arguments", "%s has %s, and this call gives %d: a lookup stands for as many as its query has columns.%s", signature(k.viewlet), plural(len(k.viewlet.Params), "param"), have, b.selected(k, k.outputs))
	}
}

func (b *binder) count(k *call, refs []Ref) (n int, known bool) {
	for _, r := range refs {
		if r.Step < 0 {
			n++
			continue
		}
		columns, ok := b.columns[k.lookups[r.Step].Name]
		if !ok {
			return 0, false
		}
		n += len(columns)
	}
	return n, true
}

// selected says which columns the lookups among the arguments have.
func (b *binder) selected(k *call, refs []Ref) string {
	var text strings.Builder
	for _, r := range refs {
		if r.Step >= 0 {
			l := k.lookups[r.Step]
			fmt.Fprintf(&text, " %s selects %s.", l.Name, list(b.columns[l.Name]))
		}
	}
	return text.String()
}
