package derive

import (
	"fmt"
	"slices"
	"strings"
)

// computed is what Postgres computes of one row alone: an expression of its
// columns, or each element of an array that is one. It is NULL where a column
// that it reads is, so a row that an outer join makes of NULLs equals nothing.
type computed struct {
	Column // its Type; Generated: it reads a column that the stream leaves out
	words  []word
	form   form
	each   bool // the elements of what the words write
	json   bool // which is a jsonb: its strings, or its keys
	inner  ref  // of a level's outputs: the same of what they are made of; zero: not known
}

// word is a piece of an expression's SQL: text, or a column in its place.
type word struct {
	text string
	ref  ref
	cast bool // to what the value is anyway, as one who reads it sees it
}

// maxWords bounds what views over views of expressions unfold to.
const maxWords = 200

// computed gives what the ref stands for; nil: a column or a param.
func (r ref) computed() *computed {
	switch {
	case r.source != nil && r.source.table != nil && r.column > len(r.source.table.Columns):
		return r.source.computed[r.column-len(r.source.table.Columns)-1]
	case r.level != nil && r.column > len(r.level.outputs):
		return r.level.computed[r.column-len(r.level.outputs)-1]
	}
	return nil
}

// each is 1 for elements of an array, and 0 for what there is one of.
func (r ref) each() int {
	if c := r.computed(); c != nil && c.each {
		return 1
	}
	return 0
}

// compute gives the ref of an expression over the columns of one row.
func (l *level) compute(e *node) (ref, form, bool) {
	s := speller{catalog: l.catalog}
	typ := s.spell(l, e)
	if typ == 0 {
		return ref{}, form{}, false
	}
	c := &computed{words: s.words, form: form{typ, -1}}
	r, ok := l.catalog.intern(c)
	return r, c.form, ok
}

// element gives the ref of an array's elements: another one each time, since of
// two conditions on elements each is about one of its own.
func (l *level) element(array *node) (ref, form, bool) {
	s := speller{catalog: l.catalog}
	typ := l.catalog.Elements[l.catalog.base(s.spell(l, array))]
	if typ == 0 {
		return ref{}, form{}, false
	}
	c := &computed{words: s.words, form: form{typ, -1}, each: true}
	r, ok := l.catalog.intern(c)
	return r, c.form, ok
}

// keys gives the ref of what a jsonb has as jsonb ? text sees it.
//
// https://www.postgresql.org/docs/current/datatype-json.html#JSON-CONTAINMENT
func (l *level) keys(json *node) (ref, form, bool) {
	s := speller{catalog: l.catalog}
	if l.catalog.base(s.spell(l, json)) != jsonbType {
		return ref{}, form{}, false
	}
	c := &computed{words: s.words, form: form{textType, -1}, each: true, json: true}
	r, ok := l.catalog.intern(c)
	return r, c.form, ok
}

// intern adds the value to those of the row that it is computed of, unless it
// is among them.
func (c *Catalog) intern(v *computed) (ref, bool) {
	owner, ok := ownerOf(v.words)
	if v.Type = c.Types[v.form.typ]; !ok || v.Type == "" {
		return ref{}, false
	}
	all, columns := owner.computes()
	same := func(o *computed) bool { return !v.each && !o.each && slices.Equal(o.words, v.words) }
	i := slices.IndexFunc(*all, same)
	if i < 0 {
		i = len(*all)
		*all = append(*all, v)
		v.inner = c.within(owner.level, v)
		for _, w := range v.words {
			if w.ref.source != nil {
				v.Generated = v.Generated || w.ref.known().Generated
			}
			if w.ref.source != nil && w.ref.known().Collation != "" && c.textForm(v.form).typ == textType {
				v.Collation = w.ref.known().Collation
			}
		}
	}
	owner.column = columns + i + 1
	return owner, true
}

// ownerOf gives the one source or level whose columns the words name, as a ref
// without a column.
func ownerOf(words []word) (owner ref, ok bool) {
	for _, w := range words {
		r := w.ref
		if r.column = 0; r == (ref{}) {
			continue
		}
		if ok && r != owner {
			return ref{}, false
		}
		owner, ok = r, true
	}
	return owner, ok
}

// computes gives the values that are computed of an owner's rows, and behind
// how many columns they are numbered.
func (r ref) computes() (all *[]*computed, columns int) {
	if r.source != nil {
		return &r.source.computed, len(r.source.table.Columns)
	}
	return &r.level.computed, len(r.level.outputs)
}

// within gives the same value one level further in, in place of each output
// what is selected for it; the zero ref if that is not of one row alone.
func (c *Catalog) within(l *level, v *computed) ref {
	if l == nil || l.root == nil {
		return ref{}
	}
	s := speller{catalog: c}
	for _, w := range v.words {
		if w.ref == (ref{}) {
			s.words = append(s.words, w)
		} else if s.spell(l, l.outputs[w.ref.column-1]) == 0 {
			return ref{}
		}
	}
	r, _ := c.intern(&computed{words: s.words, form: v.form, each: v.each, json: v.json})
	return r
}

// speller writes an expression as SQL that computes the same of the same
// values, wherever it stands: each column, constant and cast has its type, so
// that functions and operators are found that are those of the tree.
type speller struct {
	catalog *Catalog
	words   []word
	why     string // it cannot be written
	depth   int
}

// refuse notes why, in words that follow "the expression".
func (s *speller) refuse(why string, args ...any) uint32 {
	if s.why == "" {
		s.why = fmt.Sprintf(why, args...)
	}
	return 0
}

func (s *speller) text(text string) { s.words = append(s.words, word{text: text}) }

func (s *speller) cast(typ uint32, implied bool) uint32 {
	name := s.catalog.Types[typ]
	if name == "" {
		return s.refuse("has a type that is not in the catalog")
	}
	s.words = append(s.words, word{text: "::" + name, cast: implied})
	return typ
}

// spell writes an expression and gives its type; 0 when it is not one that
// follows from its columns alone, gives NULL where one of them is NULL, and
// fails for no value.
func (s *speller) spell(l *level, e *node) (typ uint32) {
	if s.depth++; s.depth > maxWords || len(s.words) > maxWords {
		return s.refuse("is too long")
	}
	defer func() { s.depth-- }()
	switch {
	case e.is("VAR"):
		return s.column(l, e)
	case e.is("CONST"):
		return s.constant(e)
	case e.is("FUNCEXPR"):
		return s.call(l, e)
	case e.is("OPEXPR"):
		return s.operation(l, e)
	case e.is("COERCETODOMAIN"):
		return s.spell(l, e.child("arg"))
	case e.is("RELABELTYPE"):
		if s.spell(l, e.child("arg")) == 0 {
			return 0
		}
		return s.cast(e.oid("resulttype"), e.text("relabelformat") == implicitCast)
	case e.is("ARRAYCOERCEEXPR") && sameElements(e.child("elemexpr")):
		if s.spell(l, e.child("arg")) == 0 {
			return 0
		}
		return s.cast(e.oid("resulttype"), e.text("coerceformat") == implicitCast)
	case e.is("COERCEVIAIO"):
		return s.convert(l, e)
	case e.is("PARAM"):
		return s.refuse("has a param in it")
	}
	return s.refuse("is more than functions, operators and casts that give NULL for NULL")
}

// sameElements reports whether an array is cast without a change to its
// elements' bytes, as from varchar[] to text[].
func sameElements(element *node) bool {
	for element.is("RELABELTYPE") {
		element = element.child("arg")
	}
	return element.is("CASETESTEXPR")
}

// CoercionForm is in Postgres's primnodes.h.
const (
	explicitCast = "1"
	implicitCast = "2"
)

// column writes what a variable is.
func (s *speller) column(l *level, v *node) uint32 {
	typ := v.oid("vartype")
	r, f, ok := l.ref(v, nil)
	if !ok || r.param > 0 || f.typ != typ || r.source != nil && (r.source.table == nil || r.known() == nil) {
		return s.refuse("reads what is no column of a table")
	}
	if c := r.computed(); c != nil {
		if s.words = append(s.words, c.words...); c.each {
			return s.refuse("reads the elements of an array")
		}
		return typ
	}
	if s.catalog.named(typ) {
		return s.refuse("reads a %s, whose text depends on the search_path", s.catalog.Types[typ])
	}
	s.words = append(s.words, word{ref: r})
	owner, one := ownerOf(s.words)
	switch {
	case !one:
		return s.refuse("reads more than one table")
	case owner.source != nil && len(s.collations()) > 1:
		return s.refuse("reads columns of several collations")
	}
	return typ
}

func (s *speller) collations() map[string]bool {
	all := map[string]bool{}
	for _, w := range s.words {
		if w.ref.source != nil && w.ref.known().Collation != "" {
			all[w.ref.known().Collation] = true
		}
	}
	return all
}

// call writes a function, and a cast that is one as a cast.
func (s *speller) call(l *level, e *node) uint32 {
	f, args := s.catalog.Functions[e.oid("funcid")], e.list("args")
	switch {
	case f == nil:
		return s.refuse("calls a function that is not in the catalog")
	case !s.follows(f):
		return 0
	case s.varies(f, args):
		return 0
	case e.flag("funcretset") || e.flag("funcvariadic"):
		return s.refuse("calls %s, which gives rows or takes any number of arguments", f.called())
	}
	form := e.text("funcformat")
	if len(args) == 1 && (form == explicitCast || form == implicitCast) {
		if typ := s.spell(l, args[0].node); typ == 0 || s.fails(f, typ) {
			return 0
		}
		return s.cast(e.oid("funcresulttype"), form == implicitCast)
	}
	s.text(f.SQL + "(")
	for i, arg := range args {
		if i > 0 {
			s.text(", ")
		}
		typ := s.spell(l, arg.node)
		if typ == 0 || i == 0 && s.fails(f, typ) {
			return 0
		}
	}
	s.text(")")
	return e.oid("funcresulttype")
}

// follows reports whether what a function gives follows from its arguments,
// and is NULL if one is.
func (s *speller) follows(f *Function) bool {
	switch {
	case f.Volatility != 'i':
		s.refuse("calls %s, which is not immutable", f.called())
	case f.Schema == "pg_catalog" && partial[f.Name]:
		s.refuse("calls %s, which fails for some values", f.called())
	case !f.Strict && f.Schema == "pg_catalog" && !nullForNull[f.Name]:
		s.refuse("calls %s, which may give something for NULL", f.called())
	case !f.Strict && f.Schema != "pg_catalog":
		s.refuse("calls %s, which may give something for NULL: if it does not, declare it STRICT", f.called())
	default:
		return true
	}
	return false
}

// fails reports whether a function fails for some values of its argument: to
// make a number of a jsonb takes one that is a number.
func (s *speller) fails(f *Function, typ uint32) bool {
	if f.Schema == "pg_catalog" && s.catalog.base(typ) == jsonbType && ofJSON[f.Name] {
		s.refuse("makes a %s of a jsonb, which fails for some", f.Name)
		return true
	}
	return false
}

// varies reports whether a function gets a column where it fails for some
// values, or where NULL does not give NULL: a divisor may be 0.
func (s *speller) varies(f *Function, args []value) bool {
	divides := strings.Contains(f.Name, "div") || strings.HasSuffix(f.Name, "mod")
	given := args[min(1, len(args)):]
	if ofLast[f.Name] {
		given = args[:max(0, len(args)-1)]
	}
	if f.Schema != "pg_catalog" || !divides && !ofFirst[f.Name] && !ofLast[f.Name] {
		return false
	}
	reads := false
	for _, arg := range given {
		arg.walk(func(n *node) bool {
			reads = reads || n.is("VAR")
			return true
		})
	}
	if reads {
		s.refuse("calls %s with a column where it takes only some values", f.called())
	}
	return reads
}

// ofFirst are functions that work for all values of their first argument, with
// the others being right.
var ofFirst = wordSet(`
	bpchariclike bpcharicnlike bpcharicregexeq bpcharicregexne bpcharlike bpcharnlike bpcharregexeq bpcharregexne
	bytealike byteanlike encode like_escape lpad nameiclike nameicnlike nameicregexeq nameicregexne namelike namenlike
	nameregexeq nameregexne overlay regexp_count regexp_instr regexp_like regexp_match regexp_replace
	regexp_split_to_array regexp_substr repeat rpad split_part string_to_array substr substring texticlike texticnlike
	texticregexeq texticregexne textlike textnlike textregexeq textregexne width_bucket`)

// ofLast are those that do for all values of their last.
var ofLast = wordSet("date_part date_trunc extract timezone")

// partial are the immutable functions of Postgres that fail for values that a
// column may well have, where a WHERE may have another condition that lets only
// those through that it takes: the lookup would fail for all others.
var partial = wordSet(`
	acos acosd acosh array_to_tsvector asin asind atanh bitand bitor bitxor chr convert_from decode dpow dsqrt factorial
	get_bit get_byte inet_merge inetand inetmi inetor json_array_length json_object jsonb_array_length jsonb_delete
	jsonb_delete_path jsonb_insert jsonb_object jsonb_set ln log make_date make_interval make_time make_timestamp
	numeric_power parse_ident pow power range_minus range_union set_bit set_byte set_masklen sqrt trim_array unistr
	xmlcomment xpath xpath_exists`)

var ofJSON = wordSet("bool float4 float8 int2 int4 int8 numeric")

// nullForNull are functions that are not declared STRICT and give NULL where
// their first argument is NULL.
var nullForNull = wordSet("string_to_array")

func (f *Function) called() string {
	if f.Schema == "pg_catalog" {
		return f.Name
	}
	return f.Schema + "." + f.Name
}

// operation writes an operator with its one or two operands.
func (s *speller) operation(l *level, e *node) uint32 {
	op, f, args := s.catalog.Operators[e.oid("opno")], s.catalog.Functions[e.oid("opfuncid")], e.list("args")
	if op == nil || f == nil || e.flag("opretset") || len(args) == 0 || len(args) > 2 {
		return s.refuse("has an operator that is not in the catalog")
	}
	if !s.follows(f) || s.varies(f, args) {
		return 0
	}
	s.text("(")
	if len(args) == 1 {
		s.text(op.sql() + " ")
	} else if s.spell(l, args[0].node) == 0 {
		return 0
	} else {
		s.text(" " + op.sql() + " ")
	}
	if s.spell(l, args[len(args)-1].node) == 0 {
		return 0
	}
	s.text(")")
	return e.oid("opresulttype")
}

// convert writes a cast that goes over the text form. To a text it always
// works, and for these types depends on no setting; from a text it fails for
// some.
func (s *speller) convert(l *level, e *node) uint32 {
	typ := s.spell(l, e.child("arg"))
	if typ == 0 {
		return 0
	}
	to := e.oid("resulttype")
	if base := s.catalog.base(to); base != textType && base != varcharType {
		return s.refuse("casts to %s, which fails for some texts", s.catalog.Types[to])
	}
	switch base := s.catalog.base(typ); base {
	case int2Type, int4Type, int8Type, boolType, uuidType, oidType, numericType, textType, varcharType, nameType, charType, jsonType, jsonbType:
		return s.cast(to, e.text("coerceformat") == implicitCast)
	default:
		return s.refuse("casts %s to a text, which depends on settings", s.catalog.Types[typ])
	}
}

// why says why an expression gives no ref; empty: it does, or is none.
func (l *level) why(e *node) string {
	s := speller{catalog: l.catalog}
	s.spell(l, l.withoutCasts(e))
	return s.why
}

// said writes the words as the query might have them.
func (c *computed) said() string {
	var b strings.Builder
	if c.each {
		b.WriteString("ANY(")
	}
	if c.json {
		b.WriteString("keys of ")
	}
	for _, w := range c.words {
		switch {
		case w.ref != (ref{}):
			b.WriteString(w.ref.called())
		case !w.cast:
			b.WriteString(w.text)
		}
	}
	if c.each {
		b.WriteByte(')')
	}
	return b.String()
}
