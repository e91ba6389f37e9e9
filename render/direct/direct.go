package direct

import (
	"maps"
	"slices"
	"text/template/parse"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

// Program is a template for a query whose params and columns are known. It asks
// no reflection, and takes a tenth of the time that Go's engine takes. What is not
// in here, in the template or in a value, is the engine's: the program is not
// compiled, or gives up, and then the engine is to make the whole fragment. It is
// for any goroutine.
type Program struct {
	params, columns []value.Field
	main            *body
}

// body is what a template does.
type body struct {
	steps program
	vars  int // how many there are at most at one place
}

// Compile makes a program of the template of that name, and of those that it
// includes, with the escapers in them. It gives nil when there is something in
// them that a program does not do.
func Compile(name string, trees map[string]*parse.Tree, params, columns []value.Field) *Program {
	c := &compiler{
		Program: &Program{params: params, columns: columns},
		trees:   trees,
		done:    map[string]*body{},
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
	most int     // of out
	dot  datum   // as in a template
	root datum   // $
	deep int     // in templates
	vars []datum // of the template that is run, behind those of its callers
	base int     // of its own
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
	r.out, r.most = dst, len(dst)+max
	r.deep, r.vars, r.base = 0, r.vars[:0], 0
	for i, p := range r.p.params {
		v, err := value.Of(p.OID, args[i]) // as people write it, and not only Postgres
		if err != nil {
			return nil, false
		}
		r.params[i] = datumOf(v)
	}
	ok := r.template(r.p.main, datum{kind: whole})
	return r.out, ok
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

// template does a template whose $ and dot is arg.
func (r *Run) template(b *body, arg datum) bool {
	outerRoot, outerBase := r.root, r.base
	r.root, r.base = arg, len(r.vars)
	for range b.vars {
		r.vars = append(r.vars, datum{})
	}
	r.deep++
	ok := r.deep < deepest && r.within(b.steps, arg)
	r.deep--
	r.vars = r.vars[:r.base]
	r.root, r.base = outerRoot, outerBase
	return ok
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
	done  map[string]*body // by the template's name; those under way included
	into  *body            // what is being compiled
	vars  []string         // that are in scope there; a variable's place is its index
	fits  bool
}

func (c *compiler) template(name string) *body {
	if b := c.done[name]; b != nil {
		return b
	}
	b := &body{}
	c.done[name] = b
	tree := c.trees[name]
	if tree == nil {
		c.fits = false
		return b
	}
	outer, vars := c.into, c.vars
	c.into, c.vars = b, nil
	b.steps = c.list(tree.Root)
	c.into, c.vars = outer, vars
	return b
}

// declare brings a variable into scope, and gives what sets it.
func (c *compiler) declare(v *parse.VariableNode) func(*Run, datum) {
	place := len(c.vars)
	c.vars = append(c.vars, v.Ident[0])
	c.into.vars = max(c.into.vars, len(c.vars))
	return func(r *Run, v datum) { r.vars[r.base+place] = v }
}

// list compiles nodes; what they declare goes out of scope behind them.
func (c *compiler) list(list *parse.ListNode) program {
	p := program{}
	if list == nil {
		return p
	}
	defer func(n int) { c.vars = c.vars[:n] }(len(c.vars))
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
		if len(n.Pipe.Decl) > 0 {
			return c.set(n.Pipe)
		}
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

// set is {{$name := .name}}.
func (c *compiler) set(p *parse.PipeNode) step {
	arg := c.pipe(p)
	if arg == nil || p.IsAssign {
		return nil
	}
	set := c.declare(p.Decl[0])
	return func(r *Run) bool {
		v, ok := arg(r)
		set(r, v)
		return ok
	}
}

// branch is {{if}} and {{with}}.
func (c *compiler) branch(b *parse.BranchNode, do func(r *Run, v datum, then program) bool) step {
	arg := c.pipe(b.Pipe)
	then, otherwise, sets := c.branches(b)
	if arg == nil || b.Pipe.IsAssign {
		return nil
	}
	return func(r *Run) bool {
		v, ok := arg(r)
		if !ok {
			return false
		}
		for _, set := range sets {
			set(r, v)
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

// branches compiles both branches, and gives what sets the variables that the
// pipeline declares for both.
func (c *compiler) branches(b *parse.BranchNode) (then, otherwise program, sets []func(*Run, datum)) {
	outer := len(c.vars)
	for _, v := range b.Pipe.Decl {
		sets = append(sets, c.declare(v))
	}
	then, otherwise = c.list(b.List), c.list(b.ElseList)
	c.vars = c.vars[:outer]
	return then, otherwise, sets
}

// each is {{range}} over rows, or over a list or an object of JSON's.
func (c *compiler) each(b *parse.BranchNode) step {
	arg := c.pipe(b.Pipe)
	then, otherwise, sets := c.branches(b)
	if arg == nil || b.Pipe.IsAssign {
		return nil
	}
	one := func(r *Run, at, v datum) bool {
		for i, set := range sets { // the last one's is the value
			if i == len(sets)-1 {
				set(r, v)
			} else {
				set(r, at)
			}
		}
		return r.within(then, v)
	}
	return func(r *Run) bool {
		v, ok := arg(r)
		if !ok {
			return false
		}
		for _, set := range sets {
			set(r, v)
		}
		n := 0
		switch nest := v.any.(type) {
		case []any:
			for n = 0; ok && n < len(nest); n++ {
				ok = one(r, datumOf(int64(n)), datumOf(nest[n]))
			}
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(nest)) {
				n++
				ok = ok && one(r, datumOf(name), datumOf(nest[name]))
			}
		default:
			if v.kind != allRows {
				return v.kind == nothing && r.do(otherwise)
			}
			for n = 0; ok && n < len(r.rows); n++ {
				ok = one(r, datumOf(int64(n)), datum{kind: oneRow, row: r.rows[n]})
			}
		}
		if n == 0 {
			return r.do(otherwise)
		}
		return ok
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
	b := c.template(n.Name)
	return func(r *Run) bool {
		v, ok := arg(r)
		return ok && r.template(b, v)
	}
}

// pipe is a pipeline of one argument.
func (c *compiler) pipe(p *parse.PipeNode) operand {
	if len(p.Cmds) != 1 {
		return nil
	}
	return c.argument(p.Cmds[0].Args)
}

// argument is a dot, a variable, or fields of one.
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
		for place := len(c.vars) - 1; place >= 0; place-- {
			if c.vars[place] == n.Ident[0] {
				return c.fields(func(r *Run) (datum, bool) { return r.vars[r.base+place], true }, n.Ident[1:])
			}
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
