package derive

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// HCL writes the rules as they would stand in rules.hcl, with the equalities
// that they come from.
func HCL(rules []Rule) string {
	var b strings.Builder
	var written []string
	for i, r := range rules {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "# derived: %s\n", r.Why)
		fmt.Fprintf(&b, "table %s {\n", quoteHCL(TableLabel(r.Table)))
		switch {
		case r.Touched:
		case r.Every:
			b.WriteString("  when    = changed()\n")
		case len(r.Columns) == 0:
			b.WriteString("  on      = [\"insert\", \"delete\"]\n")
		default:
			fmt.Fprintf(&b, "  when    = changed(%s)\n", each(r.Columns, quoteHCL))
		}
		fmt.Fprintf(&b, "  refresh = %s\n}\n", r.call())
		if l := r.Lookup; l != nil && !slices.Contains(written, l.Name) {
			written = append(written, l.Name)
			fmt.Fprintf(&b, "\nlookup %s {\n  params = [%s]\n  query  = %s\n}\n", quoteHCL(l.Name), each(l.Params, quoteHCL), quoteHCL(l.SQL))
		}
	}
	return b.String()
}

// TableLabel writes a table's name as rules.hcl has it in a string: with SQL's
// quotes where it has dots, quotes or blanks.
func TableLabel(n viewlet.TableName) string {
	name := labelPart(n.Name)
	if n.Schema != "" {
		name = labelPart(n.Schema) + "." + name
	}
	return name
}

func labelPart(name string) string {
	if strings.ContainsAny(name, ".\" \t\n") {
		return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return name
}

// call writes the refresh.
func (r Rule) call() string {
	return r.Viewlet + "(" + each(r.Args, func(a Arg) string {
		if a.Column == "" {
			return r.Lookup.Name + "(" + each(r.Lookup.Columns, columnHCL) + ")"
		}
		return columnHCL(a.Column)
	}) + ")"
}

// columnHCL writes a column of the row; one whose name HCL would read as
// something else in the way that any name can be written.
func columnHCL(name string) string {
	if plainHCL.MatchString(name) && !wordsHCL[name] {
		return name
	}
	return "row[" + quoteHCL(name) + "]"
}

var plainHCL = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// wordsHCL mean something else than a column.
var wordsHCL = wordSet("true false null new old row op")

func each[T any](list []T, write func(T) string) string {
	words := make([]string, len(list))
	for i, x := range list {
		words[i] = write(x)
	}
	return strings.Join(words, ", ")
}

// quoteHCL writes a string, in which HCL would read ${ and %{ as templates.
func quoteHCL(s string) string {
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strconv.Quote(s))
}
