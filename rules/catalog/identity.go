package catalog

import (
	"slices"

	"github.com/cdc-viewlet/cdc-viewlet/rules/query"
	"github.com/cdc-viewlet/cdc-viewlet/rules/rule"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// publishable checks that a publication can have the table, and that Postgres
// still takes its UPDATEs and DELETEs then.
//
// https://www.postgresql.org/docs/current/logical-replication-publication.html
func (c *comparison) publishable(r *rule.Rule) {
	t, alter := r.Bound, "ALTER TABLE "+sqlName(r.Bound)+" REPLICA IDENTITY "
	if what := unpublishable(t); what != "" {
		c.Error(r.Label, "Table cannot be published", "%s is %s, and Postgres publishes permanent tables only. %s", r.Table, what, publishableInstead(t))
		return
	}
	c.partition(r)
	switch {
	case t.Identity == viewlet.IdentityNothing:
		c.identity(t, len(t.PrimaryKey) == 0)
		c.Error(r.Label, "Table has no replica identity", "%s has REPLICA IDENTITY NOTHING, so Postgres would refuse every UPDATE and DELETE once the table is published. Give it its primary key back: %sDEFAULT; or without one: %sFULL;", r.Table, alter, alter)
	case t.Identity == viewlet.IdentityIndex && !identified(t):
		c.identity(t, len(t.PrimaryKey) == 0)
		c.Error(r.Label, "Table has no replica identity", "The index that is the replica identity of %s is gone, so Postgres would refuse every UPDATE and DELETE once the table is published. Give it another: %sDEFAULT; or without a primary key: %sFULL;", r.Table, alter, alter)
	case t.Identity == viewlet.IdentityDefault && len(t.PrimaryKey) == 0:
		c.identity(t, true)
		c.Error(r.Label, "Table has no primary key", "%s has no primary key, so Postgres would refuse every UPDATE and DELETE once the table is published. Add one, or let the whole old row identify it: %sFULL;", r.Table, alter)
	}
}

// identity notes that a table needs another replica identity, FULL or the
// default one.
func (c *comparison) identity(t *viewlet.Table, full bool) {
	if slices.ContainsFunc(t.Columns, func(of viewlet.TableColumn) bool { return of.Virtual }) {
		return // identityFull says why
	}
	c.needed[t.OID] = Identity{Table: t, Full: full || c.needed[t.OID].Full}
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

func publishableInstead(t *viewlet.Table) string {
	switch {
	case t.Persistence == 'u':
		return "Make it one: ALTER TABLE " + sqlName(t) + " SET LOGGED;"
	case t.Kind == 'v', t.Kind == 'm', t.Kind == 'f':
		return "Name the tables that its rows come from."
	}
	return "Name a table of your own that stays."
}

// partition says to name the partitioned table instead of its part: the
// publication has publish_via_partition_root.
func (c *comparison) partition(r *rule.Rule) {
	root := r.Bound.Root
	if root == "" {
		return
	}
	named := slices.ContainsFunc(c.rules, func(other *rule.Rule) bool {
		return other.Bound != nil && other.Bound.Schema+"."+other.Bound.Name == root
	})
	if named {
		c.Error(r.Label, "Partition beside its table", "The changes of the partition %s come as those of %s, which has rules too, so this block would never fire. Move what it does to table %q.", r.Table, root, root)
		return
	}
	c.Warn(r.Label, "Partition", "%s is a partition of %s. The changes of the other partitions are not seen. Write table %q to see all.", r.Table, root, root)
}

// oldSent reports whether old rows have the column. A table that has no
// identity at all is a problem of its own, and not one of each column.
func oldSent(r *rule.Rule, of viewlet.TableColumn) bool {
	return of.Identity || r.Bound.Identity == viewlet.IdentityFull || !identified(r.Bound)
}

func identified(t *viewlet.Table) bool {
	return slices.ContainsFunc(t.Columns, func(of viewlet.TableColumn) bool { return of.Identity })
}

// identityFull is the remedy for old values that are not sent. It would stop
// every UPDATE and DELETE of a table that has a virtual generated column.
//
// https://www.postgresql.org/docs/current/logical-replication-gencols.html
func identityFull(r *rule.Rule) string {
	remedy := "Send it: ALTER TABLE " + sqlName(r.Bound) + " REPLICA IDENTITY FULL;"
	virtual := slices.IndexFunc(r.Bound.Columns, func(of viewlet.TableColumn) bool { return of.Virtual })
	if virtual >= 0 {
		remedy += " but only after making " + r.Bound.Columns[virtual].Name + " a STORED column: with a virtual one Postgres would refuse every UPDATE and DELETE."
	}
	if r.Bound.Kind == 'p' {
		remedy += " and the same for each of its partitions."
	}
	return remedy
}

func sqlName(t *viewlet.Table) string {
	return query.Identifier(t.Schema) + "." + query.Identifier(t.Name)
}
