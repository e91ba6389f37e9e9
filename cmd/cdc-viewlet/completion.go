package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

var shells = []string{"bash", "zsh", "fish"}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "write the script that lets a shell complete what you type",
		Long: `Writes a script that lets the shell complete verbs, flags and the names of
viewlets.`,
		Example: `  source <(cdc-viewlet completion bash)
  cdc-viewlet completion zsh > "${fpath[1]}/_cdc-viewlet"
  cdc-viewlet completion fish > ~/.config/fish/completions/cdc-viewlet.fish`,
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); strings.Join(args, " ") {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			}
			return usagef("completion needs the name of a shell: cdc-viewlet completion %s", strings.Join(shells, "|"))
		},
	}
}

// completeViewlet completes the name of a viewlet; its arguments only the
// database knows.
func (a *app) completeViewlet(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	set, _ := rules.Load(a.config) // what is wrong with it, other verbs tell
	for _, v := range set.Viewlets {
		if strings.HasPrefix(v.Name, typed) {
			names = append(names, v.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
