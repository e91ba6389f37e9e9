package rules

import (
	"cmp"
	"io"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/rules/resolve"
)

// Diagnostics are the problems found, errors and warnings; Diagnostic is one,
// with the place in the rules that it is about. They are HCL's own types, so
// that no other package needs to know HCL: HasErrors, Error, Errs, Append and
// Extend are theirs.
type (
	Diagnostics = hcl.Diagnostics
	Diagnostic  = hcl.Diagnostic
	Severity    = hcl.DiagnosticSeverity
)

// With an Error the rules cannot be followed; with a Warning they can.
const (
	Error   = hcl.DiagError
	Warning = hcl.DiagWarning
)

// Count says how many of the diagnostics are errors, and how many warnings.
func Count(diags Diagnostics) (errors, warnings int) {
	errors = len(diags.Errs())
	return errors, len(diags) - errors
}

// Sort puts the diagnostics in the order of the places that they are about, as one
// reads the rules; what has no place comes last.
func Sort(diags Diagnostics) {
	place := func(d *Diagnostic) hcl.Range {
		if d.Subject == nil {
			return hcl.Range{Filename: "\U0010FFFF"}
		}
		return *d.Subject
	}
	slices.SortFunc(diags, func(a, b *Diagnostic) int {
		at, bt := place(a), place(b)
		return cmp.Or(cmp.Compare(at.Filename, bt.Filename), cmp.Compare(at.Start.Byte, bt.Start.Byte),
			cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Summary, b.Summary), cmp.Compare(a.Detail, b.Detail))
	})
}

// WriteDiagnostics writes the diagnostics as HCL does: what, where with the
// lines of the file, and the remedy. Passwords in the lines are starred out.
// The detail is wrapped at width columns, not at all when that is 0; color
// adds VT100 sequences.
func (s *Set) WriteDiagnostics(w io.Writer, diags Diagnostics, width uint, color bool) error {
	return s.names.Files.Write(w, diags, width, color)
}

// Problem makes a diagnostic about an attribute of the viewlet or lookup of
// that name; with an empty name, attr is that of a block which has no name, such
// as postgres.url. A block that lacks the attribute is pointed at itself, a
// derived one at the query that it follows from. An offset of 0 or more is one in bytes into
// the attribute's value, such as a query, and is pointed at in the file as
// well as can be; -1 means all of it.
func (s *Set) Problem(name, attr string, offset int, severity Severity, summary, detail string) *Diagnostic {
	if name == "" {
		name, attr, _ = strings.Cut(attr, ".")
		name = "the " + name
	}
	d := &Diagnostic{Severity: severity, Summary: summary, Detail: detail}
	b, ok := s.blocks[name]
	if origin := s.origins[b.at.Filename]; origin != "" {
		return s.Problem(origin, "query", -1, severity, summary, detail)
	}
	if ok {
		d.Subject = b.at.Ptr()
		if a := b.attrs[attr]; a != nil {
			d.Subject = s.within(a, offset, offset).Ptr()
		}
	}
	return d
}

// within is where value[start:end] of an attribute's text stands; with a
// negative start the attribute itself.
func (s *Set) within(a *hcl.Attribute, start, end int) hcl.Range {
	return s.names.Files.Within(a.Expr, resolve.Constants(), start, end)
}
