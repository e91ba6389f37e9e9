package source

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// Problems gathers what is wrong, so that all of it is said at once.
type Problems struct {
	found  hcl.Diagnostics
	errors int
}

// Error notes what cannot be followed, at a place in the files; the zero Range
// is none of them.
func (p *Problems) Error(at hcl.Range, summary, format string, args ...any) {
	p.add(hcl.DiagError, at, summary, format, args...)
}

// Warn notes what can be followed, but is hardly what was meant.
func (p *Problems) Warn(at hcl.Range, summary, format string, args ...any) {
	p.add(hcl.DiagWarning, at, summary, format, args...)
}

func (p *Problems) add(severity hcl.DiagnosticSeverity, at hcl.Range, summary, format string, args ...any) {
	d := &hcl.Diagnostic{Severity: severity, Summary: summary, Detail: fmt.Sprintf(format, args...)}
	if at != (hcl.Range{}) {
		d.Subject = &at
	}
	p.Add(hcl.Diagnostics{d})
}

// Add notes what HCL found, and reports whether no error was among it.
func (p *Problems) Add(diags hcl.Diagnostics) (ok bool) {
	errors := len(diags.Errs())
	p.found, p.errors = append(p.found, diags...), p.errors+errors
	return errors == 0
}

// Errors counts the problems that are no warnings.
func (p *Problems) Errors() int { return p.errors }

// Sorted gives the problems by file and position, and none twice.
func (p *Problems) Sorted() hcl.Diagnostics {
	place := func(d *hcl.Diagnostic) hcl.Range {
		if d.Subject == nil {
			return hcl.Range{}
		}
		return *d.Subject
	}
	slices.SortStableFunc(p.found, func(a, b *hcl.Diagnostic) int {
		return cmp.Or(cmp.Compare(place(a).Filename, place(b).Filename), cmp.Compare(place(a).Start.Byte, place(b).Start.Byte))
	})
	return slices.CompactFunc(p.found, func(a, b *hcl.Diagnostic) bool {
		return place(a) == place(b) && a.Severity == b.Severity && a.Summary == b.Summary && a.Detail == b.Detail
	})
}

// Write writes diagnostics as HCL does, with the lines that they are about.
// Passwords in the lines are starred out. Details are wrapped at width columns,
// not at all when that is 0; color adds VT100 sequences.
func (f Files) Write(w io.Writer, diags hcl.Diagnostics, width uint, color bool) error {
	shown := map[string]*hcl.File{}
	for name, file := range f {
		redacted := *file
		redacted.Bytes = redact(file.Bytes)
		shown[name] = &redacted
	}
	if err := hcl.NewDiagnosticTextWriter(w, shown, width, color).WriteDiagnostics(diags); err != nil {
		return fmt.Errorf("write diagnostics: %w", err)
	}
	return nil
}

var passwords = regexp.MustCompile(`://[^\s:/@"]*:([^\s"]+)@|(?i:\bpassword='?)([^\s'"&]+)`)

// redact stars out the passwords of URLs and connection strings, byte by byte,
// so that every position stays.
func redact(src []byte) []byte {
	src = bytes.Clone(src)
	for _, m := range passwords.FindAllSubmatchIndex(src, -1) {
		for _, group := range [][]int{m[2:4], m[4:6]} {
			for i := group[0]; i >= 0 && i < group[1]; i++ {
				src[i] = '*'
			}
		}
	}
	return src
}

// FirstLine cuts a range that goes over several lines, as a heredoc does, so
// that a diagnostic does not quote all of them.
func FirstLine(r hcl.Range) hcl.Range {
	if r.End.Line > r.Start.Line {
		r.End = r.Start
	}
	return r
}

// Line gives file:line for people.
func Line(r hcl.Range) string { return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line) }
