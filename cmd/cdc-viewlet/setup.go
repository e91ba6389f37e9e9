package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

func (a *app) setupCommand() *cobra.Command {
	var print bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "make the publication and the slot",
		Long: `Makes the publication of exactly the tables that the rules name, and the
replication slot. ` + "`run`" + ` does it by itself; setup is for a role that run is not
to have. From then on Postgres keeps WAL for the slot until run has read it.`,
		Example: `  cdc-viewlet setup
  cdc-viewlet setup --print | psql shop      what a DBA may prefer`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.setup(cmd.Context(), print) },
	}
	cmd.Flags().BoolVar(&print, "print", false, "print the SQL instead of running it")
	return cmd
}

func (a *app) setup(ctx context.Context, print bool) error {
	set, ed, db, err := a.compared(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if print {
		sql, err := replication.SetupSQL(ctx, ed.cfg, ed.tables)
		if err == nil {
			_, err = fmt.Fprint(a.stdout, sql)
		}
		return err
	}
	if err := replication.Preflight(ctx, ed.cfg, ed.tables); err != nil {
		return err
	}
	state, err := replication.Setup(ctx, ed.cfg, ed.tables)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "publication %s: %s, %s\n", ed.cfg.Publication, count(len(set.TableNames()), "table"), madeOrNot(state.PublicationChanged))
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

// compared loads the rules and compares them with the database.
func (a *app) compared(ctx context.Context) (*rules.Set, *edition, *render.Database, error) {
	set, err := a.loadRules()
	if err != nil {
		return nil, nil, nil, err
	}
	db, err := a.openDatabase(ctx, set)
	if err != nil {
		return nil, nil, nil, err
	}
	ed, err := a.prepare(ctx, set, db)
	if err != nil {
		db.Close()
		return nil, nil, nil, err
	}
	return set, ed, db, nil
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
