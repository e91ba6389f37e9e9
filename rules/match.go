package rules

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Match appends what the change makes stale to dst, each Refresh once. Rules
// are compiled once for a Relation; a change that nothing wants allocates
// nothing. Match is for one goroutine at a time, and keeps nothing of c.
//
// An error is for the log and a human: a rule that cannot be followed, which is
// said once for each Relation. What was appended is right nevertheless, since
// where a rule cannot name a fragment, all of its viewlet stand in for it.
func (s *Set) Match(dst []viewlet.Refresh, c *viewlet.Change) ([]viewlet.Refresh, error) {
	m := &s.matcher
	m.change, m.dst, m.start = c, dst, len(dst)
	for _, r := range s.relation(c.Rel).rules {
		if r.table.on[c.Op] {
			m.rule(r)
		}
	}
	dst, errs := m.dst, m.errs
	m.change, m.dst, m.errs = nil, nil, nil
	return dst, errors.Join(errs...)
}

// matcher is where a Set keeps what it compiled, and the change that it is at.
type matcher struct {
	relations  map[uint32]*relation // by OID
	args       interner
	expansions *expansions // the Set's, which row lookups are added to

	change  *viewlet.Change
	dst     []viewlet.Refresh
	start   int // where the change's refreshes begin in dst
	errs    []error
	buf     []byte
	notSent struct{ null, unchanged bool } // among the values of the context made last
}

func (m *matcher) rule(r *rule) {
	if m.change.Op == viewlet.Truncate {
		for _, k := range r.calls {
			m.whole(k)
		}
		return
	}
	if r.when != nil && r.when(m) <= null {
		return
	}
	for _, k := range r.calls {
		m.call(k)
	}
}

func (m *matcher) call(k *compiledCall) {
	op := m.change.Op
	switch {
	case k.call.whole || k.broken:
		m.whole(k)
	case k.reads[newSide] && op == viewlet.Delete, k.reads[oldSide] && op == viewlet.Insert:
		// That side does not exist.
	case op == viewlet.Insert:
		m.image(k, newSide)
	case op == viewlet.Delete:
		m.image(k, oldSide)
	default:
		if k.reads[bare] {
			m.image(k, oldSide)
		}
		m.image(k, newSide)
	}
}

// image follows a call with bare columns being those of one side.
func (m *matcher) image(k *compiledCall, s side) {
	if !k.evaluates {
		m.key(k, s, nil)
		return
	}
	ctx := m.context(k.places, s, k.call.scope)
	ctx.Functions = k.functions
	m.loop(k, s, ctx, 0)
}

// loop goes through the fors over the row's values, the outermost first.
func (m *matcher) loop(k *compiledCall, s side, ctx *hcl.EvalContext, depth int) {
	if depth == len(k.call.loops) {
		m.key(k, s, ctx)
		return
	}
	f := k.call.loops[depth]
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
		round := ctx.NewChild()
		round.Variables = scope(nil).with(f.ForExpr, key, value)
		if f.CondExpr != nil {
			if include, ok := m.evaluate(k, f.CondExpr, round); !ok || !isTrue(include) {
				continue
			}
		}
		m.loop(k, s, round, depth+1)
	}
}

// key appends the fragment, or the lookup's inputs, that the call's arguments
// name. NULL names none, and so does what the stream does not tell.
func (m *matcher) key(k *compiledCall, s side, ctx *hcl.EvalContext) {
	buf := m.buf[:0]
	var unchanged uint64
	for i := range k.inputs {
		in := &k.inputs[i]
		switch {
		case in.constant != nil:
			buf = append(buf, in.constant...)
		case in.expr != nil:
			text, ok := m.argument(k, in.expr, ctx)
			if !ok {
				return
			}
			buf = viewlet.AppendArg(buf, text)
		default:
			v := m.at(in.column.index, in.column.side.or(s))
			switch v.Kind {
			case viewlet.Text:
				buf = viewlet.AppendArg(buf, v.Text)
			case viewlet.Unchanged:
				unchanged |= 1 << min(i, 63)
			default:
				m.buf = buf
				return
			}
		}
	}
	m.buf = buf
	if unchanged != 0 {
		m.row(k, s, ctx, unchanged)
		return
	}
	m.add(viewlet.Refresh{Key: viewlet.Key{Viewlet: k.call.viewlet.Name, Args: m.args.intern(buf)}, Via: k.via})
}

// add appends a refresh that the change has not asked for yet. It looks back
// over a bounded number of them; asking twice does no harm.
func (m *matcher) add(r viewlet.Refresh) {
	if !slices.Contains(m.dst[max(m.start, len(m.dst)-64):], r) {
		m.dst = append(m.dst, r)
	}
}

func (m *matcher) whole(k *compiledCall) {
	m.add(viewlet.Refresh{Key: viewlet.Key{Viewlet: k.call.viewlet.Name}, Via: viewlet.Whole})
}

// giveUp refreshes all of a viewlet because a call cannot name the fragments.
func (m *matcher) giveUp(k *compiledCall, cause error) {
	m.whole(k)
	if !k.reported {
		k.reported = true
		m.report(k.call.at, "follow %s for %s: %w; all of %s is refreshed instead", k.call.viewlet.Name, m.change.Rel, cause, k.call.viewlet.Name)
	}
}

func (m *matcher) report(at hcl.Range, format string, args ...any) {
	m.errs = append(m.errs, fmt.Errorf("%s: "+format, append([]any{lineOf(at)}, args...)...))
}
