package render

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// ArgumentError is an argument that does not fit its param, as people may be
// told.
type ArgumentError struct{ message string }

func (e *ArgumentError) Error() string { return e.message }

// Canonical names a fragment by arguments as somebody wrote them: each must
// fit its param's type, and becomes what Postgres would write for it: 042
// becomes 42. An *ArgumentError says what does not fit.
func (r *Renderer) Canonical(ctx context.Context, name string, args []string) (viewlet.Key, error) {
	c, ok := r.viewlets[name]
	if !ok {
		return viewlet.Key{}, &ArgumentError{fmt.Sprintf("there is no viewlet %q", name)}
	}
	if len(args) != len(c.rules.Params) {
		return viewlet.Key{}, &ArgumentError{fmt.Sprintf("%s takes %d arguments, not %d", name, len(c.rules.Params), len(args))}
	}
	plan, err := r.plan(ctx, c)
	if err != nil {
		return viewlet.Key{}, brokenIfQuery(err)
	}
	written := make([]string, len(args))
	for i, p := range plan.query.params {
		if written[i], err = r.db.canonical(ctx, p, args[i]); err != nil {
			return viewlet.Key{}, err
		}
	}
	return viewlet.NewKey(name, written...), nil
}

// canonical is a value in the form that Postgres gives it. What can be told
// without asking is, so that nonsense costs no query.
func (db *Database) canonical(ctx context.Context, p param, arg string) (string, error) {
	unfit := func() error {
		return &ArgumentError{fmt.Sprintf("%s is of type %s, and %.80q does not fit it", p.name, p.typ, arg)}
	}
	if !utf8.ValidString(arg) || strings.IndexByte(arg, 0) >= 0 {
		return "", unfit()
	}
	if bits := intBits(p.oid); bits > 0 {
		n, err := strconv.ParseInt(arg, 10, bits)
		if err != nil {
			return "", unfit()
		}
		return strconv.FormatInt(n, 10), nil
	}
	if p.oid == pgtype.TextOID || p.oid == pgtype.VarcharOID || p.oid == unknownType {
		return arg, nil
	}
	text, err := db.cast(ctx, arg, p.oid)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && faultOf(err) != faultOfWorld {
		return "", unfit()
	}
	if err != nil {
		return "", fmt.Errorf("read argument %s: %w", p.name, err)
	}
	return text, nil
}

// cast gives a text as Postgres writes it once it is of that type.
func (db *Database) cast(ctx context.Context, text string, oid uint32) (cast string, err error) {
	err = db.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		ctx, done := db.bounded(ctx, db.timeout)
		defer done()
		result := conn.Conn().PgConn().ExecParams(ctx, "SELECT $1", [][]byte{[]byte(text)}, []uint32{oid}, nil, textFormat).Read()
		if result.Err == nil {
			cast = string(result.Rows[0][0])
		}
		return result.Err
	})
	return cast, err
}

func intBits(oid uint32) int {
	switch oid {
	case pgtype.Int2OID:
		return 16
	case pgtype.Int4OID:
		return 32
	case pgtype.Int8OID:
		return 64
	}
	return 0
}

// Storable reports whether equal arguments of the viewlet's params always have
// one text form. Where they have not, as 1.5 and 1.50 of numeric, a fragment
// that a reader asked for may be one that no change would name, and so must
// not be kept.
func (r *Renderer) Storable(name string) bool {
	c, ok := r.viewlets[name]
	if !ok {
		return false
	}
	c.mu.Lock()
	plan := c.ready
	c.mu.Unlock()
	if plan == nil {
		return false
	}
	for _, p := range plan.query.params {
		if !oneForm(r.db.typeOf(p.oid)) {
			return false
		}
	}
	return true
}

func oneForm(t pgType) bool {
	switch t.base {
	case pgtype.BoolOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID,
		pgtype.TextOID, pgtype.VarcharOID, pgtype.NameOID, pgtype.UUIDOID, pgtype.ByteaOID,
		pgtype.DateOID, pgtype.TimestampOID, pgtype.TimestamptzOID, unknownType:
		return true
	}
	return t.category == 'E' // an enum
}
