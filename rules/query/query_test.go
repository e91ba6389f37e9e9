package query

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func dollar(i int) string { return fmt.Sprintf("$%d", i+1) }

func TestQueryBind(t *testing.T) {
	for _, tt := range []struct{ name, sql, want string }{
		{"plain", "SELECT @id, @lang, @id", "SELECT $1, $2, $1"},
		{"cast", "SELECT @id::int", "SELECT $1::int"},
		{"longest name", "SELECT @id2, @identity, @id", "SELECT @id2, @identity, $1"},
		{"no param of ours", "SELECT @nothing", "SELECT @nothing"},
		{"string", "SELECT '@id', 'it''s @id', @id", "SELECT '@id', 'it''s @id', $1"},
		{"backslash is a character", `SELECT '\', @id`, `SELECT '\', $1`},
		{"escape string", `SELECT E'\'@id', e'@id\\', @id`, `SELECT E'\'@id', e'@id\\', $1`},
		{"a word that ends in e", `SELECT name'\', @id`, `SELECT name'\', $1`},
		{"dollar quoting", "SELECT $$@id$$, $a$ @id $$ $b$ $a$, @id", "SELECT $$@id$$, $a$ @id $$ $b$ $a$, $1"},
		{"dollar in a word", "SELECT a$b$ , @id, c$b$", "SELECT a$b$ , $1, c$b$"},
		{"identifier", `SELECT "a@id", "b""@id", @id`, `SELECT "a@id", "b""@id", $1`},
		{"line comment", "SELECT 1 -- @id '\n, @id", "SELECT 1 -- @id '\n, $1"},
		{"nested comment", "SELECT /* @id /* ' */ @id */ @id", "SELECT /* @id /* ' */ @id */ $1"},
		{"operators", "SELECT a @> b, a <@ b, a @@ b, a @-@ b, a @? b, a <@b, @ -5", "SELECT a @> b, a <@ b, a @@ b, a @-@ b, a @? b, a <@b, @ -5"},
		{"operator touches string", "SELECT a @>'x', @id", "SELECT a @>'x', $1"},
		{"comment ends an operator", "SELECT 1 +/* @ */@id, 2 *-- @\n@id", "SELECT 1 +/* @ */$1, 2 *-- @\n$1"},
		{"comparison touches param", "WHERE a=@id AND b<>@id AND c>=@lang AND d||@lang", "WHERE a=$1 AND b<>$1 AND c>=$2 AND d||$2"},
		{"word touches param", "SELECT 1 LIMIT@id", "SELECT 1 LIMIT $1"},
		{"paren touches param", "SELECT f(@id,@lang)", "SELECT f($1,$2)"},
		{"semicolon", "SELECT @id ; ; \n", "SELECT $1"},
		{"trailing comment", "SELECT @id; -- bye", "SELECT $1"},
		{"semicolon in a string", "SELECT ';'", "SELECT ';'"},
		{"unicode", "SELECT 'åäö', @id, \"ö\"", "SELECT 'åäö', $1, \"ö\""},
		{"national and unicode strings", `SELECT U&'\0041 @id', N'@id', B'01', @id`, `SELECT U&'\0041 @id', N'@id', B'01', $1`},
		{"numbers", "SELECT 1e5, 1.5e-3, .5, 0xFF, 1@id", "SELECT 1e5, 1.5e-3, .5, 0xFF, 1 $1"},
		{"unterminated", "SELECT @id, 'oops @id", "SELECT $1, 'oops @id"},
		{"empty", " -- nothing", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := &Query{SQL: tt.sql, Params: []string{"id", "lang"}}
			if got, _ := q.Bind(dollar); got != tt.want {
				t.Errorf("bound\n%s\nto\n%s\nwant\n%s", tt.sql, got, tt.want)
			}
		})
	}
}

func TestQueryOrigin(t *testing.T) {
	q := &Query{SQL: "SELECT åäö, @id+@language, nix FROM@id;", Params: []string{"id", "language"}}
	sql, origin := q.Bind(func(i int) string { return []string{"a.a1", "x"}[i] })
	for _, word := range []string{"SELECT", "åäö", "+", ", nix", "nix", "FROM"} {
		if got, want := origin(strings.Index(sql, word)), strings.Index(q.SQL, word); got != want {
			t.Errorf("origin of %q is %d, want %d", word, got, want)
		}
	}
	at := strings.Index(sql, "a.a1")
	for i := range len("a.a1") {
		if got, want := origin(at+i), strings.Index(q.SQL, "@id"); got != want {
			t.Errorf("origin of byte %d of the argument is %d, want %d", i, got, want)
		}
	}
	if got, want := origin(len(sql)), len(q.SQL)-1; got != want {
		t.Errorf("origin of the end is %d, want %d", got, want)
	}
}

func TestOffset(t *testing.T) {
	const sql = "SELECT 'åä', nix"
	for position, want := range map[int]int{-1: -1, 0: -1, 1: 0, 14: strings.Index(sql, "nix"), 17: len(sql), 99: len(sql)} {
		if got := Offset(sql, position); got != want {
			t.Errorf("Offset(%d) = %d, want %d", position, got, want)
		}
	}
}

func TestQueryUses(t *testing.T) {
	q := &Query{SQL: "SELECT '@lang', @id", Params: []string{"id", "lang"}}
	if !q.Uses(0) || q.Uses(1) || q.Uses(-1) || q.Uses(2) {
		t.Errorf("uses %t %t %t %t", q.Uses(0), q.Uses(1), q.Uses(-1), q.Uses(2))
	}
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"SELECT @id", "SELECT $a$@id$a$ -- @id", "E'\\'", "/*/**/", "1e5@id", "a<@id", "=@id;", "\"@id", "(@id)", "FROM@id",
		"WITH a AS (DELETE FROM b) SELECT 1 FOR UPDATE", "SELECT 1 INTO x", "$1", "\x00\xff@\xff", "SELECT ((",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		q := &Query{SQL: sql, Params: []string{"id", "lang"}}
		var used []int
		same, origin := q.Bind(func(i int) string { used = append(used, i); return "@" + q.Params[i] })
		for i := range q.Params {
			if slices.Contains(used, i) != q.Uses(i) {
				t.Fatalf("Bind and Uses differ on param %d", i)
			}
		}
		again, _ := (&Query{SQL: same, Params: q.Params}).Bind(func(i int) string { return "@" + q.Params[i] })
		if again != same {
			t.Fatalf("binding params to themselves twice: %q, then %q", same, again)
		}
		for _, found := range q.Faults() {
			if found.Start < 0 || found.Start > found.End || found.End > len(sql) || found.Summary == "" {
				t.Fatalf("fault at %d to %d of %d: %s", found.Start, found.End, len(sql), found.Summary)
			}
		}
		last := 0
		for i := range len(same) + 1 {
			o := origin(i)
			if o < last || o > len(sql) {
				t.Fatalf("origin(%d) = %d after %d of %d", i, o, last, len(sql))
			}
			last = o
		}
	})
}
