package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
)

// maxFileSize is what a rules file or a template may have, in bytes. A
// thousand viewlets take a third of it.
const maxFileSize = 1 << 20

// Load reads a rules file, or all *.hcl and *.hcl.json of a folder, together
// with the templates that they name and the environment variables that they
// ask for. All problems come at once. The Set is never nil, since the
// diagnostics are written with its help, but is good for nothing else when
// they have errors.
func Load(path string) (*Set, Diagnostics) {
	d := &decoder{set: newSet(), functions: constantFunctions(), folders: map[string]*folder{}}
	d.load(path)
	return d.set, sortDiagnostics(d.diags)
}

func newSet() *Set {
	x := newExpansions()
	return &Set{
		files:      map[string]*hcl.File{},
		blocks:     map[string]*block{},
		viewlets:   map[string]*Viewlet{},
		lookups:    map[string]*Lookup{},
		expansions: x,
		matcher:    matcher{expansions: x},
		functions:  rowFunctions(),
	}
}

func (d *decoder) load(path string) {
	names, diag := ruleFiles(path)
	if diag != nil {
		d.diags = append(d.diags, diag)
		return
	}
	broken := false
	for _, name := range names {
		body, diags := d.parse(name)
		d.diags = append(d.diags, diags...)
		if diags.HasErrors() {
			broken = true
		} else {
			d.file(name, body)
		}
	}
	if broken {
		return // what refers to a broken file's blocks would be called unknown
	}
	if len(d.set.Viewlets) == 0 && !d.diags.HasErrors() {
		d.diags = append(d.diags, noViewlet(path))
	}
	d.tables()
}

// ruleFiles lists the files to read: the one named, or those of a folder.
func ruleFiles(path string) ([]string, *Diagnostic) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fileProblem("No rules", "There is no %s. Write the rules there, or name the file or folder that has them with -c.", path)
	}
	if err != nil {
		return nil, fileProblem("Cannot read the rules", "%s.", fmt.Errorf("read %s: %w", path, pathCause(err)))
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fileProblem("Cannot read the rules", "%s.", fmt.Errorf("read folder %s: %w", path, pathCause(err)))
	}
	var names []string
	for _, e := range entries { // sorted by name
		if !e.IsDir() && (strings.HasSuffix(e.Name(), ".hcl") || strings.HasSuffix(e.Name(), ".hcl.json")) {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, fileProblem("No rules", "The folder %s has no file that ends in .hcl or .hcl.json.", path)
	}
	return names, nil
}

func (d *decoder) parse(name string) (hcl.Body, Diagnostics) {
	src, err := readFile(name)
	if err != nil {
		return nil, Diagnostics{fileProblem("Cannot read the rules", "%s.", err)}
	}
	if len(bytes.TrimSpace(src)) == 0 {
		return nil, Diagnostics{fileProblem("Empty rules", "%s is empty.%s", name, example)}
	}
	isJSON := strings.HasSuffix(name, ".json")
	if tooDeep(src, name, isJSON) {
		return nil, Diagnostics{fileProblem("Cannot read the rules", "%s has brackets or operators nested too deeply.", name)}
	}
	var file *hcl.File
	var diags Diagnostics
	if isJSON {
		file, diags = json.Parse(src, name)
	} else {
		file, diags = hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	}
	if file == nil || file.Body == nil {
		file = &hcl.File{Bytes: src, Body: hcl.EmptyBody()}
	}
	d.set.files[name] = file
	return file.Body, diags
}

// readFile reads a text file of bounded size.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, pathCause(err))
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, pathCause(err))
	}
	switch {
	case len(src) > maxFileSize:
		return nil, fmt.Errorf("read %s: it is larger than 1 MiB, which no file of rules or template may be; split it", name)
	case bytes.IndexByte(src, 0) >= 0 || !utf8.Valid(src):
		return nil, fmt.Errorf("read %s: it is not a text file in UTF-8", name)
	}
	return src, nil
}

// pathCause takes the path out of an error that tells it again.
func pathCause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

const example = ` Write at least one viewlet and the table that refreshes it:

  viewlet "product_teaser" {
    params   = ["id"]
    query    = "SELECT name, price FROM products WHERE id = @id"
    template = "product_teaser.html"
  }

  table "products" {
    refresh = product_teaser(id)
  }`

func noViewlet(path string) *Diagnostic {
	return fileProblem("No viewlet", "%s has no viewlet block, so there is nothing to keep fresh.%s", path, example)
}

// fileProblem is an error that no line of a file can be pointed at for.
func fileProblem(summary, format string, args ...any) *Diagnostic {
	return &Diagnostic{Severity: Error, Summary: summary, Detail: fmt.Sprintf(format, args...)}
}
