package rules

import (
	"path/filepath"
	"time"

	"github.com/hashicorp/hcl/v2"
)

func (d *decoder) viewlet(file string, b *hcl.Block) {
	name := b.Labels[0]
	attrs, ok := d.content(b, name, []string{"query"},
		[]string{"params", "template", "body", "all", "timeout", "rows", "empty", "keep"})
	d.name(b)
	if attrs == nil {
		return // a duplicate
	}
	d.note(name, attrs)
	params, good := d.params(attrs["params"])
	v := &Viewlet{
		Name:        name,
		Params:      params,
		Timeout:     d.timeout(attrs["timeout"]),
		Rows:        d.flag(attrs["rows"]),
		RenderEmpty: d.word(attrs["empty"], "delete", "render") == "render",
		Requested:   d.word(attrs["keep"], "all", "requested") == "requested",
	}
	// Calls of a viewlet that is wrong itself are still checked against it.
	d.set.viewlets[name] = v
	d.set.Viewlets = append(d.set.Viewlets, v)
	if !ok {
		return
	}
	if good {
		v.Query = d.query(name, attrs["query"], params)
	}
	v.All = d.query(name, attrs["all"], nil)
	v.Template = d.template(file, attrs)
}

func (d *decoder) timeout(a *hcl.Attribute) time.Duration {
	if a == nil {
		return 0
	}
	s, ok := d.text(a)
	if !ok {
		return 0
	}
	t, err := time.ParseDuration(s)
	switch {
	case err != nil:
		d.error(a.Expr.Range(), "Not a duration", "A timeout is a number with its unit, such as \"90s\", \"10m\" or \"24h\".")
	case t < time.Second:
		d.error(a.Expr.Range(), "Timeout is too short", "A timeout is at least \"1s\". Leave it out to keep fragments for ever.")
	}
	return t
}

// template reads what a viewlet's fragments are made with, or gives nil when
// that is JSON.
func (d *decoder) template(file string, attrs hcl.Attributes) *Template {
	path, body := attrs["template"], attrs["body"]
	if rows := attrs["rows"]; rows != nil && (path != nil || body != nil) {
		d.error(rows.Range, "rows is for JSON", "A template has all rows in rows anyway. Leave this attribute out.")
	}
	switch {
	case path != nil && body != nil:
		d.error(body.Range, "Two templates", "A viewlet has a template or a body, not both; the template stands at %s. Leave one of them out.", lineOf(path.Range))
		return nil
	case path != nil:
		return d.templateFile(path, filepath.Dir(file))
	case body != nil:
		source, ok := d.text(body)
		if !ok {
			return nil
		}
		return &Template{Name: "body", HTML: true, Source: source, Partials: map[string]string{}}
	}
	return nil
}
