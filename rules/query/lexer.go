package query

import (
	"iter"
	"slices"
	"strings"
)

// tokenKind tells apart what matters in a query. Comments and whitespace are
// not tokens.
type tokenKind uint8

const (
	tokenOther      tokenKind = iota // "an identifier", 'a string', a number, or one byte of punctuation
	tokenWord                        // a keyword or an unquoted identifier
	tokenParam                       // @name
	tokenPositional                  // $1
	tokenOperator                    // @>, ||
	tokenBroken                      // a string, identifier or comment without an end
)

// token is text, which stands at SQL[start:end].
type token struct {
	kind       tokenKind
	start, end int
	text       string
}

// tokens gives those of the SQL.
func tokens(sql string) iter.Seq[token] {
	return func(yield func(token) bool) {
		for l := (lexer{sql: sql}); ; {
			start, ok := l.skipTrivia()
			kind := tokenBroken
			switch {
			case !ok:
				l.pos = len(sql)
			case start == len(sql):
				return
			default:
				kind = l.scan()
			}
			if !yield(token{kind, start, l.pos, sql[start:l.pos]}) {
				return
			}
		}
	}
}

// lexer cuts SQL into tokens as Postgres does with standard_conforming_strings,
// except that @name is one.
//
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html
type lexer struct {
	sql string
	pos int
}

// scan moves past one token.
func (l *lexer) scan() tokenKind {
	c := l.sql[l.pos]
	switch {
	case (c == 'e' || c == 'E') && l.at(1) == '\'':
		l.pos++
		return l.quoted('\'', true)
	case c == '\'':
		return l.quoted('\'', false)
	case c == '"':
		return l.quoted('"', false)
	case wordStart(c):
		l.skip(wordPart)
		return tokenWord
	case digit(c), c == '.' && digit(l.at(1)):
		l.skip(numberPart)
		return tokenOther
	case c == '$':
		return l.dollar()
	case strings.IndexByte(operatorChars, c) >= 0:
		return l.operator()
	}
	l.pos++
	return tokenOther
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

func (l *lexer) quoted(quote byte, backslashes bool) tokenKind {
	for l.pos++; l.pos < len(l.sql); l.pos++ {
		switch c := l.sql[l.pos]; {
		case c == '\\' && backslashes:
			l.pos++
		case c == quote && l.at(1) == quote:
			l.pos++
		case c == quote:
			l.pos++
			return tokenOther
		}
	}
	l.pos = len(l.sql)
	return tokenBroken
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
		return tokenOther
	}
	tag := l.sql[l.pos : end+1]
	body := l.sql[end+1:]
	close := strings.Index(body, tag)
	if close < 0 {
		l.pos = len(l.sql)
		return tokenBroken
	}
	l.pos = end + 1 + close + len(tag)
	return tokenOther
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
	if slices.Contains(beforeParam, before) {
		l.pos-- // the param is the next token
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

// numberPart makes two numbers of 1e-5, which does no harm here.
func numberPart(c byte) bool { return wordPart(c) && c != '$' || c == '.' }

func paramPart(c byte) bool { return wordStart(c) || digit(c) }
