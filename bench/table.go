package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// result is one line of the table.
type result struct {
	what   string // when a row has several lines
	unit   string
	ours   []float64
	theirs []float64 // by the run beside ours; of one side alone: nil
	with   string    // what theirs is
	aim    string
	notes  []string
}

// ratios are those of the runs beside each other: what drifts, drifts in both.
func (r result) ratios() []float64 {
	var all []float64
	for i := range min(len(r.ours), len(r.theirs)) {
		if r.theirs[i] != 0 {
			all = append(all, r.ours[i]/r.theirs[i])
		}
	}
	return all
}

// table prints each result as soon as there is one.
type table struct{ w io.Writer }

const columns = "%-14s %-10s %-25s %-25s %-19s %-10s %s\n"

func newTable(w io.Writer) *table {
	fmt.Fprintln(w, "min/median/max of alternating runs; a ratio is of two runs beside each other")
	fmt.Fprintf(w, columns, "row", "unit", "ours", "theirs", "ratio", "aim", "theirs is")
	return &table{w}
}

func (t *table) add(r row, res result) {
	name := r.number + " " + r.name
	if res.what != "" {
		name = r.number + " " + res.what
	}
	fmt.Fprintf(t.w, columns, name, res.unit, spread(res.ours), spread(res.theirs), spread(res.ratios()), res.aim, res.with)
	for _, note := range res.notes {
		fmt.Fprintf(t.w, "%-14s %s\n", "", note)
	}
}

// spread is min/median/max.
func spread(values []float64) string {
	if len(values) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 1 {
		return figure(sorted[0])
	}
	return strings.Join([]string{figure(sorted[0]), figure(percentile(sorted, 50)), figure(sorted[len(sorted)-1])}, "/")
}

// figure has three digits that matter.
func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// percentile of values in any order; the median of an even number is the upper
// one.
func percentile(values []float64, p int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

func median(values []float64) float64 {
	return percentile(values, 50)
}
