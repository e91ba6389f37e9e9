package main

import (
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// Other errors behind a warning that stays are told; another warning is not.
func TestNews(t *testing.T) {
	at := func(line int, severity rules.Severity, summary string) *rules.Diagnostic {
		return &rules.Diagnostic{Severity: severity, Summary: summary, Subject: &hcl.Range{Filename: "rules.hcl", Start: hcl.Pos{Line: line}}}
	}
	ed := &edition{}
	for _, c := range []struct {
		diags rules.Diagnostics
		news  bool
	}{
		{rules.Diagnostics{at(5, rules.Warning, "no all"), at(50, rules.Error, "no column price")}, true},
		{rules.Diagnostics{at(5, rules.Warning, "no all"), at(50, rules.Error, "no column price")}, false},
		{rules.Diagnostics{at(50, rules.Error, "no column price")}, false},
		{rules.Diagnostics{at(5, rules.Warning, "no all"), at(90, rules.Error, "no table brands")}, true},
		{rules.Diagnostics{at(50, rules.Error, "no column price"), at(90, rules.Error, "no table brands")}, true},
	} {
		if got := ed.news((&inspection{diags: c.diags}).wrong()); got != c.news {
			t.Errorf("%v: got %v, want %v", c.diags.Errs(), got, c.news)
		}
	}
}
