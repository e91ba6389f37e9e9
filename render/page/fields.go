package page

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template/parse"
)

// dotKind is what is known of a template's dot: that it is the whole data,
// that it is one of rows, or nothing.
type dotKind int

const (
	dotOther dotKind = iota
	dotTop
	dotRow
	dotRows
)

// fieldCheck finds the columns that a template reads and its query does not have.
type fieldCheck struct {
	page    *Page
	params  []string
	columns []string
	visited map[visit]bool
	wrong   []error

	tree     *parse.Tree
	assigned map[string]bool // the variables of tree that are given another value later
}

type visit struct {
	template string
	dot      dotKind
}

// scope is what a part of a template sees.
type scope struct {
	dot  dotKind
	vars map[string]dotKind // $ and the declared ones
}

// UnknownFields names, by file and line, each field that a template reads and
// that is neither a param nor a column.
func (p *Page) UnknownFields(params, columns []string) []error {
	c := &fieldCheck{page: p, params: params, columns: columns, visited: map[visit]bool{}}
	c.template(p.name, dotTop)
	return c.wrong
}

func (c *fieldCheck) template(name string, dot dotKind) {
	tree := c.page.trees[name]
	if tree == nil || tree.Root == nil || c.visited[visit{name, dot}] {
		return
	}
	c.visited[visit{name, dot}] = true
	outer, assigned := c.tree, c.assigned
	c.tree, c.assigned = tree, map[string]bool{}
	c.findAssigned(tree.Root)
	c.node(tree.Root, scope{dot: dot, vars: map[string]dotKind{"$": dot}})
	c.tree, c.assigned = outer, assigned
}

func (c *fieldCheck) findAssigned(node parse.Node) {
	note := func(p *parse.PipeNode) {
		for _, v := range p.Decl {
			c.assigned[v.Ident[0]] = c.assigned[v.Ident[0]] || p.IsAssign
		}
	}
	branch := func(b *parse.BranchNode) {
		note(b.Pipe)
		c.findAssigned(b.List)
		if b.ElseList != nil {
			c.findAssigned(b.ElseList)
		}
	}
	switch n := node.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			c.findAssigned(child)
		}
	case *parse.ActionNode:
		note(n.Pipe)
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	}
}

func (c *fieldCheck) node(node parse.Node, s scope) {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, child := range n.Nodes {
			c.node(child, s)
		}
	case *parse.ActionNode:
		kind := c.pipe(n.Pipe, s)
		for _, v := range n.Pipe.Decl {
			c.declare(s, v, kind)
		}
	case *parse.IfNode:
		c.branch(&n.BranchNode, s, s.dot, c.pipe(n.Pipe, s))
	case *parse.WithNode:
		kind := c.pipe(n.Pipe, s)
		c.branch(&n.BranchNode, s, kind, kind)
	case *parse.RangeNode:
		element := dotOther
		if c.pipe(n.Pipe, s) == dotRows {
			element = dotRow
		}
		c.branch(&n.BranchNode, s, element, element)
	case *parse.TemplateNode:
		c.template(n.Name, c.pipe(n.Pipe, s))
	}
}

func (c *fieldCheck) branch(b *parse.BranchNode, s scope, dot, declared dotKind) {
	inner := scope{dot: dot, vars: maps.Clone(s.vars)}
	if n := len(b.Pipe.Decl); n > 0 {
		c.declare(inner, b.Pipe.Decl[n-1], declared) // of two, the first is the index
	}
	c.node(b.List, inner)
	if b.ElseList != nil {
		c.node(b.ElseList, scope{dot: s.dot, vars: maps.Clone(s.vars)})
	}
}

func (c *fieldCheck) declare(s scope, v *parse.VariableNode, kind dotKind) {
	if c.assigned[v.Ident[0]] {
		kind = dotOther
	}
	s.vars[v.Ident[0]] = kind
}

// pipe checks a pipeline and tells what is known of its value.
func (c *fieldCheck) pipe(p *parse.PipeNode, s scope) dotKind {
	if p == nil {
		return dotOther
	}
	kind := dotOther
	for _, cmd := range p.Cmds {
		for _, arg := range cmd.Args {
			kind = c.arg(arg, s)
		}
		if len(cmd.Args) != 1 {
			kind = dotOther
		}
	}
	if len(p.Cmds) != 1 {
		return dotOther
	}
	return kind
}

func (c *fieldCheck) arg(arg parse.Node, s scope) dotKind {
	switch n := arg.(type) {
	case *parse.DotNode:
		return s.dot
	case *parse.FieldNode:
		return c.field(n, s.dot, n.Ident)
	case *parse.VariableNode:
		return c.field(n, s.vars[n.Ident[0]], n.Ident[1:])
	case *parse.PipeNode:
		return c.pipe(n, s)
	case *parse.ChainNode:
		return c.field(n, c.arg(n.Node, s), n.Field)
	}
	return dotOther
}

// field checks that what is known of dot has the first of the fields.
func (c *fieldCheck) field(node parse.Node, dot dotKind, fields []string) dotKind {
	if len(fields) == 0 {
		return dot
	}
	known := c.columns
	switch dot {
	case dotTop:
		known = slices.Concat(c.columns, c.params, []string{"rows"})
	case dotRow:
	default:
		return dotOther
	}
	if !slices.Contains(known, fields[0]) {
		where, _ := c.tree.ErrorContext(node)
		c.wrong = append(c.wrong, fmt.Errorf("template %s: the query has no column %q; there is %s",
			where, fields[0], strings.Join(known, ", ")))
		return dotOther
	}
	if dot == dotTop && len(fields) == 1 && fields[0] == "rows" && !slices.Contains(c.columns, "rows") {
		return dotRows
	}
	return dotOther
}
