package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"
)

// The probes ask on the Unix socket, where no other server can answer.

const probeWait = 5 * time.Second // for one answer

func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(probeWait)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// probe sends a startup message and reads the type of the answer: an
// authentication request from a server that is ready, or an error, which is
// 57P03 (cannot_connect_now) while it starts or recovers.
//
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
func (p *Postgres) probe(ctx context.Context) error {
	conn, err := dialSocket(ctx, filepath.Join(p.dir, fmt.Sprintf(".s.PGSQL.%d", p.port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(startupMessage("user", "postgres", "database", "postgres")); err != nil {
		return err
	}
	var head [5]byte // type, and a length that counts itself
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	switch length := binary.BigEndian.Uint32(head[1:]); {
	case head[0] == 'R':
		_, err := conn.Write([]byte{'X', 0, 0, 0, 4}) // Terminate
		return err
	case head[0] == 'E' && length >= 4 && length < 1<<16:
		fields := make([]byte, length-4)
		if _, err := io.ReadFull(conn, fields); err != nil {
			return err
		}
		return postgresError(fields)
	}
	return fatal{fmt.Errorf("it answers a startup message with %q", head)}
}

func startupMessage(params ...string) []byte {
	msg := binary.BigEndian.AppendUint32(make([]byte, 4), 3<<16) // protocol 3.0
	for _, p := range params {
		msg = append(append(msg, p...), 0)
	}
	msg = append(msg, 0)
	binary.BigEndian.PutUint32(msg, uint32(len(msg)))
	return msg
}

// postgresError reads the fields of an ErrorResponse.
//
// https://www.postgresql.org/docs/current/protocol-error-fields.html
func postgresError(fields []byte) error {
	var code, message string
	for field := range bytes.SplitSeq(fields, []byte{0}) {
		switch {
		case len(field) > 0 && field[0] == 'C':
			code = string(field[1:])
		case len(field) > 0 && field[0] == 'M':
			message = string(field[1:])
		}
	}
	err := fmt.Errorf("it answers: %s (SQLSTATE %s)", message, code)
	if code == "57P03" {
		return err
	}
	return fatal{err}
}

// probe sends a PING. A server that loads its data answers, but not with PONG;
// one that was configured to ask for another password is ready all the same.
func (r *Redis) probe(ctx context.Context) error {
	conn, err := dialSocket(ctx, r.socket())
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nPING\r\n", r.password); err != nil {
		return err
	}
	replies := bufio.NewReader(conn)
	if _, err := replies.ReadString('\n'); err != nil { // to AUTH
		return err
	}
	reply, err := replies.ReadString('\n')
	if err != nil {
		return err
	}
	if strings.HasPrefix(reply, "+PONG") || strings.HasPrefix(reply, "-NOAUTH") {
		return nil
	}
	return fmt.Errorf("it answers a PING with %q", strings.TrimSpace(reply))
}
