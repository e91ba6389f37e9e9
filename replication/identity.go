package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// IdentitySQL gives the statements that let the tables, and the partitions of
// those that have some, send whole old rows, or with full being false what the
// primary key has.
//
// https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-REPLICA-IDENTITY
func IdentitySQL(ctx context.Context, cfg Config, full bool, tables ...viewlet.Table) ([]string, error) {
	if len(tables) == 0 {
		return nil, nil
	}
	cfg, err := cfg.resolved()
	if err != nil {
		return nil, err
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, conn)
	oids := make([]string, len(tables))
	for i, t := range tables {
		oids[i] = fmt.Sprint(t.OID)
	}
	rows, err := query(ctx, conn, fmt.Sprintf(`SELECT DISTINCT n.nspname, c.relname
		FROM pg_catalog.unnest('{%s}'::oid[]) AS t(oid)
		CROSS JOIN LATERAL (SELECT t.oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(t.oid)) p(oid)
		JOIN pg_catalog.pg_class c ON c.oid = p.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		ORDER BY 1, 2`, strings.Join(oids, ",")))
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	statements := make([]string, len(rows))
	for i, r := range rows {
		statements[i] = fmt.Sprintf("ALTER TABLE %s.%s REPLICA IDENTITY %s;", quoteIdent(r.string(0)), quoteIdent(r.string(1)), map[bool]string{true: "FULL", false: "DEFAULT"}[full])
	}
	return statements, nil
}

// Alter runs statements of IdentitySQL, all or none. Each takes a lock for which
// it waits briefly: while it waits, so does everybody else who needs the table.
func Alter(ctx context.Context, cfg Config, statements []string) error {
	cfg, err := cfg.resolved()
	if err != nil {
		return err
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	for _, sql := range slices.Concat([]string{"BEGIN", "SET LOCAL lock_timeout = '5s'"}, statements, []string{"COMMIT"}) {
		_, err := query(ctx, conn, sql)
		switch {
		case sqlState(err) == insufficientPrivilege:
			return Problem{What: fmt.Sprintf("the role may not run %s (%s)", sql, message(err)), Cure: "Let the table's owner run it, as `setup --replica-identity --print` shows it."}
		case sqlState(err) == lockNotAvailable:
			return fmt.Errorf("%s: somebody has held a lock on the table for 5 s; nothing was altered, try again: %w", strings.TrimSuffix(sql, ";"), err)
		case err != nil:
			return fmt.Errorf("%s: %w", strings.TrimSuffix(sql, ";"), err)
		}
		if strings.HasPrefix(sql, "ALTER") {
			cfg.Log.Info("replica identity altered", "sql", sql)
		}
	}
	return nil
}
