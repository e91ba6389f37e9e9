package rules

import (
	"maps"
	"slices"

	"github.com/cdc-viewlet/cdc-viewlet/rules/match"
	"github.com/cdc-viewlet/cdc-viewlet/rules/query"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
)

// Derivation is what follows from a viewlet's query.
type Derivation struct {
	Viewlet string
	// Blocks are table and lookup blocks, as they could stand in rules.hcl. A
	// line "# derived: ..." above a table block says what it comes from.
	Blocks string
	// All names every instance, and perhaps more, for a viewlet that does not say
	// so itself; empty: unknown.
	All string
	// Reading identifies what the query means in the database, so that a view of
	// another definition gives the viewlet another Fingerprint.
	Reading string
}

// With gives the rules with those that were derived. A viewlet without a
// Derivation keeps what is written. The set itself is not altered, nor bound
// with the new one. Diagnostics would be mistakes of whoever derived, or names
// that are taken.
func (s *Set) With(derived ...Derivation) (*Set, Diagnostics) {
	all := &Set{
		Postgres: s.Postgres, Redis: s.Redis, Lookups: slices.Clone(s.Lookups),
		viewlets: map[string]*Viewlet{}, names: s.names, blocks: maps.Clone(s.blocks), tables: slices.Clone(s.tables),
		origins: map[string]string{}, readings: map[string]string{},
	}
	all.names.Lookups = maps.Clone(s.names.Lookups)
	all.names.Files = maps.Clone(s.names.Files)
	all.names.Expansions = new(rule.Expansions)
	for _, v := range s.Viewlets {
		own := *v
		all.Viewlets, all.viewlets[v.Name] = append(all.Viewlets, &own), &own
	}
	d := &decoder{Set: all}
	for _, one := range derived {
		d.derivation(one)
	}
	d.resolve()
	all.matcher = match.New(all.rules, all.names.Functions, all.names.Expansions)
	return all, all.atQueries(d.Sorted())
}

func (d *decoder) derivation(one Derivation) {
	v := d.viewlets[one.Viewlet]
	if v == nil {
		return
	}
	if v.All == nil && one.All != "" {
		v.All = &query.Query{SQL: one.All}
	}
	d.readings[v.Name] = one.Reading
	if one.Blocks == "" {
		return
	}
	name := "derived from " + v.Name
	d.origins[name] = v.Name
	if body, ok := d.names.Files.ParseText([]byte(one.Blocks), name, &d.Problems); ok {
		d.file(name, body)
	}
}

// atQueries puts what is wrong with derived rules at the queries that they come
// from. Their warnings are for who writes rules.
func (s *Set) atQueries(diags Diagnostics) Diagnostics {
	var moved source.Problems
	for _, d := range diags {
		origin, ok := "", false
		if d.Subject != nil {
			origin, ok = s.origins[d.Subject.Filename]
		}
		switch {
		case !ok:
			moved.Add(Diagnostics{d})
		case d.Severity == Error:
			at := s.Problem(origin, "query", -1, Error, d.Summary, "For a rule that follows from this query: "+d.Detail)
			at.Extra = d.Extra
			moved.Add(Diagnostics{at})
		}
	}
	return moved.Sorted()
}
