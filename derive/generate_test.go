package derive_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// oddQueries are those that one would not think of at random.
var oddQueries = []string{
	"SELECT t1.c FROM t1 FULL JOIN t2 USING (a) WHERE a = @p1::int",
	"SELECT x.c, y.c FROM t1 x FULL JOIN t2 y ON x.a = y.a WHERE x.b = @p1::int",
	"SELECT x.c, y.c FROM t1 x FULL JOIN t2 y ON x.a = y.a AND x.b = @p1::int",
	"SELECT * FROM t1 NATURAL JOIN t2 WHERE a = @p1::int",
	"SELECT x.c FROM t1 x LEFT JOIN t2 y ON x.a = y.a LEFT JOIN t3 z ON z.a = y.b WHERE x.b = @p1::int AND z.c IS NULL",
	"SELECT x.c FROM t1 x WHERE x.b = @p1::int AND x.a NOT IN (SELECT a FROM t2)",
	"SELECT x.c FROM t1 x WHERE x.b = @p1::int AND x.a NOT IN (SELECT y.a FROM t2 y WHERE y.b = x.b)",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND x.b NOT IN (SELECT y.b FROM t3 y)",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND (x.b NOT IN (SELECT y.b FROM t3 y WHERE y.a = 1) OR x.c = '1')",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND x.b NOT IN (SELECT z.b FROM t1 y LEFT JOIN t3 z ON z.a = y.a)",
	"SELECT x.c FROM t1 w LEFT JOIN t3 x ON x.a = w.a WHERE w.b = @p1::int AND x.b NOT IN (SELECT y.b FROM t3 y)",
	"SELECT x.b IN (SELECT y.b FROM t3 y) FROM t3 x WHERE x.a = @p1::int",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND x.b NOT IN (SELECT s.b FROM (SELECT b FROM t3 ORDER BY b LIMIT 1) s)",
	"SELECT x.c FROM t1 x FULL JOIN (SELECT a::bigint AS a, b FROM t2) y USING (a) WHERE a = @p1::bigint",
	"SELECT x.c FROM t1 x JOIN t2 y ON x.b::int = y.a WHERE x.a::bigint = @p1::bigint AND y.d::int = @p1::int",
	"SELECT x.c FROM t1 x WHERE x.a = (SELECT max(y.a) FROM t2 y WHERE y.b = @p1::int)",
	"SELECT x.c FROM t1 x WHERE x.a = (SELECT y.a FROM t2 y WHERE y.b = @p1::int ORDER BY 1 LIMIT 1)",
	"SELECT (SELECT count(*) FROM t2 y WHERE y.a = x.a) FROM t1 x WHERE x.b = @p1::int",
	"SELECT count(*), (SELECT max(b) FROM t2) FROM t1 x WHERE x.b = @p1::int",
	"SELECT count(*), max((SELECT y.b FROM t2 y WHERE y.a = x.a ORDER BY 1 LIMIT 1)) FROM t1 x WHERE x.b = @p1::int",
	"SELECT s.a FROM (SELECT a, b, row_number() OVER (PARTITION BY b ORDER BY a, c, d) AS n FROM t1) s WHERE s.b = @p1::int AND s.n = 1",
	"SELECT s.a FROM (SELECT a, b, row_number() OVER (ORDER BY a, b, c, d) AS n FROM t1) s WHERE s.n = @p1::int",
	"SELECT s.a FROM (SELECT DISTINCT ON (a) a, b FROM t1 ORDER BY a, b, c, d) s WHERE s.b = @p1::int",
	"SELECT s.a FROM (SELECT DISTINCT ON (b) a, b FROM t1 ORDER BY b, a, c, d) s WHERE s.b = @p1::int",
	"SELECT s.a FROM (SELECT DISTINCT a, b FROM t1) s JOIN t2 ON t2.b = s.b WHERE t2.a = @p1::int",
	"SELECT a, count(*) FROM t1 GROUP BY a HAVING a = @p1::int",
	"SELECT a, b, count(*) FROM t1 GROUP BY GROUPING SETS ((a), (b)) HAVING a = @p1::int",
	"SELECT b FROM t1 WHERE a = @p1::int INTERSECT SELECT b FROM t2",
	"SELECT b FROM t3 WHERE a = @p1::int EXCEPT SELECT b FROM t2",
	"SELECT s.b FROM (SELECT a, b FROM t1 EXCEPT SELECT a, b FROM t2) s WHERE s.a = @p1::int",
	"SELECT s.b FROM (SELECT a, b FROM t1 UNION SELECT a, b FROM t2 ORDER BY 1, 2 LIMIT 2) s WHERE s.a = @p1::int",
	"WITH RECURSIVE r(a, b) AS (SELECT a, b FROM t1 WHERE b = @p1::int UNION SELECT t2.a, t2.b FROM t2 JOIN r ON r.a = t2.b) SELECT a FROM r",
	"WITH w AS (SELECT a, b FROM t1 WHERE c = '1') SELECT x.a FROM w x JOIN w y ON x.a = y.b WHERE x.b = @p1::int",
	"SELECT a FROM v1 WHERE b = @p1::int",
	"SELECT b FROM v2 WHERE a = @p1::int AND d > 0",
	"SELECT v3.b FROM v3 JOIN t1 ON t1.b = v3.b WHERE t1.a = @p1::int",
	"SELECT x.a FROM t1 x JOIN t2 y ON x.d = y.d WHERE y.b = @p1::int",
	"SELECT x.a FROM t1 x JOIN t2 y ON x.a = y.a WHERE x.b = @p1::int AND y.b = @p2::int",
	"SELECT x.a FROM t1 x JOIN t2 y ON x.a = y.a JOIN t3 z ON z.a = y.b WHERE x.b = @p1::int AND x.c = @p2::text",
	"SELECT x.a FROM t1 x JOIN t4 y ON x.a = y.a WHERE x.b = @p1::int AND y.b = @p1::int AND y.c = @p2::text",
	"SELECT x.a FROM t1 x LEFT JOIN LATERAL (SELECT y.b FROM t2 y WHERE y.a = x.a ORDER BY y.b LIMIT 1) s ON true WHERE x.b = @p1::int",
	"SELECT x.a FROM t1 x WHERE x.a = @p1::int OR EXISTS (SELECT FROM t2 y WHERE y.a = x.a AND y.b = @p1::int)",
	"SELECT x.a FROM t4_low x WHERE x.b = @p1::int",
	"SELECT s.x FROM (SELECT x FROM t1 x) s WHERE (s.x).a = @p1::int",
	"SELECT x.c FROM t1 x WHERE (@p1::int IS NULL OR x.a = @p1::int)",
	"SELECT x.c FROM t1 x LEFT JOIN t2 y ON y.a = x.a AND y.c = @p3::text WHERE x.b = @p1::int",
	"SELECT x.c FROM t1 x WHERE x.a = @p1::int AND (x.c, x.b) IN (SELECT y.c, y.b FROM t2 y WHERE y.d = 1)",
	"SELECT x.c FROM t3 x JOIN t3 y ON y.a = x.b WHERE x.a = @p1::int OR y.b = @p1::int",
	"SELECT count(*) FROM t1",
}

// generator writes random queries over tables and views. Of all that it may
// choose, the first is the simplest.
type generator struct {
	*tape
	relations []string
	names     int
}

// tape is what was chosen: the same choices make the same query, and fewer or
// lower ones a simpler one. Without any left it is random, or else takes the
// first.
type tape struct {
	rand    *rand.Rand // nil: none
	choices []int
	at      int
}

func (t *tape) IntN(n int) int {
	if t.at == len(t.choices) {
		choice := 0
		if t.rand != nil {
			choice = t.rand.IntN(n)
		}
		t.choices = append(t.choices, choice)
	}
	t.choices[t.at] %= n
	t.at++
	return t.choices[t.at-1]
}

// sketch is a query, and the choices that it was made by; nil: we thought of it.
type sketch struct {
	sql     string
	choices []int
}

// scope is what may be named: columns by whether they are numbers, texts or
// numerics.
type scope struct{ ints, texts, numerics []string }

func generate(r *rand.Rand, relations []string, n int) []sketch {
	all := make([]sketch, n)
	for i := range all {
		all[i] = draw(&tape{rand: r}, relations)
	}
	return all
}

func draw(t *tape, relations []string) sketch {
	g := &generator{tape: t, relations: relations}
	sql := g.query(2, scope{}, 1+g.IntN(2), true)
	return sketch{sql, t.choices[:t.at]}
}

func thought(queries []string) []sketch {
	all := make([]sketch, len(queries))
	for i, sql := range queries {
		all[i].sql = sql
	}
	return all
}

func (g *generator) one(words []string) string { return words[g.IntN(len(words))] }

func (s scope) with(o scope) scope {
	return scope{
		append(append([]string{}, s.ints...), o.ints...),
		append(append([]string{}, s.texts...), o.texts...),
		append(append([]string{}, s.numerics...), o.numerics...),
	}
}

// query writes a SELECT of n bigint columns.
func (g *generator) query(depth int, outer scope, n int, top bool) string {
	if depth > 0 && g.IntN(8) == 7 {
		return fmt.Sprintf("%s %s %s", g.query(depth-1, outer, n, false), g.one([]string{"UNION", "UNION ALL", "INTERSECT", "EXCEPT"}), g.query(depth-1, outer, n, false))
	}
	from, inner := g.from(depth, outer)
	in := outer.with(inner)
	where := g.conds(depth, in, 3)
	if top && g.IntN(3) < 2 {
		where += fmt.Sprintf(" AND %s = @p1::int", g.one(inner.ints))
	}
	var columns []string
	for range n {
		columns = append(columns, g.one(inner.ints))
	}
	switch 8 - g.IntN(9) {
	case 0:
		grouped := g.one(inner.ints)
		columns[0] = grouped
		for i := 1; i < n; i++ {
			columns[i] = fmt.Sprintf("count(%s)", g.one(inner.ints))
		}
		return fmt.Sprintf("SELECT %s FROM %s WHERE %s GROUP BY %s", strings.Join(columns, ", "), from, where, grouped)
	case 1:
		for i := range columns {
			columns[i] = fmt.Sprintf("max(%s)", columns[i])
		}
		return fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(columns, ", "), from, where)
	case 2:
		return fmt.Sprintf("(SELECT DISTINCT %s FROM %s WHERE %s ORDER BY %s LIMIT 2)", strings.Join(columns, ", "), from, where, places(n))
	case 3:
		columns[n-1] = fmt.Sprintf("rank() OVER (PARTITION BY %s ORDER BY %s)", g.one(inner.ints), g.one(inner.ints))
	case 4:
		if depth > 0 {
			columns[n-1] = "(SELECT max(s.o1) FROM (" + g.query(depth-1, in, 1, false) + ") s(o1))"
		}
	}
	return fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(columns, ", "), from, where)
}

func places(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i+1))
	}
	return strings.Join(all, ", ")
}

func (g *generator) from(depth int, outer scope) (string, scope) {
	text, s := g.item(depth, outer)
	for n := 0; n < 2 && g.IntN(3) > 0; n++ { // so that what is chosen for one join stands together
		kind := g.one([]string{"JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN LATERAL"})
		beside := outer
		if strings.Contains(kind, "LATERAL") {
			beside = outer.with(s)
		}
		next, inner := g.item(depth, beside)
		on := " ON " + g.one(s.ints) + " = " + g.one(inner.ints)
		both := s.with(inner)
		switch {
		case strings.Contains(kind, "LATERAL"):
			on = ""
			if !strings.HasPrefix(next, "(") {
				kind = "CROSS JOIN"
			}
		case kind != "FULL JOIN" && g.IntN(2) == 1:
			on += " AND " + g.cond(depth, outer.with(both))
		}
		text, s = fmt.Sprintf("%s %s %s%s", text, kind, next, on), both
	}
	return text, s
}

func (g *generator) item(depth int, outer scope) (string, scope) {
	g.names++
	name := fmt.Sprintf("x%d", g.names)
	if depth > 0 && g.IntN(4) == 3 {
		return fmt.Sprintf("(%s) AS %s(o1, o2)", g.query(depth-1, outer, 2, false), name), scope{ints: []string{name + ".o1", name + ".o2"}}
	}
	return g.one(g.relations) + " AS " + name, scope{[]string{name + ".a", name + ".b"}, []string{name + ".c"}, []string{name + ".d"}}
}

func (g *generator) conds(depth int, in scope, n int) string {
	all := []string{g.cond(depth, in)}
	for len(all) < n && g.IntN(3) > 0 {
		all = append(all, g.cond(depth, in))
	}
	return strings.Join(all, " AND ")
}

// cond writes a condition.
func (g *generator) cond(depth int, in scope) string {
	col := func() string { return g.one(in.ints) }
	kind := g.IntN(14)
	if depth == 0 && kind >= 10 {
		kind -= 10
	}
	switch kind {
	case 0, 1:
		return col() + " = " + col()
	case 2, 3:
		return fmt.Sprintf("%s = @p%d::int", col(), 1+g.IntN(2))
	case 4:
		if len(in.texts) > 1 {
			return g.one(in.texts) + g.one([]string{" = @p3::text", " = " + g.one(in.texts)})
		}
		return col() + " = 1"
	case 5:
		return fmt.Sprintf("(%s OR %s)", g.conds(0, in, 2), g.cond(max(0, depth-1), in))
	case 6:
		return "NOT (" + g.cond(max(0, depth-1), in) + ")"
	case 7:
		return g.one([]string{col() + " < " + col(), col() + " IS NULL", col() + " IS DISTINCT FROM 1"})
	case 8:
		return fmt.Sprintf("coalesce(%s, %s) = @p1::int", col(), col())
	case 9:
		if len(in.numerics) > 1 {
			return g.one(in.numerics) + " = " + g.one(in.numerics)
		}
		return col() + " = " + col()
	case 10, 11:
		return g.one([]string{"", "NOT "}) + "EXISTS (" + g.query(depth-1, in, 1, false) + ")"
	case 12:
		return col() + g.one([]string{" IN (", " IN (", " NOT IN ("}) + g.query(depth-1, in, 1, false) + ")"
	default:
		return col() + " = (SELECT s.o1 FROM (" + g.query(depth-1, in, 1, false) + ") s(o1) ORDER BY 1 LIMIT 1)"
	}
}
