package derive

import (
	"fmt"
	"slices"
	"strings"
)

// rules turns plans into rules. Those that refresh the same of one table are
// one.
func (d *deriver) rules(plans map[*source][]*plan) []Rule {
	var rules []Rule
	for _, s := range d.tables {
		for _, p := range plans[s] {
			r := d.rule(s, p)
			for _, t := range s.published() {
				if r.Table = t; d.Written == nil || !d.Written(t) {
					rules = merge(rules, r)
				}
			}
		}
	}
	d.nameLookups(rules)
	return rules
}

func merge(rules []Rule, r Rule) []Rule {
	i := slices.IndexFunc(rules, func(o Rule) bool { return o.Table == r.Table && o.target() == r.target() })
	if i < 0 {
		return append(rules, r)
	}
	o := &rules[i]
	o.Every, o.Touched = o.Every || r.Every, o.Touched || r.Touched
	for _, c := range r.Columns {
		if !slices.Contains(o.Columns, c) {
			o.Columns = append(o.Columns, c)
		}
	}
	if o.Every {
		o.Columns = nil
	}
	if !slices.Contains(strings.Split(o.Why, "; "), r.Why) {
		o.Why += "; " + r.Why
	}
	return rules
}

// target tells rules apart by what they refresh.
func (r Rule) target() string {
	s := fmt.Sprint(r.Args)
	if r.Lookup != nil {
		s += fmt.Sprint(r.Lookup.Columns, r.Lookup.SQL)
	}
	return s
}

func (d *deriver) rule(s *source, p *plan) Rule {
	r := Rule{Viewlet: d.Viewlet, Why: d.why(p)}
	r.Columns, r.Every = s.columns()
	r.Touched = s.read[xminColumn]
	first, last := 0, -1
	for i := range p.from {
		if p.from[i] != (ref{}) || p.direct[i].computed() != nil {
			if last < 0 {
				first = i
			}
			last = i
		}
	}
	w := newWriter(p)
	var selected []string
	for i := range p.from {
		switch {
		case i < first || i > last:
			r.Args = append(r.Args, Arg{Column: p.direct[i].known().Name})
		case p.from[i] != (ref{}):
			selected = append(selected, w.column(p.from[i])+" AS "+d.Params[i])
		default:
			selected = append(selected, w.input(p.direct[i], true)+" AS "+d.Params[i])
		}
		if i == first && i <= last {
			r.Args = append(r.Args, Arg{})
		}
	}
	if last >= 0 {
		w.lookup.SQL = w.query(selected)
		r.Lookup = w.lookup
	}
	return r
}

// columns gives those that the query reads of the source. A generated one is
// not sent, and made of others.
func (s *source) columns() (names []string, every bool) {
	if s.read[0] || s.read[xminColumn] {
		return nil, true
	}
	for i, c := range s.table.Columns {
		if s.read[i+1] && c.Name != "" {
			if c.Generated {
				return nil, true
			}
			names = append(names, c.Name)
		}
	}
	return names, false
}

// why writes the equalities that lead from the row to the params.
func (d *deriver) why(p *plan) string {
	if d.params == 0 {
		return "the query reads it"
	}
	var said []string
	say := func(format string, args ...any) {
		if s := fmt.Sprintf(format, args...); !slices.Contains(said, s) {
			said = append(said, s)
		}
	}
	for _, h := range p.hops {
		say("%s = %s", h.from.called(), h.to.called())
	}
	for i, name := range d.Params {
		r := p.direct[i]
		if r == (ref{}) {
			r = p.from[i]
		}
		say("%s = @%s", r.called(), name)
	}
	return strings.Join(said, ", ")
}

func (r ref) called() string {
	if c := r.computed(); c != nil {
		return c.said()
	}
	name := r.source.name
	if name == "" {
		name = r.source.table.Name
	}
	return name + "." + r.known().Name
}

// nameLookups names each after the viewlet and the table, with a number where
// that is taken; the same query is the same lookup.
func (d *deriver) nameLookups(rules []Rule) {
	bySQL := map[string]*Lookup{}
	used := map[string]bool{}
	for i := range rules {
		l := rules[i].Lookup
		if l == nil {
			continue
		}
		shape := strings.Join(l.Params, ",") + " " + l.SQL
		if known := bySQL[shape]; known != nil {
			l.Name = known.Name
			continue
		}
		name := d.Viewlet + "_of_" + identifier(rules[i].Table.Name)
		l.Name = name
		for n := 2; used[l.Name] || d.Taken != nil && d.Taken(l.Name); n++ {
			l.Name = fmt.Sprintf("%s_%d", name, n)
		}
		used[l.Name], bySQL[shape] = true, l
	}
}

// identifier makes a name of rules.hcl of a table's.
func identifier(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name)
}

// instances selects the params of every row that the whole query can have.
func (d *deriver) instances(top *level) string {
	if d.params == 0 {
		return ""
	}
	if top.always() && top.root != nil {
		d.limits.add(Limit{
			Name: "all", Reason: "The query has a row whatever its params are, so nothing tells which fragments there are.",
			Remedy: `Write all = "SELECT ...".`,
		})
		return ""
	}
	var parts []string
	for _, f := range factsOf(d.catalog, top, nil) {
		sql, missing := d.instancesOf(&plan{classes: f.classes()})
		if missing > 0 {
			d.limits.add(Limit{
				Name: "all", Reason: fmt.Sprintf("No equality tells which @%s there are.", d.Params[missing-1]),
				Remedy: `Write all = "SELECT ...".`,
			})
			return ""
		}
		if !slices.Contains(parts, sql) {
			parts = append(parts, sql)
		}
	}
	return strings.Join(parts, " UNION ")
}

// instancesOf starts from the source that has the most params, and goes from
// there to the others where an equality leads to them.
func (d *deriver) instancesOf(p *plan) (sql string, missing int) {
	var start *source
	most := 0
	for _, s := range d.order {
		has := 0
		for i := range d.params {
			if c := p.classOf(i + 1); c != nil && len(c.of(s)) > 0 {
				has++
			}
		}
		if has > most {
			start, most = s, has
		}
	}
	if start == nil {
		return "", 1
	}
	everything := map[*source]bool{}
	for _, s := range d.order {
		everything[s] = true
	}
	walk := &plan{classes: p.classes, origin: start}
	visited, back := walk.visit(&d.solver, everything)
	p.tables = []*source{start}
	var sources []ref
	for i := range d.params {
		c := p.classOf(i + 1)
		if c == nil || len(c.columns) == 0 {
			return "", i + 1
		}
		at := slices.IndexFunc(visited, func(s *source) bool { return len(c.of(s)) > 0 })
		r := c.columns[0]
		if at >= 0 {
			r = c.of(visited[at])[0]
			walk.include(visited[at], back)
		} else if !slices.Contains(p.tables, r.source) {
			p.tables = append(p.tables, r.source)
		}
		sources = append(sources, r)
	}
	p.tables = append(p.tables, walk.tables...)
	w := newWriter(p)
	var columns []string
	for i, r := range sources {
		columns = append(columns, w.column(r)+" AS "+d.Params[i])
	}
	return w.query(columns), 0
}
