package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func (a *app) refreshCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "refresh NAME [ARGS...]",
		Short: "render one fragment, or all of a viewlet, into Redis now",
		Long: `Renders now and writes to Redis, beside a daemon that may be running: a fragment
that is newer than what was rendered here stays. Without arguments all of the
viewlet is rendered, and fragments whose instance is gone are deleted.`,
		Example: `  cdc-viewlet refresh product_teaser 42
  cdc-viewlet refresh product_teaser`,
		Args:              namesViewlet,
		ValidArgsFunction: a.completeViewlet,
		RunE: func(cmd *cobra.Command, args []string) error {
			return ended(cmd.Context(), a.refresh(cmd.Context(), args[0], args[1:]))
		},
	}
}

func (a *app) refresh(ctx context.Context, name string, args []string) error {
	v, err := a.openViewlet(ctx, name)
	if err != nil {
		return err
	}
	defer v.db.Close()
	redis, err := a.openCache(ctx, v.set)
	if err != nil {
		return err
	}
	defer redis.Close()
	ask := viewlet.Refresh{Key: viewlet.Key{Viewlet: name}, Via: viewlet.Whole}
	if len(args) > 0 || len(v.set.Viewlet(name).Params) == 0 {
		key, err := a.canonical(ctx, v.set, v.renderer, name, args)
		if err != nil {
			return err
		}
		ask = viewlet.Refresh{Key: key}
	}
	if ask.Via == viewlet.Whole && v.set.Viewlet(name).All == nil && !v.set.Viewlet(name).Requested {
		a.say("nothing names the instances of %s: only what is in Redis is looked at; write all = \"SELECT ...\" in the viewlet", name)
	}
	return a.refreshNow(ctx, v, redis, ask)
}

// refreshNow sends one refresh through a pipeline that no changes come into.
func (a *app) refreshNow(ctx context.Context, v *opened, redis *cache.Cache, ask viewlet.Refresh) error {
	began := time.Now()
	var done viewlet.Pass
	late := latecomer{v.renderer, v.db, redis}
	pipe := viewlet.New(viewlet.Config{
		Lanes: []viewlet.Lane{{Viewlet: ask.Viewlet, DeleteFailed: v.set.Viewlet(ask.Viewlet).DeleteFailed}}, Start: 1,
		Match: v.set, Render: late, Store: &store{cache: redis, set: v.set, late: late}, Backoff: newBackoff, Log: a.log,
		Observe: func(p viewlet.Pass) { done.Add(&p) },
	})
	committing, err := v.db.Committing(ctx)
	if err != nil {
		return err
	}
	pipe.Expect(committing)
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	pipe.Refresh(ask, func(err error) { stop(errors.Join(errServed, err)) })
	shown := a.follow(work, "rendering "+ask.Viewlet, a.estimate(ctx, v.renderer, ask), func() int { return rendered(pipe.Status()) })
	err = pipe.Run(work, quiet{})
	stop(nil)
	<-shown
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := brokenCause(context.Cause(work)); err != nil {
		return fmt.Errorf("refresh %s: %w", ask, err)
	}
	return a.report(ctx, redis, ask, done, time.Since(began))
}

// errServed ends a pipeline that has nothing more to do.
var errServed = errors.New("served")

func brokenCause(err error) error {
	var broken *viewlet.Broken
	if errors.As(err, &broken) {
		return broken
	}
	return nil
}

func (a *app) report(ctx context.Context, redis *cache.Cache, ask viewlet.Refresh, done viewlet.Pass, took time.Duration) error {
	fmt.Fprintf(a.stdout, "%s: %d rendered in %v: %d changed, %d as they were, %d deleted\n",
		ask, done.Keys, took.Round(time.Millisecond), done.Written, done.Equal, done.Deleted)
	if done.Absent > 0 {
		fmt.Fprintf(a.stdout, "%d without a row, and not in Redis\n", done.Absent)
	}
	if done.Skipped > 0 {
		fmt.Fprintf(a.stdout, "%d left out: nobody has requested them\n", done.Skipped)
	}
	if done.Refused > 0 {
		fmt.Fprintf(a.stdout, "%d left alone: newer in Redis already\n", done.Refused)
	}
	if done.Failed == 0 {
		return nil
	}
	failed, err := readFailures(ctx, redis, ask.Viewlet)
	if err != nil {
		return err
	}
	for i, name := range slices.Sorted(maps.Keys(failed.first)) {
		if i == 5 {
			break
		}
		a.say("%s: %s", name, failed.first[name].Error)
	}
	return fmt.Errorf("%s could not be rendered; they are listed in the hash @failed in Redis", count(done.Failed, "fragment"))
}

// estimate is about how many fragments are to be rendered; -1: unknown.
func (a *app) estimate(ctx context.Context, r *render.Renderer, ask viewlet.Refresh) int64 {
	if ask.Via != viewlet.Whole {
		return 1
	}
	n, err := r.Estimate(ctx, ask.Viewlet)
	if err != nil {
		return -1
	}
	return n
}

// quiet is a viewlet.Source from which nothing comes.
type quiet struct{}

func (quiet) Run(ctx context.Context, _ viewlet.Sink) error { <-ctx.Done(); return ctx.Err() }
func (quiet) Confirm(viewlet.LSN)                           {}
