package source

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcled"
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
// What is wrong in several places in the same words is written once. Passwords
// in the lines are starred out. Details are wrapped at width columns, not at
// all when that is 0; color adds VT100 sequences.
func (f Files) Write(w io.Writer, diags hcl.Diagnostics, width uint, color bool) error {
	shown := Files{}
	for name, file := range f {
		redacted := *file
		redacted.Bytes = redact(file.Bytes)
		shown[name] = &redacted
	}
	if err := hcl.NewDiagnosticTextWriter(w, shown, width, color).WriteDiagnostics(shown.once(diags)); err != nil {
		return fmt.Errorf("write diagnostics: %w", err)
	}
	return nil
}

// once gives, of diagnostics that differ in nothing but their place, the first
// one, with the places of the others below its detail.
func (f Files) once(diags hcl.Diagnostics) hcl.Diagnostics {
	type words struct {
		severity        hcl.DiagnosticSeverity
		summary, detail string
	}
	var kept hcl.Diagnostics
	told := map[words]int{} // where in kept
	for _, d := range diags {
		said := words{d.Severity, d.Summary, d.Detail}
		i, again := told[said]
		switch {
		case d.Subject == nil || !again:
			told[said] = len(kept)
			one := *d
			kept = append(kept, &one)
		case kept[i].Detail == d.Detail:
			kept[i].Detail += "\n\nIt is the same here:\n  " + f.place(*d.Subject)
		default:
			kept[i].Detail += "\n  " + f.place(*d.Subject)
		}
	}
	return kept
}

// place tells a place as HCL does, with what stands there if that is short:
// rules.hcl line 13, in table "products": lower(5).
func (f Files) place(at hcl.Range) string {
	text := fmt.Sprintf("%s line %d", at.Filename, at.Start.Line)
	if file := f[at.Filename]; file != nil {
		if block := hcled.ContextString(file, at.Start.Byte); block != "" {
			text += ", in " + block
		}
	}
	const short = 40
	if what := f.Text(at); what != "" && len(what) <= short && !strings.Contains(what, "\n") {
		text += ": " + what
	}
	return text
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
