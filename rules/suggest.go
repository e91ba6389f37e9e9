package rules

// Suggest gives a sentence, with a space before it, that suggests the viewlet
// whose name is most like the given one; empty when none is like it.
func (s *Set) Suggest(name string) string {
	names := make([]string, len(s.Viewlets))
	for i, v := range s.Viewlets {
		names[i] = v.Name
	}
	return didYouMean(name, names, "%q")
}
