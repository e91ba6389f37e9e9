package template_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/rules/template"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"page.html":  `{{template "head.html" .}}{{template "b" .}}{{template "no.html"}}`,
		"head.html":  `{{- template "page.html"}}`,
		"blocks.txt": `{{define "b"}}{{end}}`,
		"parts.html": "{{define `b`}}{{template \"tail.html\"}}{{end}}",
		"tail.html":  `</html>`,
		"other.html": `{{template "tail.html"}}`,
		"bad.txt":    "\xff",
		"notes.md":   "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folders := template.Folders{}
	page, err := folders.Read(filepath.Join(dir, "page.html"))
	if err != nil || !page.HTML || page.Name != "page.html" || page.Path != filepath.Join(dir, "page.html") {
		t.Fatalf("got %+v, %v", page, err)
	}
	if got, want := slices.Sorted(maps.Keys(page.Partials)), []string{"head.html", "parts.html", "tail.html"}; !slices.Equal(got, want) {
		t.Errorf("partials are %q, want %q", got, want)
	}
	if blocks, err := folders.Read(filepath.Join(dir, "blocks.txt")); err != nil || blocks.HTML || len(blocks.Partials) != 0 {
		t.Errorf("got %+v, %v", blocks, err)
	}
	if _, err := folders.Read(filepath.Join(dir, "bad.txt")); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("what is no text gives %v", err)
	}
	for _, missing := range []string{filepath.Join(dir, "pag.html"), filepath.Join(dir, "none", "page.html")} {
		if _, err := folders.Read(missing); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s gives %v", missing, err)
		}
	}
	if got, want := folders.Names(filepath.Join(dir, "pag.html")), []string{"blocks.txt", "head.html", "other.html", "page.html", "parts.html", "tail.html"}; !slices.Equal(got, want) {
		t.Errorf("names are %q, want %q", got, want)
	}
}
