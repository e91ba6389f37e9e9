package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

func (a *app) checkCommand() *cobra.Command {
	var offline bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "find the mistakes in the rules",
		Long: `Reads the rules and the templates and tells everything that is wrong with them,
by file and line. With a database it also compares them with the catalog: tables,
columns, replica identities, queries that Postgres does not take, templates that
read columns which their query does not have, and what the server lacks.`,
		Example: `  cdc-viewlet check
  cdc-viewlet check --offline -c /etc/cdc-viewlet`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context(), offline) },
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask the database")
	return cmd
}

func (a *app) check(ctx context.Context, offline bool) error {
	set, diags := rules.Load(a.config)
	if diags.HasErrors() {
		a.tell(set, diags)
		return a.verdict(set, diags, 0, "")
	}
	against, tables := "not compared with a database", len(set.TableNames())
	var lacks error
	if offline {
		_, problems := render.New(nil, set, a.maxFragment)
		diags = append(append(diags, set.Check()...), asDiagnostics(set, problems)...)
	} else {
		in, err := a.checkDatabase(ctx, set, &lacks)
		if err != nil {
			a.tell(set, diags)
			var usage *usageError
			if errors.As(err, &usage) {
				err = usagef("%s; or check --offline", usage.message)
			}
			return err
		}
		diags = append(diags, in.diags...)
		set, against, tables = in.set, "compared with the database", len(in.tables)
	}
	a.tell(set, diags)
	if lacks != nil {
		a.tellError(lacks)
	}
	if lacks != nil && !diags.HasErrors() {
		fmt.Fprintf(a.stdout, "%s: the rules are ok, and the server lacks what stands above\n", a.config)
		return errReported
	}
	return a.verdict(set, diags, tables, against)
}

// checkDatabase compares the rules with the catalog. What the server lacks for
// streaming goes to lacks.
func (a *app) checkDatabase(ctx context.Context, set *rules.Set, lacks *error) (*inspection, error) {
	db, err := a.openDatabase(ctx, set)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	cfg, err := a.replicationConfig(set)
	if err != nil {
		return nil, err
	}
	in, err := a.inspect(ctx, set, db, cfg, nil)
	if err != nil {
		return nil, err
	}
	scans, err := in.renderer.CheckLookups(ctx)
	if err != nil {
		return nil, err
	}
	in.diags = append(in.diags, asDiagnostics(in.set, scans)...)
	err = replication.Preflight(ctx, cfg, in.tables)
	var problems replication.Problems
	if err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	named, err := a.useStandby(ctx, set, db)
	if named && err == nil {
		if unfit := db.CheckStandby(ctx); unfit != nil {
			problems = append(problems, replication.Problem{What: unfit.Error(), Cure: "correct render_url, or leave it out; meanwhile the primary serves"})
		}
	}
	if len(problems) > 0 {
		*lacks = problems
	}
	return in, err
}

// verdict sums up on stdout.
func (a *app) verdict(set *rules.Set, diags rules.Diagnostics, tables int, against string) error {
	failures, warnings := rules.Count(diags)
	if failures > 0 {
		fmt.Fprintf(a.stdout, "%s: %s, %s\n", a.config, count(failures, "error"), count(warnings, "warning"))
		return errReported
	}
	sizes := count(len(set.Viewlets), "viewlet")
	if tables > 0 { // without a database, those that the queries read are not known
		sizes += ", " + count(tables, "table")
	}
	fmt.Fprintf(a.stdout, "%s: ok, %s, %s; %s\n", a.config, sizes, count(warnings, "warning"), against)
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
