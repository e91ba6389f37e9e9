package rules

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/rules/match"
	"github.com/cdc-viewlet/cdc-viewlet/rules/resolve"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
	"github.com/cdc-viewlet/cdc-viewlet/rules/template"
)

// Load reads a rules file, or all *.hcl and *.hcl.json of a folder, together
// with the templates that they name and the environment variables that they
// ask for. All problems come at once. The Set is never nil, since the
// diagnostics are written with its help, but is good for nothing else when
// they have errors.
func Load(path string) (*Set, Diagnostics) {
	s := &Set{
		viewlets: map[string]*Viewlet{},
		blocks:   map[string]block{},
		names: resolve.Names{
			Viewlets:   map[string][]string{},
			Lookups:    map[string]*Lookup{},
			Functions:  resolve.Functions(),
			Expansions: new(rule.Expansions),
			Files:      source.Files{},
		},
	}
	d := &decoder{Set: s, folders: template.Folders{}}
	if d.files(path) {
		d.resolve()
	}
	s.matcher = match.New(s.rules, s.names.Functions, s.names.Expansions)
	return s, d.Sorted()
}

// decoder turns files into a Set, gathering what is wrong.
type decoder struct {
	source.Problems
	*Set
	folders template.Folders
}

// files reads all blocks. Without ok a file is broken, and what refers to its
// blocks would be called unknown.
func (d *decoder) files(path string) (ok bool) {
	ok = true
	for _, name := range source.List(path, &d.Problems) {
		body, whole := d.names.Files.Parse(name, &d.Problems)
		switch {
		case !whole:
			ok = false
		case d.names.Files[name] == nil:
			ok = false
			d.Error(hcl.Range{}, "Empty rules", "%s is empty.%s", name, example)
		default:
			d.file(name, body)
		}
	}
	if ok && len(d.Viewlets) == 0 && d.Errors() == 0 {
		d.Error(hcl.Range{}, "No viewlet", "%s has no viewlet block, so there is nothing to keep fresh.%s", path, example)
	}
	return ok
}

// resolve reads the expressions of the table blocks, when all viewlets and
// lookups are known.
func (d *decoder) resolve() {
	for _, t := range d.tables {
		r := t.rule
		d.names.Refresh(&r, t.refresh.Expr, &d.Problems)
		if t.when != nil {
			d.names.When(&r, t.when.Expr, &d.Problems)
		}
		d.rules = append(d.rules, &r)
	}
}

const example = ` Write at least one viewlet:

  viewlet "product_teaser" {
    params   = ["id"]
    query    = "SELECT name, price FROM products WHERE id = @id"
    template = "product_teaser.html"
  }`
