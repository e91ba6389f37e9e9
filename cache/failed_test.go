package cache

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// failures gives all that is noted.
func failures(t testing.TB, c *Cache) map[string]Failure {
	t.Helper()
	all := make(map[string]Failure)
	err := c.Failed(t.Context(), func(some map[string]Failure) error {
		maps.Copy(all, some)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// broken is a fragment that could not be rendered.
func broken(t testing.TB, name string, lsn viewlet.LSN) viewlet.Fragment {
	t.Helper()
	return viewlet.Fragment{Key: key(t, name), LSN: lsn, Body: []byte("not this"), Err: errors.New(`template "x": divide by zero`)}
}

func TestFailures(t *testing.T) {
	c, s := setup(t, Config{})
	start := time.Now().Add(-time.Second)
	store(t, c, fragment(t, "v:1", 5, "good"), Options{})
	got := must(c.Store(t.Context(), []viewlet.Fragment{broken(t, "v:1", 0x16B3748), fragment(t, "v:2", 9, "x"), broken(t, "v:%2A", 9)}, Options{}))(t)
	if want := []Outcome{Failed, Written, Failed}; !reflect.DeepEqual(got, want) {
		t.Fatalf("got %#v, want %#v", got, want)
	}
	if now := get(t, c, "v:1"); now != "good" {
		t.Errorf("the last good bytes became %q", now)
	}
	f := failures(t, c)["v:1"]
	if f.Error != `template "x": divide by zero` || f.LSN != 0x16B3748 || f.At.Before(start) || f.At.After(time.Now()) {
		t.Errorf("got %+v", f)
	}
	text := must(s.raw.HGet(t.Context(), "viewlet:@failed", "v:1").Result())(t)
	if want := `{"error":"template \"x\": divide by zero","lsn":"0/16B3748","at":"`; !strings.HasPrefix(text, want) {
		t.Errorf("Redis has %s, want %s...", text, want)
	}

	// Failing leaves no guard: what is as old as the last good may come.
	if got := store(t, c, fragment(t, "v:1", 5, "good"), Options{}); got != Equal || len(failures(t, c)) != 1 {
		t.Errorf("got %#v, and then %v", got, failures(t, c))
	}
	// A refused one says nothing of the newer.
	must(c.Store(t.Context(), []viewlet.Fragment{broken(t, "v:1", 6)}, Options{}))(t)
	if got := store(t, c, fragment(t, "v:1", 4, "old"), Options{}); got != Refused || len(failures(t, c)) != 2 {
		t.Errorf("got %#v, and then %v", got, failures(t, c))
	}
	// One who opens later knows of them. A reader's miss mends nothing: it may be
	// the older.
	later := s.open(t, Config{})
	if !fill(t, later, fragment(t, "v:1", 7, "better")) || len(failures(t, later)) != 2 {
		t.Errorf("a fill left %v", failures(t, later))
	}
	if got := store(t, later, fragment(t, "v:1", 7, "better"), Options{}); got != Equal || len(failures(t, later)) != 1 {
		t.Errorf("a store gave %#v and left %v", got, failures(t, later))
	}
	if got := store(t, later, fragment(t, "v:%2A", 7, "-"), Options{}); got != Absent || len(failures(t, later)) != 0 {
		t.Errorf("a deletion gave %#v and left %v", got, failures(t, later))
	}
}

func TestFailUnfail(t *testing.T) {
	c, s := setup(t, Config{})
	long := strings.Repeat("ä", 5000)
	if err := c.Fail(t.Context(), "v", errors.New(long)); err != nil {
		t.Fatal(err)
	}
	s.raw.HSet(t.Context(), "viewlet:@failed", "other:*", "not JSON")
	got := failures(t, c)
	if e := got["v:*"].Error; len(e) > longestError+3 || !utf8.ValidString(e) || !strings.HasPrefix(long, strings.TrimSuffix(e, "...")) {
		t.Errorf("got %+v", got["v:*"])
	}
	if got["other:*"].Error != "not JSON" {
		t.Errorf("got %+v", got["other:*"])
	}
	if counts := c.FailedCounts(); len(counts) != 0 {
		t.Errorf("a whole viewlet counts as fragments: %v", counts)
	}
	for _, name := range []string{"v", "other"} {
		if err := c.Unfail(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if left := failures(t, c); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// A fragment is tried again when it has been failing for as long again, and a
// note keeps since when that is so.
func TestDue(t *testing.T) {
	c, s := setup(t, Config{})
	fail := func(name string) {
		t.Helper()
		must(c.Store(t.Context(), []viewlet.Fragment{broken(t, name, 9)}, Options{}))(t)
	}
	due := func(in time.Duration) []viewlet.Key {
		t.Helper()
		var all []viewlet.Key
		must(c.Due(t.Context(), "v", time.Now().Add(in), func(some []viewlet.Key) error {
			all = append(all, some...)
			return nil
		}))(t)
		return all
	}
	if next := must(c.Due(t.Context(), "v", time.Now(), nil))(t); !next.IsZero() {
		t.Errorf("with none failed the next is due at %v", next)
	}
	fail("v:1")
	fail("vv:1")
	if err := c.Fail(t.Context(), "v", errors.New("broken")); err != nil {
		t.Fatal(err)
	}
	first := failures(t, c)["v:1"]
	if !first.Since.Equal(first.At) {
		t.Errorf("at first: %+v", first)
	}
	if got := due(0); len(got) != 0 {
		t.Errorf("at once %v are due", got)
	}
	if got := due(soonestTry); !reflect.DeepEqual(got, keys(t, "v:1")) {
		t.Errorf("soon %v are due", got)
	}
	// It has been failing for an hour, and was tried just now.
	note := must(s.raw.HGet(t.Context(), "viewlet:@failed", "v:1").Result())(t)
	old := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano)
	s.raw.HSet(t.Context(), "viewlet:@failed", "v:1", note[:strings.Index(note, `,"since"`)]+`,"since":"`+old+`"}`)
	if err := c.FailAgain(t.Context(), []viewlet.Fragment{broken(t, "v:1", 10), broken(t, "v:gone", 10)}); err != nil {
		t.Fatal(err)
	}
	now := failures(t, c)
	if f := now["v:1"]; f.Since.Format(time.RFC3339Nano) != old || f.LSN != 10 || time.Since(f.At) > time.Minute {
		t.Errorf("tried again: %+v", f)
	}
	if _, is := now["v:gone"]; is {
		t.Error("what had been mended meanwhile is noted again")
	}
	if got := due(latestTry - time.Minute); len(got) != 0 {
		t.Errorf("%v are due too soon", got)
	}
	if got := due(latestTry); !reflect.DeepEqual(got, keys(t, "v:1")) {
		t.Errorf("after the longest pause %v are due", got)
	}
	if next := must(c.Due(t.Context(), "v", time.Now(), nil))(t); time.Until(next) < latestTry-time.Minute {
		t.Errorf("the next is due at %v", next)
	}
	if err := c.Forgive(t.Context(), keys(t, "v:1", "vv:1")); err != nil {
		t.Fatal(err)
	}
	if left := failures(t, c); len(left) != 1 || len(c.FailedCounts()) != 0 {
		t.Errorf("left %v, counted %v", left, c.FailedCounts())
	}
	store(t, c, fragment(t, "v:1", 11, "good"), Options{})
	fail("v:1")
	if f := failures(t, c)["v:1"]; !f.Since.Equal(f.At) {
		t.Errorf("after it had worked: %+v", f)
	}
}

// With DeleteFailed what cannot be rendered is deleted, announced and guarded.
func TestDeleteFailed(t *testing.T) {
	c, _ := setup(t, Config{})
	o := Options{DeleteFailed: true}
	store(t, c, fragment(t, "v:1", 5, "good"), o)
	if got := store(t, c, broken(t, "v:1", 7), o); got != Failed || get(t, c, "v:1") != "-" {
		t.Errorf("got %#v, and it is %q", got, get(t, c, "v:1"))
	}
	if why := failures(t, c)["v:1"]; why.LSN != 7 {
		t.Errorf("noted as %+v", why)
	}
	if got := store(t, c, fragment(t, "v:1", 6, "late"), o); got != Refused {
		t.Errorf("what is older comes out %#v", got)
	}
	if got := store(t, c, fragment(t, "v:1", 8, "again"), o); got != Written || len(failures(t, c)) != 0 {
		t.Errorf("got %#v, and %v", got, failures(t, c))
	}
}

// With more failures than are remembered, successes still remove theirs, and
// the counts are right.
func TestManyFailures(t *testing.T) {
	c, s := setup(t, Config{})
	const many = 3 * mostFailed
	fragments := []viewlet.Fragment{broken(t, "u:1", 1)}
	for i := range many {
		fragments = append(fragments, viewlet.Fragment{Key: viewlet.NewKey("v", fmt.Sprint(i)), Err: errors.New("broken")})
	}
	must(c.Store(t.Context(), fragments, Options{}))(t)
	fragments = fragments[1:]
	for range 2 {
		which := s.open(t, Config{})
		left := which.FailedCounts()
		mended := fragments[:100]
		fragments = fragments[100:]
		for i := range mended {
			mended[i].Err, mended[i].Body = nil, []byte("x")
		}
		must(which.Store(t.Context(), mended, Options{}))(t)
		now := which.FailedCounts()
		if now["u"] != 1 || now["v"] != len(fragments) || left["v"]-now["v"] != 100 || len(failures(t, which)) != 1+len(fragments) {
			t.Errorf("%v became %v", left, now)
		}
	}
	if n := len(c.failed.names); n > mostFailed {
		t.Errorf("%d names are remembered", n)
	}
	// The first did not see what the second has mended.
	c.failed.counted = time.Time{}
	n := 0
	must(c.Due(t.Context(), "v", time.Now().Add(time.Hour), func(some []viewlet.Key) error { n += len(some); return nil }))(t)
	if n != len(fragments) || c.FailedCounts()["v"] != n {
		t.Errorf("%d are due, %d are counted, %d are left", n, c.FailedCounts()["v"], len(fragments))
	}
}
