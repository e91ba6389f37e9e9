// Package hint words what to write instead.
package hint

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
)

// DidYouMean gives a sentence, with a space before it, that suggests the name
// most like the given one, written in the format; empty when none is like it.
func DidYouMean(given string, names []string, format string) string {
	best, distance := "", max(2, len(given)/3)+1
	for _, name := range names {
		if d := levenshtein.Distance(strings.ToLower(given), strings.ToLower(name), nil); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return " Did you mean " + fmt.Sprintf(format, best) + "?"
}

// List gives "a", "b" and "c".
func List(names []string) string {
	var b strings.Builder
	for i, name := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			b.WriteString(" and ")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", name)
	}
	return b.String()
}

// Count gives "1 argument" or "2 arguments".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Call gives product_teaser(id, lang).
func Call(name string, params []string) string { return name + "(" + strings.Join(params, ", ") + ")" }
