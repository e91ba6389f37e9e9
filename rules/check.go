package rules

// Check gives warnings about what the rules alone show to be forgotten.
func (s *Set) Check() Diagnostics {
	var diags Diagnostics
	refreshed, called := map[*Viewlet]bool{}, map[*Lookup]bool{}
	for _, t := range s.tables {
		for _, k := range t.calls {
			refreshed[k.viewlet] = true
			for _, l := range k.lookups {
				called[l.Lookup] = true
			}
		}
	}
	for _, v := range s.Viewlets {
		at := s.blocks[v.Name].at
		if !refreshed[v] {
			diags = append(diags, problem(Warning, at, "Nothing refreshes this viewlet", "No table block refreshes %s, so its fragments stay as they are. Write table \"...\" { refresh = %s } for each table that its query reads.", v.Name, signature(v)))
		}
		if len(v.Params) > 0 && v.All == nil && !v.Requested {
			diags = append(diags, problem(Warning, at, "No list of all instances", "Without all nobody knows which fragments %s has: they cannot be rendered at the start, nor when a template changes. Write all = \"SELECT ...\", one column for each of %s.", v.Name, list(v.Params)))
		}
	}
	for _, l := range s.Lookups {
		if !called[l] {
			diags = append(diags, problem(Warning, s.blocks[l.Name].at, "Lookup is not used", "No refresh calls %s. Remove it, or write it where an argument stands: product_teaser(%s(...)).", l.Name, l.Name))
		}
	}
	return sortDiagnostics(diags)
}
