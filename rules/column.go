package rules

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// side says which image of a row a column is read from.
type side uint8

const (
	bare    side = iota // the new one, the old one, or each in turn
	newSide             // new.x
	oldSide             // old.x
)

// columnRef is a column that an expression reads.
type columnRef struct {
	side side
	name string
	at   hcl.Range
}

// columns finds the columns that an expression reads, all of its names that no
// for around it defines.
func (d *decoder) columns(e hclsyntax.Expression, in scope) (refs []columnRef, ok bool) {
	ok = true
	for _, t := range e.Variables() {
		if _, defined := in[t.RootName()]; defined {
			continue
		}
		ref, diag := columnOf(t)
		if diag != nil {
			d.diags = append(d.diags, diag)
			ok = false
			continue
		}
		refs = append(refs, ref)
	}
	return refs, ok
}

// columnOf reads x, new.x, old.x, and new["odd name"].
func columnOf(t hcl.Traversal) (columnRef, *Diagnostic) {
	root, at := t.RootName(), t.SourceRange()
	ref := columnRef{name: root, at: at}
	switch root {
	case "new":
		ref.side = newSide
	case "old":
		ref.side = oldSide
	default:
		if len(t) > 1 {
			return ref, problem(Error, at, "Not a column", "%s is a column, and has no parts. A column of one side is new.%s or old.%s; a JSON column is opened with jsondecode(%s).", root, root, root, root)
		}
		return ref, nil
	}
	if len(t) < 2 {
		return ref, problem(Error, at, "Which column?", "%s is a whole row. Name the column: %s.id.", root, root)
	}
	switch step := t[1].(type) {
	case hcl.TraverseAttr:
		ref.name = step.Name
	case hcl.TraverseIndex:
		if step.Key.Type() != cty.String {
			return ref, problem(Error, at, "Not a column", "A column has a name: %s.id, or %s[\"an odd name\"].", root, root)
		}
		ref.name = step.Key.AsString()
	default:
		return ref, problem(Error, at, "Not a column", "A column has a name: %s.id.", root)
	}
	if len(t) > 2 {
		return ref, problem(Error, at, "Not a column", "%s.%s is a column, and has no parts. A JSON column is opened with jsondecode(%s.%s).", root, ref.name, root, ref.name)
	}
	return ref, nil
}

// context is what an expression is checked in before there is a row: the
// columns are not known yet.
func (s scope) context(functions map[string]function.Function, refs []columnRef) *hcl.EvalContext {
	vars := map[string]cty.Value{}
	for _, r := range refs {
		switch r.side {
		case newSide:
			vars["new"] = cty.DynamicVal
		case oldSide:
			vars["old"] = cty.DynamicVal
		default:
			vars[r.name] = cty.DynamicVal
		}
	}
	for name, v := range s {
		vars[name] = v
	}
	return &hcl.EvalContext{Variables: vars, Functions: functions}
}
