package rules

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// call is one call in a refresh: a viewlet with its arguments. A for over
// literals has become one call for each round.
type call struct {
	viewlet   *Viewlet
	whole     bool // all(viewlet)
	at        hcl.Range
	inputs    []*input   // the arguments that are values of the row, in order
	lookups   []*lookup  // the lookups called, inner ones before outer ones
	outputs   []Ref      // what gives the viewlet's params
	expansion *Expansion // how the inputs become keys; nil: they are the arguments
	loops     []loop
	scope     scope
	source    string // as written, for the fingerprint
}

// loop is a for around a call that goes over values of the row.
type loop struct {
	*hclsyntax.ForExpr
	refs []columnRef // what its list and its if read
}

// lookup is a call of a lookup within a call.
type lookup struct {
	*Lookup
	args []Ref
	at   hcl.Range
}

// input is one argument that needs the row alone.
type input struct {
	expr   hclsyntax.Expression
	text   *string     // of a constant
	column *columnRef  // of a column as it is
	refs   []columnRef // all columns that the expression reads
}

// scope is what the fors around a call define: a value, or an unknown one when
// it comes from the row.
type scope map[string]cty.Value

// callReader reads one refresh.
type callReader struct {
	*decoder
	table *table
	attr  hcl.Range // the attribute's expression
	loops []loop    // around what is being read
}

// refresh reads a call, a list of them, or a for.
func (c *callReader) refresh(e hclsyntax.Expression, in scope) {
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		c.refresh(e.Expression, in)
	case *hclsyntax.TemplateWrapExpr:
		c.refresh(e.Wrapped, in)
	case *hclsyntax.TupleConsExpr:
		for _, item := range e.Exprs {
			c.refresh(item, in)
		}
	case *hclsyntax.ForExpr:
		c.forEach(e, in)
	case *hclsyntax.FunctionCallExpr:
		c.call(e, in)
	default:
		c.notCall(e)
	}
}

func (c *callReader) notCall(e hclsyntax.Expression) {
	word := hcl.ExprAsKeyword(e)
	v := c.set.viewlets[word]
	switch {
	case v != nil:
		c.error(e.Range(), "Not a call", "Write %s to refresh one fragment, or all(%s) for every one.", signature(v), word)
	case word != "":
		c.error(e.Range(), "Not a call", "A refresh is a call of a viewlet, such as product_teaser(id).%s", didYouMean(word, sortedKeys(c.set.viewlets), "%s(...)"))
	default:
		c.error(firstLine(e.Range()), "Not a call", "A refresh is a call of a viewlet such as product_teaser(id), a list of calls, or [for l in [\"en\", \"sv\"] : teaser(id, l)]. What depends on the row belongs in when, in a table block of its own.")
	}
}

func signature(v *Viewlet) string { return v.Name + "(" + strings.Join(v.Params, ", ") + ")" }

// forEach unrolls a for over literals, and keeps one over the row's values for
// when there is a row.
func (c *callReader) forEach(e *hclsyntax.ForExpr, in scope) {
	if e.KeyExpr != nil {
		c.error(firstLine(e.Range()), "Not a list", "A for in a refresh gives a list: [for l in [\"en\", \"sv\"] : teaser(id, l)].")
		return
	}
	refs, ok := c.columns(e.CollExpr, in)
	if !ok {
		return
	}
	if len(refs) > 0 || in.unknown(e.CollExpr) {
		c.loopOverRow(loop{e, refs}, in)
		return
	}
	items, diags := e.CollExpr.Value(in.context(c.set.functions, nil))
	c.diags = append(c.diags, diags...)
	if diags.HasErrors() {
		return
	}
	if items.IsNull() || !items.IsKnown() || !items.CanIterateElements() {
		c.error(e.CollExpr.Range(), "Not a list", "A for goes over a list: [for l in [\"en\", \"sv\"] : teaser(id, l)].")
		return
	}
	for it := items.ElementIterator(); it.Next(); {
		k, v := it.Element()
		round := in.with(e, k, v)
		if e.CondExpr == nil || c.included(e.CondExpr, round) {
			c.refresh(e.ValExpr, round)
		}
	}
}

func (c *callReader) loopOverRow(l loop, in scope) {
	round := in.with(l.ForExpr, cty.DynamicVal, cty.DynamicVal)
	if !c.functionsKnown(l.CollExpr) {
		return
	}
	if l.CondExpr != nil {
		refs, ok := c.columns(l.CondExpr, round)
		if !ok || !c.functionsKnown(l.CondExpr) {
			return
		}
		l.refs = append(l.refs, refs...)
	}
	c.loops = append(c.loops, l)
	c.refresh(l.ValExpr, round)
	c.loops = c.loops[:len(c.loops)-1]
}

// included evaluates the if of a for over literals.
func (c *callReader) included(cond hclsyntax.Expression, in scope) bool {
	refs, ok := c.columns(cond, in)
	if !ok {
		return false
	}
	if len(refs) > 0 {
		c.error(cond.Range(), "Column in an if", "The if of a for over literals cannot read the row. Write a table block of its own, with when.")
		return false
	}
	v, diags := cond.Value(in.context(c.set.functions, nil))
	c.diags = append(c.diags, diags...)
	return !diags.HasErrors() && isTrue(v)
}

// call reads viewlet(arguments...), or all(viewlet).
func (c *callReader) call(e *hclsyntax.FunctionCallExpr, in scope) {
	if e.Name == "all" {
		c.all(e)
		return
	}
	v := c.set.viewlets[e.Name]
	if v == nil {
		c.unknownViewlet(e)
		return
	}
	k := &call{viewlet: v, at: e.Range(), loops: slices.Clone(c.loops), scope: in, source: c.sourceOf(e, in)}
	ok := true
	if k.outputs, ok = c.arguments(k, e, in); !ok || !c.count(k, e) {
		return
	}
	if len(k.lookups) > 0 {
		k.expansion = c.set.expansions.add(k.describe())
	}
	c.table.calls = append(c.table.calls, k)
}

func (c *callReader) all(e *hclsyntax.FunctionCallExpr) {
	word := ""
	if len(e.Args) == 1 {
		word = hcl.ExprAsKeyword(e.Args[0])
	}
	v := c.set.viewlets[word]
	if v == nil {
		c.error(e.Range(), "Unknown viewlet", "all takes the name of one viewlet, and means every fragment of it.%s", didYouMean(word, sortedKeys(c.set.viewlets), "all(%s)"))
		return
	}
	c.table.calls = append(c.table.calls, &call{viewlet: v, whole: true, at: e.Range(), source: c.sourceOf(e, nil)})
}

func (c *callReader) unknownViewlet(e *hclsyntax.FunctionCallExpr) {
	if c.set.lookups[e.Name] != nil {
		c.error(e.Range(), "A lookup is no fragment", "%s is a lookup: it finds arguments. Write it within the call of a viewlet, such as product_teaser(%s(id)).", e.Name, e.Name)
		return
	}
	c.error(e.NameRange, "Unknown viewlet", "No viewlet has the name %q.%s", e.Name, didYouMean(e.Name, sortedKeys(c.set.viewlets), "%q"))
}

// count compares the arguments with the viewlet's params. A lookup stands for
// as many as its query has columns, which only Bind knows.
func (c *callReader) count(k *call, e *hclsyntax.FunctionCallExpr) bool {
	have, want := len(k.outputs), len(k.viewlet.Params)
	lookups := slices.ContainsFunc(k.outputs, func(r Ref) bool { return r.Step >= 0 })
	if have == want || lookups && have <= want {
		return true
	}
	c.error(e.Range(), "Wrong number of arguments", "%s has %s, and this call gives %d. Write %s.", k.viewlet.Name, plural(want, "param"), have, signature(k.viewlet))
	return false
}

// arguments reads those of a viewlet or a lookup, and says what each is in
// terms of the call's inputs and lookups.
func (c *callReader) arguments(k *call, e *hclsyntax.FunctionCallExpr, in scope) (refs []Ref, ok bool) {
	if e.ExpandFinal {
		c.error(e.Range(), "Arguments from a list", "Write each argument by itself; for a list of fragments there is for.")
		return nil, false
	}
	ok = true
	for _, a := range e.Args {
		ref, argOK := c.argument(k, a, in)
		refs = append(refs, ref)
		ok = ok && argOK
	}
	return refs, ok
}

func (c *callReader) argument(k *call, e hclsyntax.Expression, in scope) (Ref, bool) {
	for {
		if p, ok := e.(*hclsyntax.ParenthesesExpr); ok {
			e = p.Expression
		} else if w, ok := e.(*hclsyntax.TemplateWrapExpr); ok {
			e = w.Wrapped
		} else {
			break
		}
	}
	if f, ok := e.(*hclsyntax.FunctionCallExpr); ok && c.set.lookups[f.Name] != nil {
		return c.lookupCall(k, f, in)
	}
	i, ok := c.input(e, in)
	if !ok {
		return Ref{}, false
	}
	k.inputs = append(k.inputs, i)
	return Ref{Step: -1, Column: len(k.inputs) - 1}, true
}

func (c *callReader) lookupCall(k *call, e *hclsyntax.FunctionCallExpr, in scope) (Ref, bool) {
	l := c.set.lookups[e.Name]
	refs, ok := c.arguments(k, e, in)
	if !ok {
		return Ref{}, false
	}
	nested := slices.ContainsFunc(refs, func(r Ref) bool { return r.Step >= 0 })
	if len(refs) != len(l.Params) && !(nested && len(refs) < len(l.Params)) {
		c.error(e.Range(), "Wrong number of arguments", "The lookup %s has %s, and this call gives %d. Write %s(%s).", l.Name, plural(len(l.Params), "param"), len(refs), l.Name, strings.Join(l.Params, ", "))
		return Ref{}, false
	}
	k.lookups = append(k.lookups, &lookup{Lookup: l, args: refs, at: e.Range()})
	return Ref{Step: len(k.lookups) - 1, Column: -1}, true
}

// input reads an argument that needs the row alone.
func (c *callReader) input(e hclsyntax.Expression, in scope) (*input, bool) {
	if !c.functionsKnown(e) {
		return nil, false
	}
	refs, ok := c.columns(e, in)
	if !ok {
		return nil, false
	}
	i := &input{expr: e, refs: refs}
	if _, plain := e.(*hclsyntax.ScopeTraversalExpr); plain && len(refs) == 1 {
		i.column = &refs[0]
		return i, true
	}
	v, diags := e.Value(in.context(c.set.functions, refs))
	c.diags = append(c.diags, diags...)
	if diags.HasErrors() {
		return nil, false
	}
	if len(refs) > 0 || in.unknown(e) {
		return i, true
	}
	text, known := argumentText(v)
	if !known {
		c.error(e.Range(), "Not an argument", "An argument is a text, a number or a boolean; null names no fragment, and a list belongs in a for.")
		return nil, false
	}
	i.text = &text
	return i, true
}

// functionsKnown reports calls of what no function is.
func (c *callReader) functionsKnown(e hclsyntax.Expression) bool {
	ok := true
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		f, isCall := n.(*hclsyntax.FunctionCallExpr)
		if !isCall {
			return nil
		}
		if _, known := c.set.functions[f.Name]; known {
			return nil
		}
		ok = false
		switch {
		case f.Name == "changed":
			c.error(f.Range(), "changed belongs in when", "Write when = changed(...) beside refresh.")
		case c.set.lookups[f.Name] != nil:
			c.error(f.Range(), "Lookup within an expression", "A lookup is an argument by itself: its rows are not known until it runs. Let its query do what the expression does.")
		case c.set.viewlets[f.Name] != nil:
			c.error(f.Range(), "Viewlet as an argument", "An argument is a value of the row, or a lookup.")
		default:
			names := slices.Concat(sortedKeys(c.set.lookups), sortedKeys(c.set.functions))
			c.error(f.NameRange, "Unknown lookup or function", "There is no lookup and no function %q.%s", f.Name, didYouMean(f.Name, names, "%q"))
		}
		return nil
	})
	return ok
}

// with adds the variables of one round of a for.
func (s scope) with(e *hclsyntax.ForExpr, key, value cty.Value) scope {
	round := maps.Clone(s)
	if round == nil {
		round = scope{}
	}
	if e.KeyVar != "" {
		round[e.KeyVar] = key
	}
	round[e.ValVar] = value
	return round
}

// unknown reports whether the expression reads a variable that comes from the
// row.
func (s scope) unknown(e hclsyntax.Expression) bool {
	return slices.ContainsFunc(e.Variables(), func(t hcl.Traversal) bool {
		v, ok := s[t.RootName()]
		return ok && !v.IsWhollyKnown()
	})
}

// isTrue reports whether a condition came out as true.
func isTrue(v cty.Value) bool {
	b, err := convert.Convert(v, cty.Bool)
	return err == nil && b.IsKnown() && !b.IsNull() && b.True()
}

// argumentText is a value as Postgres writes it: integers without exponent,
// booleans as t and f. known is false for null, for what is not known yet, and
// for a list or object.
func argumentText(v cty.Value) (text string, known bool) {
	v, _ = v.UnmarkDeep()
	if v.IsNull() || !v.IsKnown() {
		return "", false
	}
	if v.Type() == cty.Bool {
		if v.True() {
			return "t", true
		}
		return "f", true
	}
	if v.Type() == cty.Number && v.AsBigFloat().IsInf() {
		return infinite(v.AsBigFloat()), true
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", false
	}
	return s.AsString(), true
}
