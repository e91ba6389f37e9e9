package derive

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Lookup is a query that finds arguments by columns of the changed row.
type Lookup struct {
	Name    string
	Params  []string // names, as @name in SQL
	Columns []string // of the row, by Params
	SQL     string
}

// writer writes a plan's SQL.
type writer struct {
	*plan
	names  map[*source]string
	lookup *Lookup
	// elements are the names in FROM of arrays' elements, which stand there
	// behind the tables.
	elements map[ref]string
	unnested []string
}

func newWriter(p *plan) *writer {
	w := &writer{plan: p, names: map[*source]string{}, lookup: &Lookup{}, elements: map[ref]string{}}
	used := map[string]bool{}
	for _, t := range p.tables {
		name := t.table.Name
		if !plainName.MatchString(name) {
			name = "t"
		}
		unique := name
		for i := 2; used[unique]; i++ {
			unique = fmt.Sprintf("%s_%d", name, i)
		}
		used[unique] = true
		w.names[t] = unique
	}
	return w
}

// plainName matches names that need no quotes, but for reserved words.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// query writes a SELECT of the columns.
func (w *writer) query(columns []string) string {
	var from []string
	for _, t := range w.tables {
		from = append(from, t.table.SQL+w.alias(t))
	}
	where := w.conditions()
	if from = append(from, w.unnested...); len(from) == 0 {
		return "SELECT " + strings.Join(columns, ", ")
	}
	sql := "SELECT DISTINCT " + strings.Join(columns, ", ") + " FROM " + strings.Join(from, ", ")
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	return sql
}

// alias is needed where a table is there twice, or its name is odd.
func (w *writer) alias(t *source) string {
	if len(w.tables) == 1 || w.names[t] == t.table.Name {
		return ""
	}
	return " AS " + w.names[t]
}

// column writes a table's column, with the table unless there is only one. A
// table whose name is a reserved word needs its quotes here, too.
func (w *writer) column(r ref) string {
	if c := r.computed(); c != nil {
		return w.computed(r, c, w.column)
	}
	name := w.names[r.source]
	switch {
	case len(w.tables) == 1:
		return r.known().SQL
	case name == r.source.table.Name && strings.HasSuffix(r.source.table.SQL, `"`):
		name = `"` + name + `"`
	}
	return name + "." + r.known().SQL
}

// conditions writes what holds between the tables, and the changed row.
func (w *writer) conditions() []string {
	var where []string
	for _, c := range w.classes {
		terms := w.terms(c)
		if len(terms) == 0 {
			continue
		}
		for _, t := range terms[1:] {
			where = append(where, w.holds(t, terms[0]))
		}
	}
	for i, c := range w.classes {
		for _, t := range c.equal {
			a, b := w.terms(c), w.terms(t.class)
			if t.swapped || slices.Index(w.classes, t.class) == i || len(a) == 0 || len(b) == 0 {
				continue
			}
			x, y := a[len(a)-1], b[len(b)-1]
			if x.source == w.origin && t.op.Left == t.op.Right {
				x, y = y, x
			}
			if x.source != w.origin || y.source != w.origin {
				where = append(where, w.term(x, y)+as(x, t.op.LeftType)+" "+t.op.sql()+" "+w.term(y, x)+as(y, t.op.RightType))
			}
		}
	}
	return where
}

// holds writes that a column is one that was there before it. Of an array whose
// elements nothing else names it says that the other is among them, in the form
// that an index can serve where the types are the same.
//
// https://www.postgresql.org/docs/current/gin.html
func (w *writer) holds(r, first ref) string {
	c, of := r.computed(), first.known()
	switch {
	case c == nil || !c.each || w.elements[r] != "":
		return w.column(r) + " = " + w.term(first, r) + w.collation(r, first)
	case c.json:
		return w.spelled(c, w.column) + " ? " + w.typed(first) + "::text"
	case c.Type == of.Type:
		return w.spelled(c, w.column) + " @> ARRAY[" + w.typed(first) + "]"
	}
	return w.term(first, r) + " = ANY(" + w.spelled(c, w.column) + ")"
}

// collation writes the one by which two columns are compared that have another
// one each. What is equal is the same by both.
//
// https://www.postgresql.org/docs/current/collation.html#COLLATION-CONCEPTS
func (w *writer) collation(r, first ref) string {
	a, b := r.known().Collation, first.known().Collation
	if first.source == w.origin || a == "" || b == "" || a == b {
		return ""
	}
	return " COLLATE " + a
}

// typed writes a column so that it has its type wherever it stands.
func (w *writer) typed(r ref) string {
	if r.source == w.origin {
		return w.input(r, true)
	}
	return w.column(r)
}

// as writes the cast that the query has where the operator takes another type.
// Without it the operator would be another: a citext and a text are compared
// as texts.
func as(r ref, typ string) string {
	if typ == "" || typ == r.known().Type {
		return ""
	}
	return "::" + typ
}

// terms gives the columns of a class that the query has: the changed row's
// first.
func (w *writer) terms(c *class) []ref {
	var terms []ref
	if w.origin != nil {
		if input, ok := c.sent(w.origin); ok {
			terms = append(terms, input)
		}
	}
	for _, t := range w.tables {
		terms = append(terms, c.of(t)...)
	}
	if len(terms) > 0 && terms[0].source != w.origin {
		slices.SortStableFunc(terms, func(a, b ref) int { return cmp.Compare(a.each(), b.each()) })
	}
	return terms
}

// term writes a column that is compared with another.
func (w *writer) term(r, with ref) string {
	if r.source == w.origin {
		return w.input(r, r.known().Type != with.known().Type)
	}
	return w.column(r)
}

// input writes a column of the changed row. What it is compared with may be of
// a narrower type, so it needs a cast to its own.
func (w *writer) input(r ref, cast bool) string {
	if c := r.computed(); c != nil {
		return w.computed(r, c, w.collated)
	}
	column := r.known()
	i := slices.Index(w.lookup.Columns, column.Name)
	if i < 0 {
		i = len(w.lookup.Columns)
		name := column.Name
		if !plainName.MatchString(name) || slices.Contains(w.lookup.Params, name) {
			name = fmt.Sprintf("column%d", r.column)
		}
		w.lookup.Columns = append(w.lookup.Columns, column.Name)
		w.lookup.Params = append(w.lookup.Params, name)
	}
	switch param := "@" + w.lookup.Params[i]; {
	case column.Single:
		return param + "::text::" + column.Type
	case cast:
		return param + "::" + column.Type
	default:
		return param
	}
}

// collated writes a column of the changed row as the table has it, which
// matters to what is computed of it: a text without a collation has the
// database's.
func (w *writer) collated(r ref) string {
	if collation := r.known().Collation; collation != "" {
		return "(" + w.input(r, true) + " COLLATE " + collation + ")"
	}
	return w.input(r, true)
}

// computed writes what is computed of columns. An array's elements stand in
// FROM, and here their name.
func (w *writer) computed(r ref, c *computed, column func(ref) string) string {
	if name := w.elements[r]; name != "" {
		return name
	}
	if !c.each {
		return w.spelled(c, column)
	}
	name := w.elementName()
	w.elements[r] = name
	array := w.spelled(c, column)
	if c.json {
		array = strings.ReplaceAll(stringsOfJSON, "$", array)
	}
	w.unnested = append(w.unnested, "unnest("+array+") AS "+name)
	return name
}

// stringsOfJSON is an array of what a jsonb $ has: an array's elements, an
// object's keys, or the text that it is.
const stringsOfJSON = `ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof($) WHEN 'array' THEN $ END)` +
	` UNION ALL SELECT jsonb_object_keys(CASE jsonb_typeof($) WHEN 'object' THEN $ END)` +
	` UNION ALL SELECT CASE jsonb_typeof($) WHEN 'string' THEN $ #>> '{}' END)`

func (w *writer) spelled(c *computed, column func(ref) string) string {
	var b strings.Builder
	for _, word := range c.words {
		if b.WriteString(word.text); word.ref != (ref{}) {
			b.WriteString(column(word.ref))
		}
	}
	return b.String()
}

// elementName gives a name that no column of the tables has.
func (w *writer) elementName() string {
	name := "element"
	for i := 2; w.used(name); i++ {
		name = fmt.Sprintf("element_%d", i)
	}
	return name
}

func (w *writer) used(name string) bool {
	for _, t := range w.tables {
		if w.names[t] == name || slices.ContainsFunc(t.table.Columns, func(c Column) bool { return c.Name == name }) {
			return true
		}
	}
	for _, other := range w.elements {
		if other == name {
			return true
		}
	}
	return false
}

func (o *Operator) sql() string {
	if o.Schema == "pg_catalog" {
		return o.Name
	}
	return fmt.Sprintf(`OPERATOR("%s".%s)`, strings.ReplaceAll(o.Schema, `"`, `""`), o.Name)
}
