package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/web"
)

func (a *app) runCommand() *cobra.Command {
	var addr, verifyRate, profiles string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "keep the fragments fresh: the daemon",
		Long: `Streams changes from Postgres, renders what they make stale and writes it to
Redis. At the first start, and for every viewlet whose query or template has
changed since, everything is rendered.

SIGTERM and Ctrl-C: finish what is under way, confirm it, leave.
SIGHUP: read the rules again; if they have mistakes the old ones stay in force.`,
		Example: `  DATABASE_URL=postgres://cdc_viewlet@localhost/shop REDIS_URL=redis://localhost cdc-viewlet run
  cdc-viewlet run -c /etc/cdc-viewlet --http 127.0.0.1:8080`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ended(cmd.Context(), a.run(cmd.Context(), addr, verifyRate, profiles))
		},
	}
	cmd.Flags().StringVar(&addr, "http", "", "serve health, metrics and fragments there, such as 127.0.0.1:8080")
	cmd.Flags().StringVar(&verifyRate, "verify-rate", "", "compare so many fragments with fresh renders in the background, such as 50/s or 3000/m")
	cmd.Flags().StringVar(&profiles, "pprof", "", "serve Go's profiles there, to this machine only, such as 127.0.0.1:6060")
	return cmd
}

func (a *app) run(ctx context.Context, addr, verifyRate, profiles string) error {
	var limit rate.Limit
	if verifyRate != "" {
		var err error
		if limit, err = parseRate(verifyRate); err != nil {
			return err
		}
	}
	serveProfiles, err := a.profiled(ctx, profiles)
	if err != nil {
		return err
	}
	set, err := a.loadRules()
	if err != nil {
		return err
	}
	d, closeAll, err := a.openDaemon(ctx, set)
	if err != nil {
		return err
	}
	defer closeAll()
	d.verifyRate = limit
	if err := d.useStandby(ctx); err != nil {
		return err
	}

	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reload := make(chan struct{})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hup:
			}
			select {
			case <-ctx.Done():
			case reload <- struct{}{}:
			}
		}
	})
	if addr != "" {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return usagef("--http %s: %v; write an address that is free, such as 127.0.0.1:8080", addr, err)
		}
		a.log.Info("serving HTTP", "url", "http://"+listener.Addr().String())
		g.Go(func() error { return d.server().Run(ctx, listener) })
	}
	g.Go(func() error { return d.db.Run(ctx) })
	if serveProfiles != nil {
		g.Go(func() error { return serveProfiles(ctx) })
	}
	g.Go(func() error { return d.run(ctx, reload) })
	return g.Wait()
}

// openDaemon opens what a daemon needs and compares the rules with the
// database.
func (a *app) openDaemon(ctx context.Context, set *rules.Set) (*daemon, func(), error) {
	store, err := a.openCache(ctx, set)
	if err != nil {
		return nil, nil, err
	}
	db, err := a.openDatabase(ctx, set)
	if err != nil {
		_ = store.Close()
		return nil, nil, err
	}
	closeAll := func() { db.Close(); _ = store.Close() }
	first, err := a.prepare(ctx, set, db)
	if errors.Is(err, errReported) && first != nil {
		first.said = first.wrong()
		err = a.goOn(ctx, store, set)
	}
	if err == nil {
		err = replication.Preflight(ctx, first.cfg, first.tables)
	}
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return &daemon{
		app: a, db: db, cache: store, current: first,
		metrics: web.NewMetrics(), progress: a.warmUpBar(), state: web.Starting,
	}, closeAll, nil
}

// goOn decides on rules that do not fit the database. Those that were in force
// already did fit it: the schema has changed since, which would not have ended a
// daemon that ran, and does not keep the viewlets waiting that still work. New
// ones are refused, with errReported.
func (a *app) goOn(ctx context.Context, store *cache.Cache, set *rules.Set) error {
	state, err := store.State(ctx)
	if err != nil {
		return err
	}
	if state.Rules != inForce(set) {
		return errReported
	}
	a.log.Error("the schema has changed, and rules do not fit it any more; the other viewlets go on")
	return nil
}

// inForce sums up rules as they are written.
func inForce(set *rules.Set) string {
	var said []string
	for _, v := range set.Viewlets {
		said = append(said, v.Name+" "+set.Fingerprint(v.Name))
	}
	slices.Sort(said)
	sum := sha256.Sum256([]byte(strings.Join(said, " ")))
	return hex.EncodeToString(sum[:8])
}

// warmUpBar shows a warm-up on a terminal; nil where there is none.
func (a *app) warmUpBar() func(viewlet.Status) {
	if !a.terminal() {
		return nil
	}
	set, finish := a.bar("warming up", -1)
	done := false
	return func(s viewlet.Status) {
		if done {
			return
		}
		set(rendered(s))
		if done = s.Warm(); done {
			finish()
		}
	}
}

// useStandby has the daemon render from a standby, where one is named. Only one
// of another cluster ends it: any other may be ready later.
func (d *daemon) useStandby(ctx context.Context) error {
	named, err := d.app.useStandby(ctx, d.edition().written, d.db)
	if !named || err != nil {
		return err
	}
	if err := d.db.CheckStandby(ctx); errors.Is(err, render.ErrAnotherCluster) {
		return fmt.Errorf("%w; correct render_url, or leave it out", err)
	}
	return nil
}
