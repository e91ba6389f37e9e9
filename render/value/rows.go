package value

import "strings"

// Field is a param or a column that a template sees.
type Field struct {
	Name string
	OID  uint32 // of its type
}

// Rows are a query's rows: their values in Postgres's text form, one behind
// the other.
type Rows struct {
	text strings.Builder
	ends []int // of each value in text; of a NULL its complement
}

// Add appends a row, and gives the index of its first value. A nil value is
// NULL.
func (r *Rows) Add(row [][]byte) (first int) {
	first = len(r.ends)
	for _, value := range row {
		r.text.Write(value)
		end := r.text.Len()
		if value == nil {
			end = ^end
		}
		r.ends = append(r.ends, end)
	}
	return first
}

// Value gives a value; null says that it is NULL.
func (r *Rows) Value(i int) (text string, null bool) {
	end, start := r.ends[i], 0
	if end < 0 {
		return "", true
	}
	if i > 0 {
		start = max(r.ends[i-1], ^r.ends[i-1])
	}
	return r.text.String()[start:end], false
}

// Size is about what they take, in bytes.
func (r *Rows) Size() int { return r.text.Len() + 16*len(r.ends) }
