package direct

import (
	"slices"
	"text/template/parse"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

// Program is a template for a query whose params and columns are known. It is
// for any goroutine.
type Program struct {
	params, columns []value.Field
	main            *program
}

// Compile makes a program of the template of that name, and of those that it
// includes, with the escapers in them. It gives nil when there is something in
// them that a program does not do.
func Compile(name string, trees map[string]*parse.Tree, params, columns []value.Field) *Program {
	c := &compiler{
		Program: &Program{params: params, columns: columns},
		trees:   trees,
		done:    map[string]*program{},
		fits:    true,
	}
	if c.main = c.template(name); !c.fits {
		return nil
	}
	return c.Program
}

// Run runs a program for one fragment after another. It is for one goroutine.
type Run struct {
	p      *Program
	params []datum
	all    *value.Rows
	rows   []int

	out  []byte
	most int   // of out
	dot  datum // as in a template
	root datum // $
	deep int   // in templates
}

// Run gives a run.
func (p *Program) Run() *Run { return &Run{p: p, params: make([]datum, len(p.params))} }

// deepest is how deep templates are nested before the engine is asked, which
// has an end to it.
const deepest = 100

// Append appends a fragment of at most max bytes to dst. args are its
// arguments, and each of rows is the index in all of a row's first value. It
// reports false when it is to be made by Go's engine.
func (r *Run) Append(dst []byte, max int, args []string, all *value.Rows, rows []int) ([]byte, bool) {
	r.all, r.rows = all, rows
	r.out, r.most, r.deep = dst, len(dst)+max, 0
	r.dot = datum{kind: whole}
	r.root = r.dot
	for i, p := range r.p.params {
		v, err := value.Of(p.OID, args[i]) // as people write it, and not only Postgres
		if err != nil {
			return nil, false
		}
		r.params[i] = datumOf(v)
	}
	return r.out, r.do(*r.p.main)
}

// program is the steps of a template.
type program []step

// step does one node. It reports false to give up.
type step func(r *Run) bool

// operand is an argument of a node. It reports false to give up.
type operand func(r *Run) (datum, bool)

func (r *Run) do(p program) bool {
	for _, step := range p {
		if !step(r) || len(r.out) > r.most {
			return false
		}
	}
	return true
}

// within does a program with another dot.
func (r *Run) within(p program, dot datum) bool {
	outer := r.dot
	r.dot = dot
	ok := r.do(p)
	r.dot = outer
	return ok
}

// compiler makes a Program.
type compiler struct {
	*Program
	trees map[string]*parse.Tree
	done  map[string]*program // by the template's name; those under way included
	fits  bool
}

func (c *compiler) template(name string) *program {
	if p := c.done[name]; p != nil {
		return p
	}
	p := &program{}
	c.done[name] = p
	tree := c.trees[name]
	if tree == nil || tree.Root == nil {
		c.fits = false
		return p
	}
	*p = c.list(tree.Root)
	return p
}

func (c *compiler) list(list *parse.ListNode) program {
	p := program{}
	if list == nil {
		return p
	}
	for _, node := range list.Nodes {
		if step := c.node(node); step != nil {
			p = append(p, step)
		} else {
			c.fits = false
		}
	}
	return p
}

// node gives nil for a node that is the engine's.
func (c *compiler) node(node parse.Node) step {
	switch n := node.(type) {
	case *parse.TextNode:
		return func(r *Run) bool {
			r.out = append(r.out, n.Text...)
			return true
		}
	case *parse.ActionNode:
		return c.print(n.Pipe)
	case *parse.IfNode:
		return c.branch(&n.BranchNode, func(r *Run, _ datum, then program) bool { return r.do(then) })
	case *parse.WithNode:
		return c.branch(&n.BranchNode, func(r *Run, v datum, then program) bool { return r.within(then, v) })
	case *parse.RangeNode:
		return c.each(&n.BranchNode)
	case *parse.TemplateNode:
		return c.call(n)
	}
	return nil
}

// print is {{.name}}, with the escapers that its place asks for.
func (c *compiler) print(p *parse.PipeNode) step {
	if len(p.Decl) > 0 {
		return nil
	}
	arg := c.argument(p.Cmds[0].Args)
	how, ok := escapersOf(p.Cmds[1:])
	if arg == nil || !ok {
		return nil
	}
	return func(r *Run) bool {
		v, ok := arg(r)
		if !ok || !v.kind.scalar() {
			return false
		}
		r.out, ok = how.append(r.out, v.text)
		return ok
	}
}

// branch is {{if}} and {{with}}.
func (c *compiler) branch(b *parse.BranchNode, do func(r *Run, v datum, then program) bool) step {
	arg, then, otherwise := c.pipe(b.Pipe), c.list(b.List), c.list(b.ElseList)
	if arg == nil {
		return nil
	}
	return func(r *Run) bool {
		v, ok := arg(r)
		if !ok {
			return false
		}
		is, ok := v.truth(r)
		switch {
		case !ok:
			return false
		case is:
			return do(r, v, then)
		}
		return r.do(otherwise)
	}
}

// each is {{range}} over rows, or over a list of JSON's.
func (c *compiler) each(b *parse.BranchNode) step {
	arg, body, otherwise := c.pipe(b.Pipe), c.list(b.List), c.list(b.ElseList)
	if arg == nil {
		return nil
	}
	return func(r *Run) bool {
		v, ok := arg(r)
		if !ok {
			return false
		}
		list, isList := v.any.([]any)
		switch {
		case v.kind == allRows && len(r.rows) > 0:
			for _, first := range r.rows {
				ok = ok && r.within(body, datum{kind: oneRow, row: first})
			}
			return ok
		case isList && len(list) > 0:
			for _, e := range list {
				ok = ok && r.within(body, datumOf(e))
			}
			return ok
		case isList, v.kind == allRows, v.kind == nothing:
			return r.do(otherwise)
		}
		return false
	}
}

// call is {{template}}.
func (c *compiler) call(n *parse.TemplateNode) step {
	arg := func(*Run) (datum, bool) { return datum{}, true }
	if n.Pipe != nil {
		if arg = c.pipe(n.Pipe); arg == nil {
			return nil
		}
	}
	body := c.template(n.Name)
	return func(r *Run) bool {
		v, ok := arg(r)
		if !ok || r.deep == deepest {
			return false
		}
		outer := r.root
		r.root = v
		r.deep++
		ok = r.within(*body, v)
		r.deep--
		r.root = outer
		return ok
	}
}

// pipe is a pipeline of one argument.
func (c *compiler) pipe(p *parse.PipeNode) operand {
	if len(p.Decl) > 0 || len(p.Cmds) != 1 {
		return nil
	}
	return c.argument(p.Cmds[0].Args)
}

// argument is a dot, $, or fields of one.
func (c *compiler) argument(args []parse.Node) operand {
	if len(args) != 1 {
		return nil
	}
	dot := func(r *Run) (datum, bool) { return r.dot, true }
	switch n := args[0].(type) {
	case *parse.DotNode:
		return dot
	case *parse.FieldNode:
		return c.fields(dot, n.Ident)
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			return c.fields(func(r *Run) (datum, bool) { return r.root, true }, n.Ident[1:])
		}
	}
	return nil
}

func (c *compiler) fields(of operand, names []string) operand {
	for _, name := range names {
		of = c.field(of, name)
	}
	return of
}

// field gives what the name means where it is used: of the whole data, of one
// of rows, or of an object of JSON's.
func (c *compiler) field(of operand, name string) operand {
	named := func(f value.Field) bool { return f.Name == name }
	column, param := slices.IndexFunc(c.columns, named), slices.IndexFunc(c.params, named)
	return func(r *Run) (datum, bool) {
		v, ok := of(r)
		switch {
		case !ok:
			return v, false
		case v.kind == whole && column >= 0 && len(r.rows) > 0:
			return r.column(r.rows[0], column)
		case v.kind == whole && param >= 0:
			return r.params[param], true
		case v.kind == whole && name == "rows":
			return datum{kind: allRows}, true
		case v.kind == oneRow && column >= 0:
			return r.column(v.row, column)
		case v.kind == whole, v.kind == oneRow:
			return datum{}, true
		}
		object, ok := v.any.(map[string]any)
		return datumOf(object[name]), ok
	}
}
