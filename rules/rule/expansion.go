package rule

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/cdc-viewlet/cdc-viewlet/rules/query"
)

// Lookup is a named query whose rows are arguments.
type Lookup struct {
	Name   string
	Params []string
	Query  *query.Query
}

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

// Describe names an expansion after what its outputs are, inputs as _: the
// lookup alone where there is nothing else.
func (e *Expansion) Describe() string {
	if len(e.Steps) == 1 && len(e.Outputs) == 1 {
		return e.Steps[0].Lookup.Name
	}
	return e.write(e.Outputs)
}

func (e *Expansion) write(refs []Ref) string {
	words := make([]string, len(refs))
	for i, r := range refs {
		words[i] = "_"
		if r.Step >= 0 {
			step := e.Steps[r.Step]
			words[i] = step.Lookup.Name + "(" + e.write(step.Args) + ")"
		}
	}
	return strings.Join(words, ", ")
}

// Expansions are those of all rules, by name. They grow while Match runs; any
// goroutine may ask for one. The zero value has none.
type Expansions struct {
	mu      sync.RWMutex
	byName  map[string]*Expansion
	byShape map[string]*Expansion
}

// Get gives the expansion of that name, or nil.
func (x *Expansions) Get(name string) *Expansion {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byName[name]
}

// Add gives the expansion that does the same as e: one that is there already,
// or e under the name that it has, or one like it when another has that.
func (x *Expansions) Add(e *Expansion) *Expansion {
	shape, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if known := x.byShape[string(shape)]; known != nil {
		return known
	}
	if x.byName == nil {
		x.byName, x.byShape = map[string]*Expansion{}, map[string]*Expansion{}
	}
	asked := e.Name
	for i := 1; x.byName[e.Name] != nil; i++ {
		e.Name = asked + " for " + e.Viewlet
		if i > 1 {
			e.Name += fmt.Sprintf(" %d", i)
		}
	}
	x.byName[e.Name], x.byShape[string(shape)] = e, e
	return e
}
