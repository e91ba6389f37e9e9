package derive_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestKeyTypes asks Postgres whether equal values of a type have equal texts,
// which must be so where a param of the type is bound by a column, and only
// there.
func TestKeyTypes(t *testing.T) {
	types := []struct {
		sql    string
		values string // of which some are equal and differ in how they are written
		bound  bool
	}{
		{"smallint", "1|01|+1|-0|0", true},
		{"bigint", "1|01|0|-0", true},
		{"oid", "1|01", true},
		{"text", "a|A|a |", true},
		{"varchar(3)", "a|A|a |", true},
		{"name", "a|A|a ", true},
		{"boolean", "t|true|yes|1|f|off", true},
		{"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|A0EEBC999C0B4EF8BB6D6BB9BD380A11", true},
		{"bytea", `\x6869|hi|\150i|`, true},
		{"date", "2026-01-31|20260131|Jan 31 2026|infinity", true},
		{"time", "10:00|10:00:00.000|10:00:00.1|24:00", true},
		{"timestamp", "2026-01-31 10:00|2026-01-31T10:00:00.000|2026-01-31 10:00:00.1", true},
		{"timetz", "10:00+00|10:00:00+00|12:00+02", true},
		{"timestamptz", "2026-01-31 10:00+00|2026-01-31 12:00+02|2026-01-31 10:00:00.5+00", true},
		{"inet", "10.0.0.1|10.0.0.1/32|10.0.0.1/24|::1|0::1", true},
		{"macaddr", "08:00:2b:01:02:03|08-00-2B-01-02-03|08002b010203", true},
		{"mood", "sad|happy", true},
		{"code", "a|A|a ", true},
		{"char(3)", "a|a |A|aa", true},
		{"numeric(8,2)", "1.5|1.50|1.500|-0|0|NaN", true},
		{"numeric", "1.5|1.50", false},
		{"real", "0|-0", false},
		{"double precision", "0|-0", false},
		{"interval", "1 month|30 days", false},
		{"jsonb", "1.5|1.50", false},
		{"citext", "a|A", false},
		{"loose", "a|A", false},
	}
	s := newSite(t, `CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN code AS varchar(5); CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
		CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE DOMAIN loose AS text COLLATE ci`)
	var text strings.Builder
	for i, typ := range types {
		s.exec(fmt.Sprintf("CREATE TABLE k%d (v %s)", i, typ.sql))
		for value := range strings.SplitSeq(typ.values, "|") {
			s.exec(fmt.Sprintf("INSERT INTO k%d VALUES ('%s')", i, value))
		}
		fmt.Fprintf(&text, "viewlet \"v%d\" {\n  params = [\"v\"]\n  query = \"SELECT v AS w FROM k%[1]d WHERE v = @v\"\n}\n", i)
	}
	results := s.derive(load(t, []byte(text.String())))
	for i, typ := range types {
		if bound := len(results[i].Rules) > 0; bound != typ.bound {
			t.Errorf("%s: a column names the param is %t\n%s", typ.sql, bound, told(results[i]))
		}
		several := len(s.texts(fmt.Sprintf("SELECT a.v FROM k%d a, k%[1]d b WHERE a.v = b.v AND textin(record_out(a)) <> textin(record_out(b))", i))) > 0
		if several == typ.bound {
			t.Errorf("%s: equal values have several texts is %t", typ.sql, several)
		}
	}
}
