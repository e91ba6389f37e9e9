package page

import (
	"fmt"
	"strings"
	texttemplate "text/template"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/render/direct"
	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

// functions are what a template may call beside Go's own. Each gives the same
// for the same arguments: a fragment is what its row says, whenever and
// wherever it is rendered.
var functions = texttemplate.FuncMap{
	"date":   date,
	"dict":   dict,
	"join":   join,
	"number": number,

	// Go's own, to which a NULL is <nil> or <no value>, and to these nothing.
	"html":     func(args ...any) string { return texttemplate.HTMLEscaper(noNulls(args)...) },
	"js":       func(args ...any) string { return texttemplate.JSEscaper(noNulls(args)...) },
	"urlquery": func(args ...any) string { return texttemplate.URLQueryEscaper(noNulls(args)...) },
	"print":    func(args ...any) string { return fmt.Sprint(noNulls(args)...) },
	"println":  func(args ...any) string { return fmt.Sprintln(noNulls(args)...) },
	"printf":   func(format string, args ...any) string { return fmt.Sprintf(format, noNulls(args)...) },
}

// noNulls puts an empty string in the place of each NULL.
func noNulls(args []any) []any {
	for i, a := range args {
		if a == nil {
			args[i] = ""
		}
	}
	return args
}

// builtins names Go's own functions, for parsing; what they do is not used.
var builtins = func() map[string]any {
	names := map[string]any{direct.NullAsNothing: true}
	for _, name := range []string{
		"and", "call", "index", "slice", "len", "not", "or", "eq", "ge", "gt", "le", "lt", "ne",
	} {
		names[name] = true
	}
	return names
}()

// date writes a date, timestamp or time in Go's layout: {{date "2 Jan 2006" .created}}.
// NULL and infinity stay as they are.
func date(layout string, v any) (any, error) {
	s, ok := v.(string)
	if !ok || s == "infinity" || s == "-infinity" {
		return v, nil
	}
	for _, form := range []string{"2006-01-02", "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05", time.RFC3339, "2006-01-02T15:04:05", "15:04:05"} {
		if t, err := time.Parse(form, s); err == nil {
			return t.Format(layout), nil
		}
	}
	return nil, fmt.Errorf("%q is no date, timestamp or time of Postgres's", s)
}

// dict makes a map of keys and values, so that a partial can be given several:
// {{template "price.html" dict "amount" .price "currency" "SEK"}}.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict wants a value for each key, and got %d arguments", len(pairs))
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict wants a string as key, and got %v", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

// join writes an array with a separator between its elements: {{join ", " .tags}}.
func join(separator string, v any) (string, error) {
	if v == nil {
		return "", nil
	}
	list, ok := v.([]any)
	if !ok {
		return "", fmt.Errorf("join wants an array, and got %v", v)
	}
	parts := make([]string, len(list))
	for i, e := range list {
		if e != nil {
			parts[i] = fmt.Sprint(e)
		}
	}
	return strings.Join(parts, separator), nil
}

// number makes a numeric comparable with a number of the template's, and a
// zero false: {{if gt (number .price) 99.5}}. It is a float: it may round.
func number(v any) (value.Double, error) {
	switch n := v.(type) {
	case nil:
		return 0, nil
	case int64:
		return value.Double(n), nil
	case int:
		return value.Double(n), nil
	case float64:
		return value.Double(n), nil
	case value.Double:
		return n, nil
	case value.Decimal:
		return value.ParseDouble(string(n))
	case string:
		return value.ParseDouble(n)
	}
	return 0, fmt.Errorf("number wants a number, and got %v", v)
}
