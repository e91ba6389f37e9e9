package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// insufficientPrivilege is the SQLSTATE of a role that lacks a right.
const insufficientPrivilege = "42501"

// withRemedy is an error with what helps against it, where that is known.
func withRemedy(err error) string {
	if r := remedy(err); r != "" {
		return err.Error() + "; " + r
	}
	return err.Error()
}

// remedy says what to do about an error of Postgres, or of the way to it: a
// sentence without its full stop; empty where nobody knows. Redis's errors have
// theirs already.
func remedy(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return serverRemedy(pg)
	}
	var connecting *pgconn.ConnectError
	if !errors.As(err, &connecting) {
		return ""
	}
	var dns *net.DNSError
	var slow net.Error
	switch {
	case errors.As(err, &dns):
		return "correct the host in the Postgres URL"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start Postgres there, or correct the host and the port in the Postgres URL"
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket: start Postgres, or write its host in the Postgres URL: postgres://user:password@host/database"
	case errors.Is(err, fs.ErrPermission):
		return "let this user reach the socket: unix_socket_permissions in postgresql.conf"
	case strings.Contains(err.Error(), "server refused TLS"):
		return "switch TLS on in Postgres (ssl = on), or write ?sslmode=disable behind the Postgres URL"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return "see whether that is a Postgres, whether it is up, and whether a firewall stands before it"
	}
	return ""
}

// serverRemedy is for what the server says.
//
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func serverRemedy(err *pgconn.PgError) string {
	switch err.Code {
	case "28P01", "28000":
		switch {
		case strings.Contains(err.Message, "pg_hba.conf"):
			return "let it in with a line in pg_hba.conf, then SELECT pg_reload_conf();"
		case strings.Contains(err.Message, "not permitted to log in"):
			return "let it: ALTER ROLE ROLE LOGIN;"
		}
		return "correct the user or the password in the Postgres URL; special characters are percent-encoded there"
	case "3D000":
		return "correct the database in the Postgres URL, postgres://user:password@host/database, or create it with CREATE DATABASE"
	case insufficientPrivilege:
		if sql := grant(err.Message, "ROLE"); sql != "" {
			return "let the role of the Postgres URL do it: " + sql
		}
	case "53300":
		if strings.Contains(err.Message, " for role ") || strings.Contains(err.Message, " for database ") {
			return "raise its CONNECTION LIMIT with ALTER ROLE or ALTER DATABASE, or lower --connections"
		}
		return "raise max_connections in postgresql.conf, or lower --connections"
	case "57014":
		return "make the query faster, or raise --statement-timeout"
	case "57P03":
		return "wait until it is up"
	}
	return ""
}

var denied = regexp.MustCompile(`^permission denied for (table|view|materialized view|foreign table|sequence|schema|function) (\S+)$`)

// grant is the SQL against a "permission denied for table products"; empty for
// other messages.
func grant(message, role string) string {
	m := denied.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	switch kind, name := m[1], m[2]; kind {
	case "schema":
		return fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", name, role)
	case "function":
		return fmt.Sprintf("GRANT EXECUTE ON FUNCTION %s TO %s;", name, role)
	default:
		return fmt.Sprintf("GRANT SELECT ON %s TO %s;", name, role)
	}
}
