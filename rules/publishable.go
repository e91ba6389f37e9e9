package rules

import (
	"regexp"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// publishable checks that a publication can have the table, and that Postgres
// still takes its UPDATEs and DELETEs then.
//
// https://www.postgresql.org/docs/current/logical-replication-publication.html
func (b *binder) publishable(t *table) {
	alter := "ALTER TABLE " + sqlName(t.bound) + " REPLICA IDENTITY "
	if what := unpublishable(t.bound); what != "" {
		b.error(t.label, "Table cannot be published", "%s is %s, and Postgres publishes permanent tables only. Name the tables that its rows come from.", t.name, what)
		return
	}
	b.partition(t)
	switch t.bound.Identity {
	case viewlet.IdentityFull:
	case viewlet.IdentityNothing:
		b.error(t.label, "Table has no replica identity", "%s has REPLICA IDENTITY NOTHING, so Postgres would refuse every UPDATE and DELETE once the table is published. Give it its primary key back: %sDEFAULT; or without one: %sFULL;", t.name, alter, alter)
	case viewlet.IdentityIndex:
		if !slices.ContainsFunc(t.bound.Columns, func(c viewlet.TableColumn) bool { return c.Identity }) {
			b.error(t.label, "Table has no replica identity", "The index that is the replica identity of %s is gone, so Postgres would refuse every UPDATE and DELETE once the table is published. Give it another: %sDEFAULT; or without a primary key: %sFULL;", t.name, alter, alter)
		}
	default:
		if len(t.bound.PrimaryKey) == 0 {
			b.error(t.label, "Table has no primary key", "%s has no primary key, so Postgres would refuse every UPDATE and DELETE once the table is published. Add one, or let the whole old row identify it: %sFULL;", t.name, alter)
		}
	}
}

func unpublishable(t *viewlet.Table) (what string) {
	switch {
	case t.Schema == "pg_catalog" || t.Schema == "information_schema":
		return "a system table"
	case t.Kind == 'v':
		return "a view"
	case t.Kind == 'm':
		return "a materialized view"
	case t.Kind == 'f':
		return "a foreign table"
	case t.Kind != 'r' && t.Kind != 'p':
		return "not a table"
	case t.Persistence == 'u':
		return "an unlogged table"
	case t.Persistence == 't':
		return "a temporary table"
	}
	return ""
}

// partition says to name the partitioned table instead of its part: the
// publication has publish_via_partition_root.
func (b *binder) partition(t *table) {
	root := t.bound.Root
	if root == "" {
		return
	}
	named := slices.ContainsFunc(b.set.tables, func(other *table) bool {
		return other.bound != nil && other.bound.Schema+"."+other.bound.Name == root
	})
	if named {
		b.error(t.label, "Partition beside its table", "The changes of the partition %s come as those of %s, which has rules too, so this block would never fire. Move what it does to table %q.", t.name, root, root)
		return
	}
	b.warn(t.label, "Partition", "%s is a partition of %s. The changes of the other partitions are not seen. Write table %q to see all.", t.name, root, root)
}

// identityFull is the remedy for old values that are not sent.
func identityFull(t *table) string {
	remedy := "Send it: ALTER TABLE " + sqlName(t.bound) + " REPLICA IDENTITY FULL;"
	if t.bound.Kind == 'p' {
		remedy += " and the same for each of its partitions."
	}
	return remedy
}

// sqlName is a table's name as SQL needs it, quoted only where it must be.
func sqlName(t *viewlet.Table) string { return sqlIdentifier(t.Schema) + "." + sqlIdentifier(t.Name) }

func sqlIdentifier(name string) string {
	if plainIdentifier.MatchString(name) && !slices.Contains(reservedWords, name) {
		return name
	}
	return quote(name)
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
