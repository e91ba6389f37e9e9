package rules

import (
	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
	"github.com/cdc-viewlet/cdc-viewlet/rules/match"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
)

// idle gives a warning for each call that no change can reach.
func (s *Set) idle() Diagnostics {
	var p source.Problems
	for _, r := range s.rules {
		if r.Bound == nil || s.origins[r.At.Filename] != "" {
			continue
		}
		for i, fires := range match.Fires(r, s.names.Functions) {
			if !fires {
				p.Warn(r.Calls[i].At, "Never fires", "No change of %s can refresh %s here: what on, when and the sides of its arguments (an insert has no old row, a delete no new one) ask for never comes together.", r.Table, r.Calls[i].Viewlet)
			}
		}
	}
	return p.Sorted()
}

// Check gives warnings about what the rules alone show to be forgotten. What is
// derived from a query has limits of its own.
func (s *Set) Check() Diagnostics {
	var p source.Problems
	refreshed, called := map[string]bool{}, map[*Lookup]bool{}
	for _, r := range s.rules {
		for _, k := range r.Calls {
			refreshed[k.Viewlet] = true
			for _, l := range k.Lookups() {
				called[l] = true
			}
		}
	}
	for _, v := range s.Viewlets {
		if !v.Written {
			continue
		}
		at := s.blocks[v.Name].at
		if !refreshed[v.Name] {
			p.Warn(at, "Nothing refreshes this viewlet", "No table block refreshes %s, so its fragments stay as they are. Write table \"...\" { refresh = %s } for each table that its query reads.", v.Name, hint.Call(v.Name, v.Params))
		}
		if len(v.Params) > 0 && v.All == nil && !v.Requested {
			p.Warn(at, "No list of all instances", "Without all nobody knows which fragments %s has: they cannot be rendered at the start, nor when a template changes. Write all = \"SELECT ...\", one column for each of %s.", v.Name, hint.List(v.Params))
		}
	}
	for _, l := range s.Lookups {
		if !called[l] {
			p.Warn(s.blocks[l.Name].at, "Lookup is not used", "No refresh calls %s. Remove it, or write it where an argument stands: product_teaser(%s(...)).", l.Name, l.Name)
		}
	}
	return p.Sorted()
}
