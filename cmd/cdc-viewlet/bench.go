package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func (a *app) benchCommand() *cobra.Command {
	var sample int
	cmd := &cobra.Command{
		Use:   "bench [NAME...]",
		Short: "measure how fast your fragments render, writing nothing",
		Long: `Renders a sample of every viewlet's instances, or of those named, as the daemon
does, and prints how fast that was: for each fragment the time in the query, in
the template, and on the way to Redis and back. Then come the slowest fragments,
and the tables that a query reads from end to end.

Nothing is written: to Redis the fragments go as ECHO. Without a Redis, that is
left out.`,
		Example: `  cdc-viewlet bench
  cdc-viewlet bench product_teaser --sample 10000`,
		ValidArgsFunction: a.completeViewlet,
		RunE: func(cmd *cobra.Command, args []string) error {
			if sample < 1 {
				return usagef("--sample %d: write a number of 1 or more", sample)
			}
			return a.bench(cmd.Context(), args, sample)
		},
	}
	cmd.Flags().IntVar(&sample, "sample", 1000, "instances of each viewlet, at most")
	return cmd
}

// benchmark is what bench works with.
type benchmark struct {
	set      *rules.Set
	db       *render.Database
	renderer *render.Renderer
	cache    *cache.Cache // nil: no Redis is named
	sample   int
	slowest  []slow
	scans    []string
}

// slow is a fragment that was rendered by itself, and how long that took.
type slow struct {
	key  viewlet.Key
	took time.Duration
}

// timed is what rendering a viewlet's sample took.
type timed struct {
	fragments, failed, bytes int
	query, template, redis   time.Duration
}

func (a *app) bench(ctx context.Context, viewlets []string, sample int) error {
	written, err := a.loadRules()
	if err != nil {
		return err
	}
	for _, name := range viewlets {
		if err := knows(written, name); err != nil {
			return err
		}
	}
	db, err := a.openDatabase(ctx, written)
	if err != nil {
		return err
	}
	defer db.Close()
	set, err := a.inForce(ctx, written, db)
	if err != nil {
		return err
	}
	r, _ := render.New(db, set, a.maxFragment) // a template that does not parse is told where it is rendered
	b := &benchmark{set: set, db: db, renderer: r, sample: sample}
	if first(a.redisURL, os.Getenv("REDIS_URL"), set.Redis.URL) != "" {
		if b.cache, err = a.readCache(ctx, set); err != nil {
			return err
		}
		defer b.cache.Close()
	}
	if err := b.table(ctx, a.stdout, viewlets); err != nil {
		return err
	}
	return b.rest(ctx, a.stdout)
}

// table measures each viewlet, and prints a line for it.
func (b *benchmark) table(ctx context.Context, out io.Writer, only []string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VIEWLET\tFRAGMENTS\tPER SECOND\tQUERY\tTEMPLATE\tREDIS\tBYTES")
	for _, v := range b.set.Viewlets {
		if len(only) > 0 && !slices.Contains(only, v.Name) {
			continue
		}
		keys, err := b.keys(ctx, v.Name)
		if err == nil && len(keys) > 0 {
			err = b.line(ctx, w, v.Name, keys)
		} else if err == nil {
			fmt.Fprintf(w, "%s\tnone: nothing names its instances, or there are none\n", v.Name)
		}
		var broken *viewlet.Broken
		switch {
		case errors.As(err, &broken):
			fmt.Fprintf(w, "%s\tbroken: %v\n", v.Name, broken)
		case err != nil:
			return fmt.Errorf("measure %s: %w", v.Name, err)
		}
	}
	return w.Flush()
}

// errEnough ends the reading of a viewlet's instances.
var errEnough = errors.New("enough")

// keys are the first of a viewlet's instances.
func (b *benchmark) keys(ctx context.Context, name string) ([]viewlet.Key, error) {
	var all []viewlet.Key
	err := b.renderer.Expand(ctx, name, viewlet.Whole, nil, func(keys []viewlet.Key) error {
		all = append(all, keys[:min(len(keys), b.sample-len(all))]...)
		if len(all) == b.sample {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return all, err
}

func (b *benchmark) line(ctx context.Context, w io.Writer, name string, keys []viewlet.Key) error {
	// Once without a clock: connections and plans are made only once.
	if _, err := b.renderer.Render(ctx, name, keys[:1]); err != nil {
		return err
	}
	var sum timed
	const chunk = 200 // as many as the daemon renders at once
	for part := range slices.Chunk(keys, chunk) {
		if err := b.chunk(ctx, name, part, &sum); err != nil {
			return err
		}
	}
	if err := b.alone(ctx, name, keys); err != nil {
		return err
	}
	each := func(d time.Duration) string {
		return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1000/float64(sum.fragments))
	}
	redis := "-"
	if b.cache != nil {
		redis = each(sum.redis)
	}
	fmt.Fprintf(w, "%s\t%d\t%.0f\t%s\t%s\t%s\t%d", name, sum.fragments,
		float64(sum.fragments)/(sum.query+sum.template+sum.redis).Seconds(), each(sum.query), each(sum.template), redis, sum.bytes/sum.fragments)
	if sum.failed > 0 {
		fmt.Fprintf(w, "\t%s cannot be rendered", count(sum.failed, "fragment"))
	}
	fmt.Fprintln(w)
	return b.scan(ctx, "viewlet "+name, b.set.Viewlet(name).Query)
}

// chunk renders keys at once.
func (b *benchmark) chunk(ctx context.Context, name string, keys []viewlet.Key, sum *timed) error {
	began := time.Now()
	fragments, query, err := b.renderer.Timed(ctx, name, keys)
	if err != nil {
		return err
	}
	sum.query += query
	sum.template += time.Since(began) - query
	sum.fragments += len(fragments)
	for _, f := range fragments {
		sum.bytes += len(f.Body)
		if f.Err != nil {
			sum.failed++
		}
	}
	if b.cache == nil {
		return nil
	}
	began = time.Now()
	err = b.cache.Carry(ctx, fragments)
	sum.redis += time.Since(began)
	return err
}

// alone renders some of the keys one by one, and keeps the slowest of all.
func (b *benchmark) alone(ctx context.Context, name string, keys []viewlet.Key) error {
	const tried, kept = 100, 10
	step := max(1, len(keys)/tried)
	for i := 0; i < len(keys); i += step {
		began := time.Now()
		if _, err := b.renderer.Render(ctx, name, keys[i:i+1]); err != nil {
			return err
		}
		b.slowest = append(b.slowest, slow{keys[i], time.Since(began)})
	}
	slices.SortFunc(b.slowest, func(x, y slow) int { return cmp.Compare(y.took, x.took) })
	b.slowest = b.slowest[:min(len(b.slowest), kept)]
	return nil
}

// scan notes the large tables that a query reads from end to end.
func (b *benchmark) scan(ctx context.Context, whose string, q *rules.Query) error {
	scans, err := b.db.Scans(ctx, q)
	for _, s := range scans {
		b.scans = append(b.scans, whose+": "+s.String())
	}
	return err
}

// rest prints what is not of one viewlet.
func (b *benchmark) rest(ctx context.Context, out io.Writer) error {
	for _, l := range b.set.Lookups {
		if err := b.scan(ctx, "lookup "+l.Name, l.Query); err != nil {
			return err
		}
	}
	if len(b.slowest) > 0 {
		fmt.Fprintln(out, "\nslowest, each by itself:")
	}
	for _, s := range b.slowest {
		fmt.Fprintf(out, "  %8.2f ms  %s\n", float64(s.took.Microseconds())/1000, s.key)
	}
	if len(b.scans) > 0 {
		fmt.Fprintln(out)
	}
	for _, line := range b.scans {
		fmt.Fprintln(out, line)
	}
	return nil
}
