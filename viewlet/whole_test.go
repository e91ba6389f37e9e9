package viewlet

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// someStore has the methods that are not called.
type someStore interface{ Store }

// scanned is a store that takes long to find that it holds nothing.
type scanned struct {
	someStore
	wanted Key
	stored chan struct{} // closed when the wanted one is
	found  chan struct{} // closed when the end is reached
	begun  func()
	once   sync.Once
}

func (s *scanned) Snapshot(context.Context) (Snapshot, error) { return Snapshot{LSN: 9}, nil }

func (s *scanned) Expand(context.Context, string, string, []string, func([]Key) error) error {
	return nil
}

func (s *scanned) Render(_ context.Context, _ string, keys []Key) ([]Fragment, error) {
	fragments := make([]Fragment, len(keys))
	for i, k := range keys {
		fragments[i] = Fragment{Key: k, LSN: 10, Body: []byte("x")}
	}
	return fragments, nil
}

func (s *scanned) Store(_ context.Context, _ string, fragments []Fragment, _ *Pass) error {
	if slices.ContainsFunc(fragments, func(f Fragment) bool { return f.Key == s.wanted }) {
		close(s.stored)
	}
	return nil
}

func (s *scanned) Older(ctx context.Context, _ string, _ LSN, yield func([]Key) error) error {
	s.once.Do(s.begun)
	for {
		if err := yield(nil); err != nil {
			return err
		}
		select {
		case <-s.stored:
			close(s.found)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *scanned) Whole(context.Context, string) error { return nil }

// What falls in while a whole rendering looks for what is left over does not
// wait for the end of that, be there nothing to be found.
func TestChangeDuringSweep(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s := &scanned{wanted: NewKey("v", "1"), stored: make(chan struct{}), found: make(chan struct{})}
	p := New(Config{
		Lanes: []Lane{{Viewlet: "v"}}, Render: s, Store: s,
		Backoff: func() func() time.Duration { return func() time.Duration { return time.Second } },
	})
	s.begun = func() { p.Refresh(Refresh{Key: s.wanted}) }
	p.Refresh(Refresh{Key: Key{Viewlet: "v"}, Via: Whole})
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- p.runLanes(ctx, stop) }()
	select {
	case <-s.found:
	case <-ctx.Done():
		t.Error("the change waits for a sweep that has no end")
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
