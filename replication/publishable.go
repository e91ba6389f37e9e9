package replication

import (
	"fmt"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// firstNormalOID is FirstNormalObjectId: what initdb made has a lower one.
const firstNormalOID = 16384

// publishable gives the tables that a publication can have.
func publishable(tables []viewlet.Table) []viewlet.Table {
	var can []viewlet.Table
	for _, t := range tables {
		if unpublishable(t) == nil {
			can = append(can, t)
		}
	}
	return can
}

// unpublishable says why no publication can have the table; nil when one can.
//
// https://www.postgresql.org/docs/current/sql-createpublication.html#SQL-CREATEPUBLICATION-NOTES
func unpublishable(t viewlet.Table) *Problem {
	name := t.Schema + "." + t.Name
	const ofTables = "write the rules for the tables that it is made from"
	switch {
	case t.Kind == 'v':
		return &Problem{name + " is a view, and a view is never changed itself", ofTables}
	case t.Kind == 'm':
		return &Problem{name + " is a materialized view, whose refresh Postgres does not publish", ofTables}
	case t.Kind == 'f':
		return &Problem{name + " is a foreign table, whose changes happen on another server", "run a daemon on that server, or write the rules for other tables"}
	case t.Kind == 'S':
		return &Problem{name + " is a sequence, whose changes Postgres does not publish", "write the rules for the table that uses it"}
	case t.Persistence == 't':
		return &Problem{name + " is a temporary table, which writes no WAL", "name a table that stays"}
	case t.OID < firstNormalOID:
		return &Problem{name + " is a system table, whose changes Postgres does not publish", "name a table of yours"}
	case t.Persistence == 'u':
		return &Problem{name + " is unlogged: it writes no WAL", fmt.Sprintf("ALTER TABLE %s SET LOGGED;", quoteTable(t))}
	}
	return nil
}

// unwritable says that publishing the table would break it for who writes to
// it; nil when it would not.
func unwritable(t viewlet.Table) *Problem {
	if p := unpublishedIdentity(t); p != nil {
		return p
	}
	return unidentified(t)
}

// unpublishedIdentity is for REPLICA IDENTITY FULL, with which each column has to
// be published, and a virtual generated one cannot be.
//
// https://www.postgresql.org/docs/current/logical-replication-gencols.html
func unpublishedIdentity(t viewlet.Table) *Problem {
	if t.Identity != viewlet.IdentityFull {
		return nil
	}
	for _, c := range t.Columns {
		if c.Virtual {
			return &Problem{
				fmt.Sprintf("%s.%s has REPLICA IDENTITY FULL and a virtual generated column, %s: once it is published, Postgres refuses to UPDATE or DELETE its rows", t.Schema, t.Name, c.Name),
				fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT; -- with a primary key; or make the column STORED", quoteTable(t)),
			}
		}
	}
	return nil
}

// unidentified is for a table without a replica identity: once it is published,
// Postgres refuses an UPDATE or a DELETE of it.
//
// https://www.postgresql.org/docs/current/logical-replication-publication.html
func unidentified(t viewlet.Table) *Problem {
	for _, c := range t.Columns {
		if c.Identity {
			return nil
		}
	}
	what := fmt.Sprintf("%s.%s has no replica identity: once it is published, Postgres refuses to UPDATE or DELETE its rows", t.Schema, t.Name)
	if t.Kind == 'p' {
		return &Problem{
			what,
			fmt.Sprintf("SELECT format('ALTER TABLE %%s REPLICA IDENTITY FULL', relid::regclass)\nFROM pg_partition_tree(%s) WHERE isleaf \\gexec", quoteLiteral(quoteTable(t))),
		}
	}
	return &Problem{what, fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL; -- or give it a primary key", quoteTable(t))}
}
