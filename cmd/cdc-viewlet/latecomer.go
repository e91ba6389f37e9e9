package main

import (
	"context"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/render"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// latecomer renders for who writes to the cache beside the session of the daemon,
// and may come late: a visitor's miss, refresh, verify.
type latecomer struct {
	*render.Renderer
	db    *render.Database
	cache *cache.Cache
}

// Render is render.Renderer's, for fragments that the cache takes.
func (l latecomer) Render(ctx context.Context, name string, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	w, err := l.watch(ctx, name)
	if err != nil {
		return nil, err
	}
	return l.renderUnder(ctx, w, name, keys)
}

func (l latecomer) renderUnder(ctx context.Context, w viewlet.Watch, name string, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	fragments, err := l.Renderer.Render(ctx, name, keys)
	for i := range fragments {
		fragments[i].Watch = w
	}
	return fragments, err
}

func (l latecomer) watch(ctx context.Context, name string) (viewlet.Watch, error) {
	return l.cache.Watch(ctx, name, func(ctx context.Context) (viewlet.LSN, error) {
		snap, err := l.db.Settled(ctx)
		return snap.LSN, err
	})
}
