package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
)

// Fingerprint is a SHA-256 in hex over everything whose change means that what
// is in Redis of the viewlet may be wrong: its own attributes, its template
// with the partials, and the tables and lookups that refresh it. The order of
// blocks and files does not matter. A viewlet that is not there has "".
func (s *Set) Fingerprint(viewletName string) string {
	v := s.viewlets[viewletName]
	if v == nil {
		return ""
	}
	facts := struct {
		Viewlet Viewlet
		Rules   []string
		Reading string `json:",omitempty"`
	}{Viewlet: *v, Reading: s.readings[viewletName]}
	if v.Template != nil {
		t := *v.Template
		t.Path = "" // moving all files elsewhere changes no fragment
		facts.Viewlet.Template = &t
	}
	for _, r := range s.rules {
		for _, k := range r.Calls {
			if k.Viewlet == v.Name {
				facts.Rules = append(facts.Rules, describe(r, k))
			}
		}
	}
	slices.Sort(facts.Rules)
	facts.Rules = slices.Compact(facts.Rules)
	text, err := json.Marshal(facts)
	if err != nil {
		panic(err) // strings, numbers and maps of strings
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// describe is a call with all that decides what it refreshes.
func describe(r *rule.Rule, k *rule.Call) string {
	text := fmt.Sprintf("%q.%q %s refresh %s", r.Table.Schema, r.Table.Name, r.Source, k.Source)
	for _, l := range k.Lookups() {
		text += fmt.Sprintf("; %s %q %q", l.Name, l.Params, l.Query.SQL)
	}
	return text
}
