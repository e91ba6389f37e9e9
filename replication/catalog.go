package replication

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pgx/v5/pgconn"
)

// Tables reads from the catalog what the names stand for, all in one round
// trip. Names are taken literally: no folding of case, no quotes. A name that
// stands for nothing is absent from the map; two names may stand for one
// table. Views, sequences and foreign tables are told too, by their Kind.
//
// A partitioned table has the columns in its replica identity that all of its
// partitions have in theirs, for it is the partition's identity that decides
// what a change of the partition carries.
func Tables(ctx context.Context, conn *pgconn.PgConn, names []viewlet.TableName) (map[viewlet.TableName]viewlet.Table, error) {
	tables := make(map[viewlet.TableName]viewlet.Table, len(names))
	var wanted []string
	for i, n := range names {
		if nameable(n.Name) && (n.Schema == "" || nameable(n.Schema)) {
			wanted = append(wanted, fmt.Sprintf("(%d, %s, %s)", i, quoteLiteral(n.Schema), quoteLiteral(n.Name)))
		}
	}
	if len(wanted) == 0 {
		return tables, nil
	}
	rows, err := query(ctx, conn, fmt.Sprintf(tablesSQL, strings.Join(wanted, ", "), serverVersion(conn) >= 18))
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	for same := range groups(rows) {
		tables[names[same[0].int(0)]] = table(same)
	}
	return tables, nil
}

// groups gives the rows of one table after the other: those that share their
// first column, as the query ordered them.
func groups(rows []row) func(yield func([]row) bool) {
	return func(yield func([]row) bool) {
		for start, end := 0, 0; start < len(rows); start = end {
			for end = start + 1; end < len(rows) && rows[end].int(0) == rows[start].int(0); end++ {
			}
			if !yield(rows[start:end]) {
				return
			}
		}
	}
}

// table makes a Table of what tablesSQL says of it, a row for each column.
func table(rows []row) viewlet.Table {
	head := rows[0]
	t := viewlet.Table{
		OID:         head.oid(1),
		Schema:      head.string(2),
		Name:        head.string(3),
		Kind:        head.byte(4),
		Persistence: head.byte(5),
		Identity:    viewlet.ReplicaIdentity(head.byte(6)),
		Root:        head.string(7),
	}
	var key []row
	for _, r := range rows {
		if r.null(8) {
			continue // a table without columns
		}
		t.Columns = append(t.Columns, viewlet.TableColumn{
			Name:      r.string(8),
			Type:      r.string(9),
			TypeOID:   r.oid(10),
			Identity:  r.bool(11),
			Generated: r.bool(12),
			Toastable: r.bool(13),
			Stored:    r.bool(15),
			Virtual:   r.bool(16),
		})
		if !r.null(14) {
			key = append(key, r)
		}
	}
	slices.SortFunc(key, func(a, b row) int { return cmp.Compare(a.int(14), b.int(14)) })
	for _, r := range key {
		t.PrimaryKey = append(t.PrimaryKey, r.string(8))
	}
	return t
}

// tablesSQL takes the names as (number, schema, name). Which index is a replica
// identity is what RelationGetIndexList says: a deferrable one is none, nor are
// the columns that an index only includes. streamed are the kinds of columns,
// pg_attribute.attgenerated, that a publication can have.
//
// https://www.postgresql.org/docs/current/logical-replication-publication.html#LOGICAL-REPLICATION-PUBLICATION-REPLICA-IDENTITY
const tablesSQL = `
WITH wanted(ord, nsp, rel) AS (VALUES %s),
streamed(kind) AS (SELECT '' UNION ALL SELECT 's' WHERE %t),
t AS (
	SELECT w.ord, c.oid, s.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, c.relispartition
	FROM wanted w
	JOIN pg_catalog.pg_class c ON c.relname = w.rel
	JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
	  AND CASE WHEN w.nsp = '' THEN pg_catalog.pg_table_is_visible(c.oid) ELSE s.nspname = w.nsp END
),
heap AS (
	SELECT DISTINCT t.oid AS root, t.oid, t.relreplident FROM t WHERE t.relkind <> 'p'
	UNION
	SELECT DISTINCT t.oid, c.oid, c.relreplident
	FROM t, LATERAL pg_catalog.pg_partition_tree(t.oid) p JOIN pg_catalog.pg_class c ON c.oid = p.relid
	WHERE t.relkind = 'p' AND c.relkind = 'r'
),
heaps AS (
	SELECT root, count(*) AS n, min(relreplident::text) AS least, max(relreplident::text) AS most FROM heap GROUP BY root
),
told AS (
	SELECT h.root, a.attname, count(*) AS n
	FROM heap h
	JOIN pg_catalog.pg_attribute a ON a.attrelid = h.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_catalog.pg_index i ON i.indrelid = h.oid AND i.indisvalid AND i.indimmediate
		AND CASE h.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END
	WHERE h.relreplident = 'f' AND a.attgenerated::text IN (SELECT kind FROM streamed)
	   OR a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts-1])
	GROUP BY h.root, a.attname
)
SELECT t.ord, t.oid, t.nspname, t.relname, t.relkind, t.relpersistence,
	CASE WHEN h.n IS NULL THEN t.relreplident::text WHEN h.least = h.most THEN h.least ELSE 'd' END,
	CASE WHEN t.relispartition THEN (
		SELECT s.nspname || '.' || c.relname
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
		WHERE c.oid = pg_catalog.pg_partition_root(t.oid)
	) END,
	a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid,
	coalesce(told.n = h.n, false), a.attgenerated::text NOT IN (SELECT kind FROM streamed), a.attstorage <> 'p',
	pg_catalog.array_position((i.indkey::int2[])[0:i.indnkeyatts-1], a.attnum),
	a.attgenerated = 's' AND a.attgenerated::text IN (SELECT kind FROM streamed), a.attgenerated = 'v'
FROM t
LEFT JOIN heaps h ON h.root = t.oid
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN told ON told.root = t.oid AND told.attname = a.attname
LEFT JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisprimary
ORDER BY t.ord, a.attnum`
