package render

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/cdc-viewlet/cdc-viewlet/render/page"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// DefaultMaxFragment is how large a fragment may be unless told otherwise.
const DefaultMaxFragment = 1 << 20

// Renderer renders the viewlets of one set of rules. It is for any goroutine.
type Renderer struct {
	db          *Database
	set         *rules.Set
	maxFragment int
	viewlets    map[string]*compiledViewlet
	expansions  sync.Map // Via to *compiledExpansion
	paramTypes  sync.Map // name of a viewlet or lookup to []uint32, as Check found them
}

// compiledViewlet is a viewlet as it was last compiled. What Postgres knows of
// it is compiled anew when the schema has changed.
type compiledViewlet struct {
	rules    *rules.Viewlet
	page     *page.Page // nil: JSON
	unparsed error      // why there is no page though there is a template

	mu    sync.Mutex
	ready *plan // nil: to be compiled
}

// plan is a viewlet's query, ready to run.
type plan struct {
	query     *query
	form      *page.Form // nil: JSON
	many      *statement // for a chunk of keys; nil when only one works
	one       *statement // for one key
	whole     string     // the SQL that names every instance; empty: unknown
	manyError error      // why there is no many
}

// Problem is something wrong with a viewlet or a lookup, for people.
type Problem struct {
	Viewlet *rules.Viewlet // or
	Lookup  *rules.Lookup
	Attr    string // whose attribute it is: query, all, template
	Err     error  // a *QueryError says where in the query
	// Hint says what to write instead; may be empty.
	Hint string
	// Warning is a problem that one can live with.
	Warning bool
	// Title sums it up; empty: what Attr is says enough.
	Title string
}

// New parses the templates. A viewlet whose template does not parse is a
// Problem, and *viewlet.Broken when it is rendered. db may be nil: then only
// Problems are of use.
func New(db *Database, set *rules.Set, maxFragment int) (*Renderer, []Problem) {
	if maxFragment == 0 {
		maxFragment = DefaultMaxFragment
	}
	r := &Renderer{db: db, set: set, maxFragment: maxFragment, viewlets: map[string]*compiledViewlet{}}
	var problems []Problem
	for _, v := range set.Viewlets {
		c := &compiledViewlet{rules: v}
		r.viewlets[v.Name] = c
		if v.Template == nil {
			continue
		}
		if c.page, c.unparsed = page.Parse(v.Template); c.unparsed != nil {
			problems = append(problems, Problem{Viewlet: v, Attr: templateAttr(v), Err: c.unparsed})
		}
	}
	return r, problems
}

func templateAttr(v *rules.Viewlet) string {
	if v.Template.Path == "" {
		return "body"
	}
	return "template"
}

// Check compiles every viewlet and lookup against the database, and gives
// what is wrong with them, and for each lookup the columns that it selects. An
// error is the world's.
func (r *Renderer) Check(ctx context.Context) ([]Problem, map[string][]string, error) {
	var mu sync.Mutex
	var problems []Problem
	report := func(found ...Problem) {
		mu.Lock()
		defer mu.Unlock()
		problems = append(problems, found...)
	}
	lookups := map[string][]string{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, v := range r.set.Viewlets {
		g.Go(func() error {
			found, err := r.checkViewlet(ctx, v)
			report(found...)
			return err
		})
	}
	for _, l := range r.set.Lookups {
		g.Go(func() error {
			q, err := r.checkLookup(ctx, l)
			if problem, ok := asProblem(err, Problem{Lookup: l, Attr: "query"}); ok {
				report(problem)
				return nil
			}
			if err != nil {
				return err
			}
			r.noteTypes(l.Name, q)
			mu.Lock()
			defer mu.Unlock()
			for _, c := range q.columns {
				lookups[l.Name] = append(lookups[l.Name], c.name)
			}
			return nil
		})
	}
	err := g.Wait()
	return problems, lookups, err
}

func (r *Renderer) noteTypes(name string, q *query) {
	oids := make([]uint32, len(q.params))
	for i, p := range q.params {
		oids[i] = p.base
	}
	r.paramTypes.Store(name, oids)
}

// ParamTypes gives the types' OIDs of the params of a viewlet or a lookup, as
// Check found them; nil when it did not.
func (r *Renderer) ParamTypes(name string) []uint32 {
	oids, _ := r.paramTypes.Load(name)
	types, _ := oids.([]uint32)
	return types
}

// asProblem makes a problem of an error that is the query's fault.
func asProblem(err error, at Problem) (Problem, bool) {
	var q *QueryError
	at.Err = err
	return at, errors.As(err, &q)
}

func (r *Renderer) checkLookup(ctx context.Context, l *rules.Lookup) (*query, error) {
	q, err := r.db.describe(ctx, l.Query)
	if err != nil {
		return nil, err
	}
	_, _, err = r.db.perKey(ctx, l.Query, q, true)
	return q, err
}

func (r *Renderer) checkViewlet(ctx context.Context, v *rules.Viewlet) ([]Problem, error) {
	c := r.viewlets[v.Name]
	plan, err := r.compile(ctx, c)
	if err != nil {
		problem, ok := asProblem(err, Problem{Viewlet: v, Attr: "query"})
		var all *allError
		if errors.As(err, &all) {
			problem.Attr = "all"
		}
		if ok {
			return []Problem{problem}, nil
		}
		return nil, err
	}
	r.noteTypes(v.Name, plan.query)
	var problems []Problem
	switch {
	case isUnnamed(plan.manyError):
		problems = append(problems, Problem{
			Viewlet: v, Attr: "query", Title: unnamedTitle, Err: &QueryError{Offset: -1, Err: errUnnamed}, Warning: true,
			Hint: "Name it: @id::int AS id. Until then the fragments are rendered one by one, several times slower.",
		})
	case plan.manyError != nil:
		problems = append(problems, Problem{
			Viewlet: v, Attr: "query", Title: "The query runs for one fragment at a time", Err: plan.manyError, Warning: true,
			Hint: "The query works for one fragment and not for many at once, so they are rendered one by one, several times slower.",
		})
	case c.page == nil:
		if _, _, err := r.db.perKey(ctx, v.Query, plan.query, false); isUnnamed(err) {
			problems = append(problems, Problem{
				Viewlet: v, Attr: "query", Title: unnamedTitle, Err: &QueryError{Offset: -1, Err: errUnnamed}, Warning: true,
				Hint: "Name it: @id::int AS id. Until then its name in the JSON is a made-up one.",
			})
		}
	}
	if c.page == nil || c.unparsed != nil {
		return problems, nil
	}
	var columns []string
	for _, col := range plan.query.columns {
		columns = append(columns, col.name)
	}
	for _, err := range c.page.UnknownFields(v.Params, columns) {
		problems = append(problems, Problem{Viewlet: v, Attr: templateAttr(v), Err: err})
	}
	return problems, nil
}

const unnamedTitle = "The query selects a param without a name"

var errUnnamed = errors.New("a param that is selected as it is has no name of its own")

const undefinedColumn = "42703"

// isUnnamed reports whether a column is called otherwise in the query as it is
// written than where params are columns: Postgres calls @id::int by its type there,
// and by the column here.
//
// https://www.postgresql.org/docs/current/queries-select-lists.html#QUERIES-COLUMN-LABELS
func isUnnamed(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == undefinedColumn && strings.Contains(pg.Message, rowAlias+".")
}

// allError is a QueryError of the attribute all.
type allError struct{ error }

func (e *allError) Unwrap() error { return e.error }

// plan gives the viewlet's query ready to run.
func (r *Renderer) plan(ctx context.Context, c *compiledViewlet) (*plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready != nil {
		return c.ready, nil
	}
	plan, err := r.compile(ctx, c)
	if err != nil {
		return nil, err
	}
	c.ready = plan
	return plan, nil
}

// forget makes the next plan be compiled anew, unless it has been already.
func (c *compiledViewlet) forget(outdated *plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready == outdated {
		c.ready = nil
	}
}

func (r *Renderer) compile(ctx context.Context, c *compiledViewlet) (*plan, error) {
	v := c.rules
	q, err := r.db.describe(ctx, v.Query)
	if err != nil {
		return nil, err
	}
	if name, twice := q.duplicate(); twice {
		return nil, &QueryError{Offset: -1, Err: fmt.Errorf("two columns of the query are called %q; name one of them otherwise: ... AS other_%s", name, name)}
	}
	asJSON := v.Template == nil
	p := &plan{query: q}
	if c.page != nil {
		p.form = c.page.Form(q.paramFields(), q.columnFields())
	}
	many, one, err := r.db.perKey(ctx, v.Query, q, asJSON)
	var unfit *QueryError
	switch {
	case err == nil:
		p.one = newStatement(one)
		if p.many = p.one; many != one {
			p.many = newStatement(many)
		}
	case !errors.As(err, &unfit):
		return nil, err
	default:
		// What fails by itself too is the query's own fault.
		before, after := q.aroundAlone(v.Query, asJSON)
		if _, err := r.db.prepare(ctx, v.Query, aloneArg(q), before, after); err != nil {
			return nil, err
		}
		p.one, p.manyError = newStatement(q.alone(v.Query, asJSON)), err
	}
	if v.All != nil {
		if p.whole, err = r.compileAll(ctx, v); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (r *Renderer) compileAll(ctx context.Context, v *rules.Viewlet) (string, error) {
	q, err := r.db.describe(ctx, v.All)
	if err != nil {
		return "", &allError{err}
	}
	if len(q.columns) != len(v.Params) {
		return "", &allError{&QueryError{Offset: -1, Err: fmt.Errorf("it selects %d columns, and the viewlet has %d params: %v",
			len(q.columns), len(v.Params), v.Params)}}
	}
	bound, _ := v.All.Bind(nil)
	return bound, nil
}
