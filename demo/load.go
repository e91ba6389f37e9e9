// Package demo runs the sample shop: it loads the rows, writes to them as
// customers and clerks would, and serves a storefront put together from
// fragments.
package demo

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Load runs a script of many statements, such as shop.sql, in one round trip.
// It fails where a statement does; what the script did not put in a
// transaction of its own is undone then.
//
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
func Load(ctx context.Context, conn *pgx.Conn, sql string) error {
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("load the sample shop: %w", err)
	}
	return nil
}
