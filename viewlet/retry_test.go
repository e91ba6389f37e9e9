package viewlet

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
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
