package render

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// origin is the server that changes come from, and so fragments are to.
type origin struct {
	system   string
	timeline int32 // 0: any
}

// Follow has all queries go to the server of that system identifier and
// timeline (0: any, of a standby that may be promoted), and fail where the URL
// leads to another. Connections that are open are given up: with several hosts in
// the URL, one may still lead to the server that was the primary before. What is
// rendered from beside it is looked at anew before that goes on.
func (db *Database) Follow(system string, timeline int32) {
	db.origin.Store(&origin{system, timeline})
	db.pool.Reset()
	db.doubt()
}

// check gives an error when the connection leads elsewhere; nil asks nothing. A
// standby's timeline is not asked for: it changes after that of its WAL does. A
// server that does not tell who it is, as a managed one may not, is believed.
//
// https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-CONTROLDATA
func (o *origin) check(ctx context.Context, conn *pgx.Conn) error {
	if o == nil {
		return nil
	}
	is := origin{timeline: o.timeline}
	err := conn.QueryRow(ctx, `SELECT system_identifier::text,
			CASE WHEN $1 = 0 OR pg_is_in_recovery() THEN $1 ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END
		FROM pg_control_system()`, o.timeline).Scan(&is.system, &is.timeline)
	var untold *pgconn.PgError
	if errors.As(err, &untold) {
		return nil
	}
	if err == nil && is != *o {
		err = fmt.Errorf("queries reach the server %s on timeline %d, and changes come from %s on timeline %d", is.system, is.timeline, o.system, o.timeline)
	}
	return err
}
