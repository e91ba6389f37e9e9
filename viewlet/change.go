package viewlet

import "time"

// Op is what happened to a row, or with Truncate to a whole table.
type Op uint8

// The operations that a publication can publish.
const (
	Insert Op = iota + 1
	Update
	Delete
	Truncate
)

// String gives the word that rules.hcl uses.
func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	}
	return "unknown"
}

// ReplicaIdentity is pg_class.relreplident: which old values an UPDATE or
// DELETE carries.
//
// https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-REPLICA-IDENTITY
type ReplicaIdentity byte

// The replica identities.
const (
	IdentityDefault ReplicaIdentity = 'd'
	IdentityNothing ReplicaIdentity = 'n'
	IdentityFull    ReplicaIdentity = 'f'
	IdentityIndex   ReplicaIdentity = 'i'
)

// Relation is a table as the stream describes it. A table that changes its
// shape gets a new Relation; an old one is never altered, so what is compiled
// for a *Relation stays right.
type Relation struct {
	ID           uint32 // pg_class.oid
	Schema, Name string
	Identity     ReplicaIdentity
	Columns      []Column
}

// String gives schema.name, unquoted, for people.
func (r *Relation) String() string { return r.Schema + "." + r.Name }

// Column is one column of a Relation, in the stream's order.
type Column struct {
	Name string
	Type uint32 // pg_type.oid
	Key  bool   // part of the replica identity; true for all when that is FULL
}

// ValueKind tells apart the four things that a column of a row may be.
type ValueKind uint8

// The kinds of a Value. The zero Value is NotSent.
const (
	NotSent   ValueKind = iota // the stream does not tell: no old row, or not part of the replica identity
	Null                       // SQL NULL
	Unchanged                  // an unchanged TOAST value, which the stream leaves out
	Text                       // Value.Text holds it, in Postgres's text form
)

// Value is one column of a row. Its bytes belong to the decoder and are good
// only until the Sink's method returns: whoever keeps them copies them.
type Value struct {
	Kind ValueKind
	Text []byte
}

// Tuple is a row, by position in Relation.Columns. It is nil when the stream
// carried no such row: an insert has no old one, a delete no new one, and an
// update that left the replica identity alone no old one either.
type Tuple []Value

// Change is one row changed, or one table truncated (no tuples then). It is
// good only until the Sink's method returns.
type Change struct {
	Op       Op
	Rel      *Relation
	Old, New Tuple
}

// Tx is the head of a committed transaction.
type Tx struct {
	XID       uint32    // the 32-bit transaction id, without its epoch; 0: none to wait for
	FinalLSN  LSN       // where its commit record starts
	Committed time.Time // by Postgres's clock
}

// Message is a logical decoding message, as pg_logical_emit_message wrote it.
// Content is good only until the Sink's method returns.
type Message struct {
	LSN     LSN
	Prefix  string
	Content []byte
}

// Table is what the catalog says of a table that the rules name.
type Table struct {
	OID          uint32
	Schema, Name string
	Kind         byte // pg_class.relkind: r table, p partitioned, v view, m materialized view, f foreign table
	Persistence  byte // pg_class.relpersistence: p permanent, u unlogged, t temporary
	Identity     ReplicaIdentity
	Columns      []TableColumn
	PrimaryKey   []string // column names; empty: none
	Root         string   // schema.name of the topmost partitioned table; empty: not a partition
}

// TableColumn is one column of a Table.
type TableColumn struct {
	Name      string
	Type      string // format_type(): character varying(20)
	TypeOID   uint32
	Identity  bool // sent with the old row of every UPDATE that changes it and of every DELETE
	Generated bool // a generated column that the stream leaves out
	Stored    bool // a generated column that the stream has if the publication says so: a stored one, since Postgres 18
	Virtual   bool // a virtual generated column, which is Generated too
	Toastable bool // its value may be stored out of line, and then be Unchanged
}

// TableName is a table as rules.hcl names it. An empty Schema means the first
// table of that name on the connection's search_path.
type TableName struct{ Schema, Name string }

// String gives schema.name, or the name alone, unquoted, for people.
func (n TableName) String() string {
	if n.Schema == "" {
		return n.Name
	}
	return n.Schema + "." + n.Name
}
