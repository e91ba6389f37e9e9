package direct

import (
	"slices"
	"text/template/parse"
)

// compiler makes a Program.
type compiler struct {
	*Program
	trees     map[string]*parse.Tree
	functions map[string]any
	done      map[string]*body // by the template's name; those under way included
	into      *body            // what is being compiled
	vars      []string         // that are in scope there; a variable's place is its index
	fits      bool
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
	case *parse.BreakNode:
		return leaving(loop)
	case *parse.ContinueNode:
		return leaving(loopRound)
	case *parse.TemplateNode:
		return c.include(n)
	}
	return nil
}

// print is {{.name}}, with the escapers that its place asks for.
func (c *compiler) print(p *parse.PipeNode) step {
	n := len(p.Cmds)
	for n > 0 && isEscaper(p.Cmds[n-1]) {
		n--
	}
	arg := c.commands(p.Cmds[:n])
	how, ok := escapersOf(p.Cmds[n:])
	if arg == nil || !ok {
		return nil
	}
	return func(r *Run) bool {
		v, ok := arg(r)
		if !ok || !v.kind.scalar() {
			return false
		}
		r.out, ok = how.append(r.out, v)
		return ok
	}
}

// set is {{$name := .name}}, and {{$name = .name}}.
func (c *compiler) set(p *parse.PipeNode) step {
	arg := c.commands(p.Cmds)
	sets := c.setters(p)
	if arg == nil {
		return nil
	}
	return func(r *Run) bool {
		v, ok := arg(r)
		sets.all(r, v)
		return ok
	}
}

// branch is {{if}} and {{with}}.
func (c *compiler) branch(b *parse.BranchNode, do func(r *Run, v datum, then program) bool) step {
	arg := c.commands(b.Pipe.Cmds)
	then, otherwise, sets := c.branches(b)
	if arg == nil {
		return nil
	}
	return func(r *Run) bool {
		v, ok := arg(r)
		if !ok {
			return false
		}
		sets.all(r, v)
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

// branches compiles both branches, and gives what sets the variables of the
// pipeline, which are declared for both.
func (c *compiler) branches(b *parse.BranchNode) (then, otherwise program, sets setters) {
	outer := len(c.vars)
	sets = c.setters(b.Pipe)
	then, otherwise = c.list(b.List), c.list(b.ElseList)
	c.vars = c.vars[:outer]
	return then, otherwise, sets
}

// include is {{template}}.
func (c *compiler) include(n *parse.TemplateNode) step {
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

// setters set the variables of a pipeline, each by its place.
type setters []int

func (s setters) all(r *Run, v datum) {
	for _, place := range s {
		r.vars[r.base+place] = v
	}
}

// setters brings what a pipeline declares into scope; what it assigns is there.
func (c *compiler) setters(p *parse.PipeNode) (s setters) {
	for _, v := range p.Decl {
		place := len(c.vars)
		if p.IsAssign {
			place = c.place(v.Ident[0])
		} else {
			c.vars = append(c.vars, v.Ident[0])
			c.into.vars = max(c.into.vars, len(c.vars))
		}
		// The engine tells of one that is not there, and only it has a second $.
		c.fits = c.fits && place >= 0 && v.Ident[0] != "$"
		s = append(s, place)
	}
	return s
}

// place is that of the innermost variable of that name, or -1.
func (c *compiler) place(name string) int {
	for place, known := range slices.Backward(c.vars) {
		if known == name {
			return place
		}
	}
	return -1
}
