// Package rules reads rules.hcl and says which fragments a change makes stale.
package rules

import (
	"slices"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/rules/catalog"
	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
	"github.com/cdc-viewlet/cdc-viewlet/rules/match"
	"github.com/cdc-viewlet/cdc-viewlet/rules/query"
	"github.com/cdc-viewlet/cdc-viewlet/rules/resolve"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/template"
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

	viewlets map[string]*Viewlet
	names    resolve.Names
	blocks   map[string]block // by name of viewlet or lookup
	tables   []tableBlock
	rules    []*rule.Rule // of the tables, in their order
	matcher  *match.Matcher

	origins  map[string]string // the viewlet that a file was derived from, by the file's name
	readings map[string]string // by viewlet

	identities []Identity
}

// Postgres is the postgres block. Empty fields were not given.
type Postgres struct {
	URL, Slot, Publication string
	// RenderURL is of a standby to render from, and RenderLag how long it may
	// take to show what the primary does; zero: the default.
	RenderURL string
	RenderLag time.Duration
}

// Redis is the redis block. Empty fields were not given.
type Redis struct {
	URL, Prefix string
	// WaitReplicas is how many replicas are to have what is confirmed.
	WaitReplicas int
}

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
	// DeleteFailed deletes a fragment that cannot be rendered, instead of
	// keeping its last good bytes. Left out of a fingerprint where it is false,
	// so that those from before it are still right.
	DeleteFailed bool `json:",omitempty"`
	// Written leaves the viewlet to the rules that are written: none is derived.
	Written bool `json:"-"`
	// Ignored are the tables and functions that the query reads and whose changes
	// the author does not mind, as the rules name them: name or schema.name.
	Ignored []viewlet.TableName `json:"-"`
}

// Ignores reports whether the author of the viewlet does not mind changes of
// the table or function.
func (v *Viewlet) Ignores(name viewlet.TableName) bool {
	return slices.ContainsFunc(v.Ignored, func(i viewlet.TableName) bool {
		return i.Name == name.Name && (i.Schema == "" || i.Schema == name.Schema)
	})
}

// What a Set is made of. Each says more where it is at home.
type (
	Query     = query.Query
	Template  = template.Template
	Lookup    = rule.Lookup
	Expansion = rule.Expansion
	Step      = rule.Step
	Ref       = rule.Ref
	Identity  = catalog.Identity
)

// Offset turns the position in an error message of Postgres, which counts
// characters from 1, to an offset in bytes in the SQL that was sent. A
// position of 0, which means none, gives -1.
func Offset(sql string, position int) int { return query.Offset(sql, position) }

// Viewlet gives the viewlet of that name, or nil.
func (s *Set) Viewlet(name string) *Viewlet { return s.viewlets[name] }

// Lookup gives the lookup of that name, or nil.
func (s *Set) Lookup(name string) *Lookup { return s.names.Lookups[name] }

// Expansion gives what a Refresh's Via names, or nil. Unlike the rest of a
// Set the expansions grow while Match runs; any goroutine may ask.
func (s *Set) Expansion(via string) *Expansion { return s.names.Expansions.Get(via) }

// Refreshes reports whether a table block for the table refreshes the viewlet.
func (s *Set) Refreshes(table viewlet.TableName, name string) bool {
	rel := &viewlet.Relation{Schema: table.Schema, Name: table.Name}
	return slices.ContainsFunc(s.rules, func(r *rule.Rule) bool {
		return r.IsAbout(rel) && slices.ContainsFunc(r.Calls, func(k *rule.Call) bool { return k.Viewlet == name })
	})
}

// TableNames gives the tables that the rules name, each once, in their order.
func (s *Set) TableNames() []viewlet.TableName {
	var names []viewlet.TableName
	for _, r := range s.rules {
		if !slices.Contains(names, r.Table) {
			names = append(names, r.Table)
		}
	}
	return names
}

// Suggest gives a sentence, with a space before it, that suggests the viewlet
// whose name is most like the given one; empty when none is like it.
func (s *Set) Suggest(name string) string {
	names := make([]string, len(s.Viewlets))
	for i, v := range s.Viewlets {
		names[i] = v.Name
	}
	return hint.DidYouMean(name, names, "%q")
}

// Bind compares the rules with the catalog, and from then on Match knows the
// tables by what they were bound to. tables has what TableNames asked for; one
// that is missing or nil does not exist. columns names those that each
// lookup's query selects; a lookup that is missing is not checked. Bind may be
// called again, but not while Match runs.
func (s *Set) Bind(tables map[viewlet.TableName]*viewlet.Table, columns map[string][]string) Diagnostics {
	s.matcher.Bind(tables)
	diags, identities := catalog.Compare(s.rules, &s.names, tables, columns)
	s.identities = identities
	return append(s.atQueries(diags), s.idle()...)
}

// Identities gives the tables that need another replica identity before the
// rules can be followed, as Bind found them.
func (s *Set) Identities() []Identity { return s.identities }

// CheckTypes says which columns, given as arguments, do not fit the params that
// they stand for. params gives the types' OIDs of the params of a viewlet or a
// lookup, or nil where they are unknown. It is for a Set that is bound.
func (s *Set) CheckTypes(params func(name string) []uint32) Diagnostics {
	return s.atQueries(catalog.CompareTypes(s.rules, params))
}

// Match appends what the change makes stale to dst, each Refresh once. Rules
// are compiled once for a Relation; a change that nothing wants allocates
// nothing. Match is for one goroutine at a time, and keeps nothing of c.
//
// An error is for the log and a human: a rule that cannot be followed, which is
// said once for each Relation. What was appended is right nevertheless, since
// where a rule cannot name a fragment, all of its viewlet stand in for it.
func (s *Set) Match(dst []viewlet.Refresh, c *viewlet.Change) ([]viewlet.Refresh, error) {
	return s.matcher.Match(dst, c)
}

// RefreshedBy names the viewlets that changes of any of the tables refresh. It
// is for a Set that is bound.
func (s *Set) RefreshedBy(tables []viewlet.Table) map[string]bool {
	changed, names := map[viewlet.TableName]bool{}, map[string]bool{}
	for _, t := range tables {
		changed[viewlet.TableName{Schema: t.Schema, Name: t.Name}] = true
	}
	for _, r := range s.rules {
		if r.Bound == nil || !changed[viewlet.TableName{Schema: r.Bound.Schema, Name: r.Bound.Name}] {
			continue
		}
		for _, k := range r.Calls {
			names[k.Viewlet] = true
		}
	}
	return names
}
