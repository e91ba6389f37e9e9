package source

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// locate finds value[start:end] of a string expression in the file that it is
// written in. It knows heredocs, indented or not, and quoted strings of HCL
// and JSON; where an interpolation or an escape it does not know stands in
// the way, ok is false.
func locate(src []byte, expr hcl.Range, value string, start, end int) (r hcl.Range, ok bool) {
	if !expr.CanSliceBytes(src) || start > len(value) {
		return hcl.Range{}, false
	}
	text := expr.SliceBytes(src)
	at := -1
	switch {
	case bytes.HasPrefix(text, []byte("<<")):
		at = inHeredoc(text, value, start)
	case bytes.HasPrefix(text, []byte(`"`)):
		at = inQuotes(text, value, start)
	}
	if at < 0 {
		return hcl.Range{}, false
	}
	end = min(max(end, start), len(value))
	length := len(value[start:end])
	if line := strings.IndexByte(value[start:end], '\n'); line >= 0 {
		length = line
	}
	from := advance(expr.Start, text[:at])
	to := advance(from, text[at:min(at+length, len(text))])
	return hcl.Range{Filename: expr.Filename, Start: from, End: to}, true
}

// inHeredoc pairs the value's lines with those behind <<-SQL: each is the same
// but for the indentation that was cut.
func inHeredoc(text []byte, value string, offset int) int {
	line := strings.Count(value[:offset], "\n")
	lineStart := strings.LastIndexByte(value[:offset], '\n') + 1
	content, _, _ := strings.Cut(value[lineStart:], "\n")
	at := 0
	for range line + 1 {
		next := bytes.IndexByte(text[at:], '\n')
		if next < 0 {
			return -1
		}
		at += next + 1
	}
	written, _, _ := bytes.Cut(text[at:], []byte("\n"))
	if !bytes.HasSuffix(written, []byte(content)) {
		return -1
	}
	return at + len(written) - len(content) + offset - lineStart
}

// inQuotes walks a quoted string and its value side by side.
func inQuotes(text []byte, value string, offset int) int {
	at, done := 1, 0
	for done < offset {
		if at+1 >= len(text) {
			return -1
		}
		size, plain := 1, text[at]
		if text[at] == '\\' {
			size = 2
			switch text[at+1] {
			case 'n':
				plain = '\n'
			case 't':
				plain = '\t'
			case 'r':
				plain = '\r'
			case '"', '\\', '/':
				plain = text[at+1]
			default:
				return -1
			}
		}
		if value[done] != plain {
			return -1
		}
		at, done = at+size, done+1
	}
	return at
}

// advance moves a position past text.
func advance(p hcl.Pos, text []byte) hcl.Pos {
	p.Byte += len(text)
	if line := bytes.LastIndexByte(text, '\n'); line >= 0 {
		p.Line += bytes.Count(text, []byte("\n"))
		p.Column = 1
		text = text[line+1:]
	}
	p.Column += utf8.RuneCount(text)
	return p
}
