package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a command line, or an environment, that cannot be meant.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// unknownVerb is what somebody typed who made a slip.
func unknownVerb(root *cobra.Command, name string) error {
	var verbs []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			verbs = append(verbs, c.Name())
		}
	}
	if best := nearest(name, verbs); best != "" {
		return usagef("there is no verb %q; did you mean %s?", name, best)
	}
	return usagef("there is no verb %q; the verbs are %s", name, strings.Join(verbs, ", "))
}

// noArguments refuses arguments to a verb that has none.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("%s takes no arguments, and %q is one; see %s --help", cmd.Name(), args[0], cmd.CommandPath())
}

// namesViewlet wants the name of a viewlet first.
func namesViewlet(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return nil
	}
	example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
	return usagef("%s needs the name of a viewlet: %s", cmd.Name(), example)
}

// flagError tells what is wrong with a flag in terms of what to type.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var lacks *pflag.ValueRequiredError
	var unfit *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown)
	case errors.As(err, &lacks):
		return usagef("--%s needs a value: %s", lacks.GetFlag().Name, lacks.GetFlag().Usage)
	case errors.As(err, &unfit):
		return usagef("--%s %q: write %s", unfit.GetFlag().Name, unfit.GetValue(), valueOf(unfit.GetFlag()))
	}
	return usagef("%v; see %s --help", err, cmd.CommandPath())
}

func unknownFlag(cmd *cobra.Command, err *pflag.NotExistError) error {
	if short := err.GetSpecifiedShortnames(); short != "" {
		if strings.Trim(short, "0123456789.") == "" {
			return usagef("-%s is read as a flag; an argument that begins with - stands behind --: %s ... -- -%s", short, cmd.CommandPath(), short)
		}
		return usagef("there is no flag -%s; see %s --help", err.GetSpecifiedName(), cmd.CommandPath())
	}
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
	if best := nearest(err.GetSpecifiedName(), flags); best != "" {
		return usagef("there is no flag --%s; did you mean --%s?", err.GetSpecifiedName(), best)
	}
	return usagef("there is no flag --%s; see %s --help", err.GetSpecifiedName(), cmd.CommandPath())
}

func valueOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int", "uint64":
		if f.DefValue == "0" {
			return "a whole number, such as 1000"
		}
		return "a whole number, such as " + f.DefValue
	case "float64":
		return "a number, such as " + f.DefValue
	case "duration":
		return "a number with its unit, such as " + f.DefValue
	}
	return "a " + f.Value.Type()
}

// nearest gives the name most like the one that was typed; empty when none is.
func nearest(typed string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	distance := func(name string) int { return levenshtein.Distance(strings.ToLower(typed), name, nil) }
	best := slices.MinFunc(names, func(a, b string) int { return distance(a) - distance(b) })
	if distance(best) > max(2, len(typed)/3) {
		return ""
	}
	return best
}

// helpOfUse leaves out of each verb's help the flags that all verbs share and
// it makes no use of.
func helpOfUse(root *cobra.Command) {
	connected := []string{"config", "postgres", "redis", "log-level", "log-format", "connections", "statement-timeout"}
	rendering := append(connected, "max-fragment")
	uses := map[string][]string{
		"run": append(rendering, "render-url"), "check": append(rendering, "render-url"),
		"plan": rendering, "render": rendering, "refresh": rendering, "verify": rendering, "bench": rendering, "setup": rendering,
		"status": connected, "teardown": {"config", "postgres", "redis", "log-level", "log-format"},
		"demo": {"log-level", "log-format"}, "completion": {}, "version": {}, "help": {},
	}
	help := root.HelpFunc()
	root.SetHelpFunc(func(verb *cobra.Command, args []string) {
		if used, known := uses[verb.Name()]; known && verb != root {
			verb.InheritedFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(used, f.Name) })
		}
		help(verb, args)
	})
}

// helpCommand is cobra's, but for a verb that there is not.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [VERB]",
		Short:   "tell how a verb is used",
		Example: "  cdc-viewlet help run",
		RunE: func(cmd *cobra.Command, args []string) error {
			verb, rest, err := cmd.Root().Find(args)
			if err != nil || verb == nil || len(rest) > 0 {
				return unknownVerb(cmd.Root(), strings.Join(args, " "))
			}
			verb.InitDefaultHelpFlag()
			return verb.Help()
		},
	}
}
