// Package value is what a template sees of what Postgres gives.
package value

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// Of gives a value in Postgres's text form as what a template makes most
// of: bool, int64, Double; Decimal for numeric; decoded JSON; a string for all
// else.
func Of(oid uint32, text string) (any, error) {
	switch oid {
	case pgtype.BoolOID:
		return strings.HasPrefix(text, "t"), nil
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return strconv.ParseInt(text, 10, 64)
	case pgtype.Float4OID, pgtype.Float8OID:
		return ParseDouble(text)
	case pgtype.NumericOID:
		if IsDecimal(text) {
			return Decimal(text), nil
		}
	case pgtype.JSONOID, pgtype.JSONBOID:
		return decodeJSON(text)
	}
	return text, nil
}

// IsDecimal tells whether a numeric's text has digits: NaN and Infinity stay
// strings.
func IsDecimal(text string) bool { return text != "" && text[len(text)-1] <= '9' }

// decodeJSON decodes objects to maps, arrays to slices, and numbers to int64
// where they are whole, else to Decimal.
func decodeJSON(text string) (any, error) {
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return plainNumbers(v), nil
}

func plainNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = plainNumbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = plainNumbers(e)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		return Decimal(v)
	}
	return v
}

// Decimal is a numeric with the digits that Postgres gives it: 1.50 stays
// 1.50. A template compares it with the help of number.
type Decimal string

// MarshalJSON makes it a number to a script.
func (d Decimal) MarshalJSON() ([]byte, error) { return []byte(d), nil }

// Double is a float4 or float8. A template compares it with other numbers, and
// prints it as Postgres does, not as Go: 1500000 and not 1.5e+06.
type Double float64

func (d Double) String() string {
	size, format := math.Abs(float64(d)), byte('f')
	switch {
	case math.IsInf(float64(d), 1):
		return "Infinity"
	case math.IsInf(float64(d), -1):
		return "-Infinity"
	case size != 0 && (size < 1e-4 || size >= 1e15):
		format = 'e'
	}
	return strconv.FormatFloat(float64(d), format, -1, 64)
}

// MarshalJSON makes it a number to a script.
func (d Double) MarshalJSON() ([]byte, error) { return json.Marshal(float64(d)) }

// ParseDouble reads a float, or any other number, as Postgres writes it.
func ParseDouble(s string) (Double, error) {
	f, err := strconv.ParseFloat(s, 64)
	return Double(f), err
}
