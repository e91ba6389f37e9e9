package direct

import (
	"slices"
	"strings"
	"text/template/parse"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

// operand is a value in a template. It reports false to give up.
type operand func(r *Run) (datum, bool)

// pipe is a pipeline where the engine's variables would outlive it: one that
// declares any is the engine's.
func (c *compiler) pipe(p *parse.PipeNode) operand {
	if len(p.Decl) > 0 {
		return nil
	}
	return c.commands(p.Cmds)
}

// commands is a pipeline: the value of a command is the last argument of the
// next.
func (c *compiler) commands(cmds []*parse.CommandNode) (v operand) {
	for _, cmd := range cmds {
		if v = c.command(cmd.Args, v); v == nil {
			return nil
		}
	}
	return v
}

// command calls a function, or is a value by itself. final is what comes down
// the pipeline, or nil.
func (c *compiler) command(args []parse.Node, final operand) operand {
	if f, ok := args[0].(*parse.IdentifierNode); ok {
		return c.call(f.Ident, args[1:], final)
	}
	if _, ok := args[0].(*parse.NilNode); ok || len(args) != 1 || final != nil {
		return nil
	}
	return c.argument(args[0])
}

// argument is a value, or nil when it is the engine's.
func (c *compiler) argument(arg parse.Node) operand {
	dot := func(r *Run) (datum, bool) { return r.dot, true }
	switch n := arg.(type) {
	case *parse.DotNode:
		return dot
	case *parse.FieldNode:
		return c.fields(dot, n.Ident)
	case *parse.VariableNode:
		return c.variable(n.Ident)
	case *parse.PipeNode:
		return c.pipe(n)
	case *parse.ChainNode:
		if of, ok := n.Node.(*parse.PipeNode); ok {
			return c.fields(c.pipe(of), n.Field)
		}
	case *parse.IdentifierNode:
		return c.call(n.Ident, nil, nil)
	case *parse.NilNode:
		return constant(nil)
	case *parse.BoolNode:
		return constant(n.True)
	case *parse.StringNode:
		return constant(n.Text)
	case *parse.NumberNode:
		return number(n)
	}
	return nil
}

func constant(of any) operand {
	v := datumOf(of)
	return func(*Run) (datum, bool) { return v, true }
}

// number is a float where it is written as one, else an int. A complex one is
// the engine's.
func number(n *parse.NumberNode) operand {
	hex := strings.HasPrefix(strings.ToLower(n.Text), "0x")
	point := ".eEpP"
	if hex {
		point = "pP"
	}
	switch asFloat := strings.ContainsAny(n.Text, point) && n.Text[0] != '\''; {
	case n.IsComplex:
		return nil
	case n.IsFloat && asFloat:
		return constant(n.Float64)
	case n.IsInt && int64(int(n.Int64)) == n.Int64:
		return constant(int(n.Int64))
	}
	return nil
}

func (c *compiler) variable(ident []string) operand {
	if ident[0] == "$" {
		return c.fields(func(r *Run) (datum, bool) { return r.root, true }, ident[1:])
	}
	place := c.place(ident[0])
	if place < 0 {
		return nil
	}
	return c.fields(func(r *Run) (datum, bool) { return r.vars[r.base+place], true }, ident[1:])
}

func (c *compiler) fields(of operand, names []string) operand {
	if of == nil {
		return nil
	}
	for _, name := range names {
		of = c.field(of, name)
	}
	return of
}

func (c *compiler) field(of operand, name string) operand {
	at := c.places(name)
	return func(r *Run) (datum, bool) {
		v, ok := of(r)
		if !ok {
			return v, false
		}
		return r.field(v, name, at)
	}
}

// places are those of the column and the param of a name, or -1.
type places struct{ column, param int }

func (p *Program) places(name string) places {
	named := func(f value.Field) bool { return f.Name == name }
	return places{column: slices.IndexFunc(p.columns, named), param: slices.IndexFunc(p.params, named)}
}

// field gives what a name means to v: to the whole data, to one of rows, or to
// an object.
func (r *Run) field(v datum, name string, at places) (datum, bool) {
	switch {
	case v.kind == whole && at.column >= 0 && len(r.rows) > 0:
		return r.column(int64(r.rows[0]), at.column)
	case v.kind == whole && at.param >= 0:
		return r.params[at.param], true
	case v.kind == whole && name == "rows":
		return datum{kind: allRows}, true
	case v.kind == oneRow && at.column >= 0:
		return r.column(v.n, at.column)
	case v.kind == whole, v.kind == oneRow:
		return datum{}, true
	}
	object, ok := v.any.(map[string]any)
	return datumOf(object[name]), ok
}
