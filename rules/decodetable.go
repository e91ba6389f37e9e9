package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// table is one table block: one rule. Several may name the same table.
type table struct {
	name    viewlet.TableName
	at      hcl.Range // the block's head
	label   hcl.Range
	on      [viewlet.Truncate + 1]bool
	when    hclsyntax.Expression // nil: always
	changed []columnRef          // what when asks of changed()
	whenRef []columnRef          // what when reads
	calls   []*call
	source  string         // when and on, for the fingerprint
	bound   *viewlet.Table // nil until Bind
}

// pendingTable is a table block whose expressions are still to be read.
type pendingTable struct {
	table         *table
	refresh, when *hcl.Attribute
}

func (d *decoder) table(b *hcl.Block) {
	t := &table{at: b.DefRange, label: b.LabelRanges[0]}
	attrs, ok := d.content(b, "", []string{"refresh"}, []string{"when", "on"})
	name, err := parseTableName(b.Labels[0])
	if err != nil {
		d.error(t.label, "Bad table name", "%q is no name of a table: %s. Write \"products\" or \"shop.products\"; a name that has a dot or a quote itself stands in quotes: \"\\\"odd.name\\\"\".", b.Labels[0], err)
	}
	t.name = name
	d.operations(t, attrs["on"])
	if ok && err == nil {
		d.pending = append(d.pending, pendingTable{t, attrs["refresh"], attrs["when"]})
	}
}

// parseTableName reads name or schema.name. Names are as the catalog has them,
// upper and lower case included; SQL's quotes are needed for those with a dot
// or a quote only.
func parseTableName(label string) (viewlet.TableName, error) {
	var parts []string
	for rest := label; ; {
		part, after, err := cutIdentifier(rest)
		if err != nil {
			return viewlet.TableName{}, err
		}
		parts = append(parts, part)
		if after == "" {
			break
		}
		if after[0] != '.' {
			return viewlet.TableName{}, fmt.Errorf("a dot is missing before %q", after)
		}
		rest = after[1:]
	}
	switch len(parts) {
	case 1:
		return viewlet.TableName{Name: parts[0]}, nil
	case 2:
		return viewlet.TableName{Schema: parts[0], Name: parts[1]}, nil
	}
	return viewlet.TableName{}, fmt.Errorf("it has %d parts", len(parts))
}

func cutIdentifier(s string) (name, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexByte(s, '.')
		if end < 0 {
			end = len(s)
		}
		if name = s[:end]; name == "" || strings.ContainsAny(name, "\" \t\r\n") {
			return "", "", errors.New("a part of it is empty, or has a quote or whitespace within")
		}
		return name, s[end:], nil
	}
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			i++
			continue
		}
		if name = strings.ReplaceAll(s[1:i], `""`, `"`); name == "" {
			return "", "", errors.New("a part of it is empty")
		}
		return name, s[i+1:], nil
	}
	return "", "", errors.New("a quote is not closed")
}

// operations reads on = ["insert", "update", "delete"]: all when it is absent.
// A TRUNCATE is many deletes.
func (d *decoder) operations(t *table, a *hcl.Attribute) {
	t.on = [viewlet.Truncate + 1]bool{viewlet.Insert: true, viewlet.Update: true, viewlet.Delete: true, viewlet.Truncate: true}
	if a == nil {
		return
	}
	words := []string{"insert", "update", "delete"}
	given, ranges := d.stringList(a)
	t.on = [viewlet.Truncate + 1]bool{}
	for i, word := range given {
		switch op := slices.Index(words, word); {
		case op >= 0:
			t.on[viewlet.Insert+viewlet.Op(op)] = true
		case word == "truncate":
			d.error(ranges[i], "Unknown operation", "A TRUNCATE is seen by every rule that is on \"delete\".")
		default:
			d.error(ranges[i], "Unknown operation", "on lists %s.%s", list(words), didYouMean(word, words, "%q"))
		}
	}
	t.on[viewlet.Truncate] = t.on[viewlet.Delete]
	if items, diags := hcl.ExprList(a.Expr); !diags.HasErrors() && len(items) == 0 {
		d.error(a.Expr.Range(), "No operation", "This rule would never fire. Leave on out for all operations.")
	}
	t.source = "on " + strings.Join(slices.Sorted(slices.Values(given)), " ")
}

// tables reads the expressions of the table blocks, when all viewlets and
// lookups are known.
func (d *decoder) tables() {
	for _, p := range d.pending {
		t := p.table
		c := &callReader{decoder: d, table: t, attr: p.refresh.Expr.Range()}
		expr, diags := native(p.refresh.Expr, true)
		d.diags = append(d.diags, diags...)
		if !diags.HasErrors() {
			c.refresh(expr, scope{})
		}
		if p.when != nil {
			d.when(t, p.when)
		}
		d.set.tables = append(d.set.tables, t)
	}
}

// native gives an expression of HCL's own syntax for one that may be JSON's,
// where text is a template: "${teaser(id)}". With calls, text without ${ is
// read as an expression too, as HCL does for what must be a call.
func native(e hcl.Expression, calls bool) (hclsyntax.Expression, Diagnostics) {
	if n, ok := e.(hclsyntax.Expression); ok {
		return n, nil
	}
	if items, diags := hcl.ExprList(e); !diags.HasErrors() {
		tuple := &hclsyntax.TupleConsExpr{SrcRange: e.Range(), OpenRange: e.StartRange()}
		var all Diagnostics
		for _, item := range items {
			n, diags := native(item, calls)
			all = append(all, diags...)
			tuple.Exprs = append(tuple.Exprs, n)
		}
		return tuple, all
	}
	v, diags := e.Value(nil)
	if diags.HasErrors() {
		return nil, diags
	}
	if v.IsNull() || v.Type() != cty.String {
		return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: e.Range()}, nil
	}
	text, start := v.AsString(), e.Range().Start
	start.Column++ // behind the quote
	start.Byte++
	parse := hclsyntax.ParseTemplate
	if calls && !strings.Contains(text, "${") {
		parse = hclsyntax.ParseExpression
	}
	n, diags := parse([]byte(text), e.Range().Filename, start)
	if diags.HasErrors() {
		return nil, diags
	}
	if wrap, ok := n.(*hclsyntax.TemplateWrapExpr); ok {
		return wrap.Wrapped, nil
	}
	return n, nil
}
