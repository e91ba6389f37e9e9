package derive

import (
	"slices"
	"strings"
)

// grouped reports whether the level has a row for each value of its GROUP BY.
func (l *level) grouped() bool {
	return len(l.query.list("groupClause")) > 0 && len(l.query.list("groupingSets")) == 0
}

// always reports whether the level has a row although FROM has none.
func (l *level) always() bool {
	q := l.query
	if l.root == nil {
		return true
	}
	aggregates := q.flag("hasAggs") || q.get("havingQual").kind != isNull || len(q.list("groupingSets")) > 0
	return aggregates && !l.grouped()
}

// grouping gives what HAVING says of the columns in GROUP BY alone: it holds
// of every row in the group.
func (l *level) grouping() []*cond {
	var kept []*cond
	for _, c := range l.having {
		if c.eq != nil && l.groupedBy(c.eq.a) && l.groupedBy(c.eq.b) {
			kept = append(kept, c)
		}
	}
	return kept
}

// groupedBy reports whether a value is the same for all rows of a group.
func (l *level) groupedBy(r ref) bool {
	switch {
	case r.param > 0, r.source != nil && r.source.level != l:
		return true
	case r.level != nil && r.level.site.source == nil:
		return false
	case r.level != nil && r.level.site.source.level != l:
		return true
	}
	return slices.ContainsFunc(l.query.list("targetList"), func(t value) bool {
		out, _, ok := l.ref(t.node.child("expr"), nil)
		return ok && out == r && l.sorts("groupClause", t.node)
	})
}

// withinRecursive reports whether its rows go to a query that names itself.
func (l *level) withinRecursive() bool {
	for ; l != nil; l = l.site.parent() {
		if l.recursive {
			return true
		}
	}
	return false
}

// sorts reports whether a list of SORTGROUPCLAUSEs names the target entry.
func (l *level) sorts(clause string, target *node) bool {
	return sortedBy(l.query.list(clause), target)
}

func sortedBy(clauses []value, target *node) bool {
	at := target.int("ressortgroupref")
	return at != 0 && slices.ContainsFunc(clauses, func(v value) bool { return v.node.int("tleSortGroupRef") == at })
}

// keeps reports whether a row of FROM that comes or goes changes only rows of
// the level that have, in this column, the value that it has itself.
//
// It is what Postgres asks before it pushes a condition into a subquery.
func (l *level) keeps(c *Catalog, output int) bool {
	if of := (ref{level: l, column: output}).computed(); of != nil {
		return !slices.ContainsFunc(of.words, func(w word) bool {
			return w.ref != (ref{}) && (!l.keeps(c, w.ref.column) || c.loose(l.target(w.ref.column)))
		})
	}
	q := l.query
	if l.recursive || l.scalar || q.get("limitCount").kind != isNull || q.get("limitOffset").kind != isNull {
		return false
	}
	if q.child("setOperations") != nil {
		return true
	}
	if l.always() || len(q.list("groupingSets")) > 0 {
		return false
	}
	target := l.target(output)
	merged := false
	if q.flag("hasDistinctOn") && !l.sorts("distinctClause", target) {
		return false
	}
	if len(q.list("distinctClause")) > 0 {
		merged = true
	}
	if l.grouped() {
		if merged = true; !l.sorts("groupClause", target) {
			return false
		}
	}
	for _, w := range q.list("windowClause") {
		if merged = true; !sortedBy(w.node.list("partitionClause"), target) {
			return false
		}
	}
	return !merged || c.textForm(l.outputForm(output)) != form{}
}

// loose reports whether an expression gives texts that may differ where they
// are equal, so that of those in a group another one may come to stand for it.
func (c *Catalog) loose(e *node) bool {
	found := false
	(value{node: e}).walk(func(n *node) bool {
		for _, f := range n.fields {
			found = found || strings.Contains(f.name, "coll") && c.Loose[f.value.oid()]
		}
		return !found
	})
	return found
}

func (l *level) target(output int) *node {
	for _, t := range l.query.list("targetList") {
		if t.node.int("resno") == output {
			return t.node
		}
	}
	return nil
}
