package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// shapesOf gives, by viewlet, the shape of the tables that refresh it: what
// their rows depend on and no change in the stream tells.
func shapesOf(ctx context.Context, ed *edition, tables []viewlet.Table) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, tablesTimeout)
	defer cancel()
	conn, err := replication.Connect(ctx, ed.cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	found, err := replication.Shapes(ctx, conn, tables)
	if err != nil {
		return nil, err
	}
	return shapesByViewlet(ed.set, tables, found), nil
}

func shapesByViewlet(set *rules.Set, tables []viewlet.Table, found map[uint32]string) map[string]string {
	parts := map[string][]string{}
	for _, t := range tables {
		for name := range set.RefreshedBy([]viewlet.Table{t}) {
			parts[name] = append(parts[name], fmt.Sprintf("%s.%s %d %s", t.Schema, t.Name, t.OID, found[t.OID]))
		}
	}
	shapes := make(map[string]string, len(set.Viewlets))
	for _, v := range set.Viewlets {
		slices.Sort(parts[v.Name])
		sum := sha256.Sum256([]byte(strings.Join(parts[v.Name], "; ")))
		shapes[v.Name] = hex.EncodeToString(sum[:])
	}
	return shapes
}

// watchShapes has whatever a table refreshes rendered whole when it has another
// shape, though the stream goes on.
func (d *daemon) watchShapes(ctx context.Context, ed *edition, tables []viewlet.Table, pipe *viewlet.Pipeline, were map[string]string, notes *shapeNotes) error {
	tick := time.NewTicker(tablesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		are, err := shapesOf(ctx, ed, tables)
		if err != nil {
			continue // the stream meets it too
		}
		var stale []string
		for name, shape := range are {
			if were[name] != shape {
				stale = append(stale, name)
			}
		}
		if were = are; len(stale) == 0 {
			continue
		}
		slices.Sort(stale)
		d.app.log.Info("a table was altered, or its partitions; what it refreshes is rendered whole", "viewlets", strings.Join(stale, " "))
		for _, name := range stale {
			notes.render(pipe, name, are[name])
		}
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
