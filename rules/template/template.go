// Package template reads templates, each with the partials that it invokes.
package template

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/rules/source"
)

// Template is a viewlet's template with the partials of its folder.
type Template struct {
	Name   string // the file's base name; "body" when it stands inline
	HTML   bool   // html/template, else text/template
	Source string
	// Partials are, by base name, the files of the template's folder with the
	// same ending that it invokes, itself or through another of them.
	Partials map[string]string
	Path     string // for messages; empty for an inline body
}

// Inline is a template that stands in the rules.
func Inline(source string) *Template {
	return &Template{Name: "body", HTML: true, Source: source, Partials: map[string]string{}}
}

// Known reports whether a file is a template by its name.
func Known(path string) bool {
	ending := filepath.Ext(path)
	return ending == ".html" || ending == ".txt"
}

// Folders are those that templates were read from, by path.
type Folders map[string]*folder

// folder is what a folder has of templates, by base name.
type folder struct {
	sources map[string]string
	defines map[string][]string // the templates that a file defines: its base name first
	invokes map[string][]string // the templates that a file invokes
}

// Read reads a template and its partials. Where there is no such file the
// error is fs.ErrNotExist.
func (f Folders) Read(path string) (*Template, error) {
	text, err := source.ReadText(path)
	if err != nil {
		return nil, err
	}
	base := filepath.Base(path)
	partials := f.folder(filepath.Dir(path)).partials(base)
	return &Template{Name: base, HTML: filepath.Ext(path) == ".html", Source: string(text), Partials: partials, Path: path}, nil
}

// Names lists the templates beside that path.
func (f Folders) Names(path string) []string {
	return slices.Sorted(maps.Keys(f.folder(filepath.Dir(path)).sources))
}

// folder reads the templates of a folder, once. One that cannot be read is
// missed where it is named.
func (f Folders) folder(path string) *folder {
	if known := f[path]; known != nil {
		return known
	}
	in := &folder{sources: map[string]string{}, defines: map[string][]string{}, invokes: map[string][]string{}}
	f[path] = in
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if e.IsDir() || !Known(e.Name()) {
			continue
		}
		if text, err := source.ReadText(filepath.Join(path, e.Name())); err == nil {
			in.add(e.Name(), string(text))
		}
	}
	return in
}

// action matches {{template "name"}}, {{define "name"}} and {{block "name" .}}.
var action = regexp.MustCompile("\\{\\{(?:- )?\\s*(template|define|block)\\s+(\"(?:[^\"\\\\\n]|\\\\.)*\"|`[^`]*`)")

func (f *folder) add(base, source string) {
	f.sources[base] = source
	f.defines[base] = []string{base}
	for _, m := range action.FindAllStringSubmatch(source, -1) {
		name, err := strconv.Unquote(m[2])
		if err != nil {
			continue // the template's own parser will tell
		}
		if m[1] != "template" {
			f.defines[base] = append(f.defines[base], name)
		}
		if m[1] != "define" {
			f.invokes[base] = append(f.invokes[base], name)
		}
	}
}

// partials gives the files that a template needs. That they are not all files
// of the folder keeps one viewlet's template from touching another's.
func (f *folder) partials(base string) map[string]string {
	partials := map[string]string{}
	for queue := []string{base}; len(queue) > 0; queue = queue[1:] {
		for _, name := range f.invokes[queue[0]] {
			for _, file := range f.definers(name) {
				if _, known := partials[file]; !known && file != base && filepath.Ext(file) == filepath.Ext(base) {
					partials[file] = f.sources[file]
					queue = append(queue, file)
				}
			}
		}
	}
	return partials
}

// definers are the files that define a template of that name.
func (f *folder) definers(name string) []string {
	if _, ok := f.sources[name]; ok && !strings.ContainsAny(name, `/\`) {
		return []string{name}
	}
	var files []string
	for file, names := range f.defines {
		if slices.Contains(names, name) {
			files = append(files, file)
		}
	}
	return files
}
