package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// derived is the rules with what follows from their queries.
type derived struct {
	set     *rules.Set
	from    map[string]rules.Derivation // by viewlet
	catalog *derive.Catalog             // that they were derived with
	lookups map[string]bool             // names that derived ones have
	// problems are limits, and what is uncovered where nothing is derived.
	problems []render.Problem
	diags    rules.Diagnostics
}

// derive lets Postgres analyse the queries of the rules, as they are written,
// and adds what follows from them. A query that Postgres does not take, which
// is told elsewhere, leaves its viewlet with what followed before.
func (a *app) derive(ctx context.Context, conn *pgconn.PgConn, written *rules.Set, db *render.Database, before map[string]rules.Derivation) (*derived, error) {
	named, err := tablesOf(ctx, conn, written)
	if err != nil {
		return nil, err
	}
	written.Bind(named, nil) // so that a rule is known to be one for a table that a query reads
	queries := make([]*rules.Query, len(written.Viewlets))
	for i, v := range written.Viewlets {
		queries[i] = v.Query
	}
	analysed, catalog, err := db.Analyse(ctx, queries...)
	if ctx.Err() != nil {
		return nil, ctx.Err() // a connection that was closed for it says something else
	}
	if err != nil {
		return nil, err
	}
	d := &derived{from: map[string]rules.Derivation{}, catalog: catalog, lookups: map[string]bool{}}
	var all []rules.Derivation
	for i, v := range written.Viewlets {
		one, ok := before[v.Name], false
		if analysed[i].Err == nil {
			one, ok = d.derive(written, v, analysed[i].Tree)
		}
		if ok || one.Viewlet != "" {
			d.from[v.Name] = one
			all = append(all, one)
		}
	}
	d.set, d.diags = written.With(all...)
	return d, nil
}

// inForce gives the rules as run has them, for verbs that do not look whether
// they are right.
func (a *app) inForce(ctx context.Context, written *rules.Set, db *render.Database) (*rules.Set, error) {
	cfg, err := a.replicationConfig(written)
	if err != nil {
		return nil, err
	}
	conn, err := replication.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	d, err := a.derive(ctx, conn, written, db, nil)
	if err != nil {
		return nil, err
	}
	return d.set, nil
}

// derive gives what follows from one query.
func (d *derived) derive(written *rules.Set, v *rules.Viewlet, tree derive.Tree) (one rules.Derivation, ok bool) {
	r, err := derive.Derive(derive.Query{
		Viewlet: v.Name, Params: v.Params, Tree: tree, SQL: v.Query.SQL,
		Written: func(t viewlet.TableName) bool { return written.Refreshes(t, v.Name) || v.Ignores(t) },
		Taken: func(name string) bool {
			return written.Viewlet(name) != nil || written.Lookup(name) != nil || d.lookups[name]
		},
	}, d.catalog)
	if err != nil {
		d.problem(v, "query", "", err)
		return one, false
	}
	one.Viewlet, one.Reading = v.Name, derive.Reading(tree, d.catalog)
	if v.Written {
		d.uncovered(v, r)
		return one, true
	}
	for _, rule := range r.Rules {
		if rule.Lookup != nil {
			d.lookups[rule.Lookup.Name] = true
		}
	}
	one.Blocks = derive.HCL(r.Rules)
	if !v.Requested {
		one.All = r.All
	}
	d.ignored(v, r)
	for _, l := range r.Limits {
		if !minded(written, v, l) {
			d.problem(v, "query", "What is read is not all followed", errors.New(l.String()))
		}
	}
	return one, true
}

func (d *derived) problem(v *rules.Viewlet, attr, title string, err error) {
	d.problems = append(d.problems, render.Problem{Viewlet: v, Attr: attr, Err: err, Title: title, Warning: title != ""})
}

// minded reports whether the author has done what a limit asks for.
func minded(written *rules.Set, v *rules.Viewlet, l derive.Limit) bool {
	switch {
	case l.Name == "all":
		return v.All != nil || v.Requested
	case v.Timeout > 0:
		return true
	case l.Name == "":
		return v.Ignores(l.Table) || l.Params != nil && written.Refreshes(l.Table, v.Name)
	}
	schema, name, found := strings.Cut(l.Name, ".")
	if !found {
		schema, name = "", l.Name
	}
	return slices.ContainsFunc(v.Ignored, func(i viewlet.TableName) bool {
		return strings.EqualFold(i.Name, name) && (i.Schema == "" || strings.EqualFold(i.Schema, schema))
	})
}

// uncovered tells which tables a viewlet reads that has only rules that were
// written, and has none for them.
func (d *derived) uncovered(v *rules.Viewlet, r *derive.Result) {
	var told []viewlet.TableName
	for _, one := range r.Rules {
		if slices.Contains(told, one.Table) {
			continue
		}
		told = append(told, one.Table)
		same := slices.DeleteFunc(slices.Clone(r.Rules), func(o derive.Rule) bool { return o.Table != one.Table })
		d.problem(v, "derive", "A table is read that no rule is for", fmt.Errorf(
			"a change of %s does not refresh %s. Leave out derive = false, write ignore = [%q] if that is as it should be, or write:\n\n%s",
			one.Table, v.Name, derive.TableLabel(one.Table), derive.HCL(same)))
	}
}

// ignored tells which names the query does not read at all.
func (d *derived) ignored(v *rules.Viewlet, r *derive.Result) {
	for _, name := range v.Ignored {
		is := func(t viewlet.TableName) bool {
			return t.Name == name.Name && (name.Schema == "" || name.Schema == t.Schema)
		}
		of := func(l derive.Limit) bool {
			return is(l.Table) || l.Name != "" && strings.EqualFold(l.Name, name.String()) || strings.HasSuffix(l.Name, "."+name.Name)
		}
		if slices.ContainsFunc(r.Tables, is) || slices.ContainsFunc(r.Limits, of) {
			continue
		}
		read := make([]string, len(r.Tables))
		for i, t := range r.Tables {
			read[i] = t.String()
		}
		d.problem(v, "ignore", "Nothing to ignore", fmt.Errorf("the query does not read %s, but %s", name, strings.Join(read, ", ")))
	}
}
