package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// writeDot prints the way from tables over lookups to viewlets as a graph.
//
// https://graphviz.org/doc/info/lang.html
func writeDot(w io.Writer, set *rules.Set, derivedOnly bool) error {
	g := graph{seen: map[string]bool{}}
	g.line(`digraph "rules in force" {`)
	g.line(`  rankdir = LR; node [fontname = "sans-serif"]; edge [fontname = "sans-serif", fontsize = 9];`)
	for _, v := range set.Viewlets {
		g.node("viewlet", v.Name, "box, style = rounded")
	}
	for _, r := range set.InForce() {
		if derivedOnly && r.At != "" {
			continue
		}
		g.node("table", r.Table.String(), "cylinder")
		for _, c := range r.Calls {
			g.call(r, c)
		}
	}
	g.line("}")
	_, err := io.WriteString(w, g.text.String())
	return err
}

// graph is one in DOT, each of whose lines stands in it once.
type graph struct {
	text strings.Builder
	seen map[string]bool
}

func (g *graph) line(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !g.seen[line] {
		g.seen[line] = true
		g.text.WriteString(line + "\n")
	}
}

// node's name has its kind before it: a table may be called as a viewlet is.
func (g *graph) node(kind, name, shape string) {
	g.line("  %s [label = %s, shape = %s];", dotID(kind+" "+name), dotID(name), shape)
}

func (g *graph) call(r rules.InForce, c rules.Call) {
	from, style := dotID("table "+r.Table.String()), ""
	if r.At == "" {
		style = ", style = dashed"
	}
	says := fmt.Sprintf("label = %s%s", dotID(called(r)), style)
	for _, l := range c.Lookups {
		g.node("lookup", l, "ellipse")
		g.line("  %s -> %s [%s];", from, dotID("lookup "+l), says)
		from, says = dotID("lookup "+l), strings.TrimPrefix(style, ", ")
	}
	g.line("  %s -> %s [%s];", from, dotID("viewlet "+c.Viewlet), says)
}

func dotID(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
