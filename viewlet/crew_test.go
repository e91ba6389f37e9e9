package viewlet

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowly is a Renderer and a Store whose Render takes a second, and fails for
// the key that is bad.
type slowly struct {
	world
	bad Key

	mu       sync.Mutex
	rendered map[Key]int
}

func (s *slowly) Render(_ context.Context, _ string, keys []Key) ([]Fragment, error) {
	time.Sleep(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	fragments := make([]Fragment, len(keys))
	for i, k := range keys {
		if k == s.bad {
			return nil, &Broken{errors.New("no such table")}
		}
		s.rendered[k]++
		fragments[i].Key = k
	}
	return fragments, nil
}

func (s *slowly) Store(context.Context, string, []Fragment, *Pass) error { return nil }

func numbered(from, to int) (keys []Key) {
	for i := from; i < to; i++ {
		keys = append(keys, NewKey("a", strconv.Itoa(i)))
	}
	return keys
}

func newSlowly() (*slowly, *lane) {
	s := &slowly{rendered: map[Key]int{}}
	p := New(Config{
		Lanes: []Lane{{Viewlet: "a"}, {Viewlet: "b"}}, Render: s, Store: s, Chunk: 2, Extra: 2,
		Backoff: func() func() time.Duration { return func() time.Duration { return time.Second } },
	})
	return s, p.lanes["a"]
}

// TestCrewWorksSideBySide: six chunks by three at a time take as long as two,
// and each key is rendered once although some are given again meanwhile.
func TestCrewWorksSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newSlowly()
		var done Pass
		c := newCrew(l, &done)
		start := time.Now()
		keys := numbered(0, 6)
		for _, keys := range [][]Key{append(keys, keys...), numbered(6, 12)} {
			if err := c.write(t.Context(), keys); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.wait(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, k := range numbered(0, 12) {
			if s.rendered[k] != 1 {
				t.Errorf("%v was rendered %d times", k, s.rendered[k])
			}
		}
		if done.Keys != 12 {
			t.Errorf("the pass counts %d keys", done.Keys)
		}
	})
}

// TestCrewStopsAtAnError: what is under way is finished, nothing more is begun.
func TestCrewStopsAtAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newSlowly()
		s.bad = NewKey("a", "0")
		c := newCrew(l, &Pass{})
		err := c.write(t.Context(), numbered(0, 100))
		if _, broken := errors.AsType[*Broken](err); !broken {
			t.Errorf("got %v", err)
		}
		if n := len(s.rendered); n < 4 || n > 10 {
			t.Errorf("%d keys were rendered; one of the first three chunks failed, and three more may have begun", n)
		}
	})
}

// TestCrewLeavesOthersTheirs: whatever one lane has under way, another's chunk
// does not wait.
func TestCrewLeavesOthersTheirs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l := newSlowly()
		busy, other := newCrew(l, &Pass{}), newCrew(l.p.lanes["b"], &Pass{})
		start := time.Now()
		if err := busy.write(t.Context(), numbered(0, 6)); err != nil {
			t.Fatal(err)
		}
		if err := other.write(t.Context(), []Key{NewKey("b")}); err != nil {
			t.Fatal(err)
		}
		if err := other.wait(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %v", took)
		}
		if err := busy.wait(); err != nil {
			t.Fatal(err)
		}
	})
}
