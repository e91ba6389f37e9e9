package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pgx/v5/pgconn"
)

// publishOptions are those of our publication: all operations, and a change of
// a partition told as one of the table that the rules name. Stored generated
// columns are published where Postgres can: of a table with REPLICA IDENTITY FULL
// it would otherwise refuse every UPDATE and DELETE.
//
// https://www.postgresql.org/docs/current/sql-createpublication.html
func publishOptions(tables []viewlet.Table) string {
	options := "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
	if slices.ContainsFunc(tables, stored) {
		options += ", publish_generated_columns = stored"
	}
	return options
}

// stored reports whether the table has a generated column that is in the stream
// only if the publication says so.
func stored(t viewlet.Table) bool {
	return slices.ContainsFunc(t.Columns, func(c viewlet.TableColumn) bool { return c.Stored })
}

// Publish makes the publication have exactly these tables, and tells whether
// it had to be altered for that. What is committed before has the old tables in
// the stream, even where it is streamed later: what hangs on tables whose marks
// are new is to be rendered after Publish.
func Publish(ctx context.Context, cfg Config, tables []viewlet.Table) (changed bool, err error) {
	cfg, err = cfg.resolved()
	if err != nil {
		return false, err
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return false, err
	}
	defer hangUp(ctx, conn)
	pub, err := readPublication(ctx, conn, cfg.Publication)
	if err != nil {
		return false, err
	}
	return publish(ctx, conn, cfg, pub, tables)
}

// Marks gives a mark for each table of the publication, by its OID. As long as a
// table has the same mark, all its changes have been published, the same way: it
// is a new one once the table, or the publication, was away, made anew or
// altered.
//
// https://www.postgresql.org/docs/current/catalog-pg-publication-rel.html
func Marks(ctx context.Context, conn *pgconn.PgConn, cfg Config) (map[uint32]string, error) {
	cfg, err := cfg.resolved()
	if err != nil {
		return nil, err
	}
	rows, err := query(ctx, conn, `
		SELECT r.prrelid, concat_ws('.', p.oid, p.xmin, r.oid, r.xmin)
		FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
		WHERE p.pubname = `+quoteLiteral(cfg.Publication))
	if err != nil {
		return nil, fmt.Errorf("read publication %q: %w", cfg.Publication, err)
	}
	marks := make(map[uint32]string, len(rows))
	for _, r := range rows {
		marks[r.oid(0)] = r.string(1)
	}
	return marks, nil
}

// publish creates or alters the publication where it has to. One that has more
// than the tables but is somebody else's serves too.
func publish(ctx context.Context, conn *pgconn.PgConn, cfg Config, pub publication, tables []viewlet.Table) (changed bool, err error) {
	if pub.allTables {
		return false, forAllTables(cfg)
	}
	sql := pub.remedy(cfg, tables)
	if sql == "" || (pub.covers(tables) && !pub.mayAlter) {
		return false, nil
	}
	_, err = query(ctx, conn, sql)
	if sqlState(err) == insufficientPrivilege {
		return false, mayNotPublish(cfg, message(err), sql)
	}
	if err != nil {
		return false, fmt.Errorf("set up publication %q: %w", cfg.Publication, err)
	}
	cfg.Log.Info("publication set up", "publication", cfg.Publication, "tables", len(tables), "added", len(pub.lacks(tables)))
	return true, nil
}

// publication is what the catalog says of a publication.
type publication struct {
	exists    bool
	allTables bool
	mayAlter  bool     // the role owns it
	whole     bool     // all operations, told by the root, no filters, no schemas
	stored    bool     // stored generated columns too; so it is before Postgres 18, where none has them
	tables    []uint32 // OIDs of its tables, in order
}

// readPublication asks for the publication; one that does not exist is no error.
//
// https://www.postgresql.org/docs/current/catalog-pg-publication.html
func readPublication(ctx context.Context, conn *pgconn.PgConn, name string) (publication, error) {
	schemas := "EXISTS (SELECT FROM pg_catalog.pg_publication_namespace n WHERE n.pnpubid = p.oid)"
	if serverVersion(conn) < 15 {
		schemas = "false"
	}
	rows, err := query(ctx, conn, fmt.Sprintf(publicationSQL, schemas, quoteLiteral(name)))
	if err != nil {
		return publication{}, fmt.Errorf("read publication %q: %w", name, err)
	}
	if len(rows) == 0 {
		return publication{}, nil
	}
	head := rows[0]
	pub := publication{exists: true, allTables: head.bool(0), mayAlter: head.bool(1), whole: head.bool(2), stored: head.bool(5)}
	for _, r := range rows {
		if r.null(3) {
			continue // a publication without tables
		}
		pub.tables = append(pub.tables, r.oid(3))
		pub.whole = pub.whole && !r.bool(4)
	}
	slices.Sort(pub.tables)
	return pub, nil
}

// Row filters and column lists exist since Postgres 15, and the choice of
// generated columns since 18; jsonb reads the columns that hold them where they
// are.
const publicationSQL = `
SELECT p.puballtables, pg_catalog.pg_has_role(p.pubowner, 'USAGE'),
	p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND p.pubviaroot AND NOT %s,
	r.prrelid,
	(to_jsonb(r) ->> 'prqual') IS NOT NULL OR (to_jsonb(r) ->> 'prattrs') IS NOT NULL,
	coalesce(to_jsonb(p) ->> 'pubgencols' = 's', true)
FROM pg_catalog.pg_publication p
LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
WHERE p.pubname = %s`

// covers reports whether every change of the tables is published.
func (p publication) covers(tables []viewlet.Table) bool {
	return p.exists && len(p.lacks(tables)) == 0
}

// lacks gives the tables of which not every change is published.
func (p publication) lacks(tables []viewlet.Table) (lacking []viewlet.Table) {
	for _, t := range unique(tables) {
		if _, found := slices.BinarySearch(p.tables, t.OID); !found || !p.exists || !p.whole || !p.stored && stored(t) {
			lacking = append(lacking, t)
		}
	}
	return lacking
}

// remedy is the SQL that makes the publication have exactly the tables; empty
// when it has. There is none for a publication FOR ALL TABLES.
func (p publication) remedy(cfg Config, tables []viewlet.Table) string {
	tables = unique(tables)
	if !p.exists {
		return createPublicationSQL(cfg, tables)
	}
	if p.covers(tables) && len(p.tables) == len(tables) {
		return ""
	}
	if len(tables) == 0 { // SET TABLE takes no empty list
		return dropPublicationSQL(cfg) + createPublicationSQL(cfg, tables)
	}
	name := quoteIdent(cfg.Publication)
	sql := fmt.Sprintf("ALTER PUBLICATION %s SET TABLE\n%s;\n", name, tableList(tables))
	if !p.whole || !p.stored && slices.ContainsFunc(tables, stored) { // else it would mark every table anew
		sql += fmt.Sprintf("ALTER PUBLICATION %s SET (%s);\n", name, publishOptions(tables))
	}
	return sql
}

func mayNotPublish(cfg Config, why, sql string) Problem {
	return Problem{
		fmt.Sprintf("may not set up the publication %q: %s", cfg.Publication, why),
		"-- as the owner of the tables, or as a superuser:\n" + sql,
	}
}

func mayNotDrop(cfg Config, why string) Problem {
	return Problem{
		fmt.Sprintf("may not drop the publication %q: %s", cfg.Publication, why),
		"-- as its owner, or as a superuser:\n" + dropPublicationSQL(cfg),
	}
}

// forAllTables is the refusal to touch a publication that somebody made for
// something else.
func forAllTables(cfg Config) Problem {
	return Problem{
		fmt.Sprintf("the publication %q is FOR ALL TABLES, and cannot be narrowed to those of the rules", cfg.Publication),
		"give this daemon another publication, or, if nobody else uses this one: " + strings.TrimSpace(dropPublicationSQL(cfg)),
	}
}

func createPublicationSQL(cfg Config, tables []viewlet.Table) string {
	list := ""
	if len(tables) > 0 {
		list = " FOR TABLE\n" + tableList(tables) + "\n"
	}
	return fmt.Sprintf("CREATE PUBLICATION %s%s WITH (%s);\n", quoteIdent(cfg.Publication), list, publishOptions(tables))
}

func dropPublicationSQL(cfg Config) string {
	return fmt.Sprintf("DROP PUBLICATION IF EXISTS %s;\n", quoteIdent(cfg.Publication))
}

// tableList names the tables alone: without ONLY, Postgres would add those that
// inherit from them, and they would be altered away at each start.
func tableList(tables []viewlet.Table) string {
	lines := make([]string, 0, len(tables))
	for _, t := range tables {
		lines = append(lines, "    ONLY "+quoteTable(t))
	}
	return strings.Join(lines, ",\n")
}

func quoteTable(t viewlet.Table) string { return quoteIdent(t.Schema) + "." + quoteIdent(t.Name) }

// unique gives each table once: two names in the rules may stand for one.
func unique(tables []viewlet.Table) []viewlet.Table {
	var once []viewlet.Table
	for _, t := range tables {
		if !slices.ContainsFunc(once, func(o viewlet.Table) bool { return o.OID == t.OID }) {
			once = append(once, t)
		}
	}
	return once
}
