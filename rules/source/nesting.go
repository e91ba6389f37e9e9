package source

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// HCL's parsers and expressions are recursive, so a file of nothing but
// brackets would end the process. No rules come near these.
const (
	maxNesting   = 200    // brackets within brackets
	maxOperators = 20_000 // in a file, for a+b+c is nested too
)

// tooDeep reports whether a file is nested too deeply to be parsed.
func tooDeep(src []byte, name string, isJSON bool) bool {
	if isJSON {
		tokens, _ := hclsyntax.LexTemplate(src, name, hcl.InitialPos)
		return jsonDepth(src) > maxNesting || tokensTooDeep(tokens)
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	return tokensTooDeep(tokens)
}

func tokensTooDeep(tokens hclsyntax.Tokens) bool {
	depth, operators := 0, 0
	var prev hclsyntax.TokenType
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
			if t.Type == hclsyntax.TokenTemplateControl || t.Type == hclsyntax.TokenOBrack && ends(prev) {
				operators++
			}
		case hclsyntax.TokenCParen, hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenTemplateSeqEnd:
			depth = max(0, depth-1)
		case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent,
			hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan,
			hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq, hclsyntax.TokenQuestion:
			operators++
		}
		if depth > maxNesting || operators > maxOperators {
			return true
		}
		prev = t.Type
	}
	return false
}

// ends reports whether a [ behind the token takes an element of what it ends.
func ends(t hclsyntax.TokenType) bool {
	return t == hclsyntax.TokenCBrack || t == hclsyntax.TokenCParen || t == hclsyntax.TokenIdent
}

// jsonDepth is how deep arrays and objects are nested, whether or not they are
// closed.
func jsonDepth(src []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest
}
