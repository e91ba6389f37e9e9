package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// inspection is the rules compared with the database.
type inspection struct {
	*derived
	tables   []viewlet.Table // that the rules name, each once
	renderer *render.Renderer
	diags    rules.Diagnostics
}

// wrong is every error of the rules in words; Diagnostics.Error has the first
// diagnostic only, which may be a warning that stays.
func (in *inspection) wrong() string { return fmt.Sprint(errors.Join(in.diags.Errs()...)) }

// inspect derives what follows from the rules' queries, binds all to the
// database's catalog and compiles what they say. What is wrong with the rules is
// in the diagnostics; an error is the world's. before has what followed the last
// time, or nothing.
func (a *app) inspect(ctx context.Context, written *rules.Set, db *render.Database, cfg replication.Config, before map[string]rules.Derivation) (*inspection, error) {
	conn, err := replication.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	in := &inspection{}
	if in.derived, err = a.derive(ctx, conn, written, db, before); err != nil {
		return nil, err
	}
	set := in.set
	in.diags = append(in.derived.diags, set.Check()...)
	catalog, err := tablesOf(ctx, conn, set)
	if err != nil {
		return nil, err
	}
	for _, table := range catalog {
		in.tables = append(in.tables, *table)
	}
	slices.SortFunc(in.tables, func(a, b viewlet.Table) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	in.tables = slices.CompactFunc(in.tables, func(a, b viewlet.Table) bool { return a.OID == b.OID })
	var problems []render.Problem
	in.renderer, problems = render.New(db, set, a.maxFragment)
	problems = append(problems, in.problems...)
	more, columns, err := in.renderer.Check(ctx)
	if err != nil {
		return nil, err
	}
	problems = append(problems, more...)
	if err := suggestRelations(ctx, conn, problems); err != nil {
		return nil, err
	}
	denied, err := grants(ctx, conn, set)
	if err != nil {
		return nil, err
	}
	in.diags = append(in.diags, set.Bind(catalog, columns)...)
	in.diags = append(in.diags, set.CheckTypes(in.renderer.ParamTypes)...)
	in.diags = append(in.diags, denied...)
	in.diags = append(in.diags, asDiagnostics(set, problems)...)
	rules.Sort(in.diags) // found in any order, and told anew only when the errors are others
	return in, nil
}

// tablesOf reads what the catalog says of the tables that the rules name.
func tablesOf(ctx context.Context, conn *pgconn.PgConn, set *rules.Set) (map[viewlet.TableName]*viewlet.Table, error) {
	found, err := replication.Tables(ctx, conn, set.TableNames())
	if err != nil {
		return nil, err
	}
	tables := make(map[viewlet.TableName]*viewlet.Table, len(found))
	for name, table := range found {
		tables[name] = &table
	}
	return tables, nil
}

// asDiagnostics puts what the renderer found at the lines it is about. What
// several queries of one viewlet lack is told once.
func asDiagnostics(set *rules.Set, problems []render.Problem) rules.Diagnostics {
	type told struct{ name, summary, detail string }
	var diags rules.Diagnostics
	all := map[told]bool{}
	for _, p := range problems {
		name, severity := "", rules.Error
		if p.Viewlet != nil {
			name = p.Viewlet.Name
		} else {
			name = p.Lookup.Name
		}
		if p.Warning {
			severity = rules.Warning
		}
		summary, detail, offset := describe(p)
		if once := (told{name, summary, detail}); !all[once] {
			all[once] = true
			diags = append(diags, set.Problem(name, p.Attr, offset, severity, summary, detail))
		}
	}
	return diags
}

func describe(p render.Problem) (summary, detail string, offset int) {
	offset = -1
	var q *render.QueryError
	if errors.As(p.Err, &q) {
		offset = q.Offset
	}
	var pg *pgconn.PgError
	if !errors.As(p.Err, &pg) {
		summary, detail = titleOf(p.Attr), sentence(p.Err.Error())
	} else {
		summary, detail = "Postgres does not take this query", sentence(fmt.Sprintf("Postgres says: %s (SQLSTATE %s)", pg.Message, pg.Code))
		if pg.Detail != "" {
			detail += " " + sentence(pg.Detail)
		}
		if pg.Hint != "" {
			detail += " " + sentence(pg.Hint)
		}
	}
	if p.Title != "" {
		summary = p.Title
	}
	if p.Hint != "" {
		detail += " " + sentence(p.Hint)
	}
	return summary, detail, offset
}

func titleOf(attr string) string {
	switch attr {
	case "template", "body":
		return "The template cannot be used"
	case "all":
		return "The query in all cannot be used"
	}
	return "The query cannot be used"
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	switch s[len(s)-1] {
	case '.', '!', '?', ':':
		return s
	}
	return s + "."
}
