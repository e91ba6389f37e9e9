package hint_test

import (
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
)

func TestDidYouMean(t *testing.T) {
	names := []string{"product_teaser", "product_page", "id"}
	for given, want := range map[string]string{
		"product_taeser": " Did you mean product_teaser(...)?",
		"PRODUCT_PAGE":   " Did you mean product_page(...)?",
		"idd":            " Did you mean id(...)?",
		"category_menu":  "",
		"":               " Did you mean id(...)?",
	} {
		if got := hint.DidYouMean(given, names, "%s(...)"); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
	if got := hint.DidYouMean("id", nil, "%q"); got != "" {
		t.Errorf("of no names it suggests %q", got)
	}
}

func TestList(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  string
	}{{nil, ""}, {[]string{"a"}, `"a"`}, {[]string{"a", "b"}, `"a" and "b"`}, {[]string{"a", "b", "c"}, `"a", "b" and "c"`}} {
		if got := hint.List(tt.names); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.names, got, tt.want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 params", 1: "1 param", 2: "2 params"} {
		if got := hint.Count(n, "param"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
