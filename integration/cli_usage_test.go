package integration

import (
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// usage tries command lines that cannot be meant.
func usage(t *testing.T, d *desk) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	dir := d.folder(t, deskRules+"viewlet \"menu\" {\n  query = \"SELECT name FROM categories\"\n}\n"+table("categories", "refresh = menu()"), nil)
	for _, c := range []struct{ line, says string }{
		{"rnu", `there is no verb "rnu"; did you mean run?`},
		{"frobnicate", `there is no verb "frobnicate"; the verbs are bench, check, completion, demo, `},
		{"help rnu", `there is no verb "rnu"; did you mean run?`},
		{"check --ofline", "there is no flag --ofline; did you mean --offline?"},
		{"--confg rules.hcl check", "there is no flag --confg; did you mean --config?"},
		{"check --frobnicate", "there is no flag --frobnicate; see cdc-viewlet check --help"},
		{"check -x", "there is no flag -x; see cdc-viewlet check --help"},
		{"check rules.hcl", `check takes no arguments, and "rules.hcl" is one; see cdc-viewlet check --help`},
		{"status now", `status takes no arguments, and "now" is one`},
		{"version 2", `version takes no arguments, and "2" is one`},
		{"check -c", "--config needs a value: rules file, or a folder of *.hcl and *.hcl.json"},
		{"check --connections many", `--connections "many": write a whole number, such as 8`},
		{"check --connections 0", "--connections 0: write a number of 1 or more"},
		{"check --max-fragment -1", "--max-fragment -1: write a number of bytes, 1 or more"},
		{"check --statement-timeout 10", `--statement-timeout "10": write a number with its unit, such as 30s`},
		{"check --statement-timeout -10s", "--statement-timeout -10s: write 1ms or more"},
		{"demo --rate fast", `--rate "fast": write a number, such as 2`},
		{"demo --rate 0", "--rate 0: write a number above 0"},
		{"run --log-level loud", `--log-level "loud": write debug, info, warn or error`},
		{"run --log-format xml", `--log-format "xml": write text or json`},
		{"run --http nonsense", "--http nonsense: "},
		{"run --http 127.0.0.1:99999", "--http 127.0.0.1:99999: "},
		{"run --http " + busy.Addr().String(), "--http " + busy.Addr().String() + ": listen tcp " + busy.Addr().String() + ": bind: address already in use"},
		{"run --verify-rate fast", `--verify-rate "fast": write a number of fragments in a second, a minute or an hour, such as 50/s or 3000/m`},
		{"run --verify-rate 50", `--verify-rate "50": write a number of fragments in a second`},
		{"run --verify-rate 0/s", `--verify-rate "0/s": write a number of fragments in a second`},
		{"verify --sample few", `--sample "few": write a whole number, such as 1000`},
		{"verify --sample 0", "--sample 0: write a number of 1 or more"},
		{"verify --wait -1s", "--wait -1s: write 0s or more"},
		{"verify taeser", `there is no viewlet "taeser". Did you mean "teaser"?`},
		{"verify teaser 42 43", "teaser takes 1 argument (id), not 2"},
		{"verify teaser oak", `id is of type integer, and "oak" does not fit it`},
		{"run --pprof 6060", "--pprof 6060: address 6060: missing port in address; write an address of this machine, such as 127.0.0.1:6060"},
		{"run --pprof :6060", "--pprof :6060: others could reach it; write an address of this machine, such as 127.0.0.1:6060"},
		{"run --pprof 0.0.0.0:6060", "--pprof 0.0.0.0:6060: others could reach it"},
		{"run --pprof shop.example:6060", "--pprof shop.example:6060: others could reach it"},
		{"run --pprof " + busy.Addr().String(), "--pprof " + busy.Addr().String() + ": listen tcp " + busy.Addr().String() + ": bind: address already in use"},
		{"render", "render needs the name of a viewlet: cdc-viewlet render product_teaser 42"},
		{"refresh", "refresh needs the name of a viewlet: cdc-viewlet refresh product_teaser 42"},
		{"render taeser 42", `there is no viewlet "taeser". Did you mean "teaser"?`},
		{"refresh taeser", `there is no viewlet "taeser". Did you mean "teaser"?`},
		{"render teaser:42", `"teaser:42" is a key; write the viewlet and its arguments apart: teaser 42`},
		{"render frobnicate", `there is no viewlet "frobnicate"; the rules have teaser, menu`},
		{"render teaser", "teaser takes 1 argument (id), not 0"},
		{"render teaser 42 43", "teaser takes 1 argument (id), not 2"},
		{"refresh teaser 42 43", "teaser takes 1 argument (id), not 2"},
		{"render menu 42", "menu takes no arguments, not 1"},
		{"render teaser oak", `id is of type integer, and "oak" does not fit it`},
		{"refresh teaser oak", `id is of type integer, and "oak" does not fit it`},
		{"render teaser 99999999999", `id is of type integer, and "99999999999" does not fit it`},
		{"render teaser -1", "-1 is read as a flag; an argument that begins with - stands behind --: cdc-viewlet render ... -- -1"},
		{"bench taeser", `there is no viewlet "taeser". Did you mean "teaser"?`},
		{"bench --sample 0", "--sample 0: write a number of 1 or more"},
		{"completion", "completion needs the name of a shell: cdc-viewlet completion bash|zsh|fish"},
		{"completion tcsh", "completion needs the name of a shell: cdc-viewlet completion bash|zsh|fish"},
	} {
		t.Run(c.line, func(t *testing.T) {
			t.Parallel()
			a := d.types(t, dir, nil, strings.Fields(c.line)...)
			a.ends(t, 2)
			a.gives(t, "")
			a.saysInALine(t, "cdc-viewlet: "+c.says)
			if strings.Count(a.stderr, "\n") != 1 {
				t.Errorf("%s: it says %q", a.line, a.stderr)
			}
		})
	}
	t.Cleanup(func() { d.untouched(t) })
}

// TestCLIHelp wants help for every verb, with an example, on stdout.
func TestCLIHelp(t *testing.T) {
	t.Parallel()
	help := typesAlone(t, t.TempDir(), "help")
	help.ends(t, 0)
	if help.stderr != "" {
		t.Errorf("help says %q", help.stderr)
	}
	var verbs []string
	_, list, _ := strings.Cut(help.stdout, "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		verbs = append(verbs, strings.Fields(line)[0])
	}
	for _, verb := range []string{"run", "check", "render", "refresh", "verify", "setup", "teardown", "status", "demo", "version", "completion"} {
		if !slices.Contains(verbs, verb) {
			t.Errorf("help knows no verb %s, but %q", verb, verbs)
		}
	}
	for _, verb := range verbs {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			var said [2]string
			for i, line := range []string{verb + " --help", "help " + verb} {
				a := typesAlone(t, t.TempDir(), strings.Fields(line)...)
				a.ends(t, 0)
				said[i] = a.stdout
			}
			example := regexp.MustCompile(`(?m)^Examples:\n  .*cdc-viewlet ` + verb)
			if !example.MatchString(said[0]) {
				t.Errorf("%s --help shows no example", verb)
			}
			if verb != "help" && said[0] != said[1] {
				t.Errorf("%s --help and help %s differ", verb, verb)
			}
		})
	}
}

// TestCLIHelpOfUse wants of the flags that all verbs share only those that the
// verb makes use of.
func TestCLIHelpOfUse(t *testing.T) {
	t.Parallel()
	shared := []string{"--config", "--postgres", "--redis", "--render-url", "--connections", "--log-level"}
	for verb, want := range map[string][]string{
		"run": shared, "version": nil, "completion": nil, "demo": {"--log-level"},
		"render": {"--config", "--postgres", "--redis", "--connections", "--log-level"}, "teardown": {"--config", "--postgres", "--redis", "--log-level"},
	} {
		help := typesAlone(t, t.TempDir(), verb, "--help").stdout
		for _, flag := range shared {
			if told := strings.Contains(help, flag+" "); told != slices.Contains(want, flag) {
				t.Errorf("%s --help tells of %s: %t", verb, flag, told)
			}
		}
	}
}

// TestCLIVersion wants the version by both ways that people try.
func TestCLIVersion(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"version", "--version"} {
		a := typesAlone(t, t.TempDir(), line)
		a.ends(t, 0)
		if !regexp.MustCompile(`^cdc-viewlet \S+ go1\.\S+ \w+/\w+\n$`).MatchString(a.stdout) {
			t.Errorf("%s gives %q", line, a.stdout)
		}
	}
}

// TestCLICompletion wants scripts that their shells take, and the names of
// viewlets completed.
func TestCLICompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		a := typesAlone(t, t.TempDir(), "completion", shell)
		a.ends(t, 0)
		if !strings.Contains(a.stdout, "cdc-viewlet") {
			t.Errorf("completion %s gives %q", shell, a.stdout)
		}
		if _, err := exec.LookPath(shell); err != nil {
			continue // its syntax is seen where it is installed
		}
		check := exec.Command(shell, "-n")
		check.Stdin = strings.NewReader(a.stdout)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s does not take its script: %v\n%s", shell, err, out)
		}
	}
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"rules.hcl": deskRules})
	for line, want := range map[string]string{
		"render te":      "teaser\n",
		"refresh ":       "teaser\n",
		"render x":       "",
		"render teaser ": "",
		"ref":            "refresh",
	} {
		a := typesAlone(t, dir, append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if got := a.stdout; want == "" && !strings.HasPrefix(got, ":") || !strings.HasPrefix(got, want) {
			t.Errorf("%q is completed to %q, want %q", line, got, want)
		}
	}
}
