package derive

import (
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
	// Types gives each type as SQL writes it, without length or precision, by
	// pg_type.oid.
	Types map[uint32]string
	// Elements gives what each array type, no domain, is an array of, by
	// pg_type.oid.
	Elements map[uint32]uint32
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
	View        Tree     // of a view's query
	// Root is the topmost partitioned table, under whose name the stream sends
	// the changes; zero when the relation is not a partition.
	Root viewlet.TableName
	// Heirs are the tables that inherit from it, and do not partition it.
	Heirs []viewlet.TableName
	// Unseen are its partitions, and tables that inherit from it, of which the
	// stream does not tell: foreign and unlogged ones. Those of other sessions'
	// temporary tables nobody else reads.
	Unseen []*Relation
}

// Column is one column of a Relation. A dropped one has no name.
type Column struct {
	Name      string
	SQL       string // its name as SQL writes it
	Type      string // as SQL writes it, without length or precision
	Collation string // as SQL writes it; empty: none, or the database's
	// Single: there are no arrays of its type, as of arrays. A param of it has to
	// come as a text.
	Single    bool
	NotNull   bool
	Generated bool // the stream leaves it out
}

// Function is what pg_proc says of a function.
type Function struct {
	Schema, Name string
	SQL          string // its name as SQL writes it, with the schema unless that is pg_catalog
	Volatility   byte   // pg_proc.provolatile: i immutable, s stable, v volatile
	Strict       bool   // it gives NULL where an argument is NULL
	Definition   string // identifies what it does; empty for those of Postgres
}

// widens reports whether an expression makes an integer of another one.
func (c *Catalog) widens(e *node) bool {
	f, args := c.Functions[e.oid("funcid")], e.list("args")
	if !e.is("FUNCEXPR") || f == nil || f.Schema != "pg_catalog" || f.Name != "int2" && f.Name != "int4" && f.Name != "int8" || len(args) != 1 {
		return false
	}
	for _, field := range []string{"vartype", "paramtype", "funcresulttype", "resulttype"} {
		if typ := args[0].node.oid(field); typ != 0 {
			return c.textForm(form{typ: typ}).typ == int8Type
		}
	}
	return false
}

// Operator is what pg_operator says of an operator.
type Operator struct {
	Schema, Name string
	Left, Right  uint32 // pg_type.oid
	// LeftType and RightType are the types as SQL writes them; empty: it takes
	// several, as those of enumerations and arrays do.
	LeftType, RightType string
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
func References(trees ...Tree) OIDs {
	relations, functions, operators := oidSet{}, oidSet{}, oidSet{}
	types, collations := oidSet{}, oidSet{}
	for _, t := range trees {
		t.root.walk(func(n *node) bool {
			relations.add(n, "relid")
			functions.add(n, functionFields...)
			operators.add(n, "opno")
			types.add(n, "vartype", "paramtype", "resulttype", "consttype", "funcresulttype", "opresulttype")
			collations.add(n, "inputcollid", "varcollid")
			return true
		})
	}
	return OIDs{relations.sorted(), functions.sorted(), operators.sorted(), types.sorted(), collations.sorted()}
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
	textArrayType   = 1009
	intervalType    = 1186
	jsonType        = 114
	jsonbType       = 3802
	boolType        = 16
	byteaType       = 17
	charType        = 18
	nameType        = 19
	int8Type        = 20
	int2Type        = 21
	int4Type        = 23
	textType        = 25
	oidType         = 26
	inetType        = 869
	macaddrType     = 829
	bpcharType      = 1042
	dateType        = 1082
	timeType        = 1083
	varcharType     = 1043
	timestampType   = 1114
	timestamptzType = 1184
	timetzType      = 1266
	numericType     = 1700
	uuidType        = 2950
	anyEnumType     = 3500
	anyArrayType    = 2277
)

// form is a type with its modifier: numeric(8,2), char(3).
type form struct {
	typ uint32 // pg_type.oid
	mod int    // pg_attribute.atttypmod; -1: none
}

// textForm gives the same for types between which equal values have equal
// texts. The zero form is for those where they may differ, as 1.5 and 1.50 do
// in numeric; in numeric(8,2) and char(3) all have as many digits and blanks.
func (c *Catalog) textForm(f form) form {
	switch base := c.base(f.typ); base {
	case int2Type, int4Type, int8Type:
		return form{typ: int8Type}
	case textType, varcharType, nameType:
		return form{typ: textType}
	case boolType, byteaType, charType, oidType, uuidType, dateType, timeType, timetzType, timestampType, timestamptzType, inetType, macaddrType:
		return form{typ: base}
	case bpcharType, numericType:
		if f.typ == base && f.mod >= varhdrsz {
			return form{typ: base, mod: c.padded(f)}
		}
	default:
		if c.Enums[base] {
			return form{typ: base}
		}
	}
	return form{}
}

// sameTexts reports whether a value of the one form has the same text in the
// other, when no more than its type is another: a cidr's is not that of an inet.
func (c *Catalog) sameTexts(x, y form) bool {
	return c.base(x.typ) == c.base(y.typ) || c.textForm(x) != form{} && c.textForm(x) == c.textForm(y)
}

// sameForm reports whether values of the two forms that are equal have the same
// text.
func (c *Catalog) sameForm(x, y form) bool {
	return c.textForm(x) != form{} && c.textForm(x) == c.textForm(y)
}

// varhdrsz is what Postgres adds to the length that a modifier stands for.
const varhdrsz = 4

// padded gives how many characters, or digits behind the point, the text of
// each value has.
func (c *Catalog) padded(f form) int {
	if f.typ == numericType {
		return varhdrsz + (f.mod-varhdrsz)&0x7ff // numeric_typmod_scale
	}
	return f.mod
}

func (c *Catalog) enum(typ uint32) bool { return c.Enums[c.base(typ)] }

func (c *Catalog) base(typ uint32) uint32 {
	if base, ok := c.Bases[typ]; ok {
		return base
	}
	return typ
}

// named reports whether a value's text is the name of something, which has its
// schema or has not, as the search_path is: regclass and its like.
//
// https://www.postgresql.org/docs/current/datatype-oid.html
func (c *Catalog) named(typ uint32) bool {
	switch c.base(typ) {
	case 24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191:
		return true
	}
	return false
}
