package render

import (
	"errors"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// A key that is rendered by itself runs another form of the query than a chunk
// does. Nobody is to see a difference.

// formsOf renders the first key by itself, and in a chunk.
func (s *site) formsOf(name string, keys ...viewlet.Key) map[string]viewlet.Fragment {
	return map[string]viewlet.Fragment{"one": s.render(name, keys[0])[0], "many": s.render(name, keys...)[0]}
}

// When Postgres plans for a single key, it evaluates what it would not come to
// when it runs: divides by zero, or calls what raises an error of any class.
func TestFoldedArgument(t *testing.T) {
	s := newSite(t, `CREATE TABLE t AS SELECT generate_series(1, 9) AS id;
		CREATE FUNCTION few(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN CASE i WHEN 1 THEN RETURN 1; END CASE; END $$;
		CREATE FUNCTION odd(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
			$$ BEGIN IF i = 7 THEN RAISE 'odd' USING ERRCODE = 'AB001'; END IF; RETURN i; END $$`)
	s.loadSound(`
viewlet "part" {
  params = ["id"]
  query  = "SELECT 100 / (@id - 7) AS part FROM t WHERE id = @id AND @id <> 7"
}
viewlet "few" {
  params = ["id"]
  query  = "SELECT few(@id) AS few FROM t WHERE id = @id AND @id < 2"
}
viewlet "odd" {
  params = ["id"]
  query  = "SELECT odd(@id) AS odd FROM t WHERE id = @id AND @id <> 7"
}
viewlet "zero" {
  params = ["id"]
  query  = "SELECT 100 / (@id - 7) AS part FROM t WHERE id = @id"
}`)
	for _, name := range []string{"part", "few", "odd"} {
		for form, f := range s.formsOf(name, keysOf(name, "7", "8")...) {
			if f.Body != nil || f.Err != nil {
				t.Errorf("%s, the form for %s: got %q, %v; want nothing", f.Key, form, f.Body, f.Err)
			}
		}
	}
	for form, f := range s.formsOf("zero", keysOf("zero", "7", "8")...) {
		if f.Err == nil || !strings.Contains(f.Err.Error(), "division by zero") {
			t.Errorf("%s, the form for %s: got %q, %v; want a division by zero", f.Key, form, f.Body, f.Err)
		}
	}
}

// A param that is selected without a name has the same one in each form; and one
// of a composite type is not spread over columns.
func TestFormsAreAlike(t *testing.T) {
	s := newSite(t, `CREATE TABLE t AS SELECT i AS id, 'name ' || i AS name FROM generate_series(1, 9) i;
		CREATE TYPE place AS (street text, number int)`)
	s.load(`
viewlet "bare" {
  params = ["id"]
  query  = "SELECT @id::int, name FROM t WHERE id = @id"
}
viewlet "street" {
  params = ["place"]
  query  = "SELECT (@place::place).street AS street, 5 AS n"
}`)
	for name, args := range map[string][]string{"bare": {"3", "4"}, "street": {"(z,1)", "(y,2)"}} {
		forms := s.formsOf(name, keysOf(name, args...)...)
		if one, many := forms["one"], forms["many"]; string(one.Body) != string(many.Body) || one.Err != nil || many.Err != nil || one.Body == nil {
			t.Errorf("%s: by itself %s, %v; in a chunk %s, %v", one.Key, one.Body, one.Err, many.Body, many.Err)
		}
	}
	if f := s.render("street", keysOf("street", "(z,1)", "(y,2)")...)[1]; string(f.Body) != `{"street":"y","n":5}` {
		t.Errorf("%s: got %s, %v", f.Key, f.Body, f.Err)
	}
}

// A column that is dropped is not taken for one of ours.
func TestDroppedColumnIsMissed(t *testing.T) {
	s := newSite(t, "CREATE TABLE t AS SELECT i AS id, i * 100 AS ord, i * 10 AS p1 FROM generate_series(1, 9) i")
	s.loadSound(`
viewlet "ord" {
  params = ["id"]
  query  = "SELECT id, ord FROM t WHERE id = @id"
}
viewlet "p1" {
  params = ["id"]
  query  = "SELECT id, p1 FROM t WHERE id = @id"
}`)
	for _, name := range []string{"ord", "p1"} {
		if f := s.render(name, keysOf(name, "3")...)[0]; f.Body == nil {
			t.Fatalf("got %v", f.Err)
		}
	}
	s.exec("ALTER TABLE t DROP COLUMN ord, DROP COLUMN p1")
	for _, name := range []string{"ord", "p1"} {
		for _, keys := range [][]viewlet.Key{keysOf(name, "3"), keysOf(name, "3", "4")} {
			fragments, err := s.r.Render(t.Context(), name, keys)
			if broken := (*viewlet.Broken)(nil); !errors.As(err, &broken) {
				t.Errorf("%s of %d keys: got %+v, %v; want it broken", name, len(keys), fragments, err)
			}
		}
	}
}
