package page

import (
	"fmt"
	"maps"

	"github.com/cdc-viewlet/cdc-viewlet/render/direct"
	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

// Form is a page for a query whose params and columns are known. It is for any
// goroutine.
type Form struct {
	page            *Page
	params, columns []value.Field
	direct          *direct.Program // nil: the engine does it all
}

// Form fits the page to a query.
func (p *Page) Form(params, columns []value.Field) *Form {
	return &Form{page: p, params: params, columns: columns, direct: direct.Compile(p.name, p.executed, functions, params, columns)}
}

// Sheet makes one fragment after another. It is for one goroutine.
type Sheet struct {
	form *Form
	max  int
	run  *direct.Run // nil: the engine does it all
	// What the engine sees of the last fragment.
	top  map[string]any
	rows []map[string]any
}

// Sheet is for fragments of at most max bytes.
func (f *Form) Sheet(max int) *Sheet {
	s := &Sheet{form: f, max: max}
	if f.direct != nil {
		s.run = f.direct.Run()
	}
	return s
}

// Append appends a fragment to dst. args are its arguments, and each of rows is
// the index in all of a row's first value.
func (s *Sheet) Append(dst []byte, args []string, all *value.Rows, rows []int) ([]byte, error) {
	if s.run != nil {
		if out, ok := s.run.Append(dst, s.max, args, all, rows); ok {
			return out, nil
		}
	}
	data, err := s.data(args, all, rows)
	if err != nil {
		return nil, err
	}
	out := limited{bytes: dst, left: s.max, max: s.max}
	err = s.form.page.Execute(&out, data)
	return out.bytes, err
}

// data is what the engine sees: the params, the first row's columns, and rows.
// It is good until the next call.
func (s *Sheet) data(args []string, all *value.Rows, rows []int) (map[string]any, error) {
	f := s.form
	for len(s.rows) < max(1, len(rows)) {
		s.rows = append(s.rows, make(map[string]any, len(f.columns)+len(f.params)))
	}
	clear(s.rows[0])
	for i, first := range rows {
		if err := f.row(s.rows[i], all, first); err != nil {
			return nil, err
		}
	}
	data := s.rows[0]
	if f.page.WantsRows {
		if s.top == nil {
			s.top = make(map[string]any, len(data)+len(f.params)+1)
		}
		clear(s.top)
		maps.Copy(s.top, data)
		data = s.top
	}
	for i, p := range f.params {
		if _, column := data[p.Name]; column {
			continue
		}
		var err error
		if data[p.Name], err = value.Of(p.OID, args[i]); err != nil {
			return nil, fmt.Errorf("read param %s: %w", p.Name, err)
		}
	}
	if _, column := data["rows"]; !column && f.page.WantsRows {
		data["rows"] = s.rows[:len(rows)]
	}
	return data, nil
}

// row puts a row's columns into the map.
func (f *Form) row(into map[string]any, all *value.Rows, first int) error {
	for i, col := range f.columns {
		text, null := all.Value(first + i)
		if null {
			into[col.Name] = nil
			continue
		}
		var err error
		if into[col.Name], err = value.Of(col.OID, text); err != nil {
			return fmt.Errorf("read column %s: %w", col.Name, err)
		}
	}
	return nil
}

// limited stops a fragment that is larger than one may be.
type limited struct {
	bytes     []byte
	left, max int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, TooLarge(l.max)
	}
	l.bytes = append(l.bytes, p...)
	return len(p), nil
}

// TooLarge is the error of a fragment of more than max bytes.
func TooLarge(max int) error {
	return fmt.Errorf("the fragment is larger than %d bytes; let the query return less, or raise --max-fragment", max)
}
