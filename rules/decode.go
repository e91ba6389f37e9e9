package rules

import (
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// decoder turns the bodies of files into a Set, gathering what is wrong.
type decoder struct {
	set       *Set
	diags     Diagnostics
	functions map[string]function.Function
	folders   map[string]*folder // of templates, by path
	pending   []pendingTable     // read when all viewlets and lookups are known
}

// block is where a named block stands, for diagnostics.
type block struct {
	at    hcl.Range
	attrs map[string]*attribute
}

// attribute is one attribute of a block, its value decoded when it is a string.
type attribute struct {
	rng   hcl.Range
	value string
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
	d.diags = append(d.diags, diags...)
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

func (d *decoder) error(at hcl.Range, summary, format string, args ...any) {
	d.diags = append(d.diags, problem(Error, at, summary, format, args...))
}

// content reads a block's attributes, those of required and optional.
func (d *decoder) content(b *hcl.Block, name string, required, optional []string) (attrs hcl.Attributes, ok bool) {
	schema := &hcl.BodySchema{}
	for _, a := range required {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: a, Required: true})
	}
	for _, a := range optional {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: a})
	}
	content, diags := b.Body.Content(schema)
	d.diags = append(d.diags, diags...)
	if name == "" {
		return content.Attributes, !diags.HasErrors()
	}
	if first := d.set.blocks[name]; first != nil {
		d.error(b.DefRange, "Duplicate "+b.Type, "%s stands at %s already. Rename or remove one of the two.", called(b.Type, name), lineOf(first.at))
		return nil, false
	}
	known := &block{at: b.DefRange, attrs: map[string]*attribute{}}
	for n, a := range content.Attributes {
		known.attrs[n] = &attribute{rng: a.Expr.Range()}
	}
	d.set.blocks[name] = known
	return content.Attributes, !diags.HasErrors()
}

func called(kind, name string) string {
	if strings.HasPrefix(name, "the ") {
		return "A " + kind + " block"
	}
	return `The name "` + name + `"`
}

func (d *decoder) postgres(b *hcl.Block) {
	attrs, ok := d.content(b, "the postgres", nil, []string{"url", "slot", "publication"})
	if !ok {
		return
	}
	d.set.Postgres = Postgres{
		URL:         d.given(attrs["url"]),
		Slot:        d.given(attrs["slot"]),
		Publication: d.given(attrs["publication"]),
	}
	d.note("the postgres", attrs)
	if s := d.set.Postgres.Slot; s != "" && !slotName.MatchString(s) {
		d.error(attrs["slot"].Expr.Range(), "Not a slot name", "Postgres takes 1 to 63 lower-case letters, digits and underscores as the name of a replication slot.")
	}
	if p := d.set.Postgres.Publication; len(p) > 63 {
		d.error(attrs["publication"].Expr.Range(), "Not a publication name", "Postgres takes at most 63 bytes as a name.")
	}
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func (d *decoder) redis(b *hcl.Block) {
	attrs, ok := d.content(b, "the redis", nil, []string{"url", "prefix"})
	if !ok {
		return
	}
	d.set.Redis = Redis{URL: d.given(attrs["url"]), Prefix: d.given(attrs["prefix"])}
	d.note("the redis", attrs)
	if strings.ContainsAny(d.set.Redis.Prefix, "{} \t\r\n\v\f") {
		d.error(attrs["prefix"].Expr.Range(), "Bad prefix", "A prefix has no whitespace, and no braces, for they would put every key into one slot of a Redis cluster. Write something like \"viewlet:\".")
	}
}

// note keeps the values of string attributes, so that offsets into them can be
// found in the file.
func (d *decoder) note(name string, attrs hcl.Attributes) {
	for n, a := range attrs {
		if v, diags := a.Expr.Value(d.context()); !diags.HasErrors() && v.IsWhollyKnown() && !v.IsNull() && v.Type() == cty.String {
			d.set.blocks[name].attrs[n].value = v.AsString()
		}
	}
}

func (d *decoder) lookup(b *hcl.Block) {
	name := b.Labels[0]
	attrs, ok := d.content(b, name, []string{"params", "query"}, nil)
	d.name(b)
	if !ok {
		return
	}
	d.note(name, attrs)
	params, good := d.params(attrs["params"])
	l := &Lookup{Name: name, Params: params}
	if items, _ := hcl.ExprList(attrs["params"].Expr); items != nil && len(items) == 0 {
		d.error(attrs["params"].Expr.Range(), "Lookup without params", "A lookup finds what a row touches, so it needs a value of that row: params = [\"category_id\"].")
	}
	if good {
		l.Query = d.query(name, attrs["query"], params)
	}
	d.set.Lookups = append(d.set.Lookups, l)
	d.set.lookups[name] = l
}

var (
	blockName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	paramName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// name checks the name of a viewlet or lookup.
func (d *decoder) name(b *hcl.Block) {
	name := b.Labels[0]
	if !blockName.MatchString(name) {
		d.error(b.LabelRanges[0], "Bad name", "The name of a %s begins with a letter or _ and goes on with letters, digits, _ and -, since it is part of Redis keys and URLs.", b.Type)
	}
	if reserved(name) {
		d.error(b.LabelRanges[0], "Name is taken", "%s means something else in rules already. Give the %s another name.", name, b.Type)
	}
}

// params reads a list of names. Without ok one of them is wrong.
func (d *decoder) params(a *hcl.Attribute) (names []string, ok bool) {
	before := len(d.diags)
	names, ranges := d.stringList(a)
	for i, name := range names {
		switch {
		case !paramName.MatchString(name):
			d.error(ranges[i], "Bad param", "The name of a param begins with a letter or _ and goes on with letters, digits and _, since queries write it as @name.")
		case name == "rows":
			d.error(ranges[i], "Name is taken", "In a template rows means all rows of the query. Give the param another name.")
		case slices.Contains(names[:i], name):
			d.error(ranges[i], "Duplicate param", "The param %q stands here twice.", name)
		}
	}
	return names, len(d.diags) == before
}

// query reads an attribute that is one SELECT.
func (d *decoder) query(owner string, a *hcl.Attribute, params []string) *Query {
	if a == nil {
		return nil
	}
	sql, ok := d.text(a)
	if !ok {
		return nil
	}
	q := &Query{SQL: sql, Params: params}
	at := d.set.blocks[owner].attrs[a.Name]
	for _, f := range q.faults() {
		d.diags = append(d.diags, problem(f.severity, d.set.attrRange(at, f.start, f.end), f.summary, "%s", f.detail))
	}
	return q
}

func (d *decoder) context() *hcl.EvalContext { return &hcl.EvalContext{Functions: d.functions} }

// constant evaluates an expression that no row has a part in.
func (d *decoder) constant(e hcl.Expression, want cty.Type, example string) (v cty.Value, ok bool) {
	if _, bare := e.(*hclsyntax.ScopeTraversalExpr); bare && hcl.ExprAsKeyword(e) != "" && want == cty.String {
		d.error(e.Range(), "Quotes are missing", "Text stands in quotes: %q.", hcl.ExprAsKeyword(e))
		return v, false
	}
	v, diags := e.Value(d.context())
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() {
		return v, false
	}
	number := v.Type() == cty.Number && want == cty.String // 600 is no duration, and no name
	converted, err := convert.Convert(v, want)
	if err != nil || number || !v.IsWhollyKnown() || v.IsNull() {
		d.error(e.Range(), "Wrong type", "%s belongs here, such as %s.", typeNames[want], example)
		return v, false
	}
	return converted, true
}

var typeNames = map[cty.Type]string{cty.String: "Text in quotes", cty.Bool: "true or false"}

// given reads an optional string that must not be empty when it is there.
func (d *decoder) given(a *hcl.Attribute) string {
	if a == nil {
		return ""
	}
	s, ok := d.text(a)
	if ok && s == "" {
		d.error(a.Expr.Range(), "Empty "+a.Name, "Leave the attribute out to get its default.")
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
	"prefix":      `"viewlet:"`,
	"query":       `"SELECT name FROM products WHERE id = @id"`,
	"all":         `"SELECT id FROM products"`,
	"template":    `"templates/product_teaser.html"`,
	"body":        `"<b>{{.name}}</b>"`,
	"timeout":     `"10m"`,
	"empty":       `"delete"`,
	"keep":        `"all"`,
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
		d.error(a.Expr.Range(), "Wrong type", "A list of texts belongs here: %s = [\"...\"].", a.Name)
		return nil, nil
	}
	for _, item := range items {
		if v, ok := d.constant(item, cty.String, `"id"`); ok {
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
		d.error(a.Expr.Range(), "Unknown word", "%s is one of %s.%s", a.Name, list(words), didYouMean(s, words, "%q"))
	}
	return s
}
