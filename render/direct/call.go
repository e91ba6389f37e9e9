package direct

import (
	"math"
	"text/template/parse"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

// function is what a template calls.
type function struct {
	least, most int // arguments
	do          func(r *Run, args []datum) (datum, bool)
}

const unlimited = math.MaxInt

// call gives nil for a function that is not known here, or a number of
// arguments that it does not take. final is one more argument, or nil.
func (c *compiler) call(name string, nodes []parse.Node, final operand) operand {
	var args []operand
	for _, node := range nodes {
		arg := c.argument(node)
		if arg == nil {
			return nil
		}
		args = append(args, arg)
	}
	given := c.functions[name]
	if given == nil && (name == "and" || name == "or") {
		return either(args, final, name == "or")
	}
	f := builtins[name]
	if given != nil {
		f = functionOf(given)
	}
	if final != nil {
		args = append(args, final)
	}
	if f.do == nil || len(args) < f.least || len(args) > f.most {
		return nil
	}
	return f.of(args)
}

// of calls the function with the values of operands.
func (f function) of(args []operand) operand {
	return func(r *Run) (datum, bool) {
		base := len(r.args)
		for _, arg := range args {
			v, ok := arg(r)
			if !ok {
				return v, false
			}
			r.args = append(r.args, v)
		}
		v, ok := f.do(r, r.args[base:])
		r.args = r.args[:base]
		return v, ok
	}
}

// functionOf makes a function of Go's callable, if it has one of the types that
// are known here: no reflection then finds out what it takes.
func functionOf(f any) function {
	switch f := f.(type) {
	case func(any) (value.Double, error):
		return function{1, 1, func(_ *Run, args []datum) (datum, bool) {
			v, ok := args[0].value()
			if !ok {
				return datum{}, false
			}
			d, err := f(v)
			return datum{kind: double, f: float64(d)}, err == nil
		}}
	case func(string, any) (any, error):
		return function{2, 2, func(_ *Run, args []datum) (datum, bool) {
			v, ok := args[1].value()
			if !ok || args[0].kind != words {
				return datum{}, false
			}
			result, err := f(args[0].text, v)
			return datumOf(result), err == nil
		}}
	case func(string, any) (string, error):
		return function{2, 2, func(_ *Run, args []datum) (datum, bool) {
			v, ok := args[1].value()
			if !ok || args[0].kind != words {
				return datum{}, false
			}
			s, err := f(args[0].text, v)
			return datum{kind: words, text: s}, err == nil
		}}
	case func(...any) string:
		return function{0, unlimited, func(r *Run, args []datum) (datum, bool) {
			if !r.give(args) {
				return datum{}, false
			}
			return datum{kind: words, text: f(r.given...)}, true
		}}
	case func(string, ...any) string:
		return function{1, unlimited, func(r *Run, args []datum) (datum, bool) {
			if args[0].kind != words || !r.give(args[1:]) {
				return datum{}, false
			}
			return datum{kind: words, text: f(args[0].text, r.given...)}, true
		}}
	case func(...any) (map[string]any, error):
		return function{0, unlimited, func(r *Run, args []datum) (datum, bool) {
			r.given = r.given[:0]
			for _, arg := range args {
				r.given = append(r.given, arg.kept())
			}
			m, err := f(r.given...)
			return datum{kind: dictionary, any: m}, err == nil
		}}
	}
	return function{}
}

// give makes what a Go function is given; false: one is not made here.
func (r *Run) give(args []datum) bool {
	r.given = r.given[:0]
	for _, arg := range args {
		v, ok := arg.value()
		if !ok {
			return false
		}
		r.given = append(r.given, v)
	}
	return true
}

// kept is what a dictionary has of it: the engine's value, or the datum itself
// where a program makes none. datumOf gives it back.
func (v datum) kept() any {
	if v, ok := v.value(); ok {
		return v
	}
	return v
}
