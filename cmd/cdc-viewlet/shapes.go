package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// renderReshaped has all of each viewlet rendered whose tables have another
// shape than they had.
func (d *daemon) renderReshaped(pipe *viewlet.Pipeline, notes *shapeNotes, were, are map[string]string) {
	var stale []string
	for name, shape := range are {
		if were[name] != shape {
			stale = append(stale, name)
		}
	}
	if len(stale) == 0 {
		return
	}
	slices.Sort(stale)
	d.app.log.Info("a table was altered, or its partitions; what it refreshes is rendered whole", "viewlets", strings.Join(stale, " "))
	for _, name := range stale {
		notes.render(pipe, name, are[name])
	}
}

// shapeNotes writes to the state with which shape of its tables a viewlet was
// rendered whole, once it was.
type shapeNotes struct {
	cache *cache.Cache
	wake  chan struct{}

	mu  sync.Mutex
	due map[string]string
}

func newShapeNotes(c *cache.Cache) *shapeNotes {
	return &shapeNotes{cache: c, wake: make(chan struct{}, 1), due: map[string]string{}}
}

// render asks for all of a viewlet, which is to be noted as of that shape. A
// rendering under way may have begun before the table got it.
func (n *shapeNotes) render(pipe *viewlet.Pipeline, name, shape string) {
	pipe.Refresh(viewlet.Refresh{Key: viewlet.Key{Viewlet: name}, Via: viewlet.Whole}, func(err error) {
		if err != nil {
			return // it is broken, and its fingerprint gone
		}
		n.mu.Lock()
		n.due[name] = shape
		n.mu.Unlock()
		select {
		case n.wake <- struct{}{}:
		default:
		}
	})
}

// run writes until over is closed, and then once more. An error is that Redis
// has lost the state.
func (n *shapeNotes) run(ctx context.Context, over <-chan struct{}) error {
	again := time.NewTicker(tablesEvery)
	defer again.Stop()
	for {
		select {
		case <-n.wake:
		case <-again.C: // what Redis did not take
		case <-over:
			return n.write(context.WithoutCancel(ctx))
		}
		if err := n.write(ctx); err != nil {
			return err
		}
	}
}

// write leaves for the next time what could not be written: unless it can be
// then, the viewlet is rendered once more by the next session.
func (n *shapeNotes) write(ctx context.Context) error {
	n.mu.Lock()
	due := maps.Clone(n.due)
	n.mu.Unlock()
	for name, shape := range due {
		if err := n.cache.SaveShape(ctx, name, shape); err != nil {
			if err = forgotten(err); errors.Is(err, viewlet.ErrForgotten) {
				return err
			}
			continue
		}
		n.mu.Lock()
		if n.due[name] == shape {
			delete(n.due, name)
		}
		n.mu.Unlock()
	}
	return nil
}
