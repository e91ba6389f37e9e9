package render

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Row reads one row of a table by its key, as the stream would send it; nil
// when there is none.
func (db *Database) Row(ctx context.Context, table viewlet.TableName, columns, key, values []string) (viewlet.Tuple, error) {
	selected, where, args := make([]string, len(columns)), make([]string, len(key)), make([]any, len(key))
	for i, c := range columns {
		selected[i] = pgx.Identifier{c}.Sanitize() + "::text"
	}
	for i, c := range key {
		where[i], args[i] = fmt.Sprintf("%s = $%d", pgx.Identifier{c}.Sanitize(), i+1), values[i]
	}
	rows, err := db.pool.Query(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(selected, ", "),
		pgx.Identifier{table.Schema, table.Name}.Sanitize(), strings.Join(where, " AND ")), args...)
	if err != nil {
		return nil, fmt.Errorf("read row of %s: %w", table, err)
	}
	defer rows.Close()
	var row viewlet.Tuple
	if rows.Next() {
		for _, text := range rows.RawValues() {
			v := viewlet.Value{Kind: viewlet.Null}
			if text != nil {
				v = viewlet.Value{Kind: viewlet.Text, Text: append([]byte{}, text...)}
			}
			row = append(row, v)
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read row of %s: %w", table, err)
	}
	return row, nil
}
