package rules

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
	"github.com/cdc-viewlet/cdc-viewlet/rules/resolve"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
)

// block is where a named block stands, for diagnostics.
type block struct {
	at    hcl.Range
	attrs hcl.Attributes
	text  string // as HCL
}

var fileSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "postgres"},
	{Type: "redis"},
	{Type: "viewlet", LabelNames: []string{"name"}},
	{Type: "table", LabelNames: []string{"name"}},
	{Type: "lookup", LabelNames: []string{"name"}},
}}

func (d *decoder) file(name string, body hcl.Body) {
	content, diags := body.Content(fileSchema)
	d.Add(diags)
	for _, b := range content.Blocks {
		switch b.Type {
		case "postgres":
			d.postgres(b)
		case "redis":
			d.redis(b)
		case "viewlet":
			d.viewlet(name, b)
		case "lookup":
			d.lookup(b)
		case "table":
			d.table(b)
		}
	}
}

// schemas are the attributes of each kind of block.
var schemas = map[string]*hcl.BodySchema{
	"postgres": schema("", "url slot publication render_url render_lag"),
	"redis":    schema("", "url prefix wait_replicas"),
	"viewlet":  schema("query", "params template body all timeout rows empty keep on_error derive ignore"),
	"lookup":   schema("params query", ""),
	"table":    schema("refresh", "when on"),
}

func schema(required, optional string) *hcl.BodySchema {
	s := &hcl.BodySchema{}
	for _, name := range strings.Fields(required) {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: name, Required: true})
	}
	for _, name := range strings.Fields(optional) {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: name})
	}
	return s
}

// attributes reads those of a block. Without ok they are not all right.
func (d *decoder) attributes(b *hcl.Block) (attrs hcl.Attributes, ok bool) {
	content, diags := b.Body.Content(schemas[b.Type])
	for _, problem := range diags {
		if problem.Summary == "Missing required argument" { // of which no block has more than one, the first
			must := schemas[b.Type].Attributes[0].Name
			problem.Summary = "Missing " + must
			problem.Detail = fmt.Sprintf("Every %s has a %s: write %s = %s.", b.Type, must, must, examples[must])
		}
	}
	return content.Attributes, d.Add(diags)
}

// once is attributes for a block whose name no other may have; nil when one
// has it. The settings are named "the postgres" and "the redis", which is no
// name of a viewlet.
func (d *decoder) once(b *hcl.Block) (attrs hcl.Attributes, ok bool) {
	attrs, ok = d.attributes(b)
	name, called := "the "+b.Type, "A "+b.Type+" block"
	if len(b.Labels) > 0 {
		name, called = b.Labels[0], `The name "`+b.Labels[0]+`"`
	}
	if first, taken := d.blocks[name]; taken {
		d.Error(b.DefRange, "Duplicate "+b.Type, "%s stands at %s already. Rename or remove one of the two.", called, source.Line(first.at))
		return nil, false
	}
	d.blocks[name] = block{b.DefRange, attrs, d.blockText(b, attrs)}
	return attrs, ok
}

// constant evaluates an expression that no row has a part in.
func (d *decoder) constant(e hcl.Expression, want cty.Type, example string) (v cty.Value, ok bool) {
	if _, bare := e.(*hclsyntax.ScopeTraversalExpr); bare && hcl.ExprAsKeyword(e) != "" && want == cty.String {
		d.Error(e.Range(), "Quotes are missing", "Text stands in quotes: %q.", hcl.ExprAsKeyword(e))
		return v, false
	}
	v, diags := e.Value(resolve.Constants())
	if !d.Add(diags) {
		return v, false
	}
	number := v.Type() == cty.Number && want == cty.String // 600 is no duration, and no name
	converted, err := convert.Convert(v, want)
	if err != nil || number || !v.IsWhollyKnown() || v.IsNull() {
		d.Error(e.Range(), "Wrong type", "%s belongs here, such as %s.", typeNames[want], example)
		return v, false
	}
	return converted, true
}

var typeNames = map[cty.Type]string{cty.String: "Text in quotes", cty.Bool: "true or false", cty.Number: "A number"}

// given reads an optional string that must not be empty when it is there.
func (d *decoder) given(a *hcl.Attribute) string {
	if a == nil {
		return ""
	}
	s, ok := d.text(a)
	if ok && s == "" {
		d.Error(a.Expr.Range(), "Empty "+a.Name, "Leave the attribute out to get its default.")
	}
	return s
}

func (d *decoder) text(a *hcl.Attribute) (string, bool) {
	v, ok := d.constant(a.Expr, cty.String, examples[a.Name])
	if !ok {
		return "", false
	}
	return v.AsString(), true
}

// examples are shown when an attribute has a value of the wrong type.
var examples = map[string]string{
	"url":         `env("DATABASE_URL")`,
	"slot":        `"cdc_viewlet"`,
	"publication": `"cdc_viewlet"`,
	"render_url":  `env("RENDER_URL")`,
	"render_lag":  `"10s"`,
	"prefix":      `"viewlet:"`,
	"refresh":     `product_teaser(id)`,
	"query":       `"SELECT name FROM products WHERE id = @id"`,
	"all":         `"SELECT id FROM products"`,
	"template":    `"templates/product_teaser.html"`,
	"body":        `"<b>{{.name}}</b>"`,
	"timeout":     `"10m"`,
	"empty":       `"delete"`,
	"keep":        `"all"`,
	"on_error":    `"keep"`,
	"ignore":      `"settings"`,
}

// count reads a whole number; 0 when it is not there.
func (d *decoder) count(a *hcl.Attribute) int {
	if a == nil {
		return 0
	}
	v, ok := d.constant(a.Expr, cty.Number, "1")
	if !ok {
		return 0
	}
	const most = 100
	if f := v.AsBigFloat(); !f.IsInt() || f.Sign() < 0 || f.Cmp(big.NewFloat(most)) > 0 {
		d.Error(a.Expr.Range(), "Not a count", "%s is a whole number from 0 to %d.", a.Name, most)
		return 0
	}
	n, _ := v.AsBigFloat().Int64()
	return int(n)
}

func (d *decoder) flag(a *hcl.Attribute) bool {
	if a == nil {
		return false
	}
	v, ok := d.constant(a.Expr, cty.Bool, "true")
	return ok && v.True()
}

// stringList reads ["a", "b"], each with its place.
func (d *decoder) stringList(a *hcl.Attribute) (values []string, ranges []hcl.Range) {
	if a == nil {
		return nil, nil
	}
	items, diags := hcl.ExprList(a.Expr)
	if diags.HasErrors() {
		d.Error(a.Expr.Range(), "Wrong type", "A list of texts belongs here: %s = [\"...\"].", a.Name)
		return nil, nil
	}
	for _, item := range items {
		if v, ok := d.constant(item, cty.String, cmp.Or(examples[a.Name], `"id"`)); ok {
			values = append(values, v.AsString())
			ranges = append(ranges, item.Range())
		}
	}
	return values, ranges
}

// word reads an attribute that is one of a few words; the first is the default.
func (d *decoder) word(a *hcl.Attribute, words ...string) string {
	if a == nil {
		return words[0]
	}
	s, ok := d.text(a)
	if ok && !slices.Contains(words, s) {
		d.Error(a.Expr.Range(), "Unknown word", "%s is one of %s.%s", a.Name, hint.List(words), hint.DidYouMean(s, words, "%q"))
	}
	return s
}
