package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func (a *app) planCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "derive rules from the viewlets' queries",
		Long: `Lets Postgres analyse each viewlet's query, and prints the table and lookup blocks
that follow from it, as they can stand in rules.hcl. A table block that is written
there already is left as it is. What no rule follows is told on stderr, with what
to write instead.`,
		Example: `  cdc-viewlet plan
  cdc-viewlet plan -c viewlets.hcl >> viewlets.hcl`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.plan(cmd.Context()) },
	}
}

func (a *app) plan(ctx context.Context) error {
	set, err := a.loadRules()
	if err != nil {
		return err
	}
	db, err := a.openDatabase(ctx, set)
	if err != nil {
		return err
	}
	defer db.Close()
	queries := make([]*rules.Query, len(set.Viewlets))
	for i, v := range set.Viewlets {
		queries[i] = v.Query
	}
	analysed, catalog, err := db.Analyse(ctx, queries...)
	if err != nil {
		return err
	}
	var text strings.Builder
	var problems []render.Problem
	for i, v := range set.Viewlets {
		blocks, found := derived(set, v, analysed[i], catalog)
		text.WriteString(blocks)
		problems = append(problems, found...)
	}
	if _, err := fmt.Fprint(a.stdout, text.String()); err != nil {
		return err
	}
	diags := asDiagnostics(set, problems)
	a.tell(set, diags)
	if diags.HasErrors() {
		return errReported
	}
	return nil
}

// derived gives the blocks derived for one viewlet, and what they leave out.
func derived(set *rules.Set, v *rules.Viewlet, query render.Analysed, catalog *derive.Catalog) (blocks string, problems []render.Problem) {
	if query.Err != nil {
		return "", []render.Problem{{Viewlet: v, Attr: "query", Err: query.Err}}
	}
	r, err := derive.Derive(derive.Query{
		Viewlet: v.Name, Params: v.Params, Tree: query.Tree,
		Written: func(t viewlet.TableName) bool { return set.Refreshes(t, v.Name) },
	}, catalog)
	if err != nil {
		return "", []render.Problem{{Viewlet: v, Attr: "query", Err: err}}
	}
	for _, l := range r.Limits {
		if (l.Name == "all" && v.All != nil) || (l.Params != nil && set.Refreshes(l.Table, v.Name)) {
			continue
		}
		problems = append(problems, render.Problem{Viewlet: v, Attr: "query", Err: errors.New(l.String()), Warning: true})
	}
	if len(r.Rules) == 0 {
		return "", problems
	}
	text := derive.HCL(r.Rules) + "\n"
	if v.All == nil && r.All != "" {
		text = fmt.Sprintf("# derived: %s has all = %q\n\n%s", v.Name, r.All, text)
	}
	return text, problems
}
