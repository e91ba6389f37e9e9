package render

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"
)

// pgType is what is to be known of a type.
type pgType struct {
	name     string // format_type(): how SQL writes it
	category byte   // pg_type.typcategory: A array, C composite, R range, ...
	array    bool   // there are arrays of it
	base     uint32 // of a domain, the type that it is made from; else the type itself
}

// jsonOID is json, of which decode makes Go values.
const jsonOID = pgtype.JSONOID

// unknownType is what a parameter is when nothing tells: Postgres takes it for text.
const unknownType = pgtype.UnknownOID

// typesSQL writes types without a length, for which format_type wants -1: with
// NULL it would write bpchar as character, which holds one.
const typesSQL = `SELECT t.oid::bigint, format_type(t.oid, -1), t.typcategory::text, t.typarray <> 0,
	(WITH RECURSIVE d(oid, base) AS (
		SELECT t.oid, t.typbasetype UNION ALL SELECT b.oid, b.typbasetype FROM d JOIN pg_type b ON b.oid = d.base
	) SELECT d.oid::bigint FROM d WHERE d.base = 0)
	FROM pg_type t WHERE t.oid = ANY($1::bigint[]::oid[])`

// lookUpTypes makes typeOf know all the given types, as they are called now.
func (db *Database) lookUpTypes(ctx context.Context, oids []uint32) error {
	asked := db.toLookUp(oids)
	if len(asked) == 0 {
		return nil
	}
	ctx, done := db.bounded(ctx, db.timeout)
	defer done()
	rows, err := db.pool.Query(ctx, typesSQL, asked)
	if err != nil {
		return fmt.Errorf("read pg_type: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var oid, base int64
		var category string
		var t pgType
		if err := rows.Scan(&oid, &t.name, &category, &t.array, &base); err != nil {
			return fmt.Errorf("read pg_type: %w", err)
		}
		t.category, t.base = category[0], uint32(base)
		db.mu.Lock()
		db.types[uint32(oid)] = t
		db.mu.Unlock()
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read pg_type: %w", err)
	}
	return nil
}

// firstGenerated is the first OID that is not the same in every Postgres: what
// is below is built in, and keeps its name.
//
// https://www.postgresql.org/docs/current/system-catalog-initial-data.html#SYSTEM-CATALOG-OID-ASSIGNMENT
const firstGenerated = 10000

// toLookUp gives those of the types that are not known, or may have been renamed.
func (db *Database) toLookUp(oids []uint32) []int64 {
	db.mu.Lock()
	defer db.mu.Unlock()
	var asked []int64
	for _, oid := range oids {
		if _, known := db.types[oid]; !known || oid >= firstGenerated {
			asked = append(asked, int64(oid))
		}
	}
	return asked
}

func (db *Database) typeOf(oid uint32) pgType {
	db.mu.Lock()
	defer db.mu.Unlock()
	t, ok := db.types[oid]
	if !ok || oid == unknownType {
		return pgType{name: "text", category: 'S', array: true, base: oid}
	}
	return t
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
