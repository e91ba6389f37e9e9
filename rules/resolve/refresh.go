package resolve

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Refresh reads a table block's refresh: it appends to the rule's calls, and
// tells p what is wrong.
func (n *Names) Refresh(into *rule.Rule, e hcl.Expression, p *source.Problems) {
	native, diags := source.Native(e)
	if p.Add(diags) {
		r := &reader{Names: n, Problems: p, into: into, attr: e.Range()}
		r.refresh(native, rule.Scope{})
	}
}

// reader reads one refresh.
type reader struct {
	*Names
	*source.Problems
	into  *rule.Rule
	attr  hcl.Range   // the attribute's expression
	loops []rule.Loop // around what is being read
}

// refresh reads a call, a list of them, or a for.
func (r *reader) refresh(e hclsyntax.Expression, in rule.Scope) {
	switch e := source.Unwrap(e).(type) {
	case *hclsyntax.TupleConsExpr:
		for _, item := range e.Exprs {
			r.refresh(item, in)
		}
	case *hclsyntax.ForExpr:
		r.forEach(e, in)
	case *hclsyntax.FunctionCallExpr:
		r.call(e, in)
	default:
		r.notCall(e)
	}
}

func (r *reader) notCall(e hclsyntax.Expression) {
	word := hcl.ExprAsKeyword(e)
	params, known := r.Viewlets[word]
	switch {
	case known:
		r.Error(e.Range(), "Not a call", "Write %s to refresh one fragment, or all(%s) for every one.", hint.Call(word, params), word)
	case word != "":
		r.Error(e.Range(), "Not a call", "A refresh is a call of a viewlet, such as product_teaser(id).%s", hint.DidYouMean(word, sortedKeys(r.Viewlets), "%s(...)"))
	default:
		r.Error(source.FirstLine(e.Range()), "Not a call", "A refresh is a call of a viewlet such as product_teaser(id), a list of calls, or [for l in [\"en\", \"sv\"] : teaser(id, l)]. What depends on the row belongs in when, in a table block of its own.")
	}
}

// forEach unrolls a for over literals, and keeps one over the row's values for
// when there is a row.
func (r *reader) forEach(e *hclsyntax.ForExpr, in rule.Scope) {
	if e.KeyExpr != nil {
		r.Error(source.FirstLine(e.Range()), "Not a list", "A for in a refresh gives a list: [for l in [\"en\", \"sv\"] : teaser(id, l)].")
		return
	}
	reads, ok := rule.Columns(e.CollExpr, in, r.Problems)
	if !ok {
		return
	}
	if len(reads) > 0 || in.Unknown(e.CollExpr) {
		r.loopOverRow(rule.Loop{ForExpr: e, Reads: reads, Scope: in})
		return
	}
	items, ok := r.value(e.CollExpr, in, nil)
	if !ok {
		return
	}
	if items.IsNull() || !items.IsKnown() || !items.CanIterateElements() {
		r.Error(e.CollExpr.Range(), "Not a list", "A for goes over a list: [for l in [\"en\", \"sv\"] : teaser(id, l)].")
		return
	}
	for it := items.ElementIterator(); it.Next(); {
		k, v := it.Element()
		round := in.With(e, k, v)
		if e.CondExpr == nil || r.included(e.CondExpr, round) {
			r.refresh(e.ValExpr, round)
		}
	}
}

func (r *reader) loopOverRow(l rule.Loop) {
	round := l.Scope.With(l.ForExpr, cty.DynamicVal, cty.DynamicVal)
	if !r.functionsKnown(l.CollExpr) {
		return
	}
	if l.CondExpr != nil {
		reads, ok := rule.Columns(l.CondExpr, round, r.Problems)
		if !ok || !r.functionsKnown(l.CondExpr) {
			return
		}
		l.Reads = append(l.Reads, reads...)
	}
	r.loops = append(r.loops, l)
	r.refresh(l.ValExpr, round)
	r.loops = r.loops[:len(r.loops)-1]
}

// included evaluates the if of a for over literals.
func (r *reader) included(cond hclsyntax.Expression, in rule.Scope) bool {
	reads, ok := rule.Columns(cond, in, r.Problems)
	if !ok {
		return false
	}
	if len(reads) > 0 {
		r.Error(cond.Range(), "Column in an if", "The if of a for over literals cannot read the row. Write a table block of its own, with when.")
		return false
	}
	v, ok := r.value(cond, in, nil)
	return ok && rule.True(v)
}

// call reads viewlet(arguments...), or all(viewlet).
func (r *reader) call(e *hclsyntax.FunctionCallExpr, in rule.Scope) {
	if e.Name == "all" {
		r.all(e)
		return
	}
	params, known := r.Viewlets[e.Name]
	if !known {
		r.unknownViewlet(e)
		return
	}
	x := &rule.Expansion{Viewlet: e.Name}
	k := &rule.Call{Viewlet: e.Name, Expansion: x, Loops: slices.Clone(r.loops), Scope: in, At: e.Range(), Source: r.source(e, in)}
	ok := true
	if x.Outputs, ok = r.arguments(k, e, in); !ok {
		return
	}
	if !fits(x.Outputs, params) {
		r.Error(e.Range(), "Wrong number of arguments", "%s has %s, and this call gives %d. Write %s.", e.Name, hint.Count(len(params), "param"), len(x.Outputs), hint.Call(e.Name, params))
		return
	}
	if len(x.Steps) > 0 {
		x.Name, x.Inputs = x.Describe(), len(k.Inputs)
		k.Expansion = r.Expansions.Add(x)
	}
	r.into.Calls = append(r.into.Calls, k)
}

// fits compares arguments with params. A lookup stands for as many as its
// query has columns, which only the database knows.
func fits(refs []rule.Ref, params []string) bool {
	lookups := slices.ContainsFunc(refs, func(r rule.Ref) bool { return r.Step >= 0 })
	return len(refs) == len(params) || lookups && len(refs) < len(params)
}

func (r *reader) all(e *hclsyntax.FunctionCallExpr) {
	word := ""
	if len(e.Args) == 1 {
		word = hcl.ExprAsKeyword(e.Args[0])
	}
	if _, known := r.Viewlets[word]; !known {
		r.Error(e.Range(), "Unknown viewlet", "all takes the name of one viewlet, and means every fragment of it.%s", hint.DidYouMean(word, sortedKeys(r.Viewlets), "all(%s)"))
		return
	}
	r.into.Calls = append(r.into.Calls, &rule.Call{Viewlet: word, At: e.Range(), Source: r.source(e, nil)})
}

func (r *reader) unknownViewlet(e *hclsyntax.FunctionCallExpr) {
	if r.Lookups[e.Name] != nil {
		r.Error(e.Range(), "A lookup is no fragment", "%s is a lookup: it finds arguments. Write it within the call of a viewlet, such as product_teaser(%s(id)).", e.Name, e.Name)
		return
	}
	r.Error(e.NameRange, "Unknown viewlet", "No viewlet has the name %q.%s", e.Name, hint.DidYouMean(e.Name, sortedKeys(r.Viewlets), "%q"))
}

// arguments reads those of a viewlet or a lookup, and says what each is in
// terms of the call's inputs and steps.
func (r *reader) arguments(k *rule.Call, e *hclsyntax.FunctionCallExpr, in rule.Scope) (refs []rule.Ref, ok bool) {
	if e.ExpandFinal {
		r.Error(e.Range(), "Arguments from a list", "Write each argument by itself; for a list of fragments there is for.")
		return nil, false
	}
	ok = true
	for _, a := range e.Args {
		ref, argOK := r.argument(k, source.Unwrap(a), in)
		refs = append(refs, ref)
		ok = ok && argOK
	}
	return refs, ok
}

func (r *reader) argument(k *rule.Call, e hclsyntax.Expression, in rule.Scope) (ref rule.Ref, ok bool) {
	if f, call := e.(*hclsyntax.FunctionCallExpr); call && r.Lookups[f.Name] != nil {
		return r.lookup(k, f, in)
	}
	input, ok := r.input(e, in)
	if ok {
		k.Inputs = append(k.Inputs, input)
	}
	return rule.Ref{Step: -1, Column: len(k.Inputs) - 1}, ok
}

func (r *reader) lookup(k *rule.Call, e *hclsyntax.FunctionCallExpr, in rule.Scope) (ref rule.Ref, ok bool) {
	l := r.Lookups[e.Name]
	args, ok := r.arguments(k, e, in)
	if !ok {
		return ref, false
	}
	if !fits(args, l.Params) {
		r.Error(e.Range(), "Wrong number of arguments", "The lookup %s has %s, and this call gives %d. Write %s.", l.Name, hint.Count(len(l.Params), "param"), len(args), hint.Call(l.Name, l.Params))
		return ref, false
	}
	k.Expansion.Steps = append(k.Expansion.Steps, rule.Step{Lookup: l, Args: args})
	k.Steps = append(k.Steps, e.Range())
	return rule.Ref{Step: len(k.Steps) - 1, Column: -1}, true
}

// input reads an argument that needs the row alone.
func (r *reader) input(e hclsyntax.Expression, in rule.Scope) (input rule.Input, ok bool) {
	if !r.functionsKnown(e) {
		return input, false
	}
	reads, ok := rule.Columns(e, in, r.Problems)
	if !ok {
		return input, false
	}
	if _, plain := e.(*hclsyntax.ScopeTraversalExpr); plain && len(reads) == 1 {
		return rule.Input{Reads: reads}, true
	}
	v, ok := r.value(e, in, reads)
	if !ok || len(reads) > 0 || in.Unknown(e) {
		return rule.Input{Expr: e, Reads: reads}, ok
	}
	text, ok := rule.Text(v)
	if !ok {
		r.Error(e.Range(), "Not an argument", "An argument is a text, a number or a boolean; null names no fragment, and a list belongs in a for.")
	}
	return rule.Input{Constant: viewlet.AppendArg(nil, text)}, ok
}

// value evaluates an expression as far as that can be done without a row.
func (r *reader) value(e hclsyntax.Expression, in rule.Scope, reads []rule.Column) (v cty.Value, ok bool) {
	v, diags := e.Value(in.Within(rule.Context(r.Functions, reads, rule.Unknown)))
	return v, r.Add(diags)
}

// functionsKnown reports calls of what no function is.
func (r *reader) functionsKnown(e hclsyntax.Expression) bool {
	before := r.Errors()
	for _, f := range source.Nodes[*hclsyntax.FunctionCallExpr](e) {
		_, function := r.Functions[f.Name]
		_, viewlet := r.Viewlets[f.Name]
		switch {
		case function:
		case f.Name == "changed":
			r.Error(f.Range(), "changed belongs in when", "Write when = changed(...) beside refresh.")
		case r.Lookups[f.Name] != nil:
			r.Error(f.Range(), "Lookup within an expression", "A lookup is an argument by itself: its rows are not known until it runs. Let its query do what the expression does.")
		case viewlet:
			r.Error(f.Range(), "Viewlet as an argument", "An argument is a value of the row, or a lookup.")
		default:
			names := slices.Concat(sortedKeys(r.Lookups), sortedKeys(r.Functions))
			r.Error(f.NameRange, "Unknown lookup or function", "There is no lookup and no function %q.%s", f.Name, hint.DidYouMean(f.Name, names, "%q"))
		}
	}
	return r.Errors() == before
}

// source is a call as written, with what the fors around it define.
func (r *reader) source(e hclsyntax.Expression, in rule.Scope) string {
	text := r.written(e, r.attr)
	for _, name := range sortedKeys(in) {
		text += fmt.Sprintf(" %s=%#v", name, in[name])
	}
	for _, l := range r.loops {
		text += " for " + r.written(l.ForExpr, l.Range())
	}
	return text
}
