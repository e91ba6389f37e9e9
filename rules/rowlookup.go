package rules

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// row appends a call some of whose columns are large values that did not
// change and that the stream leaves out: a lookup of our own reads them from
// the table by its key, and then the call goes on as it is written.
//
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html#PROTOCOL-LOGICALREP-MESSAGE-FORMATS-TUPLEDATA
func (m *matcher) row(k *compiledCall, s side, ctx *hcl.EvalContext, unchanged uint64) {
	buf, keys := m.rowKey()
	if len(keys) == 0 || len(k.inputs) > 63 {
		m.giveUp(k, errors.New("the stream leaves out a large value that did not change, and the table has no key to read it by"))
		return
	}
	for i := range k.inputs {
		in := &k.inputs[i]
		switch {
		case unchanged&(1<<i) != 0:
		case in.constant != nil:
			buf = append(buf, in.constant...)
		case in.expr != nil:
			text, ok := m.argument(k, in.expr, ctx)
			if !ok {
				return
			}
			buf = viewlet.AppendArg(buf, text)
		default:
			buf = viewlet.AppendArg(buf, m.at(in.column.index, in.column.side.or(s)).Text)
		}
	}
	if k.rows == nil {
		k.rows = map[uint64]string{}
	}
	via := k.rows[unchanged]
	if via == "" {
		via = m.rowExpansion(k, keys, unchanged)
		k.rows[unchanged] = via
	}
	m.add(viewlet.Refresh{Key: viewlet.Key{Viewlet: k.call.viewlet.Name, Args: m.args.intern(buf)}, Via: via})
}

// rowKey gives the values of the columns that identify the row, encoded, and
// their names; none when the stream does not tell them.
func (m *matcher) rowKey() (buf []byte, names []string) {
	if m.change.Rel.Identity == viewlet.IdentityFull {
		return nil, nil
	}
	for i, column := range m.change.Rel.Columns {
		if !column.Key {
			continue
		}
		v := m.at(i, newSide)
		if v.Kind != viewlet.Text {
			return nil, nil
		}
		buf = viewlet.AppendArg(buf, v.Text)
		names = append(names, column.Name)
	}
	return buf, names
}

// rowExpansion registers the expansion that reads the unchanged inputs of a
// call by the row's key.
func (m *matcher) rowExpansion(k *compiledCall, keys []string, unchanged uint64) (name string) {
	var columns []string
	for i := range k.inputs {
		if unchanged&(1<<i) != 0 {
			columns = append(columns, k.inputs[i].column.name)
		}
	}
	l := rowLookup(m.change.Rel, keys, columns)
	move := func(refs []Ref) []Ref {
		moved := make([]Ref, len(refs))
		for i, r := range refs {
			moved[i] = moveRef(r, len(keys), unchanged)
		}
		return moved
	}
	e := &Expansion{
		Name:    l.Name,
		Viewlet: k.call.viewlet.Name,
		Inputs:  len(keys) + len(k.inputs) - len(columns),
		Steps:   []Step{{Lookup: l}},
		Outputs: move(k.call.outputs),
	}
	for i := range keys {
		e.Steps[0].Args = append(e.Steps[0].Args, Ref{Step: -1, Column: i})
	}
	if k.call.expansion != nil {
		e.Name += ", " + k.call.expansion.Name
		for _, step := range k.call.expansion.Steps {
			e.Steps = append(e.Steps, Step{Lookup: step.Lookup, Args: move(step.Args)})
		}
	}
	shape := fmt.Sprintf("%s(%s) %v of %s", k.call.viewlet.Name, e.Name, e.Outputs, l.Query.SQL)
	for _, step := range e.Steps {
		shape += fmt.Sprintf("; %s%v", step.Lookup.Name, step.Args)
	}
	return m.expansions.add(shape, e).Name
}

// moveRef turns a Ref of a call's own expansion to one behind the row lookup.
func moveRef(r Ref, keys int, unchanged uint64) Ref {
	if r.Step >= 0 {
		return Ref{Step: r.Step + 1, Column: r.Column}
	}
	before := bits.OnesCount64(unchanged & (1<<r.Column - 1))
	if unchanged&(1<<r.Column) != 0 {
		return Ref{Step: 0, Column: before}
	}
	return Ref{Step: -1, Column: keys + r.Column - before}
}

// rowLookup reads columns of the row that a key identifies.
func rowLookup(rel *viewlet.Relation, keys, columns []string) *Lookup {
	l := &Lookup{Name: "row of " + rel.String()}
	where := make([]string, len(keys))
	for i, key := range keys {
		param := fmt.Sprintf("key%d", i+1)
		l.Params = append(l.Params, param)
		where[i] = quote(key) + " = @" + param
	}
	selected := make([]string, len(columns))
	for i, column := range columns {
		selected[i] = fmt.Sprintf("%s AS column%d", quote(column), i+1)
	}
	l.Query = &Query{Params: l.Params, SQL: fmt.Sprintf("SELECT %s FROM %s.%s WHERE %s",
		strings.Join(selected, ", "), quote(rel.Schema), quote(rel.Name), strings.Join(where, " AND "))}
	return l
}

// quote writes a name as SQL does.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
