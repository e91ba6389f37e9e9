package replication

import (
	"context"
	"fmt"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pgx/v5/pgconn"
)

// Shapes gives of each table, by OID, what its rows depend on and no change
// tells: its columns and their types, the partitions and children that it is
// read with, and the files that these are stored in. A table that is rewritten,
// as by ALTER COLUMN ... TYPE ... USING, gets a new file, and so does a
// partition that is truncated: neither is in the stream. A shape is for
// comparing, and says nothing else.
func Shapes(ctx context.Context, conn *pgconn.PgConn, tables []viewlet.Table) (map[uint32]string, error) {
	shapes := make(map[uint32]string, len(tables))
	if len(tables) == 0 {
		return shapes, nil
	}
	var oids []string
	for _, t := range tables {
		oids = append(oids, fmt.Sprintf("(%d)", t.OID))
	}
	rows, err := query(ctx, conn, fmt.Sprintf(shapesSQL, strings.Join(oids, ", ")))
	if err != nil {
		return nil, fmt.Errorf("read the tables' shapes: %w", err)
	}
	for _, r := range rows {
		shapes[r.oid(0)] = r.string(1)
	}
	return shapes, nil
}

// https://www.postgresql.org/docs/current/catalog-pg-inherits.html
// https://www.postgresql.org/docs/current/storage-file-layout.html
const shapesSQL = `
WITH RECURSIVE wanted(oid) AS (VALUES %s),
family(root, oid) AS (
	SELECT oid::oid, oid::oid FROM wanted
	UNION
	SELECT f.root, i.inhrelid FROM family f JOIN pg_catalog.pg_inherits i ON i.inhparent = f.oid
),
columns(root, list) AS (
	SELECT w.oid::oid, string_agg(concat_ws(' ', a.attnum, quote_ident(a.attname), pg_catalog.format_type(a.atttypid, a.atttypmod),
		CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END), ', ' ORDER BY a.attnum)
	FROM wanted w
	JOIN pg_catalog.pg_attribute a ON a.attrelid = w.oid::oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	GROUP BY w.oid
),
files(root, list) AS (
	SELECT f.root, string_agg(concat_ws(' ', f.oid, pg_catalog.pg_relation_filenode(f.oid)), ', ' ORDER BY f.oid)
	FROM family f GROUP BY f.root
)
SELECT f.root, md5(concat_ws('; ', f.list, c.list)) FROM files f LEFT JOIN columns c ON c.root = f.root`
