package source

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Native gives an expression of HCL's own syntax for one that may be JSON's.
// There text is a template, "${teaser(id)}"; without ${ it is read as an
// expression too, as HCL does for what must be a call.
func Native(e hcl.Expression) (hclsyntax.Expression, hcl.Diagnostics) {
	if n, ok := e.(hclsyntax.Expression); ok {
		return n, nil
	}
	if items, diags := hcl.ExprList(e); !diags.HasErrors() {
		list := &hclsyntax.TupleConsExpr{SrcRange: e.Range(), OpenRange: e.StartRange()}
		var all hcl.Diagnostics
		for _, item := range items {
			n, diags := Native(item)
			list.Exprs, all = append(list.Exprs, n), append(all, diags...)
		}
		return list, all
	}
	v, diags := e.Value(nil)
	if diags.HasErrors() {
		return nil, diags
	}
	if v.IsNull() || v.Type() != cty.String {
		return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: e.Range()}, nil
	}
	text, start := v.AsString(), e.Range().Start
	start.Column++ // behind the quote
	start.Byte++
	parse := hclsyntax.ParseTemplate
	if !strings.Contains(text, "${") {
		parse = hclsyntax.ParseExpression
	}
	n, diags := parse([]byte(text), e.Range().Filename, start)
	return Unwrap(n), diags
}

// Unwrap takes off parentheses, and the ${ } around what is nothing else.
func Unwrap(e hclsyntax.Expression) hclsyntax.Expression {
	for {
		switch outer := e.(type) {
		case *hclsyntax.ParenthesesExpr:
			e = outer.Expression
		case *hclsyntax.TemplateWrapExpr:
			e = outer.Wrapped
		default:
			return e
		}
	}
}

// Nodes gives those of one kind in an expression, outer ones first.
func Nodes[T hclsyntax.Node](e hclsyntax.Expression) []T {
	var found []T
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		if t, ok := n.(T); ok {
			found = append(found, t)
		}
		return nil
	})
	return found
}
