package render

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Config says how to reach Postgres, and what a query may take.
type Config struct {
	// URL is a connection string as libpq reads it. Required.
	URL string
	// Connections is how many are open at most; 8 when zero, and never less
	// than 3.
	Connections int
	// StatementTimeout ends a query that takes longer; 30 s when zero.
	StatementTimeout time.Duration
}

// Database is Postgres as queries see it: sessions that only read, with
// settings under which a value has one text form. It is for any goroutine.
type Database struct {
	server
	standby *standby // nil: there is none
	// A whole viewlet, or a lookup with many rows, is read from one connection
	// while its keys are rendered on others. These keep some free for that.
	wholes, lookups chan struct{}

	mu    sync.Mutex
	types map[uint32]pgType
}

// server is the connections to one of them.
type server struct {
	pool    *pgxpool.Pool
	timeout time.Duration           // of a statement
	origin  *atomic.Pointer[origin] // who the server must be; nil in it: anybody
	// accepts is asked before each query where the server stands; nil: anywhere.
	accepts func(place) error
}

// place is where a server stands: what was committed before lsn is visible.
type place struct {
	lsn     viewlet.LSN
	standby bool              // it replays another's WAL
	sees    *viewlet.Snapshot // nil: it was not asked, or replays
}

// Connect opens a pool and makes sure that the server answers.
func Connect(ctx context.Context, cfg Config) (*Database, error) {
	cfg = cfg.resolved()
	primary, err := newServer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := primary.pool.Ping(ctx); err != nil {
		primary.pool.Close()
		return nil, fmt.Errorf("open Postgres: %w", err)
	}
	few := max(1, cfg.Connections/4)
	return &Database{
		server:  primary,
		wholes:  make(chan struct{}, few),
		lookups: make(chan struct{}, few),
		types:   map[uint32]pgType{},
	}, nil
}

// resolved puts in the defaults.
func (cfg Config) resolved() Config {
	cfg.StatementTimeout = cmp.Or(cfg.StatementTimeout, 30*time.Second)
	cfg.Connections = max(cmp.Or(cfg.Connections, 8), 3)
	return cfg
}

// newServer makes a pool that has no connection yet.
func newServer(ctx context.Context, cfg Config) (server, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return server{}, fmt.Errorf("read the Postgres URL: %w", err)
	}
	params := pc.ConnConfig.RuntimeParams
	delete(params, "replication")
	for name, value := range sessionSettings {
		params[name] = value
	}
	params["statement_timeout"] = milliseconds(cfg.StatementTimeout)
	// Whoever waits for a lock that a migration holds is not at fault: that
	// must be told from a query that takes too long.
	params["lock_timeout"] = milliseconds(cfg.StatementTimeout / 2)
	pc.MaxConns = int32(cfg.Connections)
	pc.ConnConfig.ConnectTimeout = cmp.Or(pc.ConnConfig.ConnectTimeout, 10*time.Second)
	pc.ConnConfig.DialFunc = (&net.Dialer{
		Timeout:         pc.ConnConfig.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6},
	}).DialContext
	pc.PingTimeout = pingTimeout // of a connection that was idle
	// Not at the start of the session: target_session_attrs=read-write in the
	// URL would take every server for a standby.
	from := &atomic.Pointer[origin]{}
	pc.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SET default_transaction_read_only = on"); err != nil {
			return err
		}
		return from.Load().check(ctx, conn)
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return server{}, fmt.Errorf("open Postgres: %w", err)
	}
	return server{pool: pool, timeout: cfg.StatementTimeout, origin: from}, nil
}

// pingTimeout is how long a connection may take to show that it is alive.
const pingTimeout = 3 * time.Second

// silence is how long a server is waited for that does not even end a
// statement that takes too long.
const silence = 10 * time.Second

// milliseconds writes a duration for a setting, where 0 would mean for ever.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// sessionSettings make a value's text form, and so keys and fragments,
// independent of what is set for the database or the role; and a statement
// take its snapshot when it starts, whatever ran before it.
var sessionSettings = map[string]string{
	"application_name":                    "cdc-viewlet",
	"default_transaction_isolation":       "read committed",
	"default_transaction_deferrable":      "off",
	"idle_in_transaction_session_timeout": "0",
	"client_encoding":                     "UTF8",
	"DateStyle":                           "ISO, YMD",
	"IntervalStyle":                       "postgres",
	"TimeZone":                            "UTC",
	"bytea_output":                        "hex",
	"extra_float_digits":                  "1",
	"standard_conforming_strings":         "on",
	"xmloption":                           "content",
	// A chunk's plan is read once: compiling it takes longer than running it.
	"jit":                   "off",
	"cursor_tuple_fraction": "1",
}

// Name is the database's name.
func (db *Database) Name() string { return db.pool.Config().ConnConfig.Database }

// Close ends all connections.
func (db *Database) Close() {
	db.pool.Close()
	if db.standby != nil {
		db.standby.pool.Close()
	}
}

// positionSQL reads a place: the WAL position that everything visible now is
// before. On a standby it is what has been replayed. What is not flushed does
// not count: a crash takes it back, and then LSNs come again.
const positionSQL = `SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
	ELSE pg_current_wal_flush_lsn() END, pg_is_in_recovery()`

const snapshotSQL = positionSQL + ", pg_current_snapshot()"

// parsePlace reads what either of them gives.
func parsePlace(row [][]byte) (at place, err error) {
	at.standby = string(row[1]) == "t"
	if at.lsn, err = viewlet.ParseLSN(string(row[0])); err != nil || len(row) < 3 || at.standby {
		return at, err
	}
	snap, err := viewlet.ParseSnapshot(string(row[2]))
	snap.LSN, at.sees = at.lsn, &snap
	return at, err
}

// place reads where the server stands.
func (s server) place(ctx context.Context) (at place, err error) {
	s.accepts = nil
	err = s.run(ctx, &statement{name: "position", sql: positionSQL}, nil, func(row [][]byte) (err error) {
		at, err = parsePlace(row)
		return err
	})
	if err != nil {
		return at, fmt.Errorf("read the WAL position: %w", err)
	}
	return at, nil
}

// Snapshot tells which transactions a query on the primary that starts now
// would see.
func (db *Database) Snapshot(ctx context.Context) (viewlet.Snapshot, error) {
	var snap viewlet.Snapshot
	err := db.run(ctx, &statement{name: "snapshot", sql: snapshotSQL}, nil, func(row [][]byte) (err error) {
		if snap, err = viewlet.ParseSnapshot(string(row[2])); err == nil {
			snap.LSN, err = viewlet.ParseLSN(string(row[0]))
		}
		return err
	})
	if err != nil {
		return snap, fmt.Errorf("read the snapshot: %w", err)
	}
	return snap, nil
}

// Visible gives a position of flushed WAL, on a standby of replayed WAL, that
// every commit which is visible now is before. One that does not wait for the
// disk is visible before its WAL is flushed, so that is waited for; but not where
// nothing moves for longer than such a commit takes: what is not flushed then is
// none, and may stay so while Postgres is idle.
//
// https://www.postgresql.org/docs/current/wal-async-commit.html
func (db *Database) Visible(ctx context.Context) (viewlet.LSN, error) {
	const look, more = 10 * time.Millisecond, 400 * time.Millisecond
	first, delay, err := db.written(ctx)
	for now, moved := first, time.Now(); err == nil; {
		if now.flushed >= first.inserted || time.Since(moved) > 3*delay+more {
			return now.flushed, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(look):
		}
		was := now
		if now, _, err = db.written(ctx); now != was {
			moved = time.Now()
		}
	}
	return 0, err
}

// writtenWAL is how far the WAL goes.
type writtenWAL struct{ flushed, inserted viewlet.LSN }

// written also gives the wal_writer_delay.
func (db *Database) written(ctx context.Context) (wal writtenWAL, delay time.Duration, err error) {
	err = db.run(ctx, &statement{name: "written", sql: writtenSQL}, nil, func(row [][]byte) error {
		ms, err := strconv.Atoi(string(row[2]))
		delay = time.Duration(ms) * time.Millisecond
		if err == nil {
			wal.flushed, err = viewlet.ParseLSN(string(row[0]))
		}
		if err == nil {
			wal.inserted, err = viewlet.ParseLSN(string(row[1]))
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("read the WAL's position: %w", err)
	}
	return wal, delay, err
}

const writtenSQL = `SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END,
	CASE WHEN pg_is_in_recovery() THEN '0/0' ELSE pg_current_wal_insert_lsn() END,
	setting FROM pg_settings WHERE name = 'wal_writer_delay'`

// Committing names the transactions whose commit may be in the WAL already, so
// that a slot made now does not deliver them, while no snapshot sees them yet.
// Most end while it looks, for up to two seconds; those that wait for a
// synchronous standby are what it returns.
//
// https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION
func (db *Database) Committing(ctx context.Context) ([]uint32, error) {
	const look, enough = 10 * time.Millisecond, 2 * time.Second
	running, err := db.sessions(ctx, "true")
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(enough); len(running) > 0 && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(look):
		}
		now, err := db.Snapshot(ctx)
		if err != nil {
			return nil, err
		}
		running = slices.DeleteFunc(running, now.Sees)
	}
	if len(running) == 0 {
		return nil, nil
	}
	waiting, err := db.sessions(ctx, waitsForStandby)
	return slices.DeleteFunc(waiting, func(xid uint32) bool { return !slices.Contains(running, xid) }), err
}

// waitsForStandby takes a session that it may not look into, for want of
// pg_read_all_stats, for one that waits where any could.
//
// https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
const waitsForStandby = `wait_event = 'SyncRep'
	OR query = '<insufficient privilege>' AND current_setting('synchronous_standby_names') <> ''`

// sessions gives the transaction ids of the sessions that have one, or that end
// one that was prepared, as far as the condition is true of them. The snapshot
// would not do: it does not list those that came after the last that ended.
//
// https://www.postgresql.org/docs/current/sql-commit-prepared.html
func (db *Database) sessions(ctx context.Context, condition string) ([]uint32, error) {
	ctx, done := db.bounded(ctx, db.timeout)
	defer done()
	rows, err := db.pool.Query(ctx, `SELECT xid::text::bigint FROM (
			SELECT backend_xid, wait_event, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL
			UNION ALL SELECT p.transaction, a.wait_event, a.query
			FROM pg_prepared_xacts p JOIN pg_stat_activity a ON a.backend_xid IS NULL AND a.state = 'active'
				AND a.query ~* '\mprepared\M' AND (strpos(a.query, p.gid) > 0 OR strpos(a.query, quote_literal(p.gid)) > 0)
		) s(xid, wait_event, query) WHERE `+condition)
	if err != nil {
		return nil, fmt.Errorf("read pg_stat_activity: %w", err)
	}
	xids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read pg_stat_activity: %w", err)
	}
	short := make([]uint32, len(xids))
	for i, xid := range xids {
		short[i] = uint32(xid)
	}
	return short, nil
}

// Unpublished names the transactions that began before the publication got the
// last of its tables. What they had written to that table by then is not in the
// stream, whenever they commit. For want of pg_read_all_stats it also names those
// that are prepared where one could wait for a synchronous standby: whether it
// does, Committing cannot tell then.
//
// https://www.postgresql.org/docs/current/logicaldecoding-explanation.html
func (db *Database) Unpublished(ctx context.Context, publication string) ([]uint32, error) {
	ctx, done := db.bounded(ctx, db.timeout)
	defer done()
	rows, err := db.pool.Query(ctx, `SELECT xid::text::bigint FROM (
			SELECT backend_xid, false FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL
			UNION ALL SELECT transaction, current_setting('synchronous_standby_names') <> '' AND NOT pg_has_role('pg_read_all_stats', 'USAGE')
			FROM pg_prepared_xacts WHERE database = current_database()
		) open(xid, hidden)
		WHERE hidden OR age(xid) > (SELECT min(age(r.xmin)) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1)`, publication)
	if err != nil {
		return nil, fmt.Errorf("read open transactions: %w", err)
	}
	xids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read open transactions: %w", err)
	}
	short := make([]uint32, len(xids))
	for i, xid := range xids {
		short[i] = uint32(xid)
	}
	return short, nil
}

// statement is a query that is prepared once on each connection.
type statement struct {
	name string // unique; another one whenever the SQL is compiled anew
	sql  string
}

var textFormat = []int16{0}

// run executes the statement and gives each row's values in Postgres's text
// form. They are good until the next row.
func (s server) run(ctx context.Context, st *statement, params [][]byte, each func([][]byte) error) error {
	return s.runAt(ctx, st, params, nil, each)
}

// runAt also reads where the server stands before the statement takes its
// snapshot, in the same round trip.
func (s server) runAt(ctx context.Context, st *statement, params [][]byte, at *place, each func([][]byte) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Release()
	ctx, done := s.bounded(ctx, s.timeout)
	defer done()
	began := time.Now()
	var found func(place) error
	if at != nil || s.accepts != nil {
		found = func(here place) error {
			if at != nil {
				*at = here
			}
			if s.accepts == nil {
				return nil
			}
			return s.accepts(here)
		}
	}
	err = pipelined(ctx, conn.Conn(), st, params, found, each)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == queryCanceled && time.Since(began) < s.timeout {
		return fmt.Errorf("somebody cancelled it: %v", err) // the world's fault, and so not a PgError any more
	}
	return err
}

// errSilent is of a server that says nothing at all any more.
var errSilent = errors.New("no word from the server")

// bounded is for what the server is to end by itself within the time. When it
// says nothing for longer than that, the other connections that are open lead
// nowhere either, and are given up too.
func (s server) bounded(ctx context.Context, most time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeoutCause(ctx, most+silence, errSilent)
	return ctx, func() {
		if errors.Is(context.Cause(ctx), errSilent) {
			s.pool.Reset()
		}
		cancel()
	}
}

// queryCanceled is what ends a statement that takes too long, or that somebody
// cancels.
const queryCanceled = "57014"

func pipelined(ctx context.Context, conn *pgx.Conn, st *statement, params [][]byte, at func(place) error, each func([][]byte) error) error {
	if _, err := conn.Prepare(ctx, st.name, st.sql); err != nil {
		return err
	}
	before := statement{name: "snapshot", sql: snapshotSQL}
	if at != nil {
		if _, err := conn.Prepare(ctx, before.name, before.sql); err != nil {
			return err
		}
	}
	pipe := conn.PgConn().StartPipeline(ctx)
	if at != nil {
		pipe.SendQueryPrepared(before.name, nil, nil, textFormat)
	}
	pipe.SendQueryPrepared(st.name, params, nil, textFormat)
	err := pipe.Sync()
	if err == nil && at != nil {
		err = readResult(pipe, func(row [][]byte) error {
			found, err := parsePlace(row)
			if err != nil {
				return err
			}
			return at(found)
		})
	}
	if err == nil {
		err = readResult(pipe, each)
	}
	if closing := pipe.Close(); err == nil {
		err = closing
	}
	return err
}

func readResult(pipe *pgconn.Pipeline, each func([][]byte) error) error {
	result, err := pipe.GetResults()
	if err != nil {
		return err
	}
	rr, ok := result.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("read a result: got %T", result)
	}
	for rr.NextRow() {
		if err == nil {
			err = each(rr.Values())
		}
	}
	if _, closing := rr.Close(); closing != nil {
		return closing
	}
	return err
}

// fault says whose fault an error is.
type fault int

const (
	faultOfWorld  fault = iota // retry
	faultOfData                // one key's; find out which
	faultOfQuery               // the query cannot work as it is
	faultOfSchema              // what was compiled is out of date; compile and retry
)

// dataError is a fault of one key's data that Postgres knows nothing of.
type dataError struct{ message string }

func (e *dataError) Error() string { return e.message }

// faultOf sorts errors by their SQLSTATE.
//
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func faultOf(err error) fault {
	var data *dataError
	if errors.As(err, &data) {
		return faultOfData
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return faultOfWorld
	}
	switch pg.Code {
	case "26000": // the prepared statement is gone
		return faultOfWorld
	case queryCanceled, "54001", "53400": // statement_timeout, statement too complex, temp_file_limit
		return faultOfData
	case "0A000":
		if pg.Routine == "RevalidateCachedQuery" {
			return faultOfSchema
		}
		return faultOfQuery
	case "25006", "55000": // the query writes, or reads a materialized view that is not populated
		return faultOfQuery
	case "XX000": // Postgres did not expect it, as when a plan's type is dropped
		return faultOfQuery
	}
	switch pg.Code[:2] {
	case "42", "3F", "0L", "0P", "2B", "39", "44": // names, types, privileges
		return faultOfQuery
	case "21", "22", "23", "2F", "38", "P0", "XX", "10", "34", "54":
		return faultOfData
	}
	return faultOfWorld
}

// denied reports whether Postgres refuses a query that it compiled, whatever
// the key: it looks at privileges, and at what is written, only when it runs.
func denied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "25006" || pg.Code == "55000")
}

// inFunction reports whether the error came up in a function's body, which
// Postgres does not compile with the query.
func inFunction(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Where != ""
}
