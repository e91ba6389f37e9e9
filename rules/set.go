package rules

import (
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Set is everything that a rules file, or a folder of them, says; Load makes
// it. After Load and Bind it is read-only and may be used by many goroutines,
// except that Match keeps what it compiled and is for one of them.
type Set struct {
	Postgres Postgres
	Redis    Redis
	Viewlets []*Viewlet // in the order of the files
	Lookups  []*Lookup

	files      map[string]*hcl.File // by name, for the lines of diagnostics
	blocks     map[string]*block    // by name of viewlet or lookup, for Problem
	viewlets   map[string]*Viewlet
	lookups    map[string]*Lookup
	tables     []*table
	expansions *expansions
	functions  map[string]function.Function // for refresh and when
	matcher    matcher
}

// Postgres is the postgres block. Empty fields were not given.
type Postgres struct{ URL, Slot, Publication string }

// Redis is the redis block. Empty fields were not given.
type Redis struct{ URL, Prefix string }

// Viewlet is one query and a template.
type Viewlet struct {
	Name     string
	Params   []string
	Query    *Query
	All      *Query    // names every instance, one column a param; nil: unknown
	Template *Template // nil: the rows as JSON
	// Rows makes the JSON an array of all rows instead of the first row.
	Rows bool
	// Timeout is the fragment's TTL in Redis; zero: for ever.
	Timeout time.Duration
	// RenderEmpty renders the template when the query has no row, instead of
	// deleting the fragment.
	RenderEmpty bool
	// Requested keeps only what is in Redis already, instead of every instance.
	Requested bool
}

// Lookup is a named query whose rows are arguments.
type Lookup struct {
	Name   string
	Params []string
	Query  *Query
}

// Viewlet gives the viewlet of that name, or nil.
func (s *Set) Viewlet(name string) *Viewlet { return s.viewlets[name] }

// Lookup gives the lookup of that name, or nil.
func (s *Set) Lookup(name string) *Lookup { return s.lookups[name] }

// Expansion gives what a Refresh's Via names, or nil. Unlike the rest of a
// Set the expansions grow while Match runs; any goroutine may ask.
func (s *Set) Expansion(via string) *Expansion { return s.expansions.get(via) }

// TableNames gives the tables that the rules name, each once, in their order.
func (s *Set) TableNames() []viewlet.TableName {
	var names []viewlet.TableName
	for _, t := range s.tables {
		if !slices.Contains(names, t.name) {
			names = append(names, t.name)
		}
	}
	return names
}
