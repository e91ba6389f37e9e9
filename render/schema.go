package render

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
)

// schemaSQL gathers what decides how queries are analysed: names, columns,
// views' rules and functions. xmin is another once a row of the catalog was
// updated.
//
// https://www.postgresql.org/docs/current/catalogs-overview.html
const schemaSQL = `SELECT coalesce(pg_catalog.md5(pg_catalog.string_agg(fact, E'\n' ORDER BY fact)), 'nothing') FROM (
		SELECT pg_catalog.concat_ws(' ', 'c', oid, relnamespace, relname, relkind, relpersistence, relrowsecurity, relreplident, relispartition) AS fact
		FROM pg_catalog.pg_class WHERE oid = ANY($1)
		UNION ALL SELECT pg_catalog.concat_ws(' ', 'a', attrelid, attnum, attname, atttypid, atttypmod, attcollation, attnotnull, attgenerated, attisdropped)
		FROM pg_catalog.pg_attribute WHERE attrelid = ANY($1) AND attnum > 0
		UNION ALL SELECT pg_catalog.concat_ws(' ', 'v', ev_class, oid, xmin)
		FROM pg_catalog.pg_rewrite WHERE ev_class = ANY($1) AND rulename = '_RETURN'
		UNION ALL SELECT pg_catalog.concat_ws(' ', 'i', inhrelid, inhparent, inhseqno)
		FROM pg_catalog.pg_inherits WHERE inhparent = ANY($1) OR inhrelid = ANY($1)
		UNION ALL SELECT pg_catalog.concat_ws(' ', 'f', oid, xmin)
		FROM pg_catalog.pg_proc WHERE oid = ANY($2)) facts`

// SchemaMark is another once something was altered that the catalog's trees
// refer to, such as a view's definition, a column's name or type, or a
// function. It says nothing of what was never altered and is new.
func (db *Database) SchemaMark(ctx context.Context, c *derive.Catalog) (mark string, err error) {
	err = db.pool.QueryRow(ctx, schemaSQL, slices.Sorted(maps.Keys(c.Relations)), slices.Sorted(maps.Keys(c.Functions))).Scan(&mark)
	if err != nil {
		return "", fmt.Errorf("read the schema: %w", err)
	}
	return mark, nil
}
