// Command bench measures the daemon side by side with what one would use
// instead of it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	var usage *usageError
	do := run
	if len(os.Args) == 2 && os.Args[1] == listenerCommand {
		do = listen
	}
	switch err := do(ctx, os.Args[1:]); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// usageError is a command line that was held wrong.
type usageError struct{ error }

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "rows to run, by name or number, with commas between: "+strings.Join(names(), ", "))
	quick := flags.Bool("quick", false, "a tenth of the sizes, and fewer runs: to see that it works")
	runs := flags.Int("runs", 0, "alternating runs of each side (default 5, with --quick 2)")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil || flags.NArg() > 0 {
		return &usageError{errors.New("held wrong: see bench --help")}
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	h, err := open(ctx, scale{quick: *quick, runs: *runs})
	if err != nil {
		return err
	}
	defer h.close()
	fmt.Println(h.machine())
	table := newTable(os.Stdout)
	for _, r := range chosen {
		if err := r.measure(ctx, h, table); err != nil {
			return fmt.Errorf("row %s %s: %w", r.number, r.name, err)
		}
	}
	return nil
}

// row is one line of the table, or several that are measured together.
type row struct {
	number, name string
	run          func(context.Context, *house) ([]result, error)
}

func (r row) measure(ctx context.Context, h *house, t *table) error {
	results, err := r.run(ctx, h)
	for _, res := range results {
		t.add(r, res)
	}
	return err
}

var rows = []row{
	{"1", "backlog", backlog},
	{"1b", "peek", peek},
	{"2", "hot", hot},
	{"3", "fragments", fragments},
	{"4", "lookup", fanOut},
	{"5", "latency", latency},
	{"6", "steady", steady},
	{"7", "huge", huge},
	{"8", "many", many},
	{"9", "warmup", warmUp},
	{"10", "wide", wide},
	{"11", "http", overHTTP},
	{"12", "writers", writers},
}

func names() []string {
	var all []string
	for _, r := range rows {
		all = append(all, r.name)
	}
	return all
}

func choose(only string) ([]row, error) {
	if only == "" {
		return rows, nil
	}
	var chosen []row
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(rows, func(r row) bool { return name == r.name || name == r.number })
		if i < 0 {
			return nil, &usageError{fmt.Errorf("there is no row %q: write one of %s", name, strings.Join(names(), ", "))}
		}
		chosen = append(chosen, rows[i])
	}
	return chosen, nil
}
