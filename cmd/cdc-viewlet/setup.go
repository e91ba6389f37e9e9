package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func (a *app) setupCommand() *cobra.Command {
	var print, identities bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "make the publication and the slot",
		Long: `Makes the publication of exactly the tables that the rules name, and the
replication slot. ` + "`run`" + ` does it by itself; setup is for a role that run is not
to have. From then on Postgres keeps WAL for the slot until run has read it.

Rules that need the old values of a table's columns need REPLICA IDENTITY FULL;
--replica-identity alters those tables first, for which one must own them.`,
		Example: `  cdc-viewlet setup
  cdc-viewlet setup --replica-identity
  cdc-viewlet setup --print | psql shop      what a DBA may prefer`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.setup(cmd.Context(), print, identities) },
	}
	cmd.Flags().BoolVar(&print, "print", false, "print the SQL instead of running it")
	cmd.Flags().BoolVar(&identities, "replica-identity", false, "alter the replica identity of tables whose old values the rules need")
	return cmd
}

func (a *app) setup(ctx context.Context, print, identities bool) error {
	set, err := a.loadRules()
	if err != nil {
		return err
	}
	db, err := a.openDatabase(ctx, set)
	if err != nil {
		return err
	}
	defer db.Close()
	if identities {
		in, err := a.identify(ctx, set, db, print)
		if err != nil {
			return err
		}
		if print {
			return a.printSetup(ctx, set, in)
		}
	}
	ed, err := a.prepare(ctx, set, db)
	if errors.Is(err, errReported) && len(ed.set.Identities()) > 0 {
		a.say("cdc-viewlet: to have the replica identities altered first, write cdc-viewlet setup --replica-identity")
	}
	if err != nil {
		return err
	}
	if print {
		return a.printSetup(ctx, set, ed.inspection)
	}
	if err := replication.Preflight(ctx, ed.cfg, ed.tables); err != nil {
		return err
	}
	state, err := replication.Setup(ctx, ed.cfg, ed.tables)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "publication %s: %s, %s\n", ed.cfg.Publication, count(len(ed.tables), "table"), madeOrNot(state.PublicationChanged))
	fmt.Fprintf(a.stdout, "slot %s: %s, at %v\n", ed.cfg.Slot, madeOrNot(state.SlotCreated), state.Confirmed)
	if state.PublicationPending {
		a.say("a daemon is streaming; it alters the publication when it reads the rules again (SIGHUP)")
	}
	return nil
}

func madeOrNot(made bool) string {
	if made {
		return "made"
	}
	return "was there"
}

func (a *app) printSetup(ctx context.Context, set *rules.Set, in *inspection) error {
	cfg, err := a.replicationConfig(set)
	if err != nil {
		return err
	}
	sql, err := replication.SetupSQL(ctx, cfg, in.tables)
	if err == nil {
		_, err = fmt.Fprint(a.stdout, sql)
	}
	return err
}

// identify alters, or prints how to alter, the replica identities that the
// rules need.
func (a *app) identify(ctx context.Context, written *rules.Set, db *render.Database, print bool) (*inspection, error) {
	cfg, err := a.replicationConfig(written)
	if err != nil {
		return nil, err
	}
	in, err := a.inspect(ctx, written, db, cfg, nil)
	if err != nil {
		return nil, err
	}
	wanted := map[bool][]viewlet.Table{}
	for _, i := range in.set.Identities() {
		wanted[i.Full] = append(wanted[i.Full], *i.Table)
	}
	var statements []string
	for _, full := range []bool{false, true} {
		sql, err := replication.IdentitySQL(ctx, cfg, full, wanted[full]...)
		if err != nil {
			return nil, err
		}
		statements = append(statements, sql...)
	}
	if print || len(statements) == 0 {
		for _, sql := range statements {
			fmt.Fprintln(a.stdout, sql)
		}
		return in, nil
	}
	return in, replication.Alter(ctx, cfg, statements)
}

func (a *app) teardownCommand() *cobra.Command {
	var print, fragments bool
	cmd := &cobra.Command{
		Use:   "teardown",
		Short: "drop the slot and the publication",
		Long: `Drops the slot, so that Postgres keeps no WAL for it any more, and the
publication. With --fragments everything under the prefix in Redis goes too.`,
		Example: `  cdc-viewlet teardown
  cdc-viewlet teardown --print`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.teardown(cmd.Context(), print, fragments) },
	}
	cmd.Flags().BoolVar(&print, "print", false, "print the SQL instead of running it")
	cmd.Flags().BoolVar(&fragments, "fragments", false, "also delete the fragments and the state in Redis")
	return cmd
}

func (a *app) teardown(ctx context.Context, print, fragments bool) error {
	set, err := a.loadRules()
	if err != nil {
		return err
	}
	cfg, err := a.replicationConfig(set)
	if err != nil {
		return err
	}
	if print {
		sql, err := replication.TeardownSQL(cfg)
		if err == nil {
			_, err = fmt.Fprint(a.stdout, sql)
		}
		return err
	}
	if !fragments {
		return a.dropSlot(ctx, cfg)
	}
	redis, err := a.openCache(ctx, set) // before anything is dropped
	if err != nil {
		return err
	}
	defer redis.Close()
	if err := a.dropSlot(ctx, cfg); err != nil {
		return err
	}
	n, err := redis.Clear(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "redis: %s deleted\n", count(n, "key"))
	return nil
}

// dropSlot drops the slot and the publication.
func (a *app) dropSlot(ctx context.Context, cfg replication.Config) error {
	if err := replication.Teardown(ctx, cfg); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "slot %s and publication %s are gone\n", cfg.Slot, cfg.Publication)
	return err
}
