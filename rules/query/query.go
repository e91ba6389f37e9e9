// Package query reads the SQL of viewlets and lookups: its params, and what is wrong with it.
package query

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Query is one SELECT with parameters written @name.
type Query struct {
	SQL    string   // as written
	Params []string // the params it may use: those of its viewlet or lookup, in their order
}

// Bind gives the SQL with each @name replaced by what arg gives for the index
// of that param in Params; a name that is not in Params stays. Semicolons,
// comments and whitespace behind the statement are gone, so the SQL may stand
// in parentheses. origin turns an offset in bytes in the bound SQL to one in
// SQL; see Offset for Postgres's positions.
func (q *Query) Bind(arg func(param int) string) (sql string, origin func(offset int) int) {
	var b strings.Builder
	var args []boundArg
	done, end := 0, 0
	for t := range tokens(q.SQL) {
		if t.text != ";" {
			end = t.end
		}
		i := q.param(t)
		if i < 0 {
			continue
		}
		b.WriteString(q.SQL[done:t.start])
		if t.start > 0 && wordPart(q.SQL[t.start-1]) {
			b.WriteByte(' ') // LIMIT@n must not become LIMIT$1, which is one word
		}
		start := b.Len()
		b.WriteString(arg(i))
		args = append(args, boundArg{start: start, end: b.Len(), from: t.start, to: t.end})
		done = t.end
	}
	b.WriteString(q.SQL[done:max(done, end)])
	return b.String(), func(offset int) int { return unbind(args, min(offset, b.Len())) }
}

// Uses reports whether the SQL has the param of that index.
func (q *Query) Uses(param int) bool {
	for t := range tokens(q.SQL) {
		if q.param(t) == param && param >= 0 {
			return true
		}
	}
	return false
}

// param is the index in Params of the param that the token is, or -1.
func (q *Query) param(t token) int {
	if t.kind != tokenParam {
		return -1
	}
	return slices.Index(q.Params, t.text[1:])
}

// boundArg is where an argument stands in the bound SQL, and the param that it
// replaces in the SQL as written.
type boundArg struct{ start, end, from, to int }

func unbind(args []boundArg, offset int) int {
	shift := 0
	for _, a := range args {
		if offset < a.start {
			return min(offset+shift, a.from)
		}
		if offset < a.end {
			return a.from
		}
		shift = a.to - a.end
	}
	return offset + shift
}

// Offset turns the position in an error message of Postgres, which counts
// characters from 1, to an offset in bytes in the SQL that was sent. A
// position of 0, which means none, gives -1.
//
// https://www.postgresql.org/docs/current/protocol-error-fields.html
func Offset(sql string, position int) int {
	if position <= 0 {
		return -1
	}
	offset := 0
	for range position - 1 {
		if offset == len(sql) {
			break
		}
		_, size := utf8.DecodeRuneInString(sql[offset:])
		offset += size
	}
	return offset
}
