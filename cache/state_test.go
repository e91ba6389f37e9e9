package cache

import (
	"errors"
	"reflect"
	"testing"
)

func TestState(t *testing.T) {
	c, s := setup(t, Config{})
	if got := must(c.State(t.Context()))(t); got.System != "" {
		t.Errorf("an empty Redis has %+v", got)
	}
	want := State{
		System: "7388291834", Timeline: 3, Slot: "cdc_viewlet", Database: "shop", LSN: 0x16_B374_D848,
		Fingerprints: map[string]string{"product_teaser": "abc", "gone": "def"},
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
		"system": "7388291834", "timeline": "3", "slot": "cdc_viewlet", "database": "shop", "lsn": "16/B374D848", "viewlet:product_teaser": "abc",
		"run": must(c.runs(t.Context()))(t).String(),
	}) {
		t.Errorf("Redis has %v", got)
	}

	if before := must(c.SaveLSN(t.Context(), 0x16_B374_D900))(t); before != want.LSN {
		t.Errorf("before it was %s, want %s", before, want.LSN)
	}
	if err := c.SaveFingerprint(t.Context(), "menu", "xyz"); err != nil {
		t.Fatal(err)
	}
	if err := c.DropFingerprint(t.Context(), "product_teaser"); err != nil {
		t.Fatal(err)
	}
	want.LSN, want.Fingerprints = 0x16_B374_D900, map[string]string{"menu": "xyz"}
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
