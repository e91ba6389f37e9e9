package derive

import (
	"strings"
	"testing"
)

func TestConstants(t *testing.T) {
	for _, c := range []struct {
		typ  string
		tree string // :constvalue
		want string // empty: it is not read
	}{
		{"25", "8 [ 32 0 0 0 105 116 39 115 ]", "'it''s'::text"},
		{"25", "4 [ 16 0 0 0 ]", "''::text"},
		{"25", "6 [ 24 0 0 0 -61 -74 ]", ""}, // not ASCII: in which encoding?
		{"25", "5 [ 20 0 0 0 92 ]", ""},      // a backslash
		{"25", "5 [ 0 0 0 5 97 ]", ""},       // of a big-endian server
		{"25", "2 [ 5 97 ]", ""},             // a short header
		{"25", "5 [ 24 0 0 0 97 ]", ""},      // another length than its own
		{"23", "4 [ 42 0 0 0 0 0 0 0 ]", "42"},
		{"23", "4 [ -3 -1 -1 -1 -1 -1 -1 -1 ]", "'-3'::integer"},
		{"23", "4 [ 0 0 0 0 0 0 0 42 ]", ""}, // of a big-endian server
		{"21", "2 [ 7 0 0 0 0 0 0 0 ]", "'7'::smallint"},
		{"16", "1 [ 1 0 0 0 0 0 0 0 ]", "true::boolean"},
		{"16", "1 [ 0 0 0 0 0 0 0 1 ]", ""},
		{"1186", "16 [ 0 0 0 0 0 0 0 0 1 0 0 0 -2 -1 -1 -1 ]", "'-2 mons 1 days 0 hours'::interval"},
		{"1186", "16 [ 64 66 15 0 0 0 0 0 0 0 0 0 0 0 0 0 ]", "'0 mons 0 days 1 secs'::interval"},
		{"1186", "16 [ 0 0 0 0 0 0 0 0 0 0 0 1 0 0 0 0 ]", ""},                    // a big-endian day
		{"1186", "16 [ 0 0 0 0 0 0 0 -128 0 0 0 -128 0 0 0 -128 ]", ""},           // -infinity
		{"1186", "16 [ -1 -1 -1 -1 -1 -1 -1 127 -1 -1 -1 127 -1 -1 -1 127 ]", ""}, // infinity
		{"1009", "40 [ -96 0 0 0 1 0 0 0 0 0 0 0 25 0 0 0 2 0 0 0 1 0 0 0 20 0 0 0 97 0 0 0 20 0 0 0 98 0 0 0 ]", "ARRAY['a'::text, 'b'::text]::text[]"},
		{"1009", "40 [ -96 0 0 0 1 0 0 0 24 0 0 0 25 0 0 0 2 0 0 0 1 0 0 0 20 0 0 0 97 0 0 0 20 0 0 0 98 0 0 0 ]", ""}, // with NULLs
		{"1009", "40 [ -96 0 0 0 1 0 0 0 0 0 0 0 25 0 0 0 3 0 0 0 1 0 0 0 20 0 0 0 97 0 0 0 20 0 0 0 98 0 0 0 ]", ""},  // cut off
		{"1700", "10 [ 40 0 0 0 0 -127 1 0 -120 19 ]", ""},
		{"25", "<>", ""},
	} {
		tree, err := ParseTree("{CONST :consttype " + c.typ + " :constisnull false :location 9 :constvalue " + c.tree + "}")
		if err != nil {
			t.Fatal(err)
		}
		s := speller{catalog: &Catalog{Types: map[uint32]string{
			boolType: "boolean", int2Type: "smallint", int4Type: "integer", textType: "text", intervalType: "interval", textArrayType: "text[]", numericType: "numeric",
		}}}
		typ := s.constant(tree.root.node)
		var sql strings.Builder
		for _, w := range s.words {
			sql.WriteString(w.text)
		}
		if got := sql.String(); got != c.want || (typ == 0) != (c.want == "") {
			t.Errorf("%s of type %s is %q, want %q", c.tree, c.typ, got, c.want)
		}
	}
}
