package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// opened is what a verb about one viewlet works with.
type opened struct {
	set      *rules.Set
	db       *render.Database // to be closed
	renderer *render.Renderer
}

// openViewlet loads the rules and opens the database for a viewlet that they
// have, and whose template parses.
func (a *app) openViewlet(ctx context.Context, name string) (*opened, error) {
	set, err := a.loadRules()
	if err != nil {
		return nil, err
	}
	if err := knows(set, name); err != nil {
		return nil, err
	}
	db, err := a.openDatabase(ctx, set)
	if err != nil {
		return nil, err
	}
	if set, err = a.inForce(ctx, set, db); err != nil {
		db.Close()
		return nil, err
	}
	r, problems := render.New(db, set, a.maxFragment)
	if diags := asDiagnostics(set, problemsOf(problems, name)); diags.HasErrors() {
		a.tell(set, diags)
		db.Close()
		return nil, errReported
	}
	return &opened{set: set, db: db, renderer: r}, nil
}

func knows(set *rules.Set, name string) error {
	if set.Viewlet(name) != nil {
		return nil
	}
	if of, args, ok := strings.Cut(name, ":"); ok && set.Viewlet(of) != nil { // as keys are written everywhere
		return usagef("%q is a key; write the viewlet and its arguments apart: %s %s", name, of, strings.ReplaceAll(args, ":", " "))
	}
	if like := set.Suggest(name); like != "" {
		return usagef("there is no viewlet %q.%s", name, like)
	}
	const few = 8
	var names []string
	for i, v := range set.Viewlets {
		if i == few {
			names = append(names, "...")
			break
		}
		names = append(names, v.Name)
	}
	return usagef("there is no viewlet %q; the rules have %s", name, strings.Join(names, ", "))
}

func problemsOf(problems []render.Problem, name string) []render.Problem {
	var of []render.Problem
	for _, p := range problems {
		if p.Viewlet != nil && p.Viewlet.Name == name {
			of = append(of, p)
		}
	}
	return of
}

// canonical names a fragment by what was typed.
func (a *app) canonical(ctx context.Context, set *rules.Set, r *render.Renderer, name string, args []string) (viewlet.Key, error) {
	if params := set.Viewlet(name).Params; len(args) != len(params) {
		return viewlet.Key{}, usagef("%s takes %s, not %d", name, signature(params), len(args))
	}
	key, err := r.Canonical(ctx, name, args)
	var unfit *render.ArgumentError
	var query *render.QueryError
	switch {
	case errors.As(err, &unfit):
		return key, usagef("%v", unfit)
	case errors.As(err, &query):
		a.tell(set, asDiagnostics(set, []render.Problem{{Viewlet: set.Viewlet(name), Attr: "query", Err: query}}))
		return key, errReported
	}
	return key, err
}

// signature says which arguments a viewlet takes: 2 arguments (id, language).
func signature(params []string) string {
	if len(params) == 0 {
		return "no arguments"
	}
	return fmt.Sprintf("%s (%s)", count(len(params), "argument"), strings.Join(params, ", "))
}
