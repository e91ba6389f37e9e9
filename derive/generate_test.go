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
	"SELECT * FROM t1 NATURAL JOIN (SELECT a, b, c, d FROM t2) y WHERE a = @p1::int",
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
	"SELECT x.c FROM t1 x JOIN (SELECT a FROM t2 UNION ALL SELECT b FROM t3) u ON u.a = x.a WHERE x.b = @p1::int",
	"SELECT u.c FROM (SELECT a, c FROM t1 UNION ALL SELECT b, c FROM t3) u WHERE u.a = @p1::bigint",
	"SELECT u.d FROM (SELECT a::numeric AS a, d FROM t1 UNION ALL SELECT b, d FROM t3) u WHERE u.d = @p1::numeric",
	"SELECT x.c FROM t1 x WHERE x.a IN (SELECT a FROM t2 UNION SELECT b FROM t3 WHERE c = '1') AND x.b = @p1::int",
	"SELECT x.c FROM t1 x WHERE x.a = @p1::int AND (x.b, x.c) NOT IN (SELECT b, c FROM t3)",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND (x.b, x.a) NOT IN (SELECT y.b, y.a FROM t3 y)",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND NOT (x.b = ANY (SELECT y.b FROM t3 y WHERE y.c = x.c))",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND x.b <> ALL (SELECT y.b FROM t3 y)",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND x.b = ALL (SELECT y.b FROM t3 y WHERE y.a = x.a)",
	"SELECT x.c, s.n FROM t1 x LEFT JOIN (SELECT b, count(*) AS n FROM t2 GROUP BY b HAVING count(*) > 1) s ON s.b = x.a WHERE x.b = @p1::int",
	"SELECT x.c, s.n FROM t1 x LEFT JOIN (SELECT a, b, count(*) AS n FROM t2 GROUP BY CUBE (a, b)) s ON s.b = x.a WHERE x.b = @p1::int",
	"SELECT s.b, s.n FROM (SELECT a, b, count(*) AS n FROM t2 GROUP BY ROLLUP (a, b)) s WHERE s.a = @p1::int",
	"SELECT x.c FROM t1 x JOIN t2 y ON x.a = y.a AND EXISTS (SELECT FROM t3 z WHERE z.a = y.b OR z.b = x.b) WHERE x.b = @p1::int",
	"SELECT x.c, y.c FROM t1 x LEFT JOIN t2 y ON x.a = y.a AND NOT EXISTS (SELECT FROM t3 z WHERE z.a = y.b) WHERE x.b = @p1::int",
	"SELECT x.c, y.c FROM t1 x FULL JOIN t2 y ON x.a = y.a WHERE (SELECT count(*) FROM t3 z WHERE z.a = x.a) > 0 AND y.b = @p1::int",
	"WITH w AS MATERIALIZED (SELECT a, b, (SELECT max(z.b) FROM t3 z WHERE z.a = y.a) AS m FROM t2 y) SELECT p.m, q.a FROM w p JOIN w q ON p.a = q.b WHERE q.a = @p1::int",
	"SELECT x.c FROM t1 x WHERE x.b = @p1::int ORDER BY (SELECT max(b) FROM t2 y WHERE y.a = x.a), x.c LIMIT 1",
	"SELECT x.a, count(*) FROM t1 x WHERE x.b = @p1::int GROUP BY x.a HAVING count(*) > (SELECT count(*) FROM t2 y WHERE y.a = x.a)",
	"SELECT x.a, count(*) FILTER (WHERE EXISTS (SELECT FROM t2 y WHERE y.a = x.a)) FROM t1 x WHERE x.b = @p1::int GROUP BY x.a",
	"SELECT s.a FROM (SELECT a, b FROM t1 ORDER BY b, a, c, d FETCH FIRST 2 ROWS WITH TIES) s WHERE s.b = @p1::int",
	"SELECT x.c FROM t1 x WHERE x.a = @p1::int OR x.b = (SELECT max(y.b) FROM t2 y WHERE y.a = @p1::int)",
	"SELECT x.c FROM t1 x WHERE (x.a = @p1::int OR EXISTS (SELECT FROM t2 y WHERE y.a = x.b)) AND x.b = @p2::int",
	"SELECT x.c FROM t1 x LEFT JOIN t2 y ON y.a = x.a WHERE coalesce(y.b, x.b) = @p1::int",
	"SELECT x.c FROM t1 x LEFT JOIN (t2 y JOIN t3 z ON z.a = y.b) ON y.a = x.a WHERE coalesce(z.b, x.b) = @p1::int",
	"SELECT s.c FROM (SELECT x.c, y.b FROM t1 x RIGHT JOIN t2 y ON y.a = x.a) s FULL JOIN t3 z USING (b) WHERE b = @p1::int",
	"SELECT s.m FROM (SELECT b, sum(a) OVER (PARTITION BY b, c) AS m, c FROM t1) s JOIN t2 y ON y.a = s.b AND y.c = s.c WHERE y.b = @p1::int",
	"SELECT s.b FROM (SELECT b, c FROM t1 INTERSECT ALL SELECT b, c FROM t2) s WHERE s.c = @p1::text",
	"SELECT s.b FROM (SELECT b, c FROM t1 EXCEPT ALL (SELECT b, c FROM t2 UNION SELECT b, c FROM t3)) s WHERE s.c = @p1::text",
	"SELECT s.b FROM (SELECT b, c FROM t1 EXCEPT (SELECT b, c FROM t2 EXCEPT SELECT b, c FROM t3)) s WHERE s.c = @p1::text",
	"SELECT s.b FROM (SELECT b, c FROM t1 EXCEPT (SELECT b, c FROM t2 LIMIT 1)) s WHERE s.c = @p1::text",
	"SELECT x.c FROM t1 x CROSS JOIN LATERAL (SELECT b FROM t2 y WHERE y.a = x.a UNION ALL SELECT b FROM t3 z WHERE z.a = x.a) u WHERE x.b = @p1::int",
	"SELECT v.k, x.c FROM (VALUES (0), (1)) v(k) JOIN t1 x ON x.a = v.k WHERE x.b = @p1::int",
	"SELECT v.k FROM t1 x, LATERAL (VALUES (x.a), ((SELECT max(y.a) FROM t2 y WHERE y.b = x.b))) v(k) WHERE x.b = @p1::int",
	"SELECT g FROM t1 x, generate_series(0, x.a) g WHERE x.b = @p1::int",
	"SELECT x.c FROM t1 x WHERE x.a = @p1::int AND x.b = @p1::bigint + 1",
	"SELECT x.c FROM t1 x WHERE NOT (x.a IS DISTINCT FROM @p1::int)",
	"SELECT x.c FROM t1 x WHERE (x.a = @p1::int) IS TRUE",
	"SELECT x.c FROM t1 x WHERE (x.a = @p1::int) IS NOT FALSE AND x.b = @p2::int",
	"SELECT x.c FROM t1 x WHERE (x.a, x.b) = (SELECT y.a, y.b FROM t2 y WHERE y.c = @p1::text ORDER BY y.a, y.b, y.d LIMIT 1)",
	"SELECT (SELECT s.n FROM (SELECT count(*) AS n FROM t2 y WHERE y.a = x.a HAVING count(*) > 1) s) FROM t1 x WHERE x.b = @p1::int",
	"SELECT count(DISTINCT x.a), s.b FROM t1 x JOIN v2 s ON s.a = x.a WHERE s.c = @p1::text GROUP BY s.b",
	"SELECT (x.*)::text FROM t1 x JOIN v3 y ON y.a = x.a AND y.b = x.b WHERE y.c = @p1::text",
	"SELECT v1.c FROM v1 JOIN v3 ON v3.b = v1.b LEFT JOIN v2 ON v2.a = v3.a WHERE v1.a = @p1::int",
	"WITH a AS (SELECT a, b FROM t1), b AS (SELECT a.a, t2.b FROM a JOIN t2 ON t2.a = a.b) SELECT x.a FROM a x JOIN b y ON y.a = x.a WHERE y.b = @p1::int",
	"SELECT x.c FROM t1 x WHERE x.b = @p1::int AND x.a IN (SELECT y.a FROM t2 y WHERE y.b = x.b GROUP BY y.a HAVING y.a = 1 OR count(*) > 1)",
	"SELECT DISTINCT ON (x.b) x.c, y.b FROM t1 x LEFT JOIN t2 y ON y.a = x.a WHERE x.a = @p1::int ORDER BY x.b, x.c, y.b",
	"SELECT array(SELECT y.c FROM t2 y WHERE y.a = x.a ORDER BY 1) FROM t1 x WHERE x.b = @p1::int",
	"SELECT x.c, lag(x.c) OVER (ORDER BY (SELECT max(y.b) FROM t2 y WHERE y.a = x.a), x.c) FROM t1 x WHERE x.b = @p1::int",
	"SELECT s.c FROM (SELECT x.c, y.b FROM t1 x LEFT JOIN t3 y ON y.a = x.a) s WHERE s.b NOT IN (SELECT z.b FROM t3 z) AND s.c = @p1::text",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND x.b NOT IN (SELECT y.b FROM t3 y UNION SELECT y.a FROM t2 y)",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND x.b NOT IN (SELECT max(y.b) FROM t3 y GROUP BY y.a)",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND x.b NOT IN (SELECT y.b FROM t3 y GROUP BY y.b HAVING count(*) > 1)",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND x.b NOT IN (SELECT DISTINCT ON (y.a) y.b FROM t3 y ORDER BY y.a, y.b)",
	"SELECT count(*) FROM t1",
	"SELECT x.c FROM t1 x WHERE abs(1 - x.a) = @p1::int",
	"SELECT x.a FROM t1 x JOIN t2 y ON abs(1 - x.a) = y.b - 1 WHERE left(y.c, 1) = @p1::text",
	"SELECT x.a, y.c FROM t1 x LEFT JOIN t2 y ON x.a + 1 = y.b AND abs(y.a) = @p2::int WHERE x.b = @p1::int",
	"SELECT x.c FROM t1 x LEFT JOIN t2 y ON y.a = x.a WHERE coalesce(abs(y.b - 1), x.b) = @p1::int",
	"SELECT x.a FROM t1 x WHERE x.f->>'k' = @p1::text AND @p2::int = ANY(x.e)",
	"SELECT x.a FROM t1 x WHERE @p1::int = ANY(x.e) AND @p2::int = ANY(x.e)",
	"SELECT x.c FROM t1 x JOIN t2 y ON y.a = ANY(x.e) WHERE y.b = @p1::int",
	"SELECT x.c FROM t1 x JOIN t2 y ON x.b = ANY(y.e) JOIN t3 z ON z.a = ANY(y.e) WHERE z.b = @p1::int",
	"SELECT x.c FROM t1 x LEFT JOIN t2 y ON y.e @> ARRAY[x.a::int] WHERE y.e && ARRAY[@p1::int, x.b::int]",
	"SELECT x.c FROM t1 x WHERE x.e @> ARRAY[@p1::int, @p2::int]",
	"SELECT v1.c FROM v1 WHERE @p1::int = ANY(v1.e) AND v1.f->>'k' = v1.c",
	"SELECT v1.c FROM v1 WHERE abs(1 - v1.b) = @p1::int",
	"SELECT v2.c FROM v2 WHERE abs(1 - v2.a) = @p1::int",
	"SELECT v2.c FROM v2 WHERE abs(1 - v2.b) = @p1::int",
	"SELECT v2.c FROM v2 WHERE v2.f->>'k' = @p1::text",
	"SELECT v3.c FROM v3 WHERE abs(1 - v3.a) = @p1::int",
	"SELECT s.k, s.n FROM (SELECT abs(1 - a) AS k, count(*) AS n FROM t1 GROUP BY abs(1 - a)) s WHERE s.k + 1 = @p1::int",
	"SELECT f->>'k', count(*) FROM t1 GROUP BY f->>'k' HAVING f->>'k' = @p1::text",
	"SELECT s.k FROM (SELECT f->>'k' AS k FROM t1 UNION SELECT c || '' FROM t2) s WHERE s.k = @p1::text",
	"SELECT s.k FROM (SELECT DISTINCT ON (abs(1 - a)) abs(1 - a) AS k, b FROM t1 ORDER BY abs(1 - a), b, c) s WHERE s.k = @p1::int",
	"SELECT s.k FROM (SELECT DISTINCT ON (abs(1 - a)) abs(1 - b) AS k FROM t1 ORDER BY abs(1 - a), abs(1 - b)) s WHERE s.k = @p1::int",
	"SELECT s.n FROM (SELECT a, row_number() OVER (PARTITION BY abs(1 - a) ORDER BY b, c) AS n FROM t1) s WHERE abs(1 - s.a) = @p1::int AND s.n = 1",
	"SELECT s.k FROM (SELECT abs(1 - a) AS k FROM t1 ORDER BY 1 LIMIT 1) s WHERE s.k = @p1::int",
	"SELECT x.c FROM t1 x WHERE lower(x.c) IN (SELECT y.f->>'k' FROM t2 y WHERE y.b = x.a) AND abs(x.b) = @p1::int",
	"SELECT x.c FROM t3 x WHERE x.a = @p1::int AND abs(x.b) NOT IN (SELECT abs(y.b) FROM t3 y)",
	"SELECT x.c FROM t1 x WHERE x.a = @p1::int AND EXISTS (SELECT FROM t2 y WHERE y.b + x.a = 2)",
	"SELECT x.c FROM t1 x LEFT JOIN (SELECT abs(1 - a) AS k, b FROM t2) y ON y.b = x.b WHERE y.k = @p1::int",
	"SELECT x.c FROM t1 x LEFT JOIN LATERAL (SELECT x.a + y.a AS k FROM t2 y WHERE y.b = x.b) s ON true WHERE s.k = @p1::int",
	"SELECT x.c FROM t1 x FULL JOIN t2 y ON abs(1 - x.a) = abs(1 - y.b) WHERE left(x.c, 1) = @p1::text",
	"SELECT s.a FROM (SELECT a, b FROM t1 ORDER BY b, a LIMIT 1) s WHERE abs(1 - s.a) = @p1::int",
	"SELECT s.a FROM (SELECT DISTINCT ON (b) a, b FROM t1 ORDER BY b, a) s WHERE s.a - 1 = @p1::int",
	"SELECT x.c FROM t1 x LEFT JOIN t2 y ON y.a = x.a WHERE @p1::int = ANY(array_append(y.e, 1))",
	"SELECT x.c FROM t1 x WHERE @p1::int = ANY(array_append(x.e, x.a::int))",
	"SELECT x.c FROM t1 x WHERE x.f ? @p1::text",
	"SELECT x.c FROM t1 x JOIN t2 y ON x.f ? y.c WHERE y.a = @p1::int",
	"SELECT v1.c FROM v1 LEFT JOIN t3 z ON z.f ? v1.c AND v1.f ? @p1::text WHERE v1.c = @p1::text",
	"SELECT x.c FROM t1 x, unnest(x.e) k WHERE k = @p1::int",
	"SELECT x.c FROM t1 x, unnest(x.e) WITH ORDINALITY u(e, n) WHERE u.e = @p1::int AND u.n = @p2::int",
	"SELECT x.c FROM t1 x LEFT JOIN LATERAL unnest(x.e) u(e) ON true JOIN t2 y ON y.a = u.e WHERE y.b = @p1::int",
	"SELECT x.c, u.e FROM t1 x LEFT JOIN t2 y ON y.a = x.a LEFT JOIN LATERAL unnest(y.e) u(e) ON u.e = x.b WHERE x.b = @p1::int",
	"SELECT s.c FROM (SELECT x.c, u.e FROM t1 x CROSS JOIN LATERAL unnest(x.e) u(e)) s WHERE s.e + 1 = @p1::int",
	"SELECT u.e, count(*) FROM t1 x, unnest(x.e) u(e) GROUP BY u.e HAVING u.e = @p1::int",
	"SELECT s.e FROM (SELECT u.e FROM t1 x, unnest(x.e) u(e) ORDER BY 1 LIMIT 1) s WHERE s.e = @p1::int",
	"SELECT x.c FROM t1 x WHERE EXISTS (SELECT FROM unnest(x.e) u(e) WHERE u.e = @p1::int)",
	"SELECT x.c FROM t1 x WHERE NOT EXISTS (SELECT FROM unnest(x.e) u(e) WHERE u.e = @p1::int) AND x.a = @p1::int",
	"SELECT x.c FROM t1 x WHERE @p1::int IN (SELECT unnest(x.e))",
	"SELECT x.c FROM t1 x JOIN t1 y ON abs(1 - x.a) = abs(1 - y.a) WHERE x.b = @p1::int AND y.b - 1 = @p2::int",
	"SELECT x.c FROM t1 x JOIN t2 y ON x.d = y.d WHERE y.d::text = @p1::text AND x.b = 1",
	"SELECT s.d, s.n FROM (SELECT d, count(*) AS n FROM t1 GROUP BY d) s WHERE s.d::text = @p1::text",
	"SELECT x.c FROM t1 x LEFT JOIN LATERAL (SELECT u.e FROM unnest(x.e) u(e) ORDER BY 1 LIMIT 1) u ON true WHERE u.e = @p1::int",
	"SELECT x.c FROM t1 x LEFT JOIN t2 y ON x.a = y.a WHERE lower(x.c) IS NOT DISTINCT FROM lower(y.c) AND x.b = @p1::int",
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

// scope is what may be named: columns by what they are.
type scope struct{ ints, texts, numerics, arrays, jsons []string }

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

// someOdd gives n of the odd queries.
func someOdd(r *rand.Rand, n int) []sketch {
	all := make([]sketch, n)
	for i, odd := range r.Perm(len(oddQueries))[:n] {
		all[i].sql = oddQueries[odd]
	}
	return all
}

func (g *generator) one(words []string) string { return words[g.IntN(len(words))] }

func (s scope) with(o scope) scope {
	return scope{
		append(append([]string{}, s.ints...), o.ints...),
		append(append([]string{}, s.texts...), o.texts...),
		append(append([]string{}, s.numerics...), o.numerics...),
		append(append([]string{}, s.arrays...), o.arrays...),
		append(append([]string{}, s.jsons...), o.jsons...),
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
		columns = append(columns, g.number(inner.ints))
	}
	switch 8 - g.IntN(9) {
	case 0:
		grouped := g.number(inner.ints)
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

// number writes a column, or what is computed of one.
func (g *generator) number(ints []string) string {
	column := g.one(ints)
	if g.IntN(5) == 4 {
		return "abs(1 - " + column + ")"
	}
	return column
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
	return g.one(g.relations) + " AS " + name, scope{[]string{name + ".a", name + ".b"}, []string{name + ".c"}, []string{name + ".d"}, []string{name + ".e"}, []string{name + ".f"}}
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
	kind := g.IntN(18)
	if depth == 0 && kind >= 14 {
		kind -= 14
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
	case 10:
		return g.number(in.ints) + " = " + g.one([]string{"@p1::int", g.number(in.ints)})
	case 11:
		if len(in.texts) > 1 {
			return fmt.Sprintf("left(%s || '1', 1) = %s", g.one(in.texts), g.one([]string{"@p3::text", g.one(in.texts)}))
		}
		return col() + "::text = @p3::text"
	case 12:
		if len(in.arrays) > 1 {
			return fmt.Sprintf(g.one([]string{"@p2::int = ANY(%s)", "%s @> ARRAY[@p1::int]", col() + " = ANY(%s)", "%s && ARRAY[@p1::int, @p2::int]"}), g.one(in.arrays))
		}
		return col() + " + 1 = @p2::int"
	case 13:
		if len(in.jsons) > 1 {
			return g.one(in.jsons) + "->>'k' = " + g.one([]string{"@p3::text", g.one(in.texts), g.one(in.jsons) + "->>'n'"})
		}
		return col() + "::text = '1'"
	case 14, 15:
		return g.one([]string{"", "NOT "}) + "EXISTS (" + g.query(depth-1, in, 1, false) + ")"
	case 16:
		return g.number(in.ints) + g.one([]string{" IN (", " IN (", " NOT IN ("}) + g.query(depth-1, in, 1, false) + ")"
	default:
		return col() + " = (SELECT s.o1 FROM (" + g.query(depth-1, in, 1, false) + ") s(o1) ORDER BY 1 LIMIT 1)"
	}
}
