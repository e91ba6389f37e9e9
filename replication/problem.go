package replication

import "strings"

// Problem is something that Postgres lacks for streaming, and what to do.
type Problem struct {
	What string // one line
	Cure string // a command, SQL where there is some; it may have several lines
}

// Error gives the problem and its cure.
func (p Problem) Error() string {
	if p.Cure == "" {
		return p.What
	}
	if strings.Contains(p.Cure, "\n") {
		return p.What + "; to mend it:\n" + indent(p.Cure)
	}
	return p.What + "; to mend it: " + p.Cure
}

// Problems is everything that Postgres lacks. As an error it has a line, or a
// few, for each.
type Problems []Problem

// Error gives each problem with its cure.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a Problem.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// err is nil when there is no problem.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ")
}
