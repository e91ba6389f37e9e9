package derive

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Catalog is what the database says of everything that a query's trees refer
// to; References tells what that is. What is missing is treated as unknown,
// which gives a Limit and never a rule.
type Catalog struct {
	Relations map[uint32]*Relation // by pg_class.oid
	Functions map[uint32]*Function // by pg_proc.oid
	Operators map[uint32]*Operator // by pg_operator.oid
	// Bases gives what each domain is made from in the end, by pg_type.oid.
	Bases map[uint32]uint32
	// Enums are the enumerated types, by pg_type.oid.
	Enums map[uint32]bool
	// Loose are the nondeterministic collations, under which texts that differ
	// are equal, by pg_collation.oid.
	Loose map[uint32]bool
}

// Relation is a table or a view.
type Relation struct {
	viewlet.TableName
	SQL         string // its name as SQL writes it, with the schema
	Kind        byte   // pg_class.relkind
	Persistence byte   // pg_class.relpersistence
	System      bool   // a catalog, or in information_schema
	RowSecurity bool
	Columns     []Column // by attnum-1
	// View is the tree of a view's query: pg_rewrite.ev_action.
	View string
	// Root is the topmost partitioned table, under whose name the stream sends
	// the changes; zero when the relation is not a partition.
	Root viewlet.TableName
	// Heirs are the tables that inherit from it, and do not partition it.
	Heirs []viewlet.TableName
}

// Column is one column of a Relation. A dropped one has no name.
type Column struct {
	Name      string
	SQL       string // its name as SQL writes it
	Type      string // as SQL writes it, without length or precision
	NotNull   bool
	Generated bool // the stream leaves it out
}

// Function is what pg_proc says of a function.
type Function struct {
	Schema, Name string
	Volatility   byte   // pg_proc.provolatile: i immutable, s stable, v volatile
	Definition   string // identifies what it does; empty for those of Postgres
}

// Operator is what pg_operator says of an operator.
type Operator struct {
	Schema, Name string
	Left, Right  uint32 // pg_type.oid
	// Equality reports whether a btree or hash operator family has it as its
	// equality.
	//
	// https://www.postgresql.org/docs/current/btree.html
	Equality bool
}

// OIDs are what trees refer to, each once and sorted.
type OIDs struct{ Relations, Functions, Operators, Types, Collations []uint32 }

// References reads what the trees refer to. Those of the views among the
// relations are trees to be read as well.
func References(trees ...string) (OIDs, error) {
	relations, functions, operators := oidSet{}, oidSet{}, oidSet{}
	types, collations := oidSet{}, oidSet{}
	for _, text := range trees {
		tree, err := parseTree(text)
		if err != nil {
			return OIDs{}, fmt.Errorf("analyse query: %w", err)
		}
		tree.walk(func(n *node) bool {
			relations.add(n, "relid")
			functions.add(n, functionFields...)
			operators.add(n, "opno")
			types.add(n, "vartype", "paramtype", "resulttype")
			collations.add(n, "inputcollid", "varcollid")
			return true
		})
	}
	return OIDs{relations.sorted(), functions.sorted(), operators.sorted(), types.sorted(), collations.sorted()}, nil
}

// functionFields are where nodes keep the function that they call.
var functionFields = []string{"funcid", "opfuncid", "aggfnoid", "winfnoid"}

type oidSet map[uint32]bool

func (s oidSet) add(n *node, fields ...string) {
	for _, f := range fields {
		if oid := n.oid(f); oid != 0 {
			s[oid] = true
		}
	}
}

func (s oidSet) sorted() []uint32 { return slices.Sorted(maps.Keys(s)) }

// https://www.postgresql.org/docs/current/catalog-pg-type.html
const (
	boolType        = 16
	byteaType       = 17
	charType        = 18
	nameType        = 19
	int8Type        = 20
	int2Type        = 21
	int4Type        = 23
	textType        = 25
	oidType         = 26
	dateType        = 1082
	varcharType     = 1043
	timestampType   = 1114
	timestamptzType = 1184
	uuidType        = 2950
	anyEnumType     = 3500
)

// textFamily gives types between which equal values have equal texts the same
// number; 0 where equal values may differ in text, as 1.5 and 1.50 do.
func (c *Catalog) textFamily(typ uint32) uint32 {
	switch typ = c.base(typ); typ {
	case int2Type, int4Type, int8Type:
		return int8Type
	case textType, varcharType, nameType:
		return textType
	case boolType, byteaType, charType, oidType, uuidType, dateType, timestampType, timestamptzType:
		return typ
	}
	if c.Enums[typ] {
		return typ
	}
	return 0
}

func (c *Catalog) enum(typ uint32) bool { return c.Enums[c.base(typ)] }

func (c *Catalog) base(typ uint32) uint32 {
	if base, ok := c.Bases[typ]; ok {
		return base
	}
	return typ
}
