package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdc-viewlet/cdc-viewlet/render"
)

// relationsSQL names what a query may read: as it stands where the search_path
// finds it, else with its schema.
//
// https://www.postgresql.org/docs/current/catalog-pg-class.html
const relationsSQL = `
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1`

// suggestRelations adds to each query of a relation that there is not the one
// that may be meant: in another schema, or of a name like it.
func suggestRelations(ctx context.Context, conn *pgconn.PgConn, problems []render.Problem) error {
	var names, bare []string
	for i, p := range problems {
		unknown := unknownRelation(p.Err)
		if unknown == "" {
			continue
		}
		if names == nil {
			r := conn.ExecParams(ctx, relationsSQL, nil, nil, nil, nil).Read()
			if r.Err != nil {
				return fmt.Errorf("read the names of tables: %w", r.Err)
			}
			for _, row := range r.Rows {
				names, bare = append(names, string(row[0])), append(bare, string(row[1]))
			}
		}
		if hint := likely(unknown, names, bare); hint != "" {
			problems[i].Hint = strings.TrimSpace(p.Hint + " Did you mean " + hint + "?")
		}
	}
	return nil
}

// likely gives the relation that is meant by an unknown one; empty when none is
// like it.
func likely(unknown string, names, bare []string) string {
	for i, name := range bare {
		if name == unknown {
			return names[i]
		}
	}
	return nearest(unknown, names)
}

// unknownRelation is the one that Postgres does not know; empty where it says
// something else. Its quotes are those of the server's language.
func unknownRelation(err error) string {
	const undefinedTable = "42P01"
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != undefinedTable {
		return ""
	}
	_, rest, _ := strings.Cut(pg.Message, `"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}
