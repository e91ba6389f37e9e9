package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// planFlags say what of the plan is asked for.
type planFlags struct {
	derived, dot         bool
	table, old, new, row string
}

func (a *app) planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "print the rules in force, or what a change refreshes",
		Long: `Prints the rules in force as they could stand in rules.hcl: those that are written
there, each with its place, and those that follow from the viewlets' queries, each
with the equalities that it comes from. What is not followed is told on stderr, with
what to write instead.

With --table it prints which fragments a change of one row refreshes, and why. Give
the row before, after, or both, as JSON; columns in neither are as the database has
them. --row-of takes the row from the database, by its primary key (5, or 5,en).`,
		Example: `  cdc-viewlet plan
  cdc-viewlet plan --derived >> rules.hcl
  cdc-viewlet plan --dot | dot -Tsvg -o rules.svg
  cdc-viewlet plan --table categories --old '{"id":5,"name":"Oak"}' --new '{"id":5,"name":"Ash"}'
  cdc-viewlet plan --table categories --row-of 5 --new '{"name":"Ash"}'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.plan(cmd.Context(), f) },
	}
	cmd.Flags().BoolVar(&f.derived, "derived", false, "leave out the rules that are written")
	cmd.Flags().BoolVar(&f.dot, "dot", false, "print the graph of tables, lookups and viewlets for Graphviz")
	cmd.Flags().StringVar(&f.table, "table", "", "the table of which a row changes")
	cmd.Flags().StringVar(&f.old, "old", "", "the row before the change, as a JSON object; without it the row is new")
	cmd.Flags().StringVar(&f.new, "new", "", "the row after the change, as a JSON object; without it the row is deleted")
	cmd.Flags().StringVar(&f.row, "row-of", "", "take the row from the database, by its primary key")
	return cmd
}

func (f planFlags) check() error {
	change := f.old != "" || f.new != "" || f.row != ""
	switch {
	case change && f.table == "":
		return usagef("whose row? Write --table categories")
	case f.table != "" && !change:
		return usagef("which change of %s? Write --old and --new with JSON, or --row-of with the row's primary key", f.table)
	case f.table != "" && (f.dot || f.derived):
		return usagef("--table asks for one change; leave out --dot and --derived")
	}
	return nil
}

func (a *app) plan(ctx context.Context, f planFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	set, err := a.loadRules()
	if err != nil {
		return err
	}
	db, err := a.openDatabase(ctx, set)
	if err != nil {
		return err
	}
	defer db.Close()
	cfg, err := a.replicationConfig(set)
	if err != nil {
		return err
	}
	in, err := a.inspect(ctx, set, db, cfg, nil)
	if err != nil {
		return err
	}
	switch {
	case f.table != "":
		err = a.planChange(ctx, in, db, f)
	case f.dot:
		err = writeDot(a.stdout, in.set, f.derived)
	default:
		err = writePlan(a.stdout, in, f.derived)
	}
	if err != nil {
		return err
	}
	if f.table == "" || in.diags.HasErrors() { // of one change, limits tell nothing
		a.tell(in.set, in.diags)
	}
	if in.diags.HasErrors() {
		return errReported
	}
	return nil
}

// writePlan prints the rules in force.
func writePlan(w io.Writer, in *inspection, derivedOnly bool) error {
	var text strings.Builder
	if !derivedOnly {
		for _, r := range in.set.InForce() {
			if r.At != "" {
				fmt.Fprintf(&text, "# written: %s\n%s\n\n", r.At, r.HCL)
			}
		}
		for _, block := range in.set.WrittenLookups() {
			text.WriteString(block + "\n\n")
		}
	}
	for _, v := range in.set.Viewlets {
		one := in.from[v.Name]
		if one.All != "" && v.All != nil && v.All.SQL == one.All {
			fmt.Fprintf(&text, "# derived: %s has all = %q\n\n", v.Name, one.All)
		}
		if one.Blocks != "" {
			text.WriteString(one.Blocks + "\n")
		}
	}
	_, err := io.WriteString(w, strings.TrimSuffix(text.String(), "\n"))
	return err
}

// called is a rule for people.
func called(r rules.InForce) string {
	if r.At == "" {
		return "derived: " + r.Why
	}
	return "written: " + r.At
}
