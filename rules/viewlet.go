package rules

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
	"github.com/cdc-viewlet/cdc-viewlet/rules/resolve"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
	"github.com/cdc-viewlet/cdc-viewlet/rules/template"
)

func (d *decoder) viewlet(file string, b *hcl.Block) {
	attrs, ok := d.once(b)
	d.name(b)
	if attrs == nil {
		return // a duplicate
	}
	params, good := d.params(attrs["params"])
	v := &Viewlet{
		Name:         b.Labels[0],
		Params:       params,
		Timeout:      d.timeout(attrs["timeout"]),
		Rows:         d.flag(attrs["rows"]),
		RenderEmpty:  d.word(attrs["empty"], "delete", "render") == "render",
		Requested:    d.word(attrs["keep"], "all", "requested") == "requested",
		DeleteFailed: d.word(attrs["on_error"], "keep", "delete") == "delete",
		Written:      attrs["derive"] != nil && !d.flag(attrs["derive"]),
		Ignored:      d.tableNames(attrs["ignore"]),
	}
	// Calls of a viewlet that is wrong itself are still checked against it.
	d.Viewlets = append(d.Viewlets, v)
	d.viewlets[v.Name], d.names.Viewlets[v.Name] = v, params
	if good && (ok || attrs["params"] != nil) { // else it may be params that is misspelled
		v.Query = d.query(attrs["query"], params)
	}
	v.All = d.query(attrs["all"], nil)
	v.Template = d.template(file, attrs)
}

func (d *decoder) lookup(b *hcl.Block) {
	attrs, ok := d.once(b)
	d.name(b)
	if !ok {
		return
	}
	params, good := d.params(attrs["params"])
	l := &Lookup{Name: b.Labels[0], Params: params}
	if items, _ := hcl.ExprList(attrs["params"].Expr); items != nil && len(items) == 0 {
		d.Error(attrs["params"].Expr.Range(), "Lookup without params", "A lookup finds what a row touches, so it needs a value of that row: params = [\"category_id\"].")
	}
	if good {
		l.Query = d.query(attrs["query"], params)
	}
	d.Lookups = append(d.Lookups, l)
	d.names.Lookups[l.Name] = l
}

var (
	blockName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	paramName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// name checks the name of a viewlet or lookup.
func (d *decoder) name(b *hcl.Block) {
	name := b.Labels[0]
	if !blockName.MatchString(name) {
		d.Error(b.LabelRanges[0], "Bad name", "The name of a %s begins with a letter or _ and goes on with letters, digits, _ and -, since it is part of Redis keys and URLs.", b.Type)
	}
	if resolve.Reserved(name) {
		d.Error(b.LabelRanges[0], "Name is taken", "%s means something else in rules already. Give the %s another name.", name, b.Type)
	}
}

// params reads a list of names. Without ok one of them is wrong.
func (d *decoder) params(a *hcl.Attribute) (names []string, ok bool) {
	before := d.Errors()
	names, ranges := d.stringList(a)
	for i, name := range names {
		switch {
		case !paramName.MatchString(name):
			d.Error(ranges[i], "Bad param", "The name of a param begins with a letter or _ and goes on with letters, digits and _, since queries write it as @name.")
		case name == "rows":
			d.Error(ranges[i], "Name is taken", "In a template rows means all rows of the query. Give the param another name.")
		case slices.Contains(names[:i], name):
			d.Error(ranges[i], "Duplicate param", "The param %q stands here twice.", name)
		}
	}
	return names, d.Errors() == before
}

// query reads an attribute that is one SELECT; nil without it.
func (d *decoder) query(a *hcl.Attribute, params []string) *Query {
	if a == nil {
		return nil
	}
	sql, ok := d.text(a)
	if !ok {
		return nil
	}
	q := &Query{SQL: sql, Params: params}
	for _, f := range q.Faults() {
		tell := d.Error
		if f.Warning {
			tell = d.Warn
		}
		tell(d.within(a, f.Start, f.End), f.Summary, "%s", f.Detail)
	}
	return q
}

func (d *decoder) timeout(a *hcl.Attribute) time.Duration {
	t, ok := d.duration(a)
	if ok && t < time.Second {
		d.Error(a.Expr.Range(), "Timeout is too short", "A timeout is at least \"1s\". Leave it out to keep fragments for ever.")
	}
	return t
}

// duration reads an optional duration.
func (d *decoder) duration(a *hcl.Attribute) (t time.Duration, ok bool) {
	if a == nil {
		return 0, false
	}
	s, ok := d.text(a)
	if !ok {
		return 0, false
	}
	t, err := time.ParseDuration(s)
	if err != nil {
		d.Error(a.Expr.Range(), "Not a duration", "A %s is a number with its unit, such as \"90s\", \"10m\" or \"24h\".", a.Name)
	}
	return t, err == nil
}

// template reads what a viewlet's fragments are made with, or gives nil when
// that is JSON.
func (d *decoder) template(file string, attrs hcl.Attributes) *Template {
	path, body := attrs["template"], attrs["body"]
	if rows := attrs["rows"]; rows != nil && (path != nil || body != nil) {
		d.Error(rows.Range, "rows is for JSON", "A template has all rows in rows anyway. Leave this attribute out.")
	}
	switch {
	case path != nil && body != nil:
		d.Error(body.Range, "Two templates", "A viewlet has a template or a body, not both; the template stands at %s. Leave one of them out.", source.Line(path.Range))
	case path != nil:
		return d.templateFile(filepath.Dir(file), path)
	case body != nil:
		if text, ok := d.text(body); ok {
			return template.Inline(text)
		}
	}
	return nil
}

func (d *decoder) templateFile(dir string, a *hcl.Attribute) *Template {
	written, ok := d.text(a)
	if !ok {
		return nil
	}
	path := written
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, filepath.FromSlash(path))
	}
	if !template.Known(path) {
		d.Error(a.Expr.Range(), "Unknown kind of template", "A template ends in .html, and its values are escaped for HTML, or in .txt, and they are not. Rename it; without template and body the fragment is JSON.")
		return nil
	}
	t, err := d.folders.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		like := filepath.Join(strings.ReplaceAll(filepath.Dir(written), "%", "%%"), "%s") // written as it was
		d.Error(a.Expr.Range(), "No such template", "There is no file %s; the path is relative to the file of rules.%s", path, hint.DidYouMean(filepath.Base(path), d.folders.Names(path), like))
	case err != nil:
		d.Error(a.Expr.Range(), "Cannot read the template", "%s.", err)
	}
	return t
}
