package direct

import (
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

// datum is a value that a template sees, as far as a program knows it.
type datum struct {
	kind kind
	text string  // of words and a decimal
	n    int64   // of a long, a short, a boolean; of one row the index of its first value
	f    float64 // of a double and a float
	any  any     // what the engine has for it, where that is made; of nested and a dictionary always
}

// kind tells the types apart that a function may tell apart.
type kind int

const (
	nothing    kind = iota // NULL, and what is not there
	words                  // string
	decimal                // value.Decimal
	long                   // int64
	short                  // int: what is written in the template, and what is counted
	double                 // value.Double
	float                  // float64, written in the template
	boolean                // bool
	nested                 // an object or a list of JSON's
	dictionary             // what dict made: of any data
	whole                  // all that the template is given
	oneRow
	allRows
)

// scalar tells of what can be printed and compared.
func (k kind) scalar() bool { return k <= boolean }

// datumOf gives a value that value.Of or a function made, or what is in one.
func datumOf(v any) datum {
	switch d := v.(type) {
	case nil:
		return datum{}
	case string:
		return datum{kind: words, text: d, any: v}
	case value.Decimal:
		return datum{kind: decimal, text: string(d), any: v}
	case int64:
		return datum{kind: long, n: d, any: v}
	case int:
		return datum{kind: short, n: int64(d), any: v}
	case value.Double:
		return datum{kind: double, f: float64(d), any: v}
	case float64:
		return datum{kind: float, f: d, any: v}
	case bool:
		return datumOfBool(d)
	case datum: // in a dictionary
		return d
	}
	return datum{kind: nested, any: v}
}

func datumOfBool(is bool) datum {
	if is {
		return datum{kind: boolean, n: 1}
	}
	return datum{kind: boolean}
}

// value gives what the engine has for it; false: that is not made here.
func (v datum) value() (any, bool) {
	switch {
	case v.kind > nested:
		return nil, false
	case v.any != nil:
		return v.any, true
	}
	switch v.kind {
	case words:
		return v.text, true
	case decimal:
		return value.Decimal(v.text), true
	case long:
		return v.n, true
	case short:
		return int(v.n), true
	case double:
		return value.Double(v.f), true
	case float:
		return v.f, true
	case boolean:
		return v.n != 0, true
	}
	return nil, true
}

// print gives a scalar, but for an integer, as it is printed.
func (v datum) print() string {
	switch v.kind {
	case double:
		return value.Double(v.f).String()
	case float:
		return fmt.Sprint(v.f)
	case boolean:
		return strconv.FormatBool(v.n != 0)
	}
	return v.text
}

// truth is what {{if}} makes of it.
func (v datum) truth(r *Run) (is, ok bool) {
	switch v.kind {
	case nothing:
		return false, true
	case long, short, boolean:
		return v.n != 0, true
	case double, float:
		return v.f != 0, true
	case oneRow:
		return len(r.p.columns) > 0, true
	}
	n, ok := v.len(r)
	return n > 0, ok
}

// len is how much is in it.
func (v datum) len(r *Run) (n int, ok bool) {
	switch v.kind {
	case words, decimal:
		return len(v.text), true
	case allRows:
		return len(r.rows), true
	case nested, dictionary:
		switch in := v.any.(type) {
		case []any:
			return len(in), true
		case map[string]any:
			return len(in), true
		}
	}
	return 0, false
}

// column gives a column of the row whose first value has that index.
func (r *Run) column(first int64, i int) (datum, bool) {
	text, isNull := r.all.Value(int(first) + i)
	if isNull {
		return datum{}, true
	}
	switch oid := r.p.columns[i].OID; oid {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		n, err := strconv.ParseInt(text, 10, 64)
		return datum{kind: long, n: n}, err == nil
	case pgtype.Float4OID, pgtype.Float8OID:
		f, err := value.ParseDouble(text)
		return datum{kind: double, f: float64(f)}, err == nil
	case pgtype.NumericOID:
		if value.IsDecimal(text) {
			return datum{kind: decimal, text: text}, true
		}
	case pgtype.BoolOID, pgtype.JSONOID, pgtype.JSONBOID:
		v, err := value.Of(oid, text)
		return datumOf(v), err == nil
	}
	return datum{kind: words, text: text}, true
}
