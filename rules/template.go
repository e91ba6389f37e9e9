package rules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
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

// folder is what a folder has of templates, by base name.
type folder struct {
	sources map[string]string
	names   map[string][]string // the templates that a file defines: its base name first
	invokes map[string][]string // the templates that a file invokes
	err     error
	failed  map[string]error // the files that could not be read
}

func (d *decoder) templateFile(a *hcl.Attribute, dir string) *Template {
	name, ok := d.text(a)
	if !ok {
		return nil
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, filepath.FromSlash(name))
	}
	ending := filepath.Ext(path)
	if ending != ".html" && ending != ".txt" {
		d.error(a.Expr.Range(), "Unknown kind of template", "A template ends in .html, and its values are escaped for HTML, or in .txt, and they are not. Rename it; without template and body the fragment is JSON.")
		return nil
	}
	base := filepath.Base(path)
	f := d.folder(filepath.Dir(path))
	source, found := f.sources[base]
	if !found {
		d.noTemplate(a, f, path)
		return nil
	}
	return &Template{Name: base, HTML: ending == ".html", Source: source, Partials: f.partials(base), Path: path}
}

func (d *decoder) noTemplate(a *hcl.Attribute, f *folder, path string) {
	base := filepath.Base(path)
	err := f.failed[base]
	if err == nil {
		err = f.err
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.error(a.Expr.Range(), "Cannot read the template", "%s.", err)
		return
	}
	d.error(a.Expr.Range(), "No such template", "There is no file %s; the path is relative to the file of rules.%s", path, didYouMean(base, sortedKeys(f.sources), "%s"))
}

// folder reads the templates of a folder, once.
func (d *decoder) folder(path string) *folder {
	if f := d.folders[path]; f != nil {
		return f
	}
	f := &folder{sources: map[string]string{}, names: map[string][]string{}, invokes: map[string][]string{}, failed: map[string]error{}}
	d.folders[path] = f
	entries, err := os.ReadDir(path)
	if err != nil {
		f.err = err
		return f
	}
	for _, e := range entries {
		if ending := filepath.Ext(e.Name()); e.IsDir() || ending != ".html" && ending != ".txt" {
			continue
		}
		src, err := readFile(filepath.Join(path, e.Name()))
		if err != nil {
			f.failed[e.Name()] = err
			continue
		}
		f.add(e.Name(), string(src))
	}
	return f
}

// action matches {{template "name"}}, {{define "name"}} and {{block "name" .}}.
var action = regexp.MustCompile("\\{\\{(?:- )?\\s*(template|define|block)\\s+(\"(?:[^\"\\\\\n]|\\\\.)*\"|`[^`]*`)")

func (f *folder) add(base, source string) {
	f.sources[base] = source
	f.names[base] = []string{base}
	for _, m := range action.FindAllStringSubmatch(source, -1) {
		name, err := strconv.Unquote(m[2])
		if err != nil {
			continue // the template's own parser will tell
		}
		if m[1] != "template" {
			f.names[base] = append(f.names[base], name)
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
	for file, names := range f.names {
		if slices.Contains(names, name) {
			files = append(files, file)
		}
	}
	return files
}
