package replication

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs that something is done about.
//
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	protocolViolation     = "08P01"
	uniqueViolation       = "23505"
	insufficientPrivilege = "42501"
	syntaxError           = "42601"
	undefinedObject       = "42704"
	duplicateObject       = "42710"
	tooManyConnections    = "53300"
	objectInUse           = "55006"
	lockNotAvailable      = "55P03"
)

// sqlState is the SQLSTATE of an error of the server; else empty.
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

func isTimeout(err error) bool {
	if err == nil {
		return false // at no cost: every read asks
	}
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// row is one row of a result in text form. A NULL is nil, and reads as zero.
type row [][]byte

func (r row) null(i int) bool       { return r[i] == nil }
func (r row) string(i int) string   { return string(r[i]) }
func (r row) bool(i int) bool       { return string(r[i]) == "t" }
func (r row) byte(i int) byte       { return (string(r[i]) + "\x00")[0] }
func (r row) int(i int) int64       { n, _ := strconv.ParseInt(string(r[i]), 10, 64); return n }
func (r row) oid(i int) uint32      { return uint32(r.int(i)) }
func (r row) lsn(i int) viewlet.LSN { l, _ := viewlet.ParseLSN(string(r[i])); return l }

// oids reads OIDs with spaces between them.
func (r row) oids(i int) []uint32 {
	var list []uint32
	for _, oid := range strings.Fields(r.string(i)) {
		list = append(list, row{[]byte(oid)}.oid(0))
	}
	return list
}

// query gives the rows of the last of the statements. It uses the simple
// protocol, the only one that a replication connection speaks.
//
// https://www.postgresql.org/docs/current/protocol-replication.html
func query(ctx context.Context, conn *pgconn.PgConn, sql string) ([]row, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows []row
	if len(results) > 0 {
		for _, r := range results[len(results)-1].Rows {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// queryRow gives the one row that the statement makes.
func queryRow(ctx context.Context, conn *pgconn.PgConn, sql string) (row, error) {
	rows, err := query(ctx, conn, sql)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, errors.New("the server answered with " + strconv.Itoa(len(rows)) + " rows instead of 1")
	}
	return rows[0], nil
}

// quoteIdent quotes an identifier, always: what is quoted is never a keyword.
func quoteIdent(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// quoteLiteral quotes a string, whatever standard_conforming_strings is.
func quoteLiteral(s string) string {
	s = strings.ReplaceAll(s, `'`, `''`)
	if strings.Contains(s, `\`) {
		return ` E'` + strings.ReplaceAll(s, `\`, `\\`) + `'`
	}
	return `'` + s + `'`
}

// message is what the server said, without its SQLSTATE.
func message(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Message
	}
	return err.Error()
}

// serverVersion is the server's major version; 0 when it says none.
func serverVersion(conn *pgconn.PgConn) int {
	return majorVersion(conn.ParameterStatus("server_version"))
}

// majorVersion reads 15.13 (Debian 15.13-0+deb12u1), or 19beta1.
func majorVersion(s string) int {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	major, _ := strconv.Atoi(s[:digits])
	return major
}
