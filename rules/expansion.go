package rules

import (
	"fmt"
	"strings"
	"sync"
)

// Expansion says how the inputs of a Refresh become keys: its Steps are called
// in order, and each combination of their rows is one key of Viewlet. A NULL
// among the values of a row names no key.
type Expansion struct {
	Name    string // the Refresh's Via
	Viewlet string
	Inputs  int
	Steps   []Step
	Outputs []Ref // together they give one value for each of the viewlet's params
}

// Step calls a lookup; each row of its query is one outcome.
type Step struct {
	Lookup *Lookup
	Args   []Ref // together they give one value for each of the lookup's params
}

// Ref is an input of an Expansion, or what an earlier Step's query selects.
type Ref struct {
	Step   int // index into Steps; -1: an input
	Column int // of the inputs, or of the Step's query; -1: all columns of the Step's query
}

// expansions are those of a Set by name. Match adds to them while others ask.
type expansions struct {
	mu      sync.RWMutex
	byName  map[string]*Expansion
	byShape map[string]*Expansion
}

func newExpansions() *expansions {
	return &expansions{byName: map[string]*Expansion{}, byShape: map[string]*Expansion{}}
}

func (x *expansions) get(name string) *Expansion {
	if x == nil {
		return nil
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byName[name]
}

// add gives the expansion of that shape: the one that is there already, or e
// under the name that it asks for, or under one like it when another has that.
func (x *expansions) add(shape string, e *Expansion) *Expansion {
	x.mu.Lock()
	defer x.mu.Unlock()
	if known := x.byShape[shape]; known != nil {
		return known
	}
	name := e.Name
	if x.byName[name] != nil {
		name += " for " + e.Viewlet
	}
	for i := 2; x.byName[e.Name] != nil; i++ {
		e.Name = name
		if i > 2 {
			e.Name = fmt.Sprintf("%s %d", name, i-1)
		}
	}
	x.byName[e.Name], x.byShape[shape] = e, e
	return e
}

// describe gives the expansion that a call with lookups asks for, and its
// shape, which is the same for calls that may share it.
func (k *call) describe() (shape string, e *Expansion) {
	args := make([]string, len(k.outputs))
	for i, r := range k.outputs {
		args[i] = k.write(r)
	}
	shape = k.viewlet.Name + "(" + strings.Join(args, ", ") + ")"
	e = &Expansion{Name: strings.Join(args, ", "), Viewlet: k.viewlet.Name, Inputs: len(k.inputs), Outputs: k.outputs}
	if len(k.lookups) == 1 && len(k.outputs) == 1 {
		e.Name = k.lookups[0].Name
	}
	for _, l := range k.lookups {
		e.Steps = append(e.Steps, Step{Lookup: l.Lookup, Args: l.args})
	}
	return shape, e
}

// write gives what a Ref stands for, inputs as _.
func (k *call) write(r Ref) string {
	if r.Step < 0 {
		return "_"
	}
	l := k.lookups[r.Step]
	args := make([]string, len(l.args))
	for i, a := range l.args {
		args[i] = k.write(a)
	}
	return l.Name + "(" + strings.Join(args, ", ") + ")"
}
