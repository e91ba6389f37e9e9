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
	db    *render.Database // with its standby, whatever the Renderer reads from
	cache *cache.Cache
}

// Render is render.Renderer's, for fragments that the cache takes.
func (l latecomer) Render(ctx context.Context, name string, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	guard, err := l.guard(ctx, name)
	if err != nil {
		return nil, err
	}
	return l.renderUnder(ctx, guard, name, keys)
}

func (l latecomer) renderUnder(ctx context.Context, guard, name string, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	fragments, err := l.Renderer.Render(ctx, name, keys)
	for i := range fragments {
		fragments[i].Guard = guard
	}
	return fragments, err
}

func (l latecomer) guard(ctx context.Context, name string) (string, error) {
	return l.cache.Guard(ctx, name, func(ctx context.Context) error {
		_, err := l.db.Settled(ctx)
		return err
	})
}
