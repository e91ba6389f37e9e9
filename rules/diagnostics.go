package rules

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
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
	for _, d := range diags {
		if d.Severity == Error {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}

// WriteDiagnostics writes the diagnostics as HCL does: what, where with the
// lines of the file, and the remedy. Passwords in the lines are starred out.
// The detail is wrapped at width columns, not at all when that is 0; color
// adds VT100 sequences.
func (s *Set) WriteDiagnostics(w io.Writer, diags Diagnostics, width uint, color bool) error {
	files := map[string]*hcl.File{}
	for name, f := range s.files {
		redacted := *f
		redacted.Bytes = redact(f.Bytes)
		files[name] = &redacted
	}
	if err := hcl.NewDiagnosticTextWriter(w, files, width, color).WriteDiagnostics(diags); err != nil {
		return fmt.Errorf("write diagnostics: %w", err)
	}
	return nil
}

var passwords = regexp.MustCompile(`://[^\s:/@"]*:([^\s"]+)@|(?i:\bpassword='?)([^\s'"&]+)`)

// redact stars out the passwords of URLs and connection strings, byte by byte,
// so that every position stays.
func redact(src []byte) []byte {
	found := passwords.FindAllSubmatchIndex(src, -1)
	if found == nil {
		return src
	}
	src = bytes.Clone(src)
	for _, m := range found {
		for _, group := range [][]int{m[2:4], m[4:6]} {
			for i := group[0]; i >= 0 && i < group[1]; i++ {
				src[i] = '*'
			}
		}
	}
	return src
}

// Problem makes a diagnostic about an attribute of the viewlet or lookup of
// that name; with an empty name, attr is postgres.url, postgres.slot,
// postgres.publication, redis.url or redis.prefix. A block that lacks the
// attribute is pointed at itself. An offset of 0 or more is one in bytes into
// the attribute's value, such as a query, and is pointed at in the file as
// well as can be; -1 means all of it.
func (s *Set) Problem(name, attr string, offset int, severity Severity, summary, detail string) *Diagnostic {
	if name == "" {
		name, attr, _ = strings.Cut(attr, ".")
		name = "the " + name
	}
	d := &Diagnostic{Severity: severity, Summary: summary, Detail: detail}
	b := s.blocks[name]
	if b == nil {
		return d
	}
	a := b.attrs[attr]
	if a == nil {
		d.Subject = b.at.Ptr()
		return d
	}
	d.Subject = s.attrRange(a, offset, offset).Ptr()
	return d
}

// attrRange is where value[start:end] of an attribute's string stands; a
// negative start means the whole expression.
func (s *Set) attrRange(a *attribute, start, end int) hcl.Range {
	if f := s.files[a.rng.Filename]; f != nil && start >= 0 {
		if r, ok := locate(f.Bytes, a.rng, a.value, start, end); ok {
			return r
		}
	}
	return firstLine(a.rng)
}

// firstLine cuts a range that goes over several lines, as a heredoc does, so
// that a diagnostic does not quote all of them.
func firstLine(r hcl.Range) hcl.Range {
	if r.End.Line > r.Start.Line {
		r.End = r.Start
	}
	return r
}

// lineOf gives file:line for people.
func lineOf(r hcl.Range) string { return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line) }

// problem makes a diagnostic at a place in the rules.
func problem(severity Severity, at hcl.Range, summary, format string, args ...any) *Diagnostic {
	return &Diagnostic{Severity: severity, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at}
}

// sortDiagnostics orders by file and position, and drops what is said twice.
func sortDiagnostics(diags Diagnostics) Diagnostics {
	place := func(d *Diagnostic) hcl.Range {
		if d.Subject == nil {
			return hcl.Range{}
		}
		return *d.Subject
	}
	slices.SortStableFunc(diags, func(a, b *Diagnostic) int {
		return cmp.Or(cmp.Compare(place(a).Filename, place(b).Filename), cmp.Compare(place(a).Start.Byte, place(b).Start.Byte))
	})
	return slices.CompactFunc(diags, func(a, b *Diagnostic) bool {
		return place(a) == place(b) && a.Severity == b.Severity && a.Summary == b.Summary && a.Detail == b.Detail
	})
}

// didYouMean gives a sentence, with a space before it, that suggests the name
// most like the given one, or nothing when none is like it.
func didYouMean(given string, names []string, format string) string {
	if best := nearest(given, names); best != "" {
		return " Did you mean " + fmt.Sprintf(format, best) + "?"
	}
	return ""
}

func nearest(given string, names []string) string {
	best, distance := "", max(2, len(given)/3)+1
	for _, name := range names {
		if d := levenshtein.Distance(strings.ToLower(given), strings.ToLower(name), nil); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// list gives "a", "b" and "c" for people.
func list(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " and " + quoted[len(quoted)-1]
}

// plural gives "1 argument", "2 arguments".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
