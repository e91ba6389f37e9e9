// Package match says which fragments a change makes stale.
package match

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Matcher follows rules. It is for one goroutine at a time.
type Matcher struct {
	rules      []*rule.Rule
	functions  map[string]function.Function
	expansions *rule.Expansions     // row lookups are added to them
	relations  map[uint32]*relation // by OID
	args       interner

	change  *viewlet.Change
	dst     []viewlet.Refresh
	start   int // where the change's refreshes begin in dst
	errs    []error
	buf     []byte
	notSent struct{ null, unchanged bool } // among the values of the context made last
}

// New makes a Matcher of those rules, whose expressions call those functions.
func New(rules []*rule.Rule, functions map[string]function.Function, expansions *rule.Expansions) *Matcher {
	return &Matcher{rules: rules, functions: functions, expansions: expansions}
}

// Bind tells what the catalog says of the tables that the rules name; nil or
// missing: nothing. What was compiled is forgotten.
func (m *Matcher) Bind(tables map[viewlet.TableName]*viewlet.Table) {
	m.relations = nil
	for _, r := range m.rules {
		r.Bound = tables[r.Table]
	}
}

// Match appends what the change makes stale to dst, each Refresh once. Errors
// are for the log: rules that cannot be followed, said once for each Relation.
func (m *Matcher) Match(dst []viewlet.Refresh, c *viewlet.Change) ([]viewlet.Refresh, error) {
	m.change, m.dst, m.start = c, dst, len(dst)
	for _, r := range m.relation(c.Rel).rules {
		if r.On[c.Op] && (c.Op == viewlet.Truncate || r.when == nil || r.when(m) > null) {
			for _, k := range r.calls {
				m.call(k)
			}
		}
	}
	dst, errs := m.dst, m.errs
	m.change, m.dst, m.errs = nil, nil, nil
	return dst, errors.Join(errs...)
}

func (m *Matcher) call(k *compiledCall) {
	switch op := m.change.Op; {
	case op == viewlet.Truncate, k.Expansion == nil, k.broken:
		m.whole(k)
	case k.sides[rule.NewSide] && op == viewlet.Delete, k.sides[rule.OldSide] && op == viewlet.Insert:
		// That side does not exist.
	case op == viewlet.Insert:
		m.image(k, rule.NewSide)
	case op == viewlet.Delete:
		m.image(k, rule.OldSide)
	default:
		if k.sides[rule.BareSide] {
			m.image(k, rule.OldSide)
		}
		m.image(k, rule.NewSide)
	}
}

// image follows a call with bare columns being those of one side.
func (m *Matcher) image(k *compiledCall, s rule.Side) {
	if !k.evaluates {
		m.key(k, s, nil)
		return
	}
	m.loop(k, s, m.context(m.functions, k.columns, s), k.Loops)
}

// loop goes through the fors over the row's values, the outermost first.
func (m *Matcher) loop(k *compiledCall, s rule.Side, ctx *hcl.EvalContext, loops []rule.Loop) {
	if len(loops) == 0 {
		m.key(k, s, k.Scope.Literals().Within(ctx))
		return
	}
	f := loops[0]
	ctx = f.Scope.Literals().Within(ctx)
	items, ok := m.evaluate(k, f.CollExpr, ctx)
	if !ok {
		return
	}
	if !items.CanIterateElements() {
		m.giveUp(k, fmt.Errorf("for goes over %s, which is no list", items.Type().FriendlyName()))
		return
	}
	for it := items.ElementIterator(); it.Next(); {
		key, value := it.Element()
		round := rule.Scope(nil).With(f.ForExpr, key, value).Within(ctx)
		if f.CondExpr != nil {
			if include, ok := m.evaluate(k, f.CondExpr, round); !ok || !rule.True(include) {
				continue
			}
		}
		m.loop(k, s, round, loops[1:])
	}
}

// key appends the fragment, or the lookup's inputs, that the call's arguments
// name. NULL names none, and so does what the stream does not tell.
func (m *Matcher) key(k *compiledCall, s rule.Side, ctx *hcl.EvalContext) {
	buf, unchanged, ok := m.arguments(m.buf[:0], k, s, ctx)
	via := k.via
	if ok && unchanged != 0 {
		buf, via, ok = m.row(k, s, ctx, unchanged)
	}
	m.buf = buf
	if ok {
		m.add(viewlet.Refresh{Key: viewlet.Key{Viewlet: k.Viewlet, Args: m.args.intern(buf)}, Via: via})
	}
}

// arguments appends the inputs of a call. Left out are large values that did
// not change and that the stream does not send, bit by bit in unchanged, the
// last of which means all from the 64th on. Without ok the call names no
// fragment.
func (m *Matcher) arguments(buf []byte, k *compiledCall, s rule.Side, ctx *hcl.EvalContext) (args []byte, unchanged uint64, ok bool) {
	for i := range k.inputs {
		in := &k.inputs[i]
		switch {
		case in.Constant != nil:
			buf = append(buf, in.Constant...)
		case in.Expr != nil:
			text, ok := m.argument(k, in.Expr, ctx)
			if !ok {
				return buf, 0, false
			}
			buf = viewlet.AppendArg(buf, text)
		default:
			column := &in.Reads[0]
			switch v := m.at(column.Index, column.Side.Or(s)); v.Kind {
			case viewlet.Text:
				buf = viewlet.AppendArg(buf, v.Text)
			case viewlet.Unchanged:
				unchanged |= 1 << min(i, 63)
			default:
				return buf, 0, false
			}
		}
	}
	return buf, unchanged, true
}

// argument evaluates one argument. Without ok the call names no fragment.
func (m *Matcher) argument(k *compiledCall, e hclsyntax.Expression, ctx *hcl.EvalContext) (text string, ok bool) {
	v, ok := m.evaluate(k, e, ctx)
	if !ok {
		return "", false
	}
	if text, ok = rule.Text(v); !ok {
		m.giveUp(k, fmt.Errorf("an argument is %s, not one value", v.Type().FriendlyName()))
	}
	return text, ok
}

// evaluate gives a value that is known and not null. Otherwise ok is false:
// null, also one that an operation refuses, names no fragment; neither does
// what the stream does not tell. Where fragments might be missed, all of the
// viewlet are refreshed.
func (m *Matcher) evaluate(k *compiledCall, e hclsyntax.Expression, ctx *hcl.EvalContext) (v cty.Value, ok bool) {
	v, diags := e.Value(ctx)
	switch {
	case diags.HasErrors():
		if !m.notSent.null {
			m.giveUp(k, brief(diags))
		}
	case v.IsKnown() && v.IsNull():
	case !v.IsWhollyKnown():
		if m.notSent.unchanged {
			m.giveUp(k, errUnchanged)
		}
	default:
		return v, true
	}
	return v, false
}

var errUnchanged = errors.New("the stream leaves out a large value that did not change, which an argument computes with; REPLICA IDENTITY FULL sends it")

// brief says what HCL found in one line.
func brief(diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			return fmt.Errorf("%s: %s", d.Summary, d.Detail)
		}
	}
	return diags
}

// add appends a refresh that the change has not asked for yet. It looks back
// over a bounded number of them; asking twice does no harm.
func (m *Matcher) add(r viewlet.Refresh) {
	if !slices.Contains(m.dst[max(m.start, len(m.dst)-64):], r) {
		m.dst = append(m.dst, r)
	}
}

func (m *Matcher) whole(k *compiledCall) {
	m.add(viewlet.Refresh{Key: viewlet.Key{Viewlet: k.Viewlet}, Via: viewlet.Whole})
}

// giveUp refreshes all of a viewlet because a call cannot name the fragments.
func (m *Matcher) giveUp(k *compiledCall, cause error) {
	m.whole(k)
	if !k.reported {
		k.reported = true
		m.report(k.At, "follow %s for %s: %w; all of %s is refreshed instead", k.Viewlet, m.change.Rel, cause, k.Viewlet)
	}
}

func (m *Matcher) report(at hcl.Range, format string, args ...any) {
	m.errs = append(m.errs, fmt.Errorf("%s: "+format, append([]any{source.Line(at)}, args...)...))
}
