package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/cdc-viewlet/cdc-viewlet/rules/match"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// InForce is one rule that changes are matched against: a table block.
type InForce struct {
	Table viewlet.TableName
	At    string // file:line of one that was written; empty: it was derived
	Why   string // the equalities that a derived one comes from
	HCL   string // the block
	Calls []Call
}

// Call is one viewlet that a rule refreshes.
type Call struct {
	Viewlet string
	Lookups []string // that find its arguments, inner ones first
	Text    string   // product_teaser(products_in(id))
}

// InForce gives all rules: those that were written, in the order of the files,
// and then those that were derived.
func (s *Set) InForce() []InForce {
	all := make([]InForce, len(s.rules))
	for i, r := range s.rules {
		all[i] = s.inForce(r)
	}
	return all
}

func (s *Set) inForce(r *rule.Rule) InForce {
	f := InForce{Table: r.Table, Why: r.Why, HCL: r.Text}
	if r.Bound != nil {
		f.Table = viewlet.TableName{Schema: r.Bound.Schema, Name: r.Bound.Name}
	}
	if s.origins[r.At.Filename] == "" {
		f.At = source.Line(r.At)
	}
	for _, k := range r.Calls {
		c := Call{Viewlet: k.Viewlet, Text: k.Source}
		for _, l := range k.Lookups() {
			c.Lookups = append(c.Lookups, l.Name)
		}
		f.Calls = append(f.Calls, c)
	}
	return f
}

// WrittenLookups gives the lookup blocks that were written, as HCL.
func (s *Set) WrittenLookups() []string {
	var blocks []string
	for _, l := range s.Lookups {
		if b := s.blocks[l.Name]; s.origins[b.at.Filename] == "" {
			blocks = append(blocks, b.text)
		}
	}
	return blocks
}

// Explained is what one rule makes of a change.
type Explained struct {
	Rule      InForce
	Refreshes []viewlet.Refresh
	Err       error // that it cannot be followed, and why; Refreshes then has all that may be meant
}

// Explain is Match, rule by rule; those that a change does not concern are left
// out. It is for a Set that is bound, and may be called at any time.
func (s *Set) Explain(c *viewlet.Change) []Explained {
	var all []Explained
	for _, r := range s.rules {
		refreshes, err := match.New([]*rule.Rule{r}, s.names.Functions, s.names.Expansions).Match(nil, c)
		if len(refreshes) > 0 || err != nil {
			all = append(all, Explained{s.inForce(r), refreshes, err})
		}
	}
	return all
}

const derivedMark = "# derived: "

// why reads the line above a derived block.
func (d *decoder) why(b *hcl.Block) string {
	if d.origins[b.DefRange.Filename] == "" {
		return ""
	}
	before := string(d.names.Files[b.DefRange.Filename].Bytes[:b.DefRange.Start.Byte])
	lines := strings.Split(strings.TrimSuffix(before, "\n"), "\n")
	why, _ := strings.CutPrefix(lines[len(lines)-1], derivedMark)
	return why
}

// blockText is a block as HCL: as it stands in its file or, where that is JSON,
// as it would.
func (d *decoder) blockText(b *hcl.Block, attrs hcl.Attributes) string {
	if body, native := b.Body.(*hclsyntax.Body); native {
		return d.names.Files.Text(hcl.RangeBetween(b.DefRange, body.SrcRange))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s {\n", strings.Join(append([]string{b.Type}, quoted(b.Labels)...), " "))
	for _, a := range slices.SortedFunc(maps.Values(attrs), func(a, b *hcl.Attribute) int { return cmp.Compare(a.Range.Start.Byte, b.Range.Start.Byte) }) {
		fmt.Fprintf(&text, "  %s = %s\n", a.Name, d.expressionText(a))
	}
	return text.String() + "}"
}

// expressionText writes an attribute of JSON. The text that refresh and when
// have there is an expression itself.
func (d *decoder) expressionText(a *hcl.Attribute) string {
	text := d.names.Files.Text(a.Expr.Range())
	if a.Name != "refresh" && a.Name != "when" {
		return text
	}
	items, diags := hcl.ExprList(a.Expr)
	if diags.HasErrors() {
		items = []hcl.Expression{a.Expr}
	}
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = d.names.Files.Text(item.Range())
		if v, diags := item.Value(nil); !diags.HasErrors() && v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
			words[i] = v.AsString()
		} else if inner, ok := strings.CutPrefix(words[i], `"${`); ok {
			words[i] = strings.ReplaceAll(strings.TrimSuffix(inner, `}"`), `\"`, `"`)
		}
	}
	if len(words) == 1 {
		return words[0]
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func quoted(labels []string) []string {
	words := make([]string, len(labels))
	for i, label := range labels {
		words[i] = strconv.Quote(label)
	}
	return words
}
