package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/verify"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	sample int
	repair bool
	wait   time.Duration
}

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [NAME [ARGS...]]",
		Short: "compare Redis with fresh renders: all, a viewlet, or one fragment",
		Long: `Renders afresh and compares with what is in Redis, beside the daemon. Tells each
fragment that is missing, different, orphaned (no instance has it) or failed (it
cannot be rendered), and then how many there are of each viewlet.

What differs is looked at again when the daemon has passed what was seen, so a
change on its way is no difference. Exit code 1 if something differs and was not
repaired.`,
		Example: `  cdc-viewlet verify
  cdc-viewlet verify --sample 1000
  cdc-viewlet verify product_teaser --repair
  cdc-viewlet verify product_teaser 42`,
		ValidArgsFunction: a.completeViewlet,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.Flags().Changed("sample") && o.sample < 1:
				return usagef("--sample %d: write a number of 1 or more", o.sample)
			case o.wait < 0:
				return usagef("--wait %v: write 0s or more", o.wait)
			}
			return ended(cmd.Context(), a.verify(cmd.Context(), args, o))
		},
	}
	cmd.Flags().IntVar(&o.sample, "sample", 0, "look at so many fragments of each viewlet, chosen at random (default all)")
	cmd.Flags().BoolVar(&o.repair, "repair", false, "write what is missing or different, delete what is orphaned")
	cmd.Flags().DurationVar(&o.wait, "wait", 30*time.Second, "longest to wait for the daemon before what differs counts")
	return cmd
}

func (a *app) verify(ctx context.Context, args []string, o verifyOptions) error {
	set, err := a.loadRules()
	if err != nil {
		return err
	}
	if len(args) > 0 {
		if err := knows(set, args[0]); err != nil {
			return err
		}
	}
	slot, err := a.replicationConfig(set)
	if err != nil {
		return err
	}
	db, err := a.openDatabase(ctx, set)
	if err != nil {
		return err
	}
	defer db.Close()
	if set, err = a.inForce(ctx, set, db); err != nil {
		return err
	}
	open := a.readCache
	if o.repair {
		open = a.openCache
	}
	redis, err := open(ctx, set)
	if err != nil {
		return err
	}
	defer redis.Close()
	r, _ := render.New(db, set, a.maxFragment) // whose template does not parse is found to be failed
	name, key, err := a.verified(ctx, set, r, args)
	if err != nil {
		return err
	}
	behind := &behindDaemon{log: a.log, redis: redis, slot: slot, limit: o.wait}
	return a.verifyNow(ctx, set, truth{latecomer{r, db, redis}, o.repair}, redis, o, behind.pass, name, key)
}

// verified says what is asked for: all, a viewlet, or a fragment.
func (a *app) verified(ctx context.Context, set *rules.Set, r *render.Renderer, args []string) (name string, key *viewlet.Key, err error) {
	if len(args) == 0 {
		return "", nil, nil
	}
	name = args[0]
	if len(args) == 1 && len(set.Viewlet(name).Params) > 0 {
		return name, nil, nil
	}
	one, err := a.canonical(ctx, set, r, name, args[1:])
	return name, &one, err
}

func (a *app) verifyNow(ctx context.Context, set *rules.Set, t truth, redis *cache.Cache, o verifyOptions, passed func(context.Context, viewlet.LSN) error, name string, key *viewlet.Key) error {
	account := &account{app: a, set: set, redis: redis, repair: o.repair, of: map[string]*tally{}}
	var compared atomic.Int64
	check := verify.New(verify.Config{
		Viewlets: viewletsToVerify(set), Truth: t, Store: redis, Passed: passed, Sample: o.sample,
		Found: account.found,
		Compared: func(name string, n int) {
			compared.Add(int64(n))
			account.compared(name, n)
		},
	})
	working, stop := context.WithCancel(ctx)
	defer stop()
	shown := a.follow(working, "verifying", a.toVerify(ctx, set, t, o, name, key), func() int { return int(compared.Load()) })
	var err error
	switch {
	case key != nil:
		err = check.Key(ctx, *key)
	case name != "":
		err = check.Viewlet(ctx, name)
	default:
		err = check.All(ctx)
	}
	stop()
	<-shown
	if err != nil {
		return err
	}
	return account.close(name, check.Unsettled())
}

// viewletsToVerify says what is to be in Redis of each viewlet.
func viewletsToVerify(set *rules.Set) []verify.Viewlet {
	var all []verify.Viewlet
	for _, v := range set.Viewlets {
		all = append(all, verify.Viewlet{Name: v.Name, Params: len(v.Params), Partial: v.Requested || v.Timeout > 0})
	}
	return all
}

// toVerify is about how many fragments are to be looked at; -1: unknown.
func (a *app) toVerify(ctx context.Context, set *rules.Set, t truth, o verifyOptions, name string, key *viewlet.Key) (total int64) {
	switch {
	case key != nil:
		return 1
	case !a.terminal():
		return -1 // nobody wants to know
	}
	for _, v := range set.Viewlets {
		if name != "" && v.Name != name {
			continue
		}
		n, err := t.Estimate(ctx, v.Name)
		if err != nil || n < 0 {
			return -1
		}
		if o.sample > 0 {
			n = min(n, int64(o.sample))
		}
		total += n
	}
	return total
}

// truth is what Postgres shows now, as verify sees it.
type truth struct {
	latecomer
	// mends says that what differs may be stored. Who only reads does without a
	// watch if it may not leave one, and takes a fragment that is written to and fro
	// for one that stays.
	mends bool
}

// Render is a method of verify.Truth.
func (t truth) Render(ctx context.Context, name string, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	w, err := t.watch(ctx, name)
	if err != nil && t.mends {
		return nil, err
	}
	return t.renderUnder(ctx, w, name, keys)
}

// Visible is a method of verify.Truth.
func (t truth) Visible(ctx context.Context) (viewlet.LSN, error) { return t.db.Visible(ctx) }

// Names is a method of verify.Truth. Where equal arguments may have several
// forms, any of them may be the one that a change names.
func (t truth) Names(ctx context.Context, key viewlet.Key) (bool, error) {
	args, err := key.Split(nil)
	if err != nil {
		return false, nil // not encoded as ours are
	}
	canonical, err := t.Canonical(ctx, key.Viewlet, args)
	var unfit *render.ArgumentError
	switch {
	case errors.As(err, &unfit):
		return false, nil
	case err != nil:
		return false, err
	}
	return canonical == key || !t.Storable(key.Viewlet), nil
}
