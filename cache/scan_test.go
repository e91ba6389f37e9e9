package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// allKeys gathers what Keys yields, and sees that no slice names a key twice.
func allKeys(t testing.TB, c *Cache, name string) map[viewlet.Key]bool {
	t.Helper()
	all := make(map[viewlet.Key]bool)
	err := c.Keys(t.Context(), name, func(ks []viewlet.Key) error {
		once := make(map[viewlet.Key]bool)
		for _, k := range ks {
			if once[k] {
				t.Errorf("%s comes twice in one slice", k)
			}
			once[k], all[k] = true, true
		}
		if len(ks) == 0 || len(ks) > 10*scanCount {
			t.Errorf("a slice of %d keys", len(ks))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestKeysOfMany(t *testing.T) {
	c, _ := setup(t, Config{})
	const many = 50_000
	var fragments []viewlet.Fragment
	for i := range many {
		fragments = append(fragments, viewlet.Fragment{Key: viewlet.NewKey("product", fmt.Sprint(i)), LSN: 1, Body: []byte("x")})
	}
	for _, name := range []string{"product_teaser:1", "product_teaser", "product", "products:1"} {
		fragments = append(fragments, fragment(t, name, 1, "x"))
	}
	must(c.Store(t.Context(), fragments, Options{}))(t)

	got := allKeys(t, c, "product")
	if len(got) != many+1 {
		t.Errorf("got %d keys, want %d", len(got), many+1)
	}
	for _, f := range fragments {
		if want := f.Key.Viewlet == "product"; got[f.Key] != want {
			t.Fatalf("%s: got %v, want %v", f.Key, got[f.Key], want)
		}
	}
	enough := errors.New("enough")
	calls := 0
	err := c.Keys(t.Context(), "product", func([]viewlet.Key) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("got %v after %d calls, want %v after one", err, calls, enough)
	}
}

func TestOrphans(t *testing.T) {
	c, s := setup(t, Config{})
	store(t, c, fragment(t, "page:a%20b", 1, "x"), Options{})
	store(t, c, fragment(t, "pages:1", 1, "x"), Options{})
	want := []string{"viewlet:page:%41", "viewlet:page:a b", "viewlet:page:a%2fb", "viewlet:page:{x}"}
	for _, k := range append([]string{"viewlet:page/1", "page:a b", "viewlet:pages:a b"}, want...) {
		s.raw.Set(t.Context(), k, "x", 0)
	}
	if got := allKeys(t, c, "page"); len(got) != 1 || !got[key(t, "page:a%20b")] {
		t.Errorf("Keys gave %v", got)
	}
	orphans := func() (all []string) {
		err := c.Sweep(t.Context(), "page", func(_ []viewlet.Key, some []string) error {
			all = append(all, some...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	got := orphans()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	before := must(s.raw.DBSize(t.Context()).Result())(t)
	if err := c.DeleteOrphans(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteOrphans(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	after := must(s.raw.DBSize(t.Context()).Result())(t)
	if left := orphans(); len(left) != 0 || before-after != int64(len(want)) {
		t.Errorf("%q are left, and %d keys less", left, before-after)
	}
}

// A Postgres restored from a backup begins with lower LSNs.
func TestForgetGuards(t *testing.T) {
	c, s := setup(t, Config{Prefix: "[a]"})
	store(t, c, fragment(t, "v:1", 1000, "new"), Options{})
	s.raw.Set(t.Context(), "a@lsn:{other}", "1", 0)
	if got := store(t, c, fragment(t, "v:1", 10, "old"), Options{}); got != Refused {
		t.Fatalf("got %#v before", got)
	}
	if err := c.ForgetGuards(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := store(t, c, fragment(t, "v:1", 10, "old"), Options{}); got != Written {
		t.Errorf("got %#v after", got)
	}
	if s.raw.Exists(t.Context(), "a@lsn:{other}").Val() != 1 {
		t.Error("somebody else's key is gone")
	}
}

// Many viewlets are swept with a few scans, and each gets what is its own.
func TestSweepsShareScans(t *testing.T) {
	c, s := setup(t, Config{})
	const viewlets, each = 50, 40
	var fragments []viewlet.Fragment
	for v := range viewlets {
		for i := range each {
			fragments = append(fragments, viewlet.Fragment{Key: viewlet.NewKey(fmt.Sprint("v", v), fmt.Sprint(i)), LSN: 1, Body: []byte("x")})
		}
	}
	must(c.Store(t.Context(), fragments, Options{}))(t)
	before := scans(t, s)
	var g errgroup.Group
	for v := range viewlets {
		g.Go(func() error {
			got := map[viewlet.Key]bool{}
			err := c.Sweep(t.Context(), fmt.Sprint("v", v), func(keys []viewlet.Key, orphans []string) error {
				for _, k := range keys {
					got[k] = true
				}
				if len(orphans) > 0 {
					return fmt.Errorf("orphans %q", orphans)
				}
				return nil
			})
			if err == nil && len(got) != each {
				err = fmt.Errorf("v%d: %d keys instead of %d", v, len(got), each)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	// 4,000 keys with the guards are a few SCANs, and the first sweep may have
	// begun alone.
	if n := scans(t, s) - before; n > 30 {
		t.Errorf("%d SCANs for %d sweeps", n, viewlets)
	}
}

// One that does not keep up gets all there is, and keeps nobody waiting.
func TestSlowSweep(t *testing.T) {
	c, _ := setup(t, Config{})
	const many = 60_000 // more than a scan may be ahead
	var fragments []viewlet.Fragment
	for i := range many {
		fragments = append(fragments, viewlet.Fragment{Key: viewlet.NewKey("slow", fmt.Sprint(i)), LSN: 1, Body: []byte("x")})
	}
	must(c.Store(t.Context(), fragments, Options{}))(t)
	store(t, c, fragment(t, "quick:1", 1, "x"), Options{})
	got, first := map[viewlet.Key]bool{}, true
	err := c.Keys(t.Context(), "slow", func(keys []viewlet.Key) error {
		for _, k := range keys {
			got[k] = true
		}
		if first { // the scan goes on, and so does everybody else
			first = false
			for range 2 {
				if len(allKeys(t, c, "quick")) != 1 {
					t.Error("the quick one got too little")
				}
			}
		}
		return nil
	})
	if err != nil || len(got) != many {
		t.Errorf("%d keys of %d, %v", len(got), many, err)
	}
}

// A sweep that is given up keeps nobody else waiting.
func TestSweepGivenUp(t *testing.T) {
	c, _ := setup(t, Config{})
	store(t, c, fragment(t, "v:1", 1, "x"), Options{})
	store(t, c, fragment(t, "w:1", 1, "x"), Options{})
	enough := errors.New("enough")
	for range 20 {
		if err := c.Keys(t.Context(), "v", func([]viewlet.Key) error { return enough }); !errors.Is(err, enough) {
			t.Fatal(err)
		}
		if got := allKeys(t, c, "w"); len(got) != 1 {
			t.Fatalf("got %v", got)
		}
	}
}

// scans is how many SCANs the server has answered.
func scans(t testing.TB, s *server) (n int) {
	t.Helper()
	info := must(s.raw.Info(t.Context(), "commandstats").Result())(t)
	_, info, _ = strings.Cut(info, "cmdstat_scan:calls=")
	_, _ = fmt.Sscan(strings.Split(info, ",")[0], &n)
	return n
}

func TestClear(t *testing.T) {
	c, s := setup(t, Config{Prefix: "shop:"})
	store(t, c, fragment(t, "v:1", 1, "x"), Options{})
	s.raw.Set(t.Context(), "other:1", "x", 0)
	if n := must(c.Clear(t.Context()))(t); n != 2 { // and its guard
		t.Errorf("%d keys cleared", n)
	}
	if left := must(s.raw.Keys(t.Context(), "*").Result())(t); len(left) != 1 || left[0] != "other:1" {
		t.Errorf("left are %q", left)
	}
}

// Whoever is always slower than a SCAN comes to an end all the same, and what
// was scanned for it already is not scanned once more.
func TestSweepSlowerThanScan(t *testing.T) {
	c, s := setup(t, Config{})
	const many = 4 * partsAhead * scanCount
	fragments := make([]viewlet.Fragment, many)
	for i := range fragments {
		fragments[i] = viewlet.Fragment{Key: viewlet.NewKey("slow", fmt.Sprint(i)), LSN: 1, Body: []byte("x")}
	}
	must(c.Store(t.Context(), fragments, Options{}))(t)
	before := scans(t, s)
	if err := c.Sweep(t.Context(), "none", func([]viewlet.Key, []string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	whole := scans(t, s) - before
	got := make(map[viewlet.Key]struct{}, many)
	err := c.Sweep(t.Context(), "slow", func(keys []viewlet.Key, _ []string) error {
		for _, k := range keys {
			got[k] = struct{}{}
		}
		for range 3 { // what a warm-up does with each piece, or more
			if _, err := c.Stale(t.Context(), keys, 1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != many {
		t.Errorf("%d of %d keys", len(got), many)
	}
	if n := scans(t, s) - before - whole; n > whole+2*partsAhead {
		t.Errorf("%d SCANs, where %d go over everything", n, whole)
	}
}

// A replica that takes the server's place has its keys in another order. It may
// give the place back.
func TestScanAcrossFailover(t *testing.T) {
	for _, back := range []int{0, 12} {
		first, second := startServer(t), startServer(t)
		const many = 20 * scanCount
		for _, s := range []*server{first, second} {
			pipe := s.raw.Pipeline()
			for i := range many {
				pipe.Set(t.Context(), fmt.Sprint("viewlet:v:", i), "x", 0)
			}
			must(pipe.Exec(t.Context()))(t)
		}
		socket := filepath.Join(t.TempDir(), "socket")
		takeOver := func(from, to *server) {
			_ = os.Remove(socket)
			if err := os.Symlink(to.sock, socket); err != nil {
				t.Fatal(err)
			}
			must(from.raw.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Result())(t)
		}
		takeOver(second, first)
		c := must(Open(t.Context(), Config{URL: "unix://" + socket}))(t)
		defer c.Close()
		got, calls := map[string]bool{}, 0
		err := c.scan(t.Context(), "viewlet:v:*", func(found []string) error {
			switch calls++; calls {
			case 5:
				takeOver(first, second)
			case back:
				takeOver(second, first)
			}
			for _, k := range found {
				got[k] = true
			}
			return nil
		})
		if err != nil || len(got) != many {
			t.Errorf("back after %d: %d keys of %d, %v", back, len(got), many, err)
		}
	}
}

// Who sweeps is told that the scan goes on though it finds nothing.
func TestSweepOfNothing(t *testing.T) {
	c, s := setup(t, Config{})
	pipe := s.raw.Pipeline()
	for i := range 20 * scanCount {
		pipe.Set(t.Context(), fmt.Sprint("other:", i), "x", 0)
	}
	must(pipe.Exec(t.Context()))(t)
	calls := 0
	err := c.Sweep(t.Context(), "none", func(keys []viewlet.Key, orphans []string) error {
		if calls++; len(keys)+len(orphans) > 0 {
			t.Errorf("got %v, %q", keys, orphans)
		}
		return nil
	})
	if err != nil || calls == 0 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
