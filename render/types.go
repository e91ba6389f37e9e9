package render

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"
)

// pgType is what is to be known of a type.
type pgType struct {
	name     string // format_type(): how SQL writes it
	category byte   // pg_type.typcategory: A array, C composite, R range, ...
	array    bool   // there are arrays of it
}

// jsonOID is json, of which decode makes Go values.
const jsonOID = pgtype.JSONOID

// unknownType is what a parameter is when nothing tells: Postgres takes it for text.
const unknownType = pgtype.UnknownOID

// lookUpTypes makes typeOf know all the given types.
func (db *Database) lookUpTypes(ctx context.Context, oids []uint32) error {
	var missing []int64
	db.mu.Lock()
	for _, oid := range oids {
		if _, known := db.types[oid]; !known {
			missing = append(missing, int64(oid))
		}
	}
	db.mu.Unlock()
	if len(missing) == 0 {
		return nil
	}
	rows, err := db.pool.Query(ctx, `SELECT oid::bigint, format_type(oid, NULL), typcategory::text, typarray <> 0
		FROM pg_type WHERE oid::bigint = ANY($1)`, missing)
	if err != nil {
		return fmt.Errorf("read pg_type: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var oid int64
		var category string
		var t pgType
		if err := rows.Scan(&oid, &t.name, &category, &t.array); err != nil {
			return fmt.Errorf("read pg_type: %w", err)
		}
		t.category = category[0]
		db.mu.Lock()
		db.types[uint32(oid)] = t
		db.mu.Unlock()
	}
	return rows.Err()
}

func (db *Database) typeOf(oid uint32) pgType {
	db.mu.Lock()
	defer db.mu.Unlock()
	t, ok := db.types[oid]
	if !ok || oid == unknownType {
		return pgType{name: "text", category: 'S', array: true}
	}
	return t
}

// decode gives a value in Postgres's text form as what a template makes most
// of: nil for NULL; bool, int64, float64; json.Number for numeric, which keeps
// its digits; decoded JSON; a string for all else. The text is copied.
func decode(oid uint32, text []byte) (any, error) {
	if text == nil {
		return nil, nil
	}
	switch oid {
	case pgtype.BoolOID:
		return len(text) == 1 && text[0] == 't', nil
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return strconv.ParseInt(string(text), 10, 64)
	case pgtype.Float4OID:
		return strconv.ParseFloat(string(text), 32)
	case pgtype.Float8OID:
		return strconv.ParseFloat(string(text), 64)
	case pgtype.NumericOID:
		if c := text[len(text)-1]; c < '0' || c > '9' {
			return string(text), nil // NaN, Infinity
		}
		return json.Number(text), nil
	case pgtype.JSONOID, pgtype.JSONBOID:
		var v any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		err := d.Decode(&v)
		return v, err
	}
	return string(text), nil
}

// appendArray appends the elements as one array in Postgres's text form.
//
// https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
func appendArray(dst []byte, elements []string) []byte {
	dst = append(dst, '{')
	for i, e := range elements {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		for j := 0; j < len(e); j++ {
			if e[j] == '"' || e[j] == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, e[j])
		}
		dst = append(dst, '"')
	}
	return append(dst, '}')
}
