package replication

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// connectTimeout holds where the URL has no connect_timeout: a host that
	// swallows packets is otherwise given up after two minutes.
	connectTimeout = 15 * time.Second
	// closeTimeout is how long a connection may take to say goodbye.
	closeTimeout = 3 * time.Second
	// applicationName is what pg_stat_replication shows, unless the URL has
	// its own application_name.
	applicationName = "cdc-viewlet"
)

// sessionSettings makes the text form of a value depend on nothing but the
// value, and lets no role's or database's timeout end what may well take long.
// They are given at the start of the connection, which stands above ALTER ROLE
// and ALTER DATABASE.
//
// https://www.postgresql.org/docs/current/runtime-config-client.html#RUNTIME-CONFIG-CLIENT-FORMAT
func sessionSettings() map[string]string {
	return map[string]string{
		"client_encoding":    "UTF8",
		"DateStyle":          "ISO, MDY",
		"TimeZone":           "UTC",
		"IntervalStyle":      "postgres",
		"bytea_output":       "hex",
		"extra_float_digits": "1",
		"lock_timeout":       "0",
		"statement_timeout":  "0",
	}
}

// Connect opens an ordinary connection to the server, for Tables. The caller
// closes it.
func Connect(ctx context.Context, cfg Config) (*pgconn.PgConn, error) {
	config, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	return connect(ctx, config)
}

// walsender is a replication connection. Until it streams it takes SQL too, by
// the simple protocol.
//
// https://www.postgresql.org/docs/current/protocol-replication.html
type walsender struct {
	*pgconn.PgConn
	wire *wire   // what PgConn reads from, below TLS
	in   *frames // what it reads through, above
	id   pglogrepl.IdentifySystemResult
}

// connectReplication opens a replication connection, and asks the server who it
// is. A refusal that has a cure is a Problem.
func connectReplication(ctx context.Context, cfg Config) (*walsender, error) {
	config, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	for name, value := range sessionSettings() {
		dropSetting(config.RuntimeParams, name)
		config.RuntimeParams[name] = value
	}
	config.RuntimeParams["replication"] = "database"
	w := &walsender{}
	dial := dialer(config)
	dial.Control = limitSegments
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newWire(conn), nil // pgconn also dials to cancel what it gave up
	}
	config.BuildFrontend = func(r io.Reader, wr io.Writer) *pgproto3.Frontend {
		w.in = newFrames(r)
		return pgproto3.NewFrontend(w.in, wr)
	}
	if w.PgConn, err = connect(ctx, config); err != nil {
		return nil, refused(err, config.User)
	}
	w.wire = wireOf(w.Conn())
	if w.id, err = pglogrepl.IdentifySystem(ctx, w.PgConn); err != nil {
		hangUp(ctx, w.PgConn)
		return nil, refused(fmt.Errorf("identify system: %w", err), config.User)
	}
	return w, nil
}

// refused makes a Problem of a refusal to stream that has a cure.
func refused(err error, user string) error {
	switch sqlState(err) {
	case insufficientPrivilege:
		return lacksReplication(user, message(err))
	case tooManyConnections:
		if strings.Contains(message(err), "max_wal_senders") {
			return Problem{
				"no walsender is free: " + message(err),
				"ALTER SYSTEM SET max_wal_senders to more, then restart Postgres; or stop a replica that nobody needs",
			}
		}
	case protocolViolation, syntaxError:
		// A pooler of the first kind refuses the parameter replication, one of
		// the second ignores it, and an ordinary session takes IDENTIFY_SYSTEM
		// for bad SQL.
		return Problem{
			"a connection pooler answers, not Postgres itself: " + message(err),
			"connect directly: in the URL, write the host and port of the Postgres server",
		}
	}
	return err
}

func lacksReplication(user, said string) Problem {
	return Problem{
		fmt.Sprintf("the role %q may not stream: %s", user, said),
		fmt.Sprintf("ALTER ROLE %[1]s REPLICATION; (on Amazon RDS: GRANT rds_replication TO %[1]s;)", quoteIdent(user)),
	}
}

// parse reads the URL. Its error shows nothing that may be a password.
func parse(url string) (*pgconn.Config, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = applicationName
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	config.DialFunc = dialer(config).DialContext
	return config, nil
}

func dialer(config *pgconn.Config) *net.Dialer {
	return &net.Dialer{
		Timeout:         config.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6},
	}
}

// dropSetting removes a setting that the URL may spell otherwise: names of
// settings are case-insensitive, and a map gives them in any order.
func dropSetting(params map[string]string, name string) {
	for p := range params {
		if strings.EqualFold(p, name) {
			delete(params, p)
		}
	}
}

func connect(ctx context.Context, config *pgconn.Config) (*pgconn.PgConn, error) {
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", &connectError{err})
	}
	return conn, nil
}

// connectError says in one line what pgconn says in one for each address, each
// with and without TLS. That a server has no TLS is left out where it was then
// asked without.
type connectError struct{ error }

func (e *connectError) Unwrap() error { return e.error }

func (e *connectError) Error() string {
	head, rest, many := strings.Cut(e.error.Error(), "\n\t")
	if !many {
		return head
	}
	var lines []string
	for line := range strings.SplitSeq(rest, "\n\t") {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	said := slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		address, refused := strings.CutSuffix(line, "tls error: server refused TLS connection")
		again := func(other string) bool { return other != line && strings.HasPrefix(other, address) }
		return refused && slices.ContainsFunc(lines, again)
	})
	return head + " " + strings.Join(said, "; ")
}

// hangUp closes a connection, whether ctx has ended or not.
func hangUp(ctx context.Context, conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // what it can report is that the connection is gone
}
