package rules

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// tableBlock is a table block whose expressions are still to be read.
type tableBlock struct {
	rule          rule.Rule
	refresh, when *hcl.Attribute
}

func (d *decoder) table(b *hcl.Block) {
	r := &rule.Rule{At: b.DefRange, Label: b.LabelRanges[0], Why: d.why(b)}
	attrs, ok := d.attributes(b)
	r.Text = d.blockText(b, attrs)
	name, named := d.tableName(b.Labels[0], r.Label)
	r.Table = name
	d.operations(r, attrs["on"])
	if ok && named {
		d.tables = append(d.tables, tableBlock{*r, attrs["refresh"], attrs["when"]})
	}
}

func (d *decoder) tableName(label string, at hcl.Range) (name viewlet.TableName, ok bool) {
	name, err := ParseTableName(label)
	if err != nil {
		d.Error(at, "Bad table name", "%q is no name of a table: %s. Write \"products\" or \"shop.products\"; a name that has a dot or a quote itself stands in quotes: \"\\\"odd.name\\\"\".", label, err)
	}
	return name, err == nil
}

// tableNames reads ["products", "shop.settings"].
func (d *decoder) tableNames(a *hcl.Attribute) []viewlet.TableName {
	var names []viewlet.TableName
	labels, ranges := d.stringList(a)
	for i, label := range labels {
		if name, ok := d.tableName(label, ranges[i]); ok {
			names = append(names, name)
		}
	}
	return names
}

// operations reads on = ["insert", "update", "delete"]: all when it is absent.
// A TRUNCATE is many deletes.
func (d *decoder) operations(r *rule.Rule, a *hcl.Attribute) {
	r.On = [viewlet.Truncate + 1]bool{viewlet.Insert: true, viewlet.Update: true, viewlet.Delete: true, viewlet.Truncate: true}
	if a == nil {
		return
	}
	words := []string{"insert", "update", "delete"}
	given, ranges := d.stringList(a)
	r.On = [viewlet.Truncate + 1]bool{}
	for i, word := range given {
		switch op := slices.Index(words, word); {
		case op >= 0:
			r.On[viewlet.Insert+viewlet.Op(op)] = true
		case word == "truncate":
			d.Error(ranges[i], "Unknown operation", "A TRUNCATE is seen by every rule that is on \"delete\".")
		default:
			d.Error(ranges[i], "Unknown operation", "on lists %s.%s", hint.List(words), hint.DidYouMean(word, words, "%q"))
		}
	}
	r.On[viewlet.Truncate] = r.On[viewlet.Delete]
	if items, diags := hcl.ExprList(a.Expr); !diags.HasErrors() && len(items) == 0 {
		d.Error(a.Expr.Range(), "No operation", "This rule would never fire. Leave on out for all operations.")
	}
	r.Source = "on " + strings.Join(slices.Sorted(slices.Values(given)), " ")
}

// ParseTableName reads name or schema.name. Names are as the catalog has them,
// upper and lower case included; SQL's quotes are needed for those with a dot
// or a quote only.
func ParseTableName(label string) (viewlet.TableName, error) {
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

var identifier = regexp.MustCompile(`^(?:"((?:[^"]|"")*)"|([^".\s]+))`)

func cutIdentifier(s string) (name, rest string, err error) {
	m := identifier.FindStringSubmatch(s)
	switch {
	case m == nil && strings.HasPrefix(s, `"`):
		return "", "", errors.New("a quote is not closed")
	case m == nil, m[2] != "" && m[2] != s && s[len(m[2])] != '.':
		return "", "", errors.New("a part of it is empty, or has a quote or whitespace within")
	case m[0] == `""`:
		return "", "", errors.New("a part of it is empty")
	}
	return strings.ReplaceAll(m[1], `""`, `"`) + m[2], s[len(m[0]):], nil
}
