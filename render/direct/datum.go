package direct

import (
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

// datum is a value that a template sees, as far as a program knows it.
type datum struct {
	kind kind
	text string // of a scalar, as it is printed
	any  any    // of JSON
	row  int    // the index of its first value
}

type kind int

const (
	nothing kind = iota // NULL, and what is not there
	words               // text, and what is like it: numeric
	figure              // what is false when it is zero; and bool
	nested              // an object or a list of JSON's
	whole               // all that the template is given
	oneRow
	allRows
)

func (k kind) scalar() bool { return k <= figure }

// datumOf gives a value that value.Of made, or what is in one.
func datumOf(v any) datum {
	switch v := v.(type) {
	case nil:
		return datum{}
	case string:
		return datum{kind: words, text: v}
	case value.Decimal:
		return datum{kind: words, text: string(v)}
	case int64:
		return datum{kind: figure, text: strconv.FormatInt(v, 10)}
	case value.Double:
		return datum{kind: figure, text: v.String()}
	case bool:
		return datum{kind: figure, text: strconv.FormatBool(v)}
	}
	return datum{kind: nested, any: v}
}

// truth is what {{if}} makes of it.
func (v datum) truth(r *Run) (is, ok bool) {
	switch v.kind {
	case nothing:
		return false, true
	case words:
		return v.text != "", true
	case figure:
		return v.text != "0" && v.text != "-0" && v.text != "false", true
	case allRows:
		return len(r.rows) > 0, true
	case oneRow:
		return len(r.p.columns) > 0, true
	case nested:
		switch v := v.any.(type) {
		case []any:
			return len(v) > 0, true
		case map[string]any:
			return len(v) > 0, true
		}
	}
	return false, false
}

// column gives a column of the row whose first value has that index.
func (r *Run) column(first, i int) (datum, bool) {
	text, isNull := r.all.Value(first + i)
	if isNull {
		return datum{}, true
	}
	switch oid := r.p.columns[i].OID; oid {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return datum{kind: figure, text: text}, true // as Go writes it, too
	case pgtype.BoolOID, pgtype.Float4OID, pgtype.Float8OID, pgtype.JSONOID, pgtype.JSONBOID:
		v, err := value.Of(oid, text)
		return datumOf(v), err == nil
	}
	return datum{kind: words, text: text}, true
}
