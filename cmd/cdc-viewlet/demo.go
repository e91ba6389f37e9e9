package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	cdcviewlet "github.com/cdc-viewlet/cdc-viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/demo"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

type demoOptions struct {
	addr string
	rate float64
	seed uint64
}

func (a *app) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "a sample shop with its own Postgres and Redis, live",
		Long: `Starts a private Postgres and a private Redis in a temporary folder, loads a
sample shop, keeps its fragments fresh while a writer changes prices, stock and
names, and serves a storefront that is put together from Redis alone. Ctrl-C ends
it and leaves nothing behind.`,
		Example: `  cdc-viewlet demo
  cdc-viewlet demo --rate 20 --http 127.0.0.1:9000`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ended(cmd.Context(), a.demo(cmd.Context(), o))
		},
	}
	cmd.Flags().StringVar(&o.addr, "http", "127.0.0.1:8000", "where to serve the storefront; a free port if that one is taken")
	cmd.Flags().Float64Var(&o.rate, "rate", 2, "transactions a second that the writer makes, on average")
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "the same seed makes the same writer")
	return cmd
}

func (a *app) demo(ctx context.Context, o demoOptions) error {
	if o.rate <= 0 {
		return usagef("--rate %v: write a number above 0", o.rate)
	}
	a.say("Starting a Postgres and a Redis of their own ...")
	servers, end := context.WithCancel(context.WithoutCancel(ctx)) // they outlive what uses them
	defer end()
	starting := context.AfterFunc(ctx, end) // but are not waited for
	pg, err := sandbox.StartPostgres(servers, sandbox.PostgresConfig{})
	if err != nil {
		return errors.Join(ctx.Err(), err)
	}
	defer pg.Close()
	redis, err := sandbox.StartRedis(servers, sandbox.RedisConfig{})
	if err != nil {
		return errors.Join(ctx.Err(), err)
	}
	defer redis.Close()
	if !starting() {
		return ctx.Err()
	}
	folder, err := os.MkdirTemp("", "cdc-viewlet-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := a.openShop(ctx, folder, pg); err != nil {
		return err
	}
	a.postgresURL, a.redisURL, a.config = pg.SocketURL(), redis.SocketURL(), filepath.Join(folder, "rules.hcl")
	if a.log.Enabled(ctx, slog.LevelInfo) && !a.log.Enabled(ctx, slog.LevelDebug) {
		a.logLevel = "warn" // the acts are the talk
		if err := a.openLog(); err != nil {
			return err
		}
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
	return a.live(ctx, o, d, set, pg, redis)
}

// openShop writes the sample shop's files to the folder and its rows to
// Postgres.
func (a *app) openShop(ctx context.Context, folder string, pg *sandbox.Postgres) error {
	if err := os.CopyFS(folder, cdcviewlet.Shop); err != nil {
		return err
	}
	sql, err := fs.ReadFile(cdcviewlet.Shop, "shop.sql")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, pg.SocketURL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return demo.Load(ctx, conn, string(sql))
}

// live runs the daemon, the writer and the storefront until ctx ends.
func (a *app) live(ctx context.Context, o demoOptions, d *daemon, set *rules.Set, pg *sandbox.Postgres, redis *sandbox.Redis) error {
	listener, err := listen(ctx, o.addr)
	if err != nil {
		return usagef("--http %s: %v", o.addr, err)
	}
	metrics, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	storefront := demo.NewStorefront(d.cache, a.log)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.run(ctx, nil) })
	g.Go(func() error { return d.server().Run(ctx, metrics) })
	if err := d.warm(ctx); err != nil {
		return errors.Join(g.Wait(), ended(ctx, err))
	}
	changes, err := d.cache.Subscribe(ctx)
	if err != nil {
		return err
	}
	g.Go(func() error {
		for c := range changes {
			storefront.Refreshed(viewlet.NewKey(c.Viewlet, c.Args...), c.Deleted)
		}
		return nil
	})
	a.sayWhere(listener.Addr(), metrics.Addr(), pg, redis)
	g.Go(func() error { return serve(ctx, storefront, listener) })
	traffic := &demo.Traffic{URL: pg.SocketURL(), Rate: o.rate, Seed: o.seed, Log: a.log, Tell: func(act demo.Act) {
		storefront.Tell(act)
		a.say("%s  %s", act.At.Format("15:04:05"), act.Sentence)
	}}
	g.Go(func() error { return ended(ctx, traffic.Run(ctx)) })
	err = g.Wait()
	a.say("\nStopping; the servers and their folders are removed.")
	return err
}

func (a *app) sayWhere(shop, metrics net.Addr, pg *sandbox.Postgres, redis *sandbox.Redis) {
	metered := fmt.Sprintf("http://%s/metrics", metrics)
	a.say(`
The shop is open, and a writer is at work on its tables:

  %-*s  the storefront, from Redis alone, as it changes
  %s  what the daemon says of itself

  psql %s
  redis-cli -u %s get viewlet:product_teaser:1
  the rules: %s

Change a row in psql and watch. Ctrl-C ends it.
`, len(metered), "http://"+shop.String(), metered, pg.URL(), strings.TrimSuffix(redis.URL(), "/"), a.config)
}

// listen takes the address, or with a port that is in use another one.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	var cfg net.ListenConfig
	listener, err := cfg.Listen(ctx, "tcp", addr)
	if err == nil {
		return listener, nil
	}
	host, _, splitting := net.SplitHostPort(addr)
	if splitting != nil {
		return nil, splitting
	}
	if other, err := cfg.Listen(ctx, "tcp", net.JoinHostPort(host, "0")); err == nil {
		return other, nil
	}
	return nil, err
}

func serve(ctx context.Context, handler http.Handler, listener net.Listener) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(bounded)
	})
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the storefront: %w", err)
	}
	return nil
}
