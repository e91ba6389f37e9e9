package cache

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func TestState(t *testing.T) {
	c, s := setup(t, Config{})
	if got := must(c.State(t.Context()))(t); got.System != "" {
		t.Errorf("an empty Redis has %+v", got)
	}
	want := State{
		System: "7388291834", Timeline: 3, Slot: "cdc_viewlet", Database: "shop", LSN: 0x16_B374_D848,
		Fingerprints: map[string]string{"product_teaser": "abc", "gone": "def"},
		Shapes:       map[string]string{"product_teaser": "123"},
	}
	save := func() {
		t.Helper()
		if err := c.SaveState(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if got := must(c.State(t.Context()))(t); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
	save()
	delete(want.Fingerprints, "gone") // what is not in it does not stay
	save()
	if got := must(s.raw.HGetAll(t.Context(), "viewlet:@state").Result())(t); !reflect.DeepEqual(got, map[string]string{
		"system": "7388291834", "timeline": "3", "slot": "cdc_viewlet", "database": "shop", "lsn": "16/B374D848", "viewlet:product_teaser": "abc", "shape:product_teaser": "123",
	}) {
		t.Errorf("Redis has %v", got)
	}

	if before := must(c.SaveLSN(t.Context(), 0x16_B374_D900))(t); before != want.LSN {
		t.Errorf("before it was %s, want %s", before, want.LSN)
	}
	if err := c.SaveFingerprint(t.Context(), "menu", "xyz"); err != nil {
		t.Fatal(err)
	}
	if err := c.SaveShape(t.Context(), "menu", "456"); err != nil {
		t.Fatal(err)
	}
	if err := c.DropFingerprint(t.Context(), "product_teaser"); err != nil {
		t.Fatal(err)
	}
	want.LSN, want.Fingerprints = 0x16_B374_D900, map[string]string{"menu": "xyz"}
	want.Shapes = map[string]string{"menu": "456"}
	if got := must(c.State(t.Context()))(t); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// After FLUSHALL nothing may look as if it were there.
func TestStateLost(t *testing.T) {
	c, s := setup(t, Config{})
	if err := c.SaveState(t.Context(), State{System: "1", LSN: 5, Fingerprints: map[string]string{"v": "x"}}); err != nil {
		t.Fatal(err)
	}
	s.raw.FlushAll(t.Context())
	if _, err := c.SaveLSN(t.Context(), 9); !errors.Is(err, ErrEmpty) {
		t.Errorf("SaveLSN gave %v, want ErrEmpty", err)
	}
	if err := c.SaveFingerprint(t.Context(), "v", "x"); !errors.Is(err, ErrEmpty) {
		t.Errorf("SaveFingerprint gave %v, want ErrEmpty", err)
	}
	if got := must(c.State(t.Context()))(t); got.System != "" || len(got.Fingerprints) != 0 {
		t.Errorf("got %+v", got)
	}
	if n := s.raw.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys came back", n)
	}
}

// A daemon that hung, and knows nothing of the one that took over from it, notes
// nothing that is wrong by now.
func TestStateTaken(t *testing.T) {
	old, s := setup(t, Config{})
	must(old.Take(t.Context()))(t)
	state := State{System: "1", Slot: "s", Database: "d", LSN: 0x1_00000100, Fingerprints: map[string]string{"v": "x"}}
	if err := old.SaveState(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	next := s.open(t, Config{})
	if got := must(next.Take(t.Context()))(t); !reflect.DeepEqual(got, state) {
		t.Errorf("got %+v, want %+v", got, state)
	}
	if before := must(next.SaveLSN(t.Context(), 0x1_00000200))(t); before != state.LSN {
		t.Errorf("before it was %s, want %s", before, state.LSN)
	}
	for what, err := range map[string]error{
		"SaveState":       old.SaveState(t.Context(), State{System: "1"}),
		"SaveFingerprint": old.SaveFingerprint(t.Context(), "v", "old"),
		"SaveLSN":         second(old.SaveLSN(t.Context(), 0x1_00000300)),
	} {
		if !errors.Is(err, ErrTaken) {
			t.Errorf("%s gave %v, want ErrTaken", what, err)
		}
	}
	state.LSN = 0x1_00000200
	if got := must(s.open(t, Config{}).State(t.Context()))(t); !reflect.DeepEqual(got, state) {
		t.Errorf("got %+v, want %+v", got, state)
	}
	must(old.Take(t.Context()))(t)
	if _, err := old.SaveLSN(t.Context(), 0x1_00000300); err != nil {
		t.Error(err)
	}
	s.raw.Del(t.Context(), "viewlet:@state")
	if err := old.SaveState(t.Context(), state); !errors.Is(err, ErrEmpty) {
		t.Errorf("SaveState after the state is gone gave %v, want ErrEmpty", err)
	}
}

func second[T any](_ T, err error) error { return err }

// What is in Redis does not become less: a request that was thought lost may
// arrive after the next.
func TestLSNOnlyRises(t *testing.T) {
	c, _ := setup(t, Config{})
	if err := c.SaveState(t.Context(), State{System: "1", LSN: 0xF_00000000}); err != nil {
		t.Fatal(err)
	}
	want := viewlet.LSN(0xF_00000000)
	for _, lsn := range []viewlet.LSN{0xF_00000001, 0xE_FFFFFFFF, 0x10_00000000, 0xF_FFFFFFFF, 0x10_0000000A, 0x10_00000009, 0xABC_F0000000, 0xABC_E0000000} {
		if before := must(c.SaveLSN(t.Context(), lsn))(t); before != want {
			t.Errorf("before %s it was %s, want %s", lsn, before, want)
		}
		want = max(want, lsn)
	}
	if got := must(c.State(t.Context()))(t).LSN; got != want {
		t.Errorf("in the end it is %s, want %s", got, want)
	}
}

func TestFailures(t *testing.T) {
	c, s := setup(t, Config{})
	broken := func(name string, lsn viewlet.LSN) viewlet.Fragment {
		return viewlet.Fragment{Key: key(t, name), LSN: lsn, Body: []byte("not this"), Err: errors.New(`template "x": divide by zero`)}
	}
	names := func(c *Cache) map[string]Failure {
		t.Helper()
		return must(c.Failed(t.Context()))(t)
	}
	start := time.Now().Add(-time.Second)
	store(t, c, fragment(t, "v:1", 5, "good"), Options{})
	got := must(c.Store(t.Context(), []viewlet.Fragment{broken("v:1", 0x16B3748), fragment(t, "v:2", 9, "x"), broken("v:%2A", 9)}, Options{}))(t)
	if want := []Outcome{Failed, Written, Failed}; !reflect.DeepEqual(got, want) {
		t.Fatalf("got %#v, want %#v", got, want)
	}
	if now := get(t, c, "v:1"); now != "good" {
		t.Errorf("the last good bytes became %q", now)
	}
	f := names(c)["v:1"]
	if f.Error != `template "x": divide by zero` || f.LSN != 0x16B3748 || f.At.Before(start) || f.At.After(time.Now()) {
		t.Errorf("got %+v", f)
	}
	text := must(s.raw.HGet(t.Context(), "viewlet:@failed", "v:1").Result())(t)
	if want := `{"error":"template \"x\": divide by zero","lsn":"0/16B3748","at":"`; !strings.HasPrefix(text, want) {
		t.Errorf("Redis has %s, want %s...", text, want)
	}

	// Failing leaves no guard: what is as old as the last good may come.
	if got := store(t, c, fragment(t, "v:1", 5, "good"), Options{}); got != Equal || len(names(c)) != 1 {
		t.Errorf("got %#v, and then %v", got, names(c))
	}
	// A refused one says nothing of the newer.
	must(c.Store(t.Context(), []viewlet.Fragment{broken("v:1", 6)}, Options{}))(t)
	if got := store(t, c, fragment(t, "v:1", 4, "old"), Options{}); got != Refused || len(names(c)) != 2 {
		t.Errorf("got %#v, and then %v", got, names(c))
	}
	// One who opens later knows of them, and a reader's miss mends, too.
	later := s.open(t, Config{})
	if !fill(t, later, fragment(t, "v:1", 7, "better")) || len(names(later)) != 1 {
		t.Errorf("a fill left %v", names(later))
	}
	if got := store(t, later, fragment(t, "v:%2A", 7, "-"), Options{}); got != Absent || len(names(later)) != 0 {
		t.Errorf("a deletion gave %#v and left %v", got, names(later))
	}
}

func TestFailUnfail(t *testing.T) {
	c, s := setup(t, Config{})
	long := strings.Repeat("ä", 5000)
	if err := c.Fail(t.Context(), "v:*", 3, errors.New(long)); err != nil {
		t.Fatal(err)
	}
	s.raw.HSet(t.Context(), "viewlet:@failed", "other:*", "not JSON")
	got := must(c.Failed(t.Context()))(t)
	if e := got["v:*"].Error; len(e) > longestError+3 || !utf8.ValidString(e) || !strings.HasPrefix(long, strings.TrimSuffix(e, "...")) || got["v:*"].LSN != 3 {
		t.Errorf("got %+v", got["v:*"])
	}
	if got["other:*"].Error != "not JSON" {
		t.Errorf("got %+v", got["other:*"])
	}
	if err := c.Unfail(t.Context(), "v:*", "other:*"); err != nil {
		t.Fatal(err)
	}
	if err := c.Unfail(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := must(c.Failed(t.Context()))(t); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// With more failures than are remembered, successes still remove theirs.
func TestManyFailures(t *testing.T) {
	c, s := setup(t, Config{})
	var fragments []viewlet.Fragment
	for i := range mostFailed + 1 {
		fragments = append(fragments, viewlet.Fragment{Key: viewlet.NewKey("v", fmt.Sprint(i)), Err: errors.New("broken")})
	}
	must(c.Store(t.Context(), fragments, Options{}))(t)
	for _, which := range []*Cache{c, s.open(t, Config{})} {
		left := must(which.Failed(t.Context()))(t)
		mended := fragments[:100]
		fragments = fragments[100:]
		for i := range mended {
			mended[i].Err, mended[i].Body = nil, []byte("x")
		}
		must(which.Store(t.Context(), mended, Options{}))(t)
		if now := must(which.Failed(t.Context()))(t); len(left)-len(now) != 100 {
			t.Errorf("%d failures became %d", len(left), len(now))
		}
	}
	if n := len(c.failed.names); n > mostFailed {
		t.Errorf("%d names are remembered", n)
	}
}
