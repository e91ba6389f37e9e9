package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
)

func TestParseRefusesDeepNesting(t *testing.T) {
	const open = "viewlet \"a\" {\n  query = "
	for name, tt := range map[string]struct{ file, text string }{
		"parentheses":  {"rules.hcl", open + strings.Repeat("(", 2_000)},
		"lists":        {"rules.hcl", open + strings.Repeat("[", 2_000)},
		"negations":    {"rules.hcl", open + strings.Repeat("!", 25_000)},
		"conditionals": {"rules.hcl", open + strings.Repeat("a?", 25_000)},
		"sums":         {"rules.hcl", open + strings.Repeat("1+", 25_000) + "1\n}"},
		"indexes":      {"rules.hcl", open + "a" + strings.Repeat("[b]", 25_000) + "\n}"},
		"templates":    {"rules.hcl", open + strings.Repeat(`"${`, 25_000)},
		"directives":   {"rules.hcl", open + `"` + strings.Repeat(`%{if true}`, 25_000) + "\"\n}"},
		"blocks":       {"rules.hcl", strings.Repeat("a {\n", 25_000)},
		"JSON":         {"rules.hcl.json", strings.Repeat("[", 2_000)},
		"JSON's text":  {"rules.hcl.json", `{"viewlet": {"a": {"query": "${` + strings.Repeat("(", 2_000) + `}"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.file)
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			var p source.Problems
			_, ok := source.Files{}.Parse(path, &p)
			diags := p.Sorted()
			if ok || len(diags) != 1 || !strings.Contains(diags[0].Detail, "nested too deeply") {
				t.Errorf("got %t and %d diagnostics", ok, len(diags))
			}
		})
	}
}
