package cache

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func TestKeep(t *testing.T) {
	c, _ := setup(t, Config{})
	c.perCall = 2
	watched(t, c, "v")
	for _, name := range []string{"v:1", "v:3", "v:5"} {
		store(t, c, fragment(t, name, 10, "x"), Options{})
	}
	store(t, c, fragment(t, "v:4", 90, "-"), Options{}) // its guard is further than 50
	got := must(c.Keep(t.Context(), keys(t, "v:5", "v:4", "v:3", "v:2", "v:1"), 50))(t)
	if want := keys(t, "v:5", "v:3", "v:1"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, f := range []struct {
		name string
		lsn  viewlet.LSN
		want bool
	}{
		{"v:2", 49, false},
		{"v:2", 50, false},
		{"v:2", 51, true},
		{"v:4", 60, false}, // it did not move back
		{"v:4", 91, true},
		{"v:1", 11, true}, // what is there keeps its guard
	} {
		if got := fill(t, c, fragment(t, f.name, f.lsn, "y")); got != f.want {
			t.Errorf("fill %s at %s: got %v, want %v", f.name, f.lsn, got, f.want)
		}
	}
}

func TestKeepAndStaleMany(t *testing.T) {
	c, _ := setup(t, Config{})
	var fragments []viewlet.Fragment
	var all, even, odd []viewlet.Key
	for i := range 2*pipelineFragments + 10 {
		k := viewlet.NewKey("v", fmt.Sprint(i))
		all = append(all, k)
		if i%2 == 1 {
			odd = append(odd, k)
			continue
		}
		even = append(even, k)
		fragments = append(fragments, viewlet.Fragment{Key: k, LSN: 7, Body: []byte("x")})
	}
	must(c.Store(t.Context(), fragments, Options{}))(t)
	if got := must(c.Stale(t.Context(), all, 7))(t); !reflect.DeepEqual(got, odd) {
		t.Errorf("Stale gave %d keys, want %d", len(got), len(odd))
	}
	if got := must(c.Keep(t.Context(), all, 8))(t); !reflect.DeepEqual(got, even) {
		t.Errorf("Keep gave %d keys, want %d", len(got), len(even))
	}
}

func TestStale(t *testing.T) {
	c, s := setup(t, Config{})
	for name, lsn := range map[string]viewlet.LSN{"v:1": 1 << 53, "v:2": 1<<53 + 1, "v:3": 1<<53 + 2, "v:4": 1<<53 + 2} {
		store(t, c, fragment(t, name, lsn, "x"), Options{})
	}
	s.raw.Del(t.Context(), "viewlet:@lsn:{viewlet:v:4}") // as when it expires
	got := must(c.Stale(t.Context(), keys(t, "v:4", "v:3", "v:2", "v:1"), 1<<53+1))(t)
	if want := keys(t, "v:4", "v:1"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
