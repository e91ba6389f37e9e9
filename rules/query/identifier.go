package query

import (
	"regexp"
	"slices"
	"strings"
)

// Quote writes a name as SQL does: in double quotes.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Identifier writes a name as SQL needs it, quoted only where it must be.
func Identifier(name string) string {
	if plainIdentifier.MatchString(name) && !slices.Contains(reservedWords, name) {
		return name
	}
	return Quote(name)
}

var plainIdentifier = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// reservedWords are no names of tables without quotes.
//
// https://www.postgresql.org/docs/current/sql-keywords-appendix.html
var reservedWords = strings.Fields(`
all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
returning right select session_user similar some symmetric system_user table tablesample then to trailing true union
unique user using variadic verbose when where window with`)
