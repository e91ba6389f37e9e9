package rules

import "strings"

// tokenKind tells apart what matters in a query. Comments and whitespace are
// not tokens.
type tokenKind uint8

const (
	tokenEnd        tokenKind = iota
	tokenWord                 // a keyword or an unquoted identifier
	tokenQuoted               // "an identifier"
	tokenString               // 'a', E'a' or $tag$a$tag$
	tokenNumber               // 1.5e3
	tokenParam                // @name
	tokenPositional           // $1
	tokenOperator             // @>, ||
	tokenPunct                // one byte of ( ) [ ] , ; : . and whatever else there may be
	tokenBroken               // a string, identifier or comment without an end
)

// token is SQL[start:end].
type token struct {
	kind       tokenKind
	start, end int
}

// lexer cuts SQL into tokens as Postgres does with standard_conforming_strings,
// except that @name is one.
//
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html
type lexer struct {
	sql string
	pos int
}

func (l *lexer) next() token {
	if start, ok := l.skipTrivia(); !ok {
		l.pos = len(l.sql)
		return token{tokenBroken, start, l.pos}
	}
	start := l.pos
	kind := l.scan()
	return token{kind, start, l.pos}
}

// scan moves past one token.
func (l *lexer) scan() tokenKind {
	if l.pos == len(l.sql) {
		return tokenEnd
	}
	c := l.sql[l.pos]
	switch {
	case (c == 'e' || c == 'E') && l.at(1) == '\'':
		l.pos++
		return l.quoted('\'', true, tokenString)
	case c == '\'':
		return l.quoted('\'', false, tokenString)
	case c == '"':
		return l.quoted('"', false, tokenQuoted)
	case wordStart(c):
		l.skip(wordPart)
		return tokenWord
	case digit(c), c == '.' && digit(l.at(1)):
		return l.number()
	case c == '$':
		return l.dollar()
	case strings.IndexByte(operatorChars, c) >= 0:
		return l.operator()
	}
	l.pos++
	return tokenPunct
}

// at gives the byte that many positions ahead, or 0.
func (l *lexer) at(ahead int) byte {
	if l.pos+ahead < len(l.sql) {
		return l.sql[l.pos+ahead]
	}
	return 0
}

func (l *lexer) skip(part func(byte) bool) {
	for l.pos < len(l.sql) && part(l.sql[l.pos]) {
		l.pos++
	}
}

// skipTrivia moves past whitespace and comments. When a comment has no end, ok
// is false and start is where it begins.
func (l *lexer) skipTrivia() (start int, ok bool) {
	for {
		l.skip(space)
		switch {
		case l.at(0) == '-' && l.at(1) == '-':
			l.skip(func(c byte) bool { return c != '\n' && c != '\r' })
		case l.at(0) == '/' && l.at(1) == '*':
			if start = l.pos; !l.blockComment() {
				return start, false
			}
		default:
			return l.pos, true
		}
	}
}

// blockComment moves past a comment, which may hold others.
func (l *lexer) blockComment() bool {
	for depth := 0; l.pos < len(l.sql); {
		switch {
		case l.at(0) == '/' && l.at(1) == '*':
			l.pos += 2
			depth++
		case l.at(0) == '*' && l.at(1) == '/':
			l.pos += 2
			if depth--; depth == 0 {
				return true
			}
		default:
			l.pos++
		}
	}
	return false
}

func (l *lexer) quoted(quote byte, backslashes bool, kind tokenKind) tokenKind {
	for l.pos++; l.pos < len(l.sql); l.pos++ {
		switch c := l.sql[l.pos]; {
		case c == '\\' && backslashes:
			l.pos++
		case c == quote && l.at(1) == quote:
			l.pos++
		case c == quote:
			l.pos++
			return kind
		}
	}
	l.pos = len(l.sql)
	return tokenBroken
}

func (l *lexer) number() tokenKind {
	if l.at(0) == '0' && strings.IndexByte("xXoObB", l.at(1)) >= 0 && l.at(1) != 0 {
		l.skip(func(c byte) bool { return wordPart(c) && c != '$' })
		return tokenNumber
	}
	mantissa := func(c byte) bool { return digit(c) || c == '.' || c == '_' }
	l.skip(mantissa)
	if c := l.at(0); c == 'e' || c == 'E' {
		if digit(l.at(1)) {
			l.pos++
		} else if (l.at(1) == '+' || l.at(1) == '-') && digit(l.at(2)) {
			l.pos += 2
		}
		l.skip(mantissa)
	}
	return tokenNumber
}

func (l *lexer) dollar() tokenKind {
	if digit(l.at(1)) {
		l.pos++
		l.skip(digit)
		return tokenPositional
	}
	end := l.pos + 1
	if end < len(l.sql) && wordStart(l.sql[end]) {
		for end < len(l.sql) && wordPart(l.sql[end]) && l.sql[end] != '$' {
			end++
		}
	}
	if end == len(l.sql) || l.sql[end] != '$' {
		l.pos++
		return tokenPunct
	}
	tag := l.sql[l.pos : end+1]
	body := l.sql[end+1:]
	close := strings.Index(body, tag)
	if close < 0 {
		l.pos = len(l.sql)
		return tokenBroken
	}
	l.pos = end + 1 + close + len(tag)
	return tokenString
}

const operatorChars = "+-*/<>=~!@#%^&|`?"

// beforeParam are the operators that may touch a param: to Postgres =@ would
// be one operator, but none of these with an @ behind exists, and people write
// id=@id.
var beforeParam = []string{"=", "<>", "!=", "<=", ">=", ">", "+", "-", "*", "/", "%", "||"}

func (l *lexer) operator() tokenKind {
	start := l.pos
	for l.pos < len(l.sql) && strings.IndexByte(operatorChars, l.sql[l.pos]) >= 0 {
		if two := l.sql[l.pos:min(l.pos+2, len(l.sql))]; l.pos > start && (two == "--" || two == "/*") {
			break
		}
		l.pos++
	}
	before, found := strings.CutSuffix(l.sql[start:l.pos], "@")
	if !found || !wordStart(l.at(0)) {
		return tokenOperator
	}
	if before == "" {
		l.skip(paramPart)
		return tokenParam
	}
	for _, op := range beforeParam {
		if before == op {
			l.pos-- // the param is the next token
		}
	}
	return tokenOperator
}

func space(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func wordStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func wordPart(c byte) bool { return wordStart(c) || digit(c) || c == '$' }

func paramPart(c byte) bool { return wordStart(c) || digit(c) }
