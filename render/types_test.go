package render

import (
	"fmt"
	"html"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// paramTypes are the types of a column that a fragment may be named by, and
// values of them.
var paramTypes = []struct {
	typ    string
	values []string
}{
	{"int2", []string{"-32768", "0", "7", "32767"}},
	{"int4", []string{"-2147483648", "0", "42", "2147483647"}},
	{"int8", []string{"-9223372036854775808", "9223372036854775807", "1"}},
	{"numeric", []string{"1.50", "0.000000000000000000001", "NaN", "Infinity", "-123456789012345678901234567890.5"}},
	{"numeric(10,2)", []string{"1.50", "0.00", "-3.10"}},
	{"float4", []string{"0.1", "1e+20", "-Infinity"}},
	{"float8", []string{"0.1", "1e-300", "NaN", "1500000"}},
	{"text", []string{"", "NULL", "null", "it's", `back\slash\\`, `"quoted"`, "{a,b}", "a,b", " lead and trail ", "new\nline\r\t", "🌳 träd", "a:b%41", `\x00`, `{"j":1}`, "()[];--/*"}},
	{"varchar", []string{"", "å", "x y"}},
	{"varchar(12)", []string{"", "twelve chars"}},
	{"char(5)", []string{"ab   ", "abcde", "     "}},
	{`"char"`, []string{"a", "Z", `\`}},
	{"name", []string{"pg_class", "Odd Name"}},
	{"uuid", []string{"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "00000000-0000-0000-0000-000000000000"}},
	{"bool", []string{"t", "f"}},
	{"date", []string{"2024-02-29", "infinity", "-infinity", "0044-03-15 BC", "12024-01-01"}},
	{"time", []string{"00:00:00", "24:00:00", "12:34:56.789"}},
	{"timestamp", []string{"2024-02-29 12:00:00", "2024-02-29 12:00:00.123456", "infinity"}},
	{"timestamptz", []string{"2024-02-29 12:00:00+00", "1900-01-01 00:00:00.5+00", "-infinity"}},
	{"interval", []string{"1 year 2 mons 3 days 04:05:06", "-00:00:01"}},
	{"mood", []string{"happy", "so so", "it's, \"odd\""}},
	{"positive", []string{"1", "99"}},
	{"code", []string{"AB", "z'z"}},
	{"code_of_code", []string{"AB"}},
	{"bytea", []string{`\x`, `\x00ff5c22`, `\xdeadbeef`}},
	{"inet", []string{"10.0.0.1", "2001:db8::/32"}},
	{"money", []string{"$1,234.50", "-$0.10"}},
	{"bit(3)", []string{"101", "000"}},
	{"varbit", []string{"101101", "0"}},
	{"jsonb", []string{`{"a": [1, 2.50]}`, `"x\"y"`, "null"}},
	{"int4range", []string{"[1,5)", "empty"}},
	{`"Odd Type"`, []string{"x,y"}},
	{"shop.size", []string{"S", "X L"}},
	{"oid", []string{"4294967295", "1"}},
	{"pg_lsn", []string{"16/B374D848"}},
	{"citext", []string{"Ab"}},
}

// TestParamTypes names rows by values of each type, in the text form in which
// the WAL gives them, all in one chunk with some that are not there.
func TestParamTypes(t *testing.T) {
	s := newSite(t, `CREATE TYPE mood AS ENUM ('happy', 'so so', 'it''s, "odd"');
		CREATE DOMAIN positive AS int CHECK (VALUE > 0);
		CREATE DOMAIN code AS text CHECK (length(VALUE) < 10);
		CREATE DOMAIN code_of_code AS code;
		CREATE TYPE "Odd Type" AS ENUM ('x,y');
		CREATE SCHEMA shop; CREATE TYPE shop.size AS ENUM ('S', 'X L');
		CREATE EXTENSION citext`)
	var hcl strings.Builder
	for i, c := range paramTypes {
		s.exec(fmt.Sprintf("CREATE TABLE typed%d (k %s, n int)", i, c.typ))
		for n, v := range c.values {
			s.exec(fmt.Sprintf("INSERT INTO typed%d VALUES ('%s', %d)", i, strings.ReplaceAll(v, "'", "''"), n))
		}
		// A cast fixes the type itself, which else is that of the operator.
		for kind, where := range map[string]string{"plain": "k = @k", "cast": "k = @k::" + c.typ} {
			fmt.Fprintf(&hcl, "viewlet \"v%d_%s\" {\n params = [\"k\"]\n query = <<SQL\nSELECT n, format('%%s', k) AS text FROM typed%d WHERE %s\nSQL\n body = \"{{.n}} {{len .text}}\"\n}\n", i, kind, i, where)
		}
	}
	s.loadSound(hcl.String())
	for i, c := range paramTypes {
		for _, kind := range []string{"plain", "cast"} {
			t.Run(c.typ+"/"+kind, func(t *testing.T) {
				name := fmt.Sprintf("v%d_%s", i, kind)
				var keys []viewlet.Key
				for _, v := range slices.Concat(c.values, []string{c.values[0]}) {
					keys = append(keys, viewlet.NewKey(name, v))
				}
				for j, f := range s.render(name, keys...) {
					v := c.values[j%len(c.values)]
					if want := fmt.Sprintf("%d %d", j%len(c.values), len(v)); string(f.Body) != want || f.Err != nil {
						t.Errorf("%q: got %q, %v; want %q", v, f.Body, f.Err, want)
					}
				}
			})
		}
	}
}

// TestColumnTypes: what a template makes of a column of each type.
func TestColumnTypes(t *testing.T) {
	s := newSite(t, `CREATE TYPE mood AS ENUM ('happy', 'so so'); CREATE TYPE pair AS (a int, b text);
		CREATE DOMAIN tags AS text[]; CREATE DOMAIN doc AS jsonb`)
	for i, c := range []struct{ expr, template, want string }{
		{"NULL::text", "[{{.v}}]", "[]"},
		{"NULL::int", "[{{.v}}]{{if .v}}yes{{else}}no{{end}}", "[]no"},
		{"NULL::jsonb", "[{{.v}}]", "[]"},
		{"'null'::jsonb", "[{{.v}}]", "[]"},
		{"NULL::int[]", "[{{range .v}}x{{end}}{{join `,` .v}}]", "[]"},
		{"true", "{{.v}}{{if .v}} yes{{end}}", "true yes"},
		{"false", "{{.v}}{{if not .v}} no{{end}}", "false no"},
		{"7::int2", "{{.v}} {{if eq .v 7}}seven{{end}} {{printf `%03d` .v}}", "7 seven 007"},
		{"9223372036854775807", "{{.v}}", "9223372036854775807"},
		{"1.50::numeric", "{{.v}} {{if gt (number .v) 1.4}}more{{end}} {{printf `%.3f` (number .v)}}", "1.50 more 1.500"},
		{"0.00::numeric", "{{.v}} {{if number .v}}some{{else}}none{{end}}", "0.00 none"},
		{"'NaN'::numeric", "{{.v}}", "NaN"},
		{"'-Infinity'::numeric", "{{.v}}", "-Infinity"},
		{"123456789012345678901234567890.12::numeric", "{{.v}}", "123456789012345678901234567890.12"},
		{"0.1::float4", "{{.v}} {{if lt .v 0.2}}less{{end}}", "0.1 less"},
		{"1500000::float8", "{{.v}} {{printf `%.1f` .v}} {{number .v}}", "1500000 1500000.0 1500000"},
		{"0::float8", "{{if .v}}some{{else}}none{{end}}", "none"},
		{"'Infinity'::float8", "{{.v}}", "Infinity"},
		{"1e20::float8", "{{.v}}", "1e+20"},
		{"ARRAY['NaN', '1.5']::numeric[]", "<script>f({{.v}})</script>", `<script>f(["NaN",1.5])</script>`},
		{"'NaN'::numeric", "<script>f({{.v}})</script>", `<script>f("NaN")</script>`},
		{"1.50::numeric", "<script>f({{.v}})</script>", `<script>f( 1.50 )</script>`},
		{"1234.5::numeric::money", "{{.v}}", "$1,234.50"},
		{"'1 day 02:00'::interval", "{{.v}}", "1 day 02:00:00"},
		{"timestamptz '2024-02-29 12:00+02'", "{{.v}} {{date `2 Jan 2006 15:04` .v}}", "2024-02-29 10:00:00+00 29 Feb 2024 10:00"},
		{"timestamp '2024-02-29 12:00:00.5'", "{{.v}} {{date `15:04:05.0` .v}}", "2024-02-29 12:00:00.5 12:00:00.5"},
		{"date '2024-02-29'", "{{.v}} {{date `Jan 2` .v}}", "2024-02-29 Feb 29"},
		{"time '14:30'", "{{date `15.04` .v}}", "14.30"},
		{"date 'infinity'", "{{date `2006` .v}}", "infinity"},
		{"NULL::date", "[{{date `2006` .v}}]", "[]"},
		{`'\x00ff'::bytea`, "{{.v}}", `\x00ff`},
		{"'<a>b</a>'::xml", "{{.v}}", "<a>b</a>"},
		{"to_tsvector('simple', 'b a b')", "{{.v}}", "'a':2 'b':1,3"},
		{"inet '10.1.2.3/8'", "{{.v}}", "10.1.2.3/8"},
		{"int4range(1, 5)", "{{.v}}", "[1,5)"},
		{"'happy'::mood", "{{.v}}", "happy"},
		{"'x'::char(3)", "[{{.v}}]", "[x  ]"},
		{"ARRAY['a','b c',NULL,'{\"}']", "{{len .v}} {{join `/` .v}} {{index .v 1}}", "4 a/b c//{\"} b c"},
		{"'{}'::text[]", "{{if .v}}some{{else}}none{{end}}", "none"},
		{"ARRAY[[1,2],[3,4]]", "{{range .v}}{{range .}}{{.}} {{if eq . 3}}three {{end}}{{end}}|{{end}}", "1 2 |3 three 4 |"},
		{"'[2:3]={5,6}'::int[]", "{{join ` ` .v}}", "5 6"},
		{"ARRAY['so so']::mood[]", "{{index .v 0}}", "so so"},
		{"ARRAY[1.50, NULL]::numeric[]", "{{index .v 0}}|{{index .v 1}}", "1.50|"},
		{"ARRAY[timestamptz '2024-02-29 12:00Z']", "{{date `2006-01-02 15:04` (index .v 0)}}", "2024-02-29 12:00"},
		{"ARRAY[date '2024-02-29']::date[]", "{{date `Jan` (index .v 0)}}", "Feb"},
		{"ARRAY['t','u']::tags", "{{join `,` .v}}", "t,u"},
		{"'{\"a\": 1}'::doc", "{{.v.a}}", "1"},
		{"ROW(3, 'three')::pair", "{{.v.a}} {{.v.b}}", "3 three"},
		{"ARRAY[ROW(3, 'three'), ROW(4, NULL)]::pair[]", "{{range .v}}{{.a}}{{.b}} {{end}}", "3three 4 "},
		{`'{"a": {"b": [1, {"c": "deep"}]}, "n": null, "t": true}'::json`, "{{(index .v.a.b 1).c}} [{{.v.n}}] {{.v.t}} [{{.v.missing}}]", "deep [] true []"},
		{`'{"count": 0, "few": 3, "big": 123456789012345678901234567890, "price": 1.50}'::jsonb`, "{{if .v.count}}some{{else}}none{{end}} {{if gt .v.few 2}}more{{end}} {{.v.big}} {{.v.price}}", "none more 123456789012345678901234567890 1.50"},
		{`'[]'::jsonb`, "{{range .v}}x{{else}}none{{end}}", "none"},
		{`'"just text"'::jsonb`, "{{.v}}", "just text"},
		{"row_to_json(ROW(1, 2))", "{{.v.f1}}{{.v.f2}}", "12"},
		{"point(1, 2)", "{{.v}}", "(1,2)"},
		{"'pg_class'::regclass", "{{.v}}", "pg_class"},
	} {
		name := fmt.Sprintf("v%d", i)
		s.loadSound(fmt.Sprintf("viewlet %q {\n params = [\"id\"]\n query = <<SQL\nSELECT %s AS v, @id::int AS id\nSQL\n body = <<T\n%s\nT\n}\n", name, c.expr, c.template))
		for j, f := range s.render(name, keysOf(name, "1", "2")...) {
			if got := html.UnescapeString(strings.TrimSuffix(string(f.Body), "\n")); got != c.want || f.Err != nil {
				t.Errorf("%s with %s, key %d: got %q, %v; want %q", c.expr, c.template, j, got, f.Err, c.want)
			}
		}
	}
}

func TestColumnNames(t *testing.T) {
	s := newSite(t, `CREATE TABLE wide (id int)`)
	var wide []string
	for i := range 200 {
		wide = append(wide, fmt.Sprintf("%d AS c%d", i, i))
	}
	s.loadSound(`
viewlet "unnamed" {
  params = ["id"]
  query  = "SELECT @id::int + 1"
  body   = "{{index . \"?column?\"}} of {{.id}}"
}
viewlet "shadow" {
  params = ["id"]
  query  = "SELECT @id::int * 10 AS id"
  body   = "{{.id}}"
}
viewlet "rows" {
  params = ["id"]
  query  = "SELECT 'own' AS rows, @id::int"
  body   = "{{.rows}}"
}
viewlet "odd" {
  params = ["id"]
  query  = "SELECT 1 AS \"a b\", 2 AS \"q\"\"q\", 3 AS \"Å\", ctid::text IS NOT NULL AS ctid FROM (SELECT @id::int, ctid FROM pg_class LIMIT 1) x"
  body   = "{{index . \"a b\"}}{{index . \"q\\\"q\"}}{{.Å}} {{.ctid}}"
}
viewlet "none" {
  params = ["id"]
  query  = "SELECT FROM generate_series(1, @id)"
  body   = "{{len .rows}} of {{.id}}"
}
viewlet "none_json" {
  params = ["id"]
  query  = "SELECT FROM generate_series(1, @id)"
  rows   = true
}
viewlet "wide" {
  params = ["id"]
  query  = "SELECT @id::int AS id, ` + strings.Join(wide, ", ") + `"
  body   = "{{.id}} {{.c0}} {{.c199}}"
}
viewlet "wide_json" {
  params = ["id"]
  query  = "SELECT @id::int AS id, ` + strings.Join(wide, ", ") + `"
}`)
	for name, want := range map[string]string{
		"unnamed": "3 of 2", "shadow": "20", "rows": "own", "odd": "123 true",
		"none": "2 of 2", "none_json": "[{},{}]", "wide": "2 0 199",
	} {
		if got := s.body(name, "2"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := s.body("wide_json", "2"); strings.Count(got, ":") != 201 || !strings.HasSuffix(got, `"c199":199}`) {
		t.Errorf("wide_json: got %s", got)
	}
}

// TestDouble compares with what Postgres writes.
func TestDouble(t *testing.T) {
	s := newSite(t, "")
	random := rand.New(rand.NewPCG(1, 2))
	values := []string{"0", "-0", "1e15", "999999999999999", "0.0001", "0.00009", "5e-324", "1.7976931348623157e308", "-123456.75", "NaN", "-Infinity"}
	for range 500 {
		values = append(values, strconv.FormatFloat(random.NormFloat64()*math.Pow(10, float64(random.IntN(40)-20)), 'g', -1, 64))
	}
	for _, row := range s.text("SELECT v::float8 FROM unnest('{" + strings.Join(values, ",") + "}'::float8[]) v") {
		d, err := value.Of(701, row[0])
		if err != nil || fmt.Sprint(d) != row[0] {
			t.Errorf("Postgres writes %s, and we %v; %v", row[0], d, err)
		}
	}
}

// TestArrayInPostgres unnests what appendArray writes.
func TestArrayInPostgres(t *testing.T) {
	s := newSite(t, "")
	random := rand.New(rand.NewPCG(3, 4))
	const alphabet = "{}\",\\ '\n\tNUL🌳%:x\r\v"
	for range 20 {
		elements := []string{"", "NULL", "null"}
		for range random.IntN(50) {
			var e []rune
			for range random.IntN(8) {
				letters := []rune(alphabet)
				e = append(e, letters[random.IntN(len(letters))])
			}
			elements = append(elements, string(e))
		}
		var got []string
		rows, err := s.admin.Query(t.Context(), "SELECT unnest($1::text::text[])", string(appendArray(nil, elements)))
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var e string
			if err := rows.Scan(&e); err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		if !reflect.DeepEqual(got, elements) {
			t.Fatalf("got %q, want %q", got, elements)
		}
	}
}

// parseArray reads a one-dimensional array whose elements are all quoted.
func parseArray(t *testing.T, s string) []string {
	rest, ok := strings.CutPrefix(s, "{")
	rest, closed := strings.CutSuffix(rest, "}")
	if !ok || !closed {
		t.Fatalf("no braces around %q", s)
	}
	var elements []string
	for rest != "" {
		if elements != nil {
			if rest[0] != ',' {
				t.Fatalf("no comma before %q", rest)
			}
			rest = rest[1:]
		}
		if rest == "" || rest[0] != '"' {
			t.Fatalf("no quote before %q", rest)
		}
		var e []byte
		i := 1
		for ; rest[i] != '"'; i++ {
			if rest[i] == '\\' {
				i++
			}
			e = append(e, rest[i])
		}
		elements, rest = append(elements, string(e)), rest[i+1:]
	}
	return elements
}

func FuzzArray(f *testing.F) {
	f.Add("", "NULL", `{"a\b",c}`)
	f.Add("\\", "\"", "\x00\xff")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		want := []string{a, b, c}
		if got := parseArray(t, string(appendArray(nil, want))); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

// TestBuiltInTypesAreLookedUpOnce describes queries, and wants only types that
// may be renamed to be asked for again.
func TestBuiltInTypesAreLookedUpOnce(t *testing.T) {
	s := newSite(t, `CREATE TYPE mood AS ENUM ('glad', 'sad')`)
	s.loadSound(`viewlet "v" {
  params = ["id"]
  query  = "SELECT @id::int AS id, 'a'::text AS name, 'glad'::mood AS mood"
}`)
	var mood uint32
	if err := s.db.pool.QueryRow(t.Context(), "SELECT 'mood'::regtype::oid").Scan(&mood); err != nil {
		t.Fatal(err)
	}
	const int4, text = 23, 25
	if asked := s.db.toLookUp([]uint32{int4, text, mood}); len(asked) != 1 || asked[0] != int64(mood) {
		t.Errorf("of int4, text and mood (%d), %v are looked up again", mood, asked)
	}
}
