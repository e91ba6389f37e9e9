package verify

import (
	"bytes"
	"context"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Kind says in what way the store differs from the truth.
type Kind string

// The kinds.
const (
	Missing   Kind = "missing"   // it is to be there, and is not
	Different Kind = "different" // it has other bytes
	Orphaned  Kind = "orphaned"  // it is there, and no instance is
	Failed    Kind = "failed"    // it cannot be rendered, or could not when it last changed
)

// Finding is a fragment that differs from what it is to be.
type Finding struct {
	Key     viewlet.Key
	Viewlet string // empty: of none that there is
	Whole   bool   // a viewlet that cannot be rendered at all, and has no Key
	Kind    Kind
	Err     error // why, where it is Failed
	// Stray says that no change will ever name the Key: it is to be deleted.
	Stray bool
	// Held is what was in the store, and Fresh what is to be. Fresh was rendered
	// after Held was read.
	Held, Fresh viewlet.Fragment
}

// Name gives product_teaser:42, or product_teaser:* of what is Whole.
func (f Finding) Name() string {
	if f.Whole {
		return viewlet.Refresh{Key: viewlet.Key{Viewlet: f.Viewlet}, Via: viewlet.Whole}.String()
	}
	return f.Key.String()
}

// sightings reads keys of a viewlet in the store, then renders them, and gives
// those that differ. Those of no viewlet have only to be there.
func (c *Check) sightings(ctx context.Context, name string, keys []viewlet.Key) ([]Finding, error) {
	held, err := c.cfg.Store.Held(ctx, keys)
	if err != nil {
		return nil, err
	}
	v, known := c.viewlets[name]
	var fresh []viewlet.Fragment
	if known {
		fresh, err = c.cfg.Truth.Render(ctx, name, keys)
		if broken, telling := c.isBroken(ctx, name, err); broken {
			return nil, telling
		}
	} else {
		fresh = make([]viewlet.Fragment, len(keys)) // nothing is to be there
	}
	if err != nil {
		return nil, err
	}
	var differing []Finding
	for i, key := range keys {
		f := Finding{Key: key, Viewlet: name, Stray: !known, Held: held[i], Fresh: fresh[i], Kind: judge(v, held[i], fresh[i])}
		if f.Kind != "" {
			f.Err = f.Fresh.Err
			differing = append(differing, f)
		}
	}
	return differing, nil
}

// judge gives the empty Kind where nothing differs.
func judge(v Viewlet, held, fresh viewlet.Fragment) Kind {
	switch {
	case fresh.Err != nil:
		return Failed
	case fresh.Body == nil && there(held):
		return Orphaned
	case fresh.Body == nil, !there(held) && v.Partial:
		return ""
	case !there(held):
		return Missing
	case held.Err != nil, !bytes.Equal(held.Body, fresh.Body):
		return Different
	}
	return ""
}
