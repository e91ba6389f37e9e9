package derive_test

import (
	"strings"
	"testing"
)

// A NOT NULL that is NOT VALID, which Postgres has since 18, says nothing of
// the rows that are there.
//
// https://www.postgresql.org/docs/current/sql-altertable.html
func TestNotNullNotValid(t *testing.T) {
	const tables = "CREATE TABLE products (id bigint PRIMARY KEY, category_id bigint); CREATE TABLE recalled (product_id bigint);"
	s := newSite(t, tables)
	if _, err := s.conn.Exec(t.Context(), "ALTER TABLE recalled ADD CONSTRAINT known NOT NULL product_id NOT VALID"); err != nil {
		t.Skip("this Postgres has none: ", err)
	}
	set := load(t, []byte(`viewlet "v" {
		params = ["category"]
		query  = "SELECT id FROM products WHERE category_id = @category AND id NOT IN (SELECT product_id FROM recalled)"
	}`))
	if got := told(s.derive(set)[0]); strings.Contains(got, "recalled\" {\n  when") {
		t.Errorf("a row with NULL matters everywhere, and there may be one:\n%s", got)
	}
}
