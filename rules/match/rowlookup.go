package match

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/rules/query"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// row stands in for arguments some of which are large values that did not
// change and that the stream leaves out: a lookup of our own reads them from
// the table by its key, and then the call goes on as it is written.
//
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html#PROTOCOL-LOGICALREP-MESSAGE-FORMATS-TUPLEDATA
func (m *Matcher) row(k *compiledCall, s rule.Side, ctx *hcl.EvalContext, unchanged uint64) (args []byte, via string, ok bool) {
	args, keys := m.rowKey(m.buf[:0])
	if len(keys) == 0 || len(k.inputs) > 63 {
		m.giveUp(k, errors.New("the stream leaves out a large value that did not change, and the table has no key to read it by"))
		return args, "", false
	}
	if args, _, ok = m.arguments(args, k, s, ctx); !ok {
		return args, "", false
	}
	if k.rows == nil {
		k.rows = map[uint64]string{}
	}
	if k.rows[unchanged] == "" {
		k.rows[unchanged] = m.expansions.Add(k.rowExpansion(m.change.Rel, keys, unchanged)).Name
	}
	return args, k.rows[unchanged], true
}

// rowKey appends the values of the columns that identify the row, and gives
// their names; none when the stream does not tell them.
func (m *Matcher) rowKey(buf []byte) (args []byte, names []string) {
	if m.change.Rel.Identity == viewlet.IdentityFull {
		return buf, nil
	}
	for i, column := range m.change.Rel.Columns {
		if !column.Key {
			continue
		}
		v := m.at(i, rule.NewSide)
		if v.Kind != viewlet.Text {
			return buf, nil
		}
		buf = viewlet.AppendArg(buf, v.Text)
		names = append(names, column.Name)
	}
	return buf, names
}

// rowExpansion is the call's own expansion behind a lookup that reads its
// unchanged inputs by the row's key.
func (k *compiledCall) rowExpansion(rel *viewlet.Relation, keys []string, unchanged uint64) *rule.Expansion {
	var columns []string
	for i, in := range k.inputs {
		if unchanged&(1<<i) != 0 {
			columns = append(columns, in.Reads[0].Name)
		}
	}
	move := func(refs []rule.Ref) []rule.Ref {
		moved := make([]rule.Ref, len(refs))
		for i, r := range refs {
			moved[i] = moveRef(r, len(keys), unchanged)
		}
		return moved
	}
	row := rule.Step{Lookup: rowLookup(rel, keys, columns)}
	for i := range keys {
		row.Args = append(row.Args, rule.Ref{Step: -1, Column: i})
	}
	e := &rule.Expansion{
		Name:    row.Lookup.Name,
		Viewlet: k.Viewlet,
		Inputs:  len(keys) + len(k.inputs) - len(columns),
		Steps:   []rule.Step{row},
		Outputs: move(k.Expansion.Outputs),
	}
	if k.via != "" {
		e.Name += ", " + k.via
	}
	for _, step := range k.Expansion.Steps {
		e.Steps = append(e.Steps, rule.Step{Lookup: step.Lookup, Args: move(step.Args)})
	}
	return e
}

// moveRef turns a Ref of a call's own expansion to one behind the row lookup.
func moveRef(r rule.Ref, keys int, unchanged uint64) rule.Ref {
	if r.Step >= 0 {
		return rule.Ref{Step: r.Step + 1, Column: r.Column}
	}
	before := bits.OnesCount64(unchanged & (1<<r.Column - 1))
	if unchanged&(1<<r.Column) != 0 {
		return rule.Ref{Step: 0, Column: before}
	}
	return rule.Ref{Step: -1, Column: keys + r.Column - before}
}

// rowLookup reads columns of the row that a key identifies.
func rowLookup(rel *viewlet.Relation, keys, columns []string) *rule.Lookup {
	l := &rule.Lookup{Name: "row of " + rel.String()}
	where := make([]string, len(keys))
	for i, key := range keys {
		param := fmt.Sprintf("key%d", i+1)
		l.Params = append(l.Params, param)
		where[i] = query.Quote(key) + " = @" + param
	}
	selected := make([]string, len(columns))
	for i, column := range columns {
		selected[i] = fmt.Sprintf("%s AS column%d", query.Quote(column), i+1)
	}
	l.Query = &query.Query{Params: l.Params, SQL: fmt.Sprintf("SELECT %s FROM %s.%s WHERE %s",
		strings.Join(selected, ", "), query.Quote(rel.Schema), query.Quote(rel.Name), strings.Join(where, " AND "))}
	return l
}
