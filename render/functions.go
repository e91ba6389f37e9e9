package render

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	texttemplate "text/template"
	"time"
)

// functions are what a template may call beside Go's own. Each gives the same
// for the same arguments: a fragment is what its row says, whenever and
// wherever it is rendered.
var functions = texttemplate.FuncMap{
	"date":   date,
	"dict":   dict,
	"join":   join,
	"number": number,
}

// builtins names Go's own functions, for parsing; what they do is not used.
var builtins = func() map[string]any {
	names := map[string]any{printNull: true}
	for _, name := range []string{
		"and", "call", "html", "index", "slice", "js", "len", "not", "or", "print", "printf",
		"println", "urlquery", "eq", "ge", "gt", "le", "lt", "ne", "break", "continue",
	} {
		names[name] = true
	}
	return names
}()

// date writes a date or timestamp in Go's layout: {{date "2 Jan 2006" .created}}.
// NULL and infinity stay as they are.
func date(layout string, v any) (any, error) {
	s, ok := v.(string)
	if !ok || s == "infinity" || s == "-infinity" {
		return v, nil
	}
	for _, form := range []string{"2006-01-02", "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05", time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(form, s); err == nil {
			return t.Format(layout), nil
		}
	}
	return nil, fmt.Errorf("%q is no date or timestamp of Postgres's", s)
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

// number makes a numeric comparable with a number of the template's:
// {{if gt (number .price) 99.5}}. It is a float64: it may round.
func number(v any) (float64, error) {
	switch n := v.(type) {
	case nil:
		return 0, nil
	case int64:
		return float64(n), nil
	case int:
		return float64(n), nil
	case float64:
		return n, nil
	case json.Number:
		return n.Float64()
	case string:
		return strconv.ParseFloat(n, 64)
	}
	return 0, fmt.Errorf("number wants a number, and got %v", v)
}
