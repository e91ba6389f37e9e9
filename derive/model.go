package derive

import (
	"errors"
	"fmt"
	"slices"
)

// level is one SELECT of the query, views and WITH expanded: what is named
// twice is there twice.
type level struct {
	query   *node
	catalog *Catalog
	// outer is the level that its variables count from: of a subquery the one
	// around it, of a WITH query the one that has the WITH.
	outer   *level
	site    site
	sources []*source // by varno-1
	root    *join     // of FROM; nil: a set operation
	where   []*cond
	having  []*cond
	outputs []*node // expressions, by resno-1
	// computed are values of the outputs of one row, numbered behind them.
	computed []*computed
	// scalar: its value is one row's, or an array of all: another row may
	// take the place of one that goes.
	scalar    bool
	recursive bool
	compared  []*cond // how = ANY and IN compare a row with the one around it
	sublinks  map[*node]*level
	scanned   map[*node]bool // target entries that are read
}

// site is where a level's rows go: a source of another level, or an expression
// of it. The zero site is the whole query's.
type site struct {
	source *source // FROM
	level  *level  // an expression of it
	on     *join   // of its ON; nil
	where  bool    // of its WHERE
}

// parent is the level that a level's rows go to; nil for the whole query.
func (s site) parent() *level {
	if s.source != nil {
		return s.source.level
	}
	return s.level
}

// source is one entry of FROM: a table, or a subquery, or what has no rows of
// its own, such as a function.
type source struct {
	level *level
	rte   *node
	name  string    // as the query calls it
	table *Relation // nil: not a table
	sub   *level    // nil: not a subquery, a view or a WITH query
	leaf  *join
	// element is what each row is one of, of an unnest in FROM; zero: unknown.
	element ref
	read    map[int]bool // columns that the query reads, by attnum; 0: all; below: of the system
	// computed are values of the columns of one row, numbered behind them.
	computed []*computed
}

// RTEKind is in Postgres's parsenodes.h, and so far only grew.
const (
	rteRelation = "0"
	rteSubquery = "1"
	rteJoin     = "2"
	rteCTE      = "6"
	rteGroup    = "9"
)

// join is a node of FROM.
type join struct {
	kind        joinKind
	left, right *join // nil of a leaf
	on          []*cond
	source      *source // of a leaf; nil: FROM is empty
	parent      *join
	level       *level
}

type joinKind uint8

const (
	leaf joinKind = iota
	inner
	left
	full
)

// ref is a param, a column of a source without a level of its own, an output of
// a level, or what is computed of either's.
type ref struct {
	param  int // from 1
	source *source
	level  *level
	column int // from 1
}

// cond is what must hold for a row to be let through; only what names rows is
// kept. One of eq, either, exists and branch is set.
type cond struct {
	eq     *equality
	either [][]*cond // one of these
	exists *level    // has a row, for which also
	with   []*cond
	branch *branch // a set operation has a row from here
}

type branch struct {
	level *level
	node  *node // SETOPERATIONSTMT or RANGETBLREF
}

// equality holds between two values, neither of which is NULL.
type equality struct {
	a, b ref
	text bool // the values' texts are equal, too
	op   *Operator
}

// maxLevels bounds what WITH queries that name each other twice unfold to.
const maxLevels = 2000

// builder makes levels of trees.
type builder struct {
	catalog *Catalog
	levels  int
	tables  []*source
	limits  *limits
	views   map[*Relation]bool // being expanded
	adopted map[int][]adoption // by param
	advice  map[int]string     // by param: why no equality binds it
}

func (b *builder) query(q *node, outer *level, at site) (*level, error) {
	if b.levels++; b.levels > maxLevels {
		return nil, fmt.Errorf("it unfolds to more than %d SELECTs", maxLevels)
	}
	if !q.is("QUERY") || q.text("commandType") != "1" {
		return nil, errors.New("it is not a SELECT")
	}
	l := &level{query: q, catalog: b.catalog, outer: outer, site: at, sublinks: map[*node]*level{}, scanned: map[*node]bool{}}
	for _, t := range q.list("targetList") {
		if t.node.int("resno") == len(l.outputs)+1 {
			l.outputs = append(l.outputs, t.node.child("expr"))
		}
	}
	for _, v := range q.list("rtable") {
		l.sources = append(l.sources, &source{level: l, rte: v.node, read: map[int]bool{}, name: v.node.child("eref").text("aliasname")})
	}
	if err := b.from(l); err != nil {
		return nil, err
	}
	return l, b.expressions(l)
}

// from makes the tree of FROM, and then what stands in its leaves.
func (b *builder) from(l *level) error {
	if setop := l.query.child("setOperations"); setop != nil {
		return b.operands(l, setop)
	}
	root, err := l.fromExpr(l.query.child("jointree"))
	if err != nil {
		return err
	}
	l.root = root
	return b.leaves(l, root)
}

func (b *builder) operands(l *level, n *node) error {
	if n.is("SETOPERATIONSTMT") {
		if err := b.operands(l, n.child("larg")); err != nil {
			return err
		}
		return b.operands(l, n.child("rarg"))
	}
	s, err := l.source(n.int("rtindex"))
	if err != nil {
		return err
	}
	s.leaf = &join{source: s, level: l}
	if err := b.source(s); err != nil || s.sub != nil {
		return err
	}
	return errors.New("its set operation has an operand that is not known")
}

func (l *level) source(varno int) (*source, error) {
	if varno < 1 || varno > len(l.sources) {
		return nil, fmt.Errorf("it refers to range table entry %d, of %d", varno, len(l.sources))
	}
	return l.sources[varno-1], nil
}

// fromExpr gives what a FROMEXPR lists as inner joins without conditions.
func (l *level) fromExpr(n *node) (*join, error) {
	var tree *join
	for _, v := range n.list("fromlist") {
		j, err := l.join(v.node)
		if err != nil {
			return nil, err
		}
		if tree == nil {
			tree = j
			continue
		}
		tree = l.pair(inner, tree, j)
	}
	if tree == nil {
		return &join{level: l}, nil
	}
	return tree, nil
}

func (l *level) pair(kind joinKind, left, right *join) *join {
	j := &join{kind: kind, left: left, right: right, level: l}
	left.parent, right.parent = j, j
	return j
}

// JoinType is in Postgres's nodes.h.
func (l *level) join(n *node) (*join, error) {
	if n.is("RANGETBLREF") {
		s, err := l.source(n.int("rtindex"))
		if err != nil {
			return nil, err
		}
		s.leaf = &join{source: s, level: l}
		return s.leaf, nil
	}
	if !n.is("JOINEXPR") {
		return nil, fmt.Errorf("its FROM has a node %q that is not known", labelOf(n))
	}
	a, err := l.join(n.child("larg"))
	if err != nil {
		return nil, err
	}
	b, err := l.join(n.child("rarg"))
	if err != nil {
		return nil, err
	}
	var j *join
	switch n.text("jointype") {
	case "0":
		j = l.pair(inner, a, b)
	case "1":
		j = l.pair(left, a, b)
	case "2":
		j = l.pair(full, a, b)
	case "3":
		j = l.pair(left, b, a)
	default:
		return nil, fmt.Errorf("its FROM has a join of type %q that is not known", n.text("jointype"))
	}
	s, err := l.source(n.int("rtindex"))
	if err != nil {
		return nil, err
	}
	s.leaf = j
	return j, nil
}

func labelOf(n *node) string {
	if n == nil {
		return "<>"
	}
	return n.label
}

func (b *builder) leaves(l *level, j *join) error {
	if j.kind != leaf {
		if err := b.leaves(l, j.left); err != nil {
			return err
		}
		return b.leaves(l, j.right)
	}
	if j.source == nil {
		return nil
	}
	return b.source(j.source)
}

// source finds what stands behind an entry of FROM.
func (b *builder) source(s *source) (err error) {
	switch s.rte.text("rtekind") {
	case rteRelation:
		return b.relation(s)
	case rteSubquery:
		s.sub, err = b.query(s.rte.child("subquery"), s.level, site{source: s})
	case rteCTE:
		return b.with(s)
	}
	return err
}

func (b *builder) relation(s *source) error {
	r := b.catalog.Relations[s.rte.oid("relid")]
	if r == nil {
		return fmt.Errorf("it reads the relation %s, of which the catalog tells nothing", s.name)
	}
	if r.Kind != 'v' || r.System {
		s.table = r
		b.tables = append(b.tables, s)
		b.limits.relation(r, s.rte)
		return nil
	}
	if b.views[r] {
		return fmt.Errorf("the view %s reads itself", r)
	}
	b.views[r] = true
	defer delete(b.views, r)
	q := only(r.View.root)
	if q == nil {
		return fmt.Errorf("the view %s is not one SELECT", r)
	}
	sub, err := b.query(q, nil, site{source: s})
	s.sub = sub
	return err
}

// only gives the one query of a tree, which stands in a list or two.
func only(v value) *node {
	for v.kind == isList && len(v.items) == 1 {
		v = v.items[0]
	}
	return v.node
}

// with expands a WITH query where it is named. One that names itself is left
// as rows of which nothing is known.
func (b *builder) with(s *source) error {
	if s.rte.flag("self_reference") {
		return nil
	}
	l := s.level
	for range s.rte.int("ctelevelsup") {
		if l = l.outer; l == nil {
			break
		}
	}
	if l == nil {
		return fmt.Errorf("its WITH query %s is not found", s.rte.text("ctename"))
	}
	i := slices.IndexFunc(l.query.list("cteList"), func(v value) bool { return v.node.text("ctename") == s.rte.text("ctename") })
	if i < 0 {
		return fmt.Errorf("its WITH query %s is not found", s.rte.text("ctename"))
	}
	cte := l.query.list("cteList")[i].node
	sub, err := b.query(cte.child("ctequery"), l, site{source: s})
	if err == nil {
		sub.recursive = cte.flag("cterecursive")
	}
	s.sub = sub
	return err
}
