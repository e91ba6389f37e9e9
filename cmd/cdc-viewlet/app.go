package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// app is what all verbs share: the flags, and what they lead to.
type app struct {
	stdout, stderr io.Writer
	log            *slog.Logger
	started        bool // the command line was understood

	config      string
	postgresURL string
	renderURL   string
	redisURL    string
	logLevel    string
	logFormat   string
	connections int
	timeout     time.Duration
	maxFragment int
}

func (a *app) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVarP(&a.config, "config", "c", "rules.hcl", "rules file, or a folder of *.hcl and *.hcl.json")
	f.StringVar(&a.postgresURL, "postgres", "", "Postgres URL (default $DATABASE_URL, then the rules' postgres block)")
	f.StringVar(&a.renderURL, "render-url", "", "Postgres URL of a standby that run renders from (default $RENDER_URL, then the rules' postgres block)")
	f.StringVar(&a.redisURL, "redis", "", "Redis URL (default $REDIS_URL, then the rules' redis block)")
	f.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&a.logFormat, "log-format", "text", "text or json")
	f.IntVar(&a.connections, "connections", 8, "connections to Postgres for rendering, at most")
	f.DurationVar(&a.timeout, "statement-timeout", 30*time.Second, "longest that one query may take")
	f.IntVar(&a.maxFragment, "max-fragment", render.DefaultMaxFragment, "largest fragment, in bytes")
}

// begin looks at the flags that all verbs share, and opens the log.
func (a *app) begin() error {
	switch {
	case a.connections < 1:
		return usagef("--connections %d: write a number of 1 or more", a.connections)
	case a.maxFragment < 1:
		return usagef("--max-fragment %d: write a number of bytes, 1 or more", a.maxFragment)
	case a.timeout < time.Millisecond:
		return usagef("--statement-timeout %v: write 1ms or more", a.timeout)
	}
	return a.openLog()
}

func (a *app) openLog() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return usagef("--log-level %q: write debug, info, warn or error", a.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch a.logFormat {
	case "text":
		a.log = slog.New(slog.NewTextHandler(a.stderr, options))
	case "json":
		a.log = slog.New(slog.NewJSONHandler(a.stderr, options))
	default:
		return usagef("--log-format %q: write text or json", a.logFormat)
	}
	return nil
}

// first gives the first that is not empty: flags over environment over file.
func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// loadRules reads the rules and tells what is wrong with them; errReported if
// they cannot be used.
func (a *app) loadRules() (*rules.Set, error) {
	set, diags := rules.Load(a.config)
	a.tell(set, diags)
	if diags.HasErrors() {
		return nil, errReported
	}
	return set, nil
}

// tell writes diagnostics to people, or one by one to a log that programs read.
func (a *app) tell(set *rules.Set, diags rules.Diagnostics) {
	if len(diags) == 0 {
		return
	}
	rules.Sort(diags)
	if a.logFormat == "json" {
		a.logDiagnostics(diags)
		return
	}
	width, color := uint(78), false
	if f, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		color = os.Getenv("NO_COLOR") == ""
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = uint(max(w, 40))
		}
	}
	_ = set.WriteDiagnostics(a.stderr, diags, width, color)
}

func (a *app) logDiagnostics(diags rules.Diagnostics) {
	for _, d := range diags {
		level := slog.LevelError
		if d.Severity == rules.Warning {
			level = slog.LevelWarn
		}
		facts := []any{"problem", d.Summary, "detail", d.Detail}
		if d.Subject != nil {
			facts = append(facts, "at", fmt.Sprintf("%s:%d", d.Subject.Filename, d.Subject.Start.Line))
		}
		a.log.Log(context.Background(), level, "rules have a mistake", facts...)
	}
}

// tellError writes what ended a verb: a line that begins with the program's
// name, or a line for each of several problems.
func (a *app) tellError(err error) {
	var lacks replication.Problems
	if !errors.As(err, &lacks) {
		a.tellLine(withRemedy(err))
		return
	}
	for _, p := range lacks {
		a.tellLine(p.Error())
	}
}

func (a *app) tellLine(line string) {
	if a.log != nil && a.logFormat == "json" {
		a.log.Error("ended", "err", line)
		return
	}
	a.say("cdc-viewlet: %s", line)
}

// replicationConfig says which slot to stream.
func (a *app) replicationConfig(set *rules.Set) (replication.Config, error) {
	cfg := replication.Config{
		URL:         first(a.postgresURL, os.Getenv("DATABASE_URL"), set.Postgres.URL),
		Slot:        first(set.Postgres.Slot, "cdc_viewlet"),
		Publication: first(set.Postgres.Publication, "cdc_viewlet"),
		Log:         a.log,
	}
	if cfg.URL == "" {
		return cfg, usagef("no Postgres is named: set DATABASE_URL, such as postgres://user:password@localhost/shop, " +
			"or write postgres { url = ... } in the rules, or use --postgres")
	}
	return cfg, nil
}

// openDatabase opens the connections for rendering. One of replication's goes
// before them: it takes no URL for what it is not, and gives up a server that
// says nothing.
func (a *app) openDatabase(ctx context.Context, set *rules.Set) (*render.Database, error) {
	cfg, err := a.replicationConfig(set)
	if err != nil {
		return nil, err
	}
	conn, err := replication.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	_ = conn.Close(ctx) // it was only to see that there is one
	return render.Connect(ctx, render.Config{URL: cfg.URL, Connections: a.connections, StatementTimeout: a.timeout})
}

// useStandby has the fragments rendered from a standby, where one is named. It
// reports whether one is.
func (a *app) useStandby(ctx context.Context, set *rules.Set, db *render.Database) (bool, error) {
	url := first(a.renderURL, os.Getenv("RENDER_URL"), set.Postgres.RenderURL)
	if url == "" {
		return false, nil
	}
	if err := replication.CheckURL(url); err != nil {
		return false, fmt.Errorf("render_url: %w", err)
	}
	return true, db.UseStandby(ctx, render.StandbyConfig{
		Config: render.Config{URL: url, Connections: a.connections, StatementTimeout: a.timeout},
		Lag:    set.Postgres.RenderLag,
		Log:    a.log,
	})
}

// openCache opens Redis for writing: one that takes no writes is an error.
func (a *app) openCache(ctx context.Context, set *rules.Set) (*cache.Cache, error) {
	c, err := a.readCache(ctx, set)
	if err != nil {
		return nil, err
	}
	if err := c.Ping(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// readCache opens Redis for reading.
func (a *app) readCache(ctx context.Context, set *rules.Set) (*cache.Cache, error) {
	url := first(a.redisURL, os.Getenv("REDIS_URL"), set.Redis.URL)
	if url == "" {
		return nil, usagef("no Redis is named: set REDIS_URL, such as redis://localhost:6379, " +
			"or write redis { url = ... } in the rules, or use --redis")
	}
	return cache.Open(ctx, cache.Config{URL: url, Prefix: set.Redis.Prefix, WaitReplicas: set.Redis.WaitReplicas, Log: a.log})
}

// ended makes of an error that came of ctx's end none: it was asked for.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (a *app) say(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }
