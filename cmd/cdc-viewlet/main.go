// Command cdc-viewlet keeps page fragments in Redis equal to what Postgres
// would render now.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // held wrong: flags, arguments, what is missing to begin with
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the work in order, a second one ends the process.
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr}
	root := a.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errReported):
		return exitFailed
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		a.tellLine("interrupted, before it was done")
		return exitFailed
	case errors.As(err, &usage), !a.started:
		a.tellError(err)
		return exitUsage
	default:
		a.tellError(err)
		return exitFailed
	}
}

// errReported ends a verb whose trouble has been told already.
var errReported = errors.New("reported")

// command is the verbs.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "cdc-viewlet",
		Short: "keep page fragments in Redis equal to what Postgres would render now",
		Long: `cdc-viewlet keeps page fragments in Redis equal to what Postgres would render
now. It reads Postgres's logical replication stream, matches row changes against
the rules in rules.hcl, renders the stale fragments again and writes them to
Redis, where web apps read them with a plain GET.`,
		Example: `  cdc-viewlet demo                 see it work, with a Postgres and a Redis of its own
  cdc-viewlet check                read rules.hcl and compare it with the database
  cdc-viewlet run                  the daemon`,
		Version:           versionName(),
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error { a.started = true; return a.begin() },
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand())
	helpOfUse(root)
	a.flags(root)
	root.AddCommand(
		a.runCommand(), a.checkCommand(), a.planCommand(), a.renderCommand(), a.refreshCommand(), a.verifyCommand(), a.benchCommand(),
		a.setupCommand(), a.teardownCommand(), a.statusCommand(), a.demoCommand(), a.completionCommand(), a.versionCommand(),
	)
	return root
}
