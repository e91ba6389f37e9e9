package derive

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// constant writes a constant, which a tree has as the bytes that Postgres has
// in memory.
func (s *speller) constant(e *node) uint32 {
	typ := e.oid("consttype")
	sql, ok := literal(typ, e.get("constvalue").datum())
	if e.flag("constisnull") || !ok {
		return s.refuse("has a constant of type %s that is not read", s.catalog.Types[typ])
	}
	s.text(sql)
	if typ == int4Type && sql[0] != '\'' {
		return typ
	}
	return s.cast(typ, true)
}

// datum gives the bytes of a constant's value; nil: it has none.
func (v value) datum() []byte {
	if len(v.items) < 2 || v.kind != isWord {
		return nil
	}
	all := make([]byte, 0, len(v.items))
	for _, item := range v.items[1 : len(v.items)-1] { // between brackets
		b, err := strconv.ParseInt(item.word, 10, 16)
		if err != nil || b < -128 || b > 255 {
			return nil
		}
		all = append(all, byte(b))
	}
	return all
}

// literal writes a value of one of the types that stand in expressions. The
// bytes are those of a little-endian server; with those of another one it is
// not ok.
func literal(typ uint32, datum []byte) (sql string, ok bool) {
	switch {
	case typ == textType || typ == varcharType || typ == bpcharType:
		return quoteText(unwrapped(datum))
	case typ == boolType && len(datum) == 8 && byValue(datum, 1):
		return strconv.FormatBool(datum[0] == 1), datum[0] <= 1
	case (typ == int4Type || typ == int2Type) && len(datum) == 8 && byValue(datum, 4):
		n := int32(binary.LittleEndian.Uint32(datum))
		if typ == int4Type && n >= 0 {
			return strconv.Itoa(int(n)), true
		}
		return fmt.Sprintf("'%d'", n), true // a minus binds less than a cast
	case typ == intervalType && len(datum) == 16:
		return interval(datum)
	case typ == textArrayType:
		return textArray(datum)
	}
	return "", false
}

// byValue reports whether what is behind the value's own bytes only carries its
// sign on.
func byValue(datum []byte, size int) bool {
	sign := byte(0)
	if datum[size-1] >= 0x80 {
		sign = 0xff
	}
	for _, b := range datum[size:] {
		if b != sign {
			return false
		}
	}
	return true
}

// unwrapped gives what is behind the length of a value of no fixed one; nil: it
// is not written so.
//
// https://www.postgresql.org/docs/current/storage-toast.html
func unwrapped(datum []byte) []byte {
	if len(datum) < varhdrsz || binary.LittleEndian.Uint32(datum) != uint32(len(datum))<<2 {
		return nil
	}
	return datum[varhdrsz:]
}

// quoteText writes a text. In which encoding others than those of ASCII are, a
// tree does not tell.
func quoteText(text []byte) (sql string, ok bool) {
	for _, b := range text {
		if b < ' ' || b > '~' || b == '\\' {
			return "", false
		}
	}
	return "'" + strings.ReplaceAll(string(text), "'", "''") + "'", text != nil
}

// interval reads microseconds, days and months.
func interval(datum []byte) (sql string, ok bool) {
	micros := int64(binary.LittleEndian.Uint64(datum))
	days, months := int32(binary.LittleEndian.Uint32(datum[8:])), int32(binary.LittleEndian.Uint32(datum[12:]))
	const century = 100 * 366
	if beyond(micros, century*86_400_000_000) || beyond(int64(days), century) || beyond(int64(months), 1200) {
		return "", false // infinite, or of a server that has its bytes in another order, it seems
	}
	switch {
	case micros%3_600_000_000 == 0:
		return fmt.Sprintf("'%d mons %d days %d hours'", months, days, micros/3_600_000_000), true
	case micros%1_000_000 == 0:
		return fmt.Sprintf("'%d mons %d days %d secs'", months, days, micros/1_000_000), true
	}
	return fmt.Sprintf("'%d mons %d days %d microseconds'", months, days, micros), true
}

func beyond(n, limit int64) bool { return n > limit || n < -limit }

// textArray reads an array of texts in one dimension and without NULLs.
func textArray(datum []byte) (sql string, ok bool) {
	const header = 20 // dimensions, where the NULLs are, the type; of the dimension how many, and the first
	array := unwrapped(datum)
	if len(array) < header {
		return "", false
	}
	field := func(i int) uint32 { return binary.LittleEndian.Uint32(array[4*i:]) }
	if field(0) != 1 || field(1) != 0 || field(2) != textType || field(4) != 1 {
		return "", false
	}
	var elements []string
	rest := array[header:]
	for range field(3) {
		if len(rest) < varhdrsz {
			return "", false
		}
		size := int(binary.LittleEndian.Uint32(rest) >> 2)
		if size < varhdrsz || size > len(rest) {
			return "", false
		}
		element, ok := quoteText(unwrapped(rest[:size]))
		if !ok {
			return "", false
		}
		elements = append(elements, element+"::text")
		rest = rest[min(len(rest), (size+3)&^3):]
	}
	return "ARRAY[" + strings.Join(elements, ", ") + "]", len(elements) > 0
}
