package direct

import (
	"strconv"
	"strings"
	"text/template/parse"
)

// NullAsNothing is the function that prints a NULL as nothing, in templates
// that have no escapers.
const NullAsNothing = "cdc_viewlet_null_as_nothing"

// escapers are what html/template puts behind a value.
type escapers struct {
	html bool
	// same tell of a text that an escaper does not change; any other is the
	// engine's.
	same []func(string) bool
}

// isEscaper tells whether a command is one of those, or NullAsNothing.
func isEscaper(cmd *parse.CommandNode) bool {
	id, ok := cmd.Args[0].(*parse.IdentifierNode)
	return ok && (id.Ident == NullAsNothing || strings.HasPrefix(id.Ident, "_html_template_"))
}

// escapersOf reports false when there is one that is not known here.
func escapersOf(cmds []*parse.CommandNode) (e escapers, ok bool) {
	for _, cmd := range cmds {
		id, ok := cmd.Args[0].(*parse.IdentifierNode)
		if !ok || len(cmd.Args) != 1 || e.html {
			return e, false
		}
		switch id.Ident {
		case NullAsNothing:
		case "_html_template_htmlescaper", "_html_template_attrescaper", "_html_template_rcdataescaper":
			e.html = true
		case "_html_template_urlfilter":
			e.same = append(e.same, safeURL)
		case "_html_template_urlnormalizer":
			e.same = append(e.same, normalURL)
		case "_html_template_urlescaper":
			e.same = append(e.same, unreserved)
		default:
			return e, false
		}
	}
	return e, true
}

// append appends a scalar. An int is the same to all of them.
func (e *escapers) append(dst []byte, v datum) ([]byte, bool) {
	if v.kind == long || v.kind == short {
		return strconv.AppendInt(dst, v.n, 10), true
	}
	s := v.print()
	for _, same := range e.same {
		if !same(s) {
			return dst, false
		}
	}
	if e.html {
		return appendHTML(dst, s), true
	}
	return append(dst, s...), true
}

// appendHTML escapes as html/template does in text and in quoted attributes.
func appendHTML(dst []byte, s string) []byte {
	done := 0
	for i := range len(s) {
		var entity string
		switch s[i] {
		case '"':
			entity = "&#34;"
		case '&':
			entity = "&amp;"
		case '\'':
			entity = "&#39;"
		case '+':
			entity = "&#43;"
		case '<':
			entity = "&lt;"
		case '>':
			entity = "&gt;"
		case 0:
			entity = "\uFFFD"
		default:
			continue
		}
		dst = append(append(dst, s[done:i]...), entity...)
		done = i + 1
	}
	return append(dst, s[done:]...)
}

// safeURL reports whether s is a path, or a URL of the web.
func safeURL(s string) bool {
	return strings.IndexByte(s, ':') < 0 || strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

// normalURL reports whether nothing in s is to be percent-encoded.
//
// https://www.rfc-editor.org/rfc/rfc3986#section-2
func normalURL(s string) bool { return onlyOf(s, "-._~!#$&*+,/:;=?@[]") }

func unreserved(s string) bool { return onlyOf(s, "-._~") }

// onlyOf reports whether s has only letters and digits of ASCII, and others.
func onlyOf(s, others string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte(others, c) < 0:
			return false
		}
	}
	return true
}
