package cache

import (
	"errors"
	"reflect"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func TestState(t *testing.T) {
	c, s := setup(t, Config{})
	if got := must(c.Take(t.Context()))(t); got.System != "" {
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
		"run": must(c.runs(t.Context()))(t).String(), "session": c.holder.Load().session,
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

// A daemon that hung for longer than a guard lives writes nothing that it had in
// hand, once another has taken over.
func TestStoreOfWhoLostTheState(t *testing.T) {
	old, s := setup(t, Config{})
	state := State{System: "1", Slot: "s", Database: "d"}
	late, held := []viewlet.Fragment{fragment(t, "v:1", 5, "late")}, Options{Held: true}
	take := func(c *Cache) {
		t.Helper()
		must(c.Take(t.Context()))(t)
		if err := c.SaveState(t.Context(), state); err != nil {
			t.Fatal(err)
		}
	}
	take(old)
	must(old.Store(t.Context(), late, held))(t)
	next := s.open(t, Config{})
	take(next)
	must(next.Store(t.Context(), []viewlet.Fragment{fragment(t, "v:1", 9, "new")}, held))(t)
	s.raw.Del(t.Context(), "viewlet:@lsn:{viewlet:v:1}") // as time does
	if _, err := old.Store(t.Context(), late, held); !errors.Is(err, ErrTaken) {
		t.Errorf("the old one's Store gave %v, want ErrTaken", err)
	}
	if got := get(t, old, "v:1"); got != "new" {
		t.Errorf("it is %q, want what the next one wrote", got)
	}
	s.raw.FlushAll(t.Context())
	if _, err := next.Store(t.Context(), late, held); !errors.Is(err, ErrEmpty) {
		t.Errorf("Store after the state is gone gave %v, want ErrEmpty", err)
	}
	take(old)
	must(old.Store(t.Context(), late, held))(t)
	if err := old.Ping(t.Context()); err != nil {
		t.Error(err)
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
