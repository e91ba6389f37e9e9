// Package resolve finds what the names in a table block's expressions mean.
package resolve

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
)

// Names are those that an expression may call.
type Names struct {
	Viewlets   map[string][]string // their params
	Lookups    map[string]*rule.Lookup
	Functions  map[string]function.Function
	Expansions *rule.Expansions // what the calls need is added
	Files      source.Files     // that the expressions stand in
}

// written is an expression as it stands in a file, with the values of the
// environment variables that it reads. Ranges within JSON's text are not exact,
// so there it is the whole attribute.
func (n *Names) written(e hclsyntax.Expression, attr hcl.Range) string {
	at := e.Range()
	if strings.HasSuffix(at.Filename, ".json") {
		at = attr
	}
	text := n.Files.Text(at)
	for _, f := range source.Nodes[*hclsyntax.FunctionCallExpr](e) {
		if f.Name != "env" || len(f.Args) != 1 {
			continue
		}
		if v, diags := f.Args[0].Value(nil); !diags.HasErrors() && v.IsKnown() && !v.IsNull() && v.Type() == cty.String {
			text += fmt.Sprintf(" %s=%q", v.AsString(), os.Getenv(v.AsString()))
		}
	}
	return text
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
