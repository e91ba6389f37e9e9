package main

import "encoding/binary"

// rowCounter takes what COPY ... (FORMAT binary) writes of an lsn and a bytea:
// it counts the row changes among pgoutput's messages, and keeps the position
// behind the last commit.
//
// https://www.postgresql.org/docs/current/sql-copy.html
type rowCounter struct {
	rest   []byte
	header bool // has been read
	rows   int
	last   uint64
}

func (c *rowCounter) Write(p []byte) (int, error) {
	c.rest = append(c.rest, p...)
	rest := c.rest
	const header = 11 + 4 + 4
	if !c.header && len(rest) >= header {
		rest, c.header = rest[header:], true
	}
	for c.header {
		size, ok := c.tuple(rest)
		if !ok {
			break
		}
		rest = rest[size:]
	}
	c.rest = append(c.rest[:0], rest...)
	return len(p), nil
}

// tuple takes one row of the COPY, and gives how long it was.
func (c *rowCounter) tuple(rest []byte) (size int, ok bool) {
	const head = 2 + 4 + 8 + 4 // the number of fields, the lsn, and the length of the data
	if len(rest) < head {
		return 0, false
	}
	end := head + int(binary.BigEndian.Uint32(rest[head-4:]))
	if len(rest) < end {
		return 0, false
	}
	switch data := rest[head:end]; data[0] {
	case 'I', 'U', 'D':
		c.rows++
	case 'C':
		c.last = binary.BigEndian.Uint64(data[10:])
	}
	return end, true
}
