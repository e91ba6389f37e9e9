package cache

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func TestHeld(t *testing.T) {
	c, s := setup(t, Config{})
	store(t, c, fragment(t, "product_teaser:42", 0xAB, "x"), Options{})
	store(t, c, fragment(t, "product_teaser:43", 7, ""), Options{})
	store(t, c, fragment(t, "product_teaser:44", 9, "-"), Options{})
	must(s.raw.Set(t.Context(), "viewlet:product_teaser:45", "by hand", 0).Result())(t)
	must(s.raw.LPush(t.Context(), "viewlet:product_teaser:46", "a list").Result())(t)
	names := []string{"product_teaser:46", "product_teaser:45", "product_teaser:44", "product_teaser:43", "product_teaser:42"}
	held := must(c.Held(t.Context(), keys(t, names...)))(t)
	if len(held) != len(names) {
		t.Fatalf("got %d", len(held))
	}
	for i, want := range []struct {
		body string
		lsn  viewlet.LSN
		err  error
	}{{"-", 0, ErrNotString}, {"by hand", 0, nil}, {"-", 9, nil}, {"", 7, nil}, {"x", 0xAB, nil}} {
		f := held[i]
		body := "-"
		if f.Body != nil {
			body = string(f.Body)
		}
		if f.Key.String() != names[i] || body != want.body || f.LSN != want.lsn || !errors.Is(f.Err, want.err) {
			t.Errorf("%s: got %+v, want %+v", names[i], f, want)
		}
	}
	absent := must(c.Absent(t.Context(), keys(t, names...)))(t)
	if !slices.Equal(absent, keys(t, "product_teaser:44")) {
		t.Errorf("absent are %v", absent)
	}
}

// More than one pipeline holds.
func TestAbsentOfMany(t *testing.T) {
	c, _ := setup(t, Config{})
	var all []viewlet.Key
	for i := range 2*pipelineFragments + 10 {
		all = append(all, viewlet.NewKey("product_teaser", fmt.Sprint(i)))
	}
	there := all[pipelineFragments+5]
	store(t, c, viewlet.Fragment{Key: there, LSN: 1, Body: []byte("x")}, Options{})
	absent := must(c.Absent(t.Context(), all))(t)
	if len(absent) != len(all)-1 || slices.Contains(absent, there) {
		t.Errorf("%d of %d are absent", len(absent), len(all))
	}
	if none := must(c.Held(t.Context(), nil))(t); len(none) != 0 {
		t.Errorf("nothing asked, and got %v", none)
	}
}

func TestWalk(t *testing.T) {
	c, s := setup(t, Config{Prefix: "[app]*:"})
	for _, key := range []string{
		"product:1", "product:1:sv", "product:%zz", "product", "products:1", "menu", "@state", "@lsn:{[app]*:menu}", "@failed",
	} {
		must(s.raw.Set(t.Context(), "[app]*:"+key, "x", 0).Result())(t)
	}
	must(s.raw.Set(t.Context(), "a:product:1", "x", 0).Result())(t)
	for of, want := range map[string][]string{
		"":        {"menu", "product", "product:%zz", "product:1", "product:1:sv", "products:1"},
		"product": {"product", "product:%zz", "product:1", "product:1:sv", "products:1"},
		"nix":     nil,
	} {
		var got []string
		err := c.Walk(t.Context(), of, func(names []string) error {
			got = append(got, names...)
			return nil
		})
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("of %q: got %q, %v, want %q", of, got, err, want)
		}
	}
	enough := errors.New("enough")
	if err := c.Walk(t.Context(), "", func([]string) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestFaults(t *testing.T) {
	c, s := setup(t, Config{})
	must(c.Store(t.Context(), []viewlet.Fragment{broken(t, "product_teaser:42", 5)}, Options{}))(t)
	must(s.raw.HSet(t.Context(), "viewlet:@failed", "menu:*", "by hand").Result())(t)
	faults := must(c.Faults(t.Context(), []string{"menu:*", "product_teaser:43", "product_teaser:42"}))(t)
	if got := fmt.Sprint(faults); got != `[by hand <nil> template "x": divide by zero]` {
		t.Errorf("got %s", got)
	}
}

func TestReached(t *testing.T) {
	c, _ := setup(t, Config{})
	if lsn := must(c.Reached(t.Context()))(t); lsn != 0 {
		t.Errorf("without a state: %v", lsn)
	}
	if err := c.SaveState(t.Context(), State{System: "1", LSN: 0x1_000000AB}); err != nil {
		t.Fatal(err)
	}
	if lsn := must(c.Reached(t.Context()))(t); lsn != 0x1_000000AB {
		t.Errorf("got %v", lsn)
	}
}

// Each fragment is seen, then something happens to it, and then it is mended.
func TestMend(t *testing.T) {
	const name, redisKey = "product_teaser:42", "viewlet:product_teaser:42"
	nothing := func(*Cache, *server) {}
	stored := func(lsn viewlet.LSN, body string) func(*Cache, *server) {
		return func(c *Cache, _ *server) { store(t, c, fragment(t, name, lsn, body), Options{}) }
	}
	for what, m := range map[string]struct {
		before, meanwhile func(*Cache, *server)
		lsn               viewlet.LSN
		body              string
		want              Outcome
		then              string
	}{
		"missing":                {nothing, nothing, 5, "x", Written, "x"},
		"different":              {stored(5, "old"), nothing, 5, "x", Written, "x"},
		"orphaned":               {stored(5, "old"), nothing, 6, "-", Deleted, "-"},
		"orphaned, and gone":     {nothing, nothing, 6, "-", Absent, "-"},
		"written since":          {stored(5, "old"), stored(6, "new"), 6, "x", Refused, "new"},
		"written at the same":    {stored(5, "old"), stored(5, "new"), 5, "x", Refused, "new"},
		"the same written since": {stored(5, "old"), stored(6, "old"), 6, "x", Refused, "old"},
		"written where none was": {nothing, stored(5, "new"), 6, "x", Refused, "new"},
		"deleted since":          {stored(5, "old"), stored(6, "-"), 6, "x", Refused, "-"},
		"older than it is":       {stored(5, "old"), nothing, 4, "x", Refused, "old"},
		"empty is not nothing":   {stored(5, ""), nothing, 5, "-", Deleted, "-"},
		"the guard has expired": {stored(5, "old"), func(_ *Cache, s *server) {
			must(s.raw.Del(t.Context(), "viewlet:@lsn:{"+redisKey+"}").Result())(t)
		}, 6, "x", Written, "x"},
		"by hand since": {stored(5, "old"), func(_ *Cache, s *server) {
			must(s.raw.Set(t.Context(), redisKey, "by hand", 0).Result())(t)
		}, 6, "x", Refused, "by hand"},
		"no string": {func(_ *Cache, s *server) {
			must(s.raw.LPush(t.Context(), redisKey, "a list").Result())(t)
		}, nothing, 6, "x", Written, "x"},
	} {
		t.Run(what, func(t *testing.T) {
			c, s := setup(t, Config{})
			m.before(c, s)
			held := must(c.Held(t.Context(), keys(t, name)))(t)
			m.meanwhile(c, s)
			news := must(c.Subscribe(t.Context()))(t)
			got := must(c.Mend(t.Context(), held, []viewlet.Fragment{fragment(t, name, m.lsn, m.body)}, Options{TTL: time.Minute}))(t)
			if got[0] != m.want || get(t, c, name) != m.then {
				t.Errorf("got %#v and then %q, want %#v and %q", got[0], get(t, c, name), m.want, m.then)
			}
			if m.want == Refused {
				return
			}
			if lsn := must(c.Held(t.Context(), keys(t, name)))(t)[0].LSN; lsn != m.lsn {
				t.Errorf("the guard is at %v, want %v", lsn, m.lsn)
			}
			if ttl := must(s.raw.PTTL(t.Context(), redisKey).Result())(t); m.want == Written && (ttl <= 0 || ttl > time.Minute) {
				t.Errorf("it lives for %v", ttl)
			}
			store(t, c, fragment(t, "menu", 9, "last"), Options{})
			var told []string
			for a := range news {
				if told = append(told, fmt.Sprint(a.Viewlet, a.Args, a.Deleted, a.LSN)); a.Viewlet == "menu" {
					break
				}
			}
			want := []string{"menu[] false 0/9"}
			if m.want != Absent {
				want = append([]string{fmt.Sprint("product_teaser[42] ", m.want == Deleted, " ", m.lsn)}, want...)
			}
			if !slices.Equal(told, want) {
				t.Errorf("announced are %q, want %q", told, want)
			}
		})
	}
}

// What could not be rendered, and is mended, is no longer noted as failed.
func TestMendForgives(t *testing.T) {
	c, _ := setup(t, Config{})
	f := fragment(t, "product_teaser:42", 5, "x")
	must(c.Store(t.Context(), []viewlet.Fragment{broken(t, "product_teaser:42", 4)}, Options{}))(t)
	held := must(c.Held(t.Context(), keys(t, "product_teaser:42")))(t)
	must(c.Mend(t.Context(), held, []viewlet.Fragment{f}, Options{}))(t)
	if faults := must(c.Faults(t.Context(), []string{"product_teaser:42"}))(t); faults[0] != nil {
		t.Errorf("it is noted as failed: %v", faults[0])
	}
}
