package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
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
	}{Viewlet: *v}
	if v.Template != nil {
		t := *v.Template
		t.Path = "" // moving all files elsewhere changes no fragment
		facts.Viewlet.Template = &t
	}
	for _, t := range s.tables {
		for _, k := range t.calls {
			if k.viewlet == v {
				facts.Rules = append(facts.Rules, t.describe(k))
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
func (t *table) describe(k *call) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q.%q %s refresh %s", t.name.Schema, t.name.Name, t.source, k.source)
	for _, l := range k.lookups {
		fmt.Fprintf(&b, "; %s %q %q", l.Name, l.Params, l.Query.SQL)
	}
	return b.String()
}

// sourceOf is a call as written, with what the fors around it define.
func (c *callReader) sourceOf(e hclsyntax.Expression, in scope) string {
	at := e.Range()
	if strings.HasSuffix(at.Filename, ".json") {
		at = c.attr // ranges within JSON text are not exact
	}
	text := c.set.source(at) + environment(e)
	for _, name := range sortedKeys(in) {
		text += fmt.Sprintf(" %s=%#v", name, in[name])
	}
	for _, l := range c.loops {
		text += " for " + c.set.source(l.Range()) + environment(l)
	}
	return text
}

// source is a part of a rules file.
func (s *Set) source(at hcl.Range) string {
	f := s.files[at.Filename]
	if f == nil || !at.CanSliceBytes(f.Bytes) {
		return ""
	}
	return string(at.SliceBytes(f.Bytes))
}

// environment gives the variables that an expression reads with env, and their
// values.
func environment(e hclsyntax.Expression) string {
	text := ""
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		f, ok := n.(*hclsyntax.FunctionCallExpr)
		if !ok || f.Name != "env" || len(f.Args) != 1 {
			return nil
		}
		if v, diags := f.Args[0].Value(nil); !diags.HasErrors() && v.IsKnown() && !v.IsNull() && v.Type() == cty.String {
			text += fmt.Sprintf(" %s=%q", v.AsString(), os.Getenv(v.AsString()))
		}
		return nil
	})
	return text
}
