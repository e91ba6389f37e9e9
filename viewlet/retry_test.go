package viewlet

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// failing is a world in which nothing is rendered but what fails is tried
// again: its keys are by name bad, good, or gone from the store.
type failing struct {
	*world
	failed []Key
	calls  []string
}

func (f *failing) Due(_ context.Context, _ string, yield func([]Key) error) (time.Time, error) {
	if len(f.failed) == 0 {
		return time.Time{}, nil
	}
	return time.Now().Add(time.Hour), yield(slices.Clone(f.failed))
}

func (f *failing) Wanted(_ context.Context, _ string, keys []Key, _ LSN) ([]Key, error) {
	return slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return k.Args == ":gone" }), nil
}

func (f *failing) Render(_ context.Context, _ string, keys []Key) ([]Fragment, error) {
	fragments := make([]Fragment, len(keys))
	for i, k := range keys {
		fragments[i] = Fragment{Key: k, Body: []byte("x")}
		if k.Args == ":bad" {
			fragments[i].Err = errors.New("division by zero")
		}
	}
	return fragments, nil
}

func (f *failing) Still(_ context.Context, fragments []Fragment) error {
	for _, fragment := range fragments {
		f.calls = append(f.calls, "still "+fragment.Key.String())
	}
	return nil
}

func (f *failing) Forgive(_ context.Context, keys []Key) error {
	for _, k := range keys {
		f.calls = append(f.calls, "forgive "+k.String())
	}
	return nil
}

func (f *failing) Store(_ context.Context, _ string, fragments []Fragment, _ *Pass) error {
	for _, fragment := range fragments {
		f.calls = append(f.calls, "store "+fragment.Key.String())
	}
	f.failed = f.failed[:0]
	return nil
}

// Of the fragments that failed, those that fail again are noted, those that
// work go through the lane, and those that are in the store no more are let go.
func TestRetry(t *testing.T) {
	for requested, want := range map[bool][]string{
		true:  {"forgive v:gone", "still v:bad", "store v:good"},
		false: {"still v:bad", "store v:gone", "store v:good"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(1)
			w.faults = false
			f := &failing{world: w, failed: []Key{NewKey("v", "gone"), NewKey("v", "bad"), NewKey("v", "good")}}
			p := New(Config{
				Lanes: []Lane{{Viewlet: "v", Requested: requested}},
				Match: f, Render: f, Store: f, Failures: f, Start: w.slot,
				Backoff: func() func() time.Duration { return func() time.Duration { return time.Second } },
				Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
			})
			ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
			defer stop()
			if err := p.Run(ctx, w); err != nil {
				t.Error(err)
			}
			slices.Sort(f.calls)
			if !slices.Equal(f.calls, want) {
				t.Errorf("requested %v: got %q, want %q", requested, f.calls, want)
			}
		})
	}
}

// manyFailed is failing where each render takes its time, until nothing fails.
type manyFailed struct {
	*failing
	mu     sync.Mutex // chunks are stored side by side
	bad    int        // tries that fail still
	mended time.Time
}

func (s *manyFailed) Render(ctx context.Context, name string, keys []Key) ([]Fragment, error) {
	time.Sleep(10 * time.Millisecond)
	fragments, err := s.failing.Render(ctx, name, keys)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad > 0 {
		s.bad--
		for i := range fragments {
			fragments[i].Err = errors.New("division by zero")
		}
	}
	return fragments, err
}

func (s *manyFailed) Due(_ context.Context, _ string, yield func([]Key) error) (time.Time, error) {
	s.mu.Lock()
	failed := slices.Clone(s.failed)
	s.mu.Unlock()
	if len(failed) == 0 {
		return time.Time{}, nil
	}
	return time.Now(), yield(failed)
}

func (s *manyFailed) Still(context.Context, []Fragment) error { return nil }

func (s *manyFailed) Store(_ context.Context, _ string, fragments []Fragment, _ *Pass) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := make(map[Key]bool, len(fragments))
	for _, f := range fragments {
		done[f.Key] = true
	}
	if s.failed = slices.DeleteFunc(s.failed, func(k Key) bool { return done[k] }); len(s.failed) == 0 {
		s.mended = time.Now()
	}
	return nil
}

// While they fail, a quarter of the time is theirs at most, in small pieces; once
// they work, thousands are soon done.
func TestRetryOfMany(t *testing.T) {
	for bad, within := range map[int]time.Duration{0: 5 * time.Second, 100: 12 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(1)
			w.faults = false
			s := &manyFailed{failing: &failing{world: w}, bad: bad}
			for i := range 3000 {
				s.failed = append(s.failed, NewKey("v", strconv.Itoa(i)))
			}
			p := New(Config{
				Lanes: []Lane{{Viewlet: "v"}},
				Match: s, Render: s, Store: s, Failures: s, Start: w.slot, Extra: 1,
				Backoff: func() func() time.Duration { return func() time.Duration { return time.Second } },
				Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
			})
			began := time.Now()
			ctx, stop := context.WithTimeout(context.Background(), time.Minute)
			defer stop()
			if err := p.Run(ctx, w); err != nil {
				t.Error(err)
			}
			if took := s.mended.Sub(began); s.mended.IsZero() || took > within {
				t.Errorf("with %d bad tries: %d of 3000 are failed still, all were mended after %v, want %v", bad, len(s.failed), took, within)
			}
		})
	}
}
