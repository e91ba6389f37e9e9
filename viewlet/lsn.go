package viewlet

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in Postgres's write-ahead log, in bytes since its start.
// Zero is Postgres's InvalidXLogRecPtr: no position.
//
// https://www.postgresql.org/docs/current/datatype-pg-lsn.html
type LSN uint64

// String gives Postgres's own form of a pg_lsn, such as 16/B374D848.
func (l LSN) String() string { return string(l.Append(nil)) }

// Append appends what String gives.
func (l LSN) Append(dst []byte) []byte {
	return appendHex(append(appendHex(dst, uint32(l>>32)), '/'), uint32(l))
}

func appendHex(dst []byte, n uint32) []byte {
	const hex = "0123456789ABCDEF"
	for shift := 28; shift > 0; shift -= 4 {
		if n>>shift != 0 {
			dst = append(dst, hex[n>>shift&15])
		}
	}
	return append(dst, hex[n&15])
}

// ParseLSN reads Postgres's text form of a pg_lsn.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, errHi := strconv.ParseUint(hi, 16, 32)
	l, errLo := strconv.ParseUint(lo, 16, 32)
	if !ok || errHi != nil || errLo != nil {
		return 0, fmt.Errorf("parse LSN %q: not of the form 16/B374D848", s)
	}
	return LSN(h<<32 | l), nil
}

// MarshalText gives what String gives, for JSON and logs.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what ParseLSN reads.
func (l *LSN) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLSN(string(text))
	return err
}
