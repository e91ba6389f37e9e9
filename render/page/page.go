package page

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"maps"
	"slices"
	"strings"
	texttemplate "text/template"
	"text/template/parse"

	"github.com/cdc-viewlet/cdc-viewlet/render/direct"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// Page is a template, parsed with the partials that it uses.
type Page struct {
	// Execute writes the page of what the template is to see. It is for any
	// goroutine.
	Execute func(w io.Writer, data any) error
	// WantsRows tells whether the template mentions rows.
	WantsRows bool

	name     string
	trees    map[string]*parse.Tree
	executed map[string]*parse.Tree // with the escapers that their places ask for
}

// Parse parses a template. An error says in which file and line, and what
// to do.
func Parse(t *rules.Template) (*Page, error) {
	p := &Page{name: t.Name, trees: map[string]*parse.Tree{}, executed: map[string]*parse.Tree{}}
	if err := p.parse(t.Name, t.Source); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(t.Partials)) {
		if err := p.parse(name, t.Partials[name]); err != nil {
			return nil, err
		}
	}
	if err := p.missing(t); err != nil {
		return nil, err
	}
	if cycle := p.cycle(); cycle != nil {
		return nil, fmt.Errorf("template %s: it includes itself without end: %s; put the {{template}} inside an {{if}} or {{range}} that ends, or take it out",
			t.Name, strings.Join(cycle, " -> "))
	}
	var err error
	if t.HTML {
		p.Execute, err = p.html()
	} else {
		p.Execute, err = p.text()
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// parse adds a file's template and those that it defines. What is there
// already stays: a template's own {{define}} goes over a partial's {{block}}.
func (p *Page) parse(name, source string) error {
	p.WantsRows = p.WantsRows || strings.Contains(source, "rows")
	added := map[string]*parse.Tree{}
	if _, err := parse.New(name).Parse(source, "", "", added, builtins, functions); err != nil {
		return err
	}
	for n, tree := range added {
		if p.trees[n] == nil || parse.IsEmptyTree(p.trees[n].Root) {
			p.trees[n] = tree
		}
	}
	return nil
}

// missing names the first template that is included and not there.
func (p *Page) missing(t *rules.Template) error {
	known := slices.Sorted(maps.Keys(p.trees))
	for _, name := range known {
		tree := p.trees[name]
		for _, call := range calls(tree.Root, false) {
			if p.trees[call.name] != nil {
				continue
			}
			where, _ := tree.ErrorContext(call.node)
			return fmt.Errorf("template %s: there is no partial %q; a partial is a file beside %s with the same ending, or a {{define}} in one; here there is %s",
				where, call.name, t.Name, strings.Join(known, ", "))
		}
	}
	return nil
}

// call is a {{template "name"}}.
type call struct {
	name   string
	node   *parse.TemplateNode
	always bool // not inside an {{if}}, {{range}} or {{with}}
}

// calls finds the templates that a node includes.
func calls(node parse.Node, sometimes bool) []call {
	var found []call
	branch := func(b *parse.BranchNode) {
		found = append(found, calls(b.List, true)...)
		if b.ElseList != nil {
			found = append(found, calls(b.ElseList, true)...)
		}
	}
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, child := range n.Nodes {
			found = append(found, calls(child, sometimes)...)
		}
	case *parse.TemplateNode:
		found = append(found, call{name: n.Name, node: n, always: !sometimes})
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	}
	return found
}

// cycle is a way from a template back to itself that every execution goes.
func (p *Page) cycle() []string {
	var path []string
	var visit func(name string) []string
	done := map[string]bool{}
	visit = func(name string) []string {
		if i := slices.Index(path, name); i >= 0 {
			return append(slices.Clone(path[i:]), name)
		}
		if done[name] {
			return nil
		}
		path = append(path, name)
		defer func() { path, done[name] = path[:len(path)-1], true }()
		for _, c := range calls(p.trees[name].Root, false) {
			if !c.always {
				continue
			}
			if cycle := visit(c.name); cycle != nil {
				return cycle
			}
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(p.trees)) {
		if cycle := visit(name); cycle != nil {
			return cycle
		}
	}
	return nil
}

func (p *Page) html() (func(io.Writer, any) error, error) {
	t := htmltemplate.New(p.name).Funcs(functions)
	for name, tree := range p.trees {
		if _, err := t.AddParseTree(name, tree.Copy()); err != nil {
			return nil, err
		}
	}
	if t = t.Lookup(p.name); t == nil {
		return nil, fmt.Errorf("template %s: it is empty", p.name)
	}
	// Escaping happens at the first execution, which tells what it cannot do.
	var escape *htmltemplate.Error
	if err := t.Execute(io.Discard, nil); errors.As(err, &escape) {
		where := fmt.Sprintf("%s:%d", escape.Name, escape.Line)
		if escape.Node != nil {
			where, _ = (*parse.Tree)(nil).ErrorContext(escape.Node)
		}
		return nil, fmt.Errorf("template %s: %s", where, escape.Description)
	}
	for _, t := range t.Templates() {
		p.executed[t.Name()] = t.Tree
	}
	return t.Execute, nil
}

func (p *Page) text() (func(io.Writer, any) error, error) {
	t := texttemplate.New(p.name).Funcs(functions).Funcs(texttemplate.FuncMap{direct.NullAsNothing: nullAsNothing})
	for name, tree := range p.trees {
		tree = tree.Copy()
		nullsPrintNothing(tree.Root)
		if _, err := t.AddParseTree(name, tree); err != nil {
			return nil, err
		}
		p.executed[name] = tree
	}
	if t = t.Lookup(p.name); t == nil {
		return nil, fmt.Errorf("template %s: it is empty", p.name)
	}
	return t.Execute, nil
}

func nullAsNothing(v any) any {
	if v == nil {
		return ""
	}
	return v
}

// nullsPrintNothing makes text/template print a NULL as html/template does,
// and not as <no value>.
func nullsPrintNothing(node parse.Node) {
	branch := func(b *parse.BranchNode) {
		nullsPrintNothing(b.List)
		if b.ElseList != nil {
			nullsPrintNothing(b.ElseList)
		}
	}
	switch n := node.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			nullsPrintNothing(child)
		}
	case *parse.ActionNode:
		if len(n.Pipe.Decl) > 0 {
			return
		}
		id := parse.NewIdentifier(direct.NullAsNothing).SetPos(n.Pos)
		n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{id}})
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	}
}
