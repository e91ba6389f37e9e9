package render

import (
	"errors"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

const argumentTypes = `CREATE TYPE mood AS ENUM ('happy', 'so so'); CREATE DOMAIN small AS int CHECK (VALUE < 100)`

// argumentRules has a viewlet for each type, by its name.
const argumentRules = `
viewlet "int2" {
  params = ["a"]
  query  = "SELECT @a::int2 AS a"
}
viewlet "int4" {
  params = ["a"]
  query  = "SELECT @a::int4 AS a"
}
viewlet "int8" {
  params = ["a"]
  query  = "SELECT @a::int8 AS a"
}
viewlet "text" {
  params = ["a"]
  query  = "SELECT @a::text AS a"
}
viewlet "uuid" {
  params = ["a"]
  query  = "SELECT @a::uuid AS a"
}
viewlet "bool" {
  params = ["a"]
  query  = "SELECT @a::bool AS a"
}
viewlet "date" {
  params = ["a"]
  query  = "SELECT @a::date AS a"
}
viewlet "timestamptz" {
  params = ["a"]
  query  = "SELECT @a::timestamptz AS a"
}
viewlet "mood" {
  params = ["a"]
  query  = "SELECT @a::mood AS a"
}
viewlet "small" {
  params = ["a"]
  query  = "SELECT @a::small AS a"
}
viewlet "numeric" {
  params = ["a"]
  query  = "SELECT @a::numeric AS a"
}
viewlet "bytea" {
  params = ["a"]
  query  = "SELECT @a::bytea AS a"
}
viewlet "char" {
  params = ["a"]
  query  = "SELECT @a::char(3) AS a, @a = 'x'::char(3) AS b"
}
viewlet "regclass" {
  params = ["a"]
  query  = "SELECT @a::regclass AS a"
}
viewlet "two" {
  params = ["a", "b"]
  query  = "SELECT @a::int AS a, @b::text AS b"
}
viewlet "none" {
  query = "SELECT 1 AS a"
}
viewlet "broken" {
  params = ["a"]
  query  = "SELECT @a::int FROM nowhere"
}`

func TestCanonical(t *testing.T) {
	s := newSite(t, argumentTypes)
	s.load(argumentRules)
	for _, c := range []struct{ name, arg, want string }{
		{"int4", "42", "42"},
		{"int4", "042", "42"},
		{"int4", "+7", "7"},
		{"int4", "-0", "0"},
		{"int4", " 7", ""},
		{"int4", "", ""},
		{"int4", "7.0", ""},
		{"int4", "9999999999999", ""},
		{"int2", "32768", ""},
		{"int2", "-32768", "-32768"},
		{"int8", "9223372036854775807", "9223372036854775807"},
		{"int8", "9223372036854775808", ""},
		{"text", "", ""},
		{"text", "a:b %", "a:b %"},
		{"text", "a\x00b", "unfit"},
		{"text", "\xff", "unfit"},
		{"uuid", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
		{"uuid", "{6ba7b8109dad11d180b400c04fd430c8}", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
		{"uuid", "6ba7b810", ""},
		{"bool", "true", "t"},
		{"bool", "YES", "t"},
		{"bool", "0", "f"},
		{"bool", "t", "t"},
		{"bool", "maybe", ""},
		{"date", "2024-2-9", "2024-02-09"},
		{"date", "Feb 9, 2024", "2024-02-09"},
		{"date", "2024-02-30", ""},
		{"date", "soon", ""},
		{"timestamptz", "2024-02-09 12:00+02", "2024-02-09 10:00:00+00"},
		{"mood", "happy", "happy"},
		{"mood", "sad", ""},
		{"small", "042", "42"},
		{"small", "100", ""},
		{"numeric", "1.50", "1.50"},
		{"numeric", "1e2", "100"},
		{"numeric", "x", ""},
		{"bytea", `\xDEAD`, `\xdead`},
		{"bytea", `\xZ`, ""},
		{"char", "abc", "abc"},
		{"regclass", "pg_catalog.pg_class", "pg_class"},
		{"regclass", "nowhere", ""},
	} {
		key, err := s.r.Canonical(t.Context(), c.name, []string{c.arg})
		var unfit *ArgumentError
		fits := c.want != "" && c.want != "unfit" || c.name == "text" && c.arg == ""
		switch {
		case fits && (err != nil || key != viewlet.NewKey(c.name, c.want)):
			t.Errorf("%s %q: got %v, %v; want %q", c.name, c.arg, key, err, c.want)
		case !fits && !errors.As(err, &unfit):
			t.Errorf("%s %q: got %v, %v; want an *ArgumentError", c.name, c.arg, key, err)
		case !fits && !strings.Contains(err.Error(), "a is of type "):
			t.Errorf("%s %q: %v does not tell the type", c.name, c.arg, err)
		}
	}
}

func TestCanonicalCounts(t *testing.T) {
	s := newSite(t, argumentTypes)
	s.load(argumentRules)
	if key, err := s.r.Canonical(t.Context(), "two", []string{"007", "x y"}); err != nil || key.String() != "two:7:x%20y" {
		t.Errorf("got %v, %v", key, err)
	}
	if key, err := s.r.Canonical(t.Context(), "none", nil); err != nil || key.String() != "none" {
		t.Errorf("got %v, %v", key, err)
	}
	for name, args := range map[string][]string{"two": {"1"}, "none": {"1"}, "nosuch": nil} {
		var unfit *ArgumentError
		if key, err := s.r.Canonical(t.Context(), name, args); !errors.As(err, &unfit) {
			t.Errorf("%s of %v: got %v, %v", name, args, key, err)
		}
	}
	var broken *viewlet.Broken
	if _, err := s.r.Canonical(t.Context(), "broken", []string{"1"}); !errors.As(err, &broken) {
		t.Errorf("a broken viewlet: got %v", err)
	}
}

// TestStorable: where one value has two forms, nothing may be kept that only a
// reader named.
func TestStorable(t *testing.T) {
	s := newSite(t, argumentTypes)
	s.load(argumentRules)
	if s.r.Storable("int4") || s.r.Storable("nosuch") {
		t.Error("storable before its types are known")
	}
	for name, want := range map[string]bool{
		"int2": true, "int4": true, "int8": true, "text": true, "uuid": true, "bool": true, "date": true, "timestamptz": true,
		"mood": true, "small": true, "bytea": true, "two": true, "none": true, "numeric": false, "char": false, "broken": false,
	} {
		args := map[string][]string{"uuid": {"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, "two": {"1", "x"}, "none": nil, "mood": {"happy"}, "date": {"2024-01-01"}, "timestamptz": {"2024-01-01"}, "bool": {"t"}, "bytea": {"a"}}[name]
		if args == nil && name != "none" {
			args = []string{"1"}
		}
		if _, err := s.r.Canonical(t.Context(), name, args); (err != nil) != (name == "broken") {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.r.Storable(name); got != want {
			t.Errorf("%s: storable %v", name, got)
		}
	}
}
