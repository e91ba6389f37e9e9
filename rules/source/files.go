// Package source reads files of HCL, and points into them where something is wrong.
package source

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
	"github.com/zclconf/go-cty/cty"
)

// maxFileSize is what a rules file or a template may have, in bytes. A
// thousand viewlets take a third of it.
const maxFileSize = 1 << 20

// Files are those that were read, by name.
type Files map[string]*hcl.File

// List names the files to read: the one at path, or the *.hcl and *.hcl.json
// of the folder there. Without any, p is told why.
func List(path string, p *Problems) []string {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		p.Error(hcl.Range{}, "No rules", "There is no %s. Write the rules there, or name the file or folder that has them with -c.", path)
		return nil
	}
	if err == nil && !info.IsDir() {
		return []string{path}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		p.Error(hcl.Range{}, "Cannot read the rules", "read folder %s: %s.", path, pathCause(err))
		return nil
	}
	var names []string
	for _, e := range entries { // sorted by name
		if !e.IsDir() && (strings.HasSuffix(e.Name(), ".hcl") || strings.HasSuffix(e.Name(), ".hcl.json")) {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	if len(names) == 0 {
		p.Error(hcl.Range{}, "No rules", "The folder %s has no file that ends in .hcl or .hcl.json.", path)
	}
	return names
}

// Parse reads a file, as JSON where its name says so. Without ok, p is told
// why; what of the body could be read can be used nevertheless.
func (f Files) Parse(name string, p *Problems) (body hcl.Body, ok bool) {
	src, err := ReadText(name)
	isJSON := strings.HasSuffix(name, ".json")
	switch {
	case err != nil:
		p.Error(hcl.Range{}, "Cannot read the rules", "%s.", err)
	case len(bytes.TrimSpace(src)) == 0:
		return hcl.EmptyBody(), true
	case tooDeep(src, name, isJSON):
		p.Error(hcl.Range{}, "Cannot read the rules", "%s has brackets or operators nested too deeply.", name)
	default:
		return f.parse(src, name, isJSON, p)
	}
	return hcl.EmptyBody(), false
}

// ParseText is Parse for text that is in no file.
func (f Files) ParseText(src []byte, name string, p *Problems) (body hcl.Body, ok bool) {
	return f.parse(src, name, false, p)
}

func (f Files) parse(src []byte, name string, isJSON bool, p *Problems) (body hcl.Body, ok bool) {
	parse := json.Parse
	if !isJSON {
		parse = func(src []byte, name string) (*hcl.File, hcl.Diagnostics) {
			return hclsyntax.ParseConfig(src, name, hcl.InitialPos)
		}
	}
	file, diags := parse(src, name)
	if file == nil || file.Body == nil {
		file = &hcl.File{Bytes: src, Body: hcl.EmptyBody()}
	}
	f[name] = file
	return file.Body, p.Add(oncePerPlace(diags))
}

// oncePerPlace leaves out what only goes on with the problem before it: of a
// quote that is missing, HCL complains on every line until the next one.
func oncePerPlace(diags hcl.Diagnostics) hcl.Diagnostics {
	var kept hcl.Diagnostics
	ends := map[string]int{} // line where the last problem of that kind ends
	for _, d := range diags {
		if d.Subject == nil {
			kept = append(kept, d)
			continue
		}
		if end, told := ends[d.Detail]; !told || d.Subject.Start.Line > end {
			kept = append(kept, d)
		}
		ends[d.Detail] = d.Subject.End.Line
	}
	return kept
}

// ReadText reads a text file of bounded size.
func ReadText(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, pathCause(err))
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, pathCause(err))
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

// Text is what stands at a place; empty when that is not known.
func (f Files) Text(at hcl.Range) string {
	file := f[at.Filename]
	if file == nil || !at.CanSliceBytes(file.Bytes) {
		return ""
	}
	return string(at.SliceBytes(file.Bytes))
}

// Within is where text[start:end] stands of the text that the expression gives
// in ctx; the beginning of the expression when that cannot be told, or when
// start is negative.
func (f Files) Within(e hcl.Expression, ctx *hcl.EvalContext, start, end int) hcl.Range {
	at := e.Range()
	file := f[at.Filename]
	if file == nil || start < 0 {
		return FirstLine(at)
	}
	v, diags := e.Value(ctx)
	if diags.HasErrors() || !v.IsWhollyKnown() || v.IsNull() || v.Type() != cty.String {
		return FirstLine(at)
	}
	if r, ok := locate(file.Bytes, at, v.AsString(), start, end); ok {
		return r
	}
	return FirstLine(at)
}
