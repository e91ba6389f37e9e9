package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// store is a cache.Cache as the pipeline's Store, for the viewlets of one set
// of rules.
type store struct {
	cache   *cache.Cache
	set     *rules.Set
	reached viewlet.LSN // last saved; the confirm loop's alone
	// vouched is what is noted of each viewlet once all of it was rendered; nil:
	// this is not the daemon's, and notes nothing.
	vouched map[string]string
	// Where this is not the daemon's: who has rendered what is stored, and the watch
	// for what is deleted with a viewlet that is broken, which nobody renders.
	late    latecomer
	watched viewlet.Watch
	// unsettled says that what is rendered whole now is to be so once more.
	unsettled atomic.Bool
}

func (s *store) options(name string) cache.Options {
	v := s.set.Viewlet(name)
	return cache.Options{TTL: v.Timeout, Requested: v.Requested, DeleteFailed: v.DeleteFailed, Held: s.vouched != nil}
}

// Store is a method of viewlet.Store.
func (s *store) Store(ctx context.Context, name string, fragments []viewlet.Fragment, pass *viewlet.Pass) error {
	for i := range fragments {
		fragments[i].Watch = cmp.Or(fragments[i].Watch, s.watched)
	}
	o := s.options(name)
	o.Remember = pass.Whole
	outcomes, err := s.cache.Store(ctx, fragments, o)
	if err != nil {
		return forgotten(err)
	}
	for _, o := range outcomes {
		o.Count(pass)
	}
	return nil
}

// Wanted is a method of viewlet.Store.
func (s *store) Wanted(ctx context.Context, _ string, keys []viewlet.Key, lsn viewlet.LSN) ([]viewlet.Key, error) {
	return s.cache.Keep(ctx, keys, lsn)
}

// Older is a method of viewlet.Store. What cannot be a key of the viewlet is
// deleted on the way.
func (s *store) Older(ctx context.Context, name string, since viewlet.LSN, yield func([]viewlet.Key) error) error {
	params := len(s.set.Viewlet(name).Params)
	return s.cache.Sweep(ctx, name, func(keys []viewlet.Key, orphans []string) error {
		fit, misfit := s.sort(keys, params)
		if gone := append(orphans, misfit...); len(gone) > 0 {
			if err := s.cache.DeleteOrphans(ctx, gone); err != nil {
				return err
			}
		}
		stale, err := s.cache.Stale(ctx, fit, since)
		if err != nil {
			return err
		}
		return yield(stale)
	})
}

// sort keeps the keys with as many arguments as the viewlet has params.
func (s *store) sort(keys []viewlet.Key, params int) (fit []viewlet.Key, misfit []string) {
	for _, k := range keys {
		if fits(k, params) {
			fit = append(fit, k)
		} else {
			misfit = append(misfit, s.cache.RedisKey(k))
		}
	}
	return fit, misfit
}

// fits reports whether the key has as many arguments.
func fits(k viewlet.Key, params int) bool {
	args, err := k.Split(nil)
	return err == nil && len(args) == params
}

// Whole is a method of viewlet.Store.
func (s *store) Whole(ctx context.Context, name string) error {
	if s.vouched == nil || s.unsettled.Load() {
		return nil
	}
	if err := s.cache.SaveFingerprint(ctx, name, s.vouched[name]); err != nil {
		return forgotten(err)
	}
	return s.cache.Unfail(ctx, name)
}

// Broken is a method of viewlet.Store.
func (s *store) Broken(ctx context.Context, name string, cause error) (err error) {
	if s.vouched == nil {
		if s.set.Viewlet(name).DeleteFailed {
			s.watched, err = s.late.watch(ctx, name)
		}
		return err
	}
	if err := s.cache.DropFingerprint(ctx, name); err != nil {
		return forgotten(err)
	}
	return s.cache.Fail(ctx, name, cause)
}

// Due is a method of viewlet.Failures. What cannot be a key of the viewlet is
// forgiven on the way.
func (s *store) Due(ctx context.Context, name string, yield func([]viewlet.Key) error) (time.Time, error) {
	params := len(s.set.Viewlet(name).Params)
	return s.cache.Due(ctx, name, time.Now(), func(keys []viewlet.Key) error {
		var fit, misfit []viewlet.Key
		for _, k := range keys {
			if fits(k, params) {
				fit = append(fit, k)
			} else {
				misfit = append(misfit, k)
			}
		}
		if err := s.cache.Forgive(ctx, misfit); err != nil {
			return err
		}
		return yield(fit)
	})
}

// Still is a method of viewlet.Failures.
func (s *store) Still(ctx context.Context, fragments []viewlet.Fragment) error {
	return s.cache.FailAgain(ctx, fragments)
}

// Forgive is a method of viewlet.Failures.
func (s *store) Forgive(ctx context.Context, keys []viewlet.Key) error {
	return s.cache.Forgive(ctx, keys)
}

// Reached is a method of viewlet.Store.
func (s *store) Reached(ctx context.Context, lsn viewlet.LSN) error {
	if s.vouched == nil {
		return nil
	}
	before, err := s.cache.SaveLSN(ctx, lsn)
	if err != nil {
		return forgotten(err)
	}
	if before < s.reached {
		return fmt.Errorf("%w: it knows of %v, and %v was written", viewlet.ErrForgotten, before, s.reached)
	}
	s.reached = max(lsn, before)
	return nil
}

// forgotten says what a state means that is gone, or another's.
func forgotten(err error) error {
	switch {
	case errors.Is(err, cache.ErrEmpty):
		return fmt.Errorf("%w: it was emptied, restarted or failed over", viewlet.ErrForgotten)
	case errors.Is(err, cache.ErrTaken):
		return fmt.Errorf("%w: another daemon has taken over", viewlet.ErrForgotten)
	}
	return err
}

// removeViewlet deletes all fragments of a viewlet that the rules no longer
// have. lsn is the WAL's position now.
func removeViewlet(ctx context.Context, c *cache.Cache, name string, lsn viewlet.LSN) error {
	err := c.Sweep(ctx, name, func(keys []viewlet.Key, orphans []string) error {
		gone := make([]viewlet.Fragment, len(keys))
		for i, k := range keys {
			gone[i] = viewlet.Fragment{Key: k, LSN: lsn}
		}
		if _, err := c.Store(ctx, gone, cache.Options{Held: true}); err != nil {
			return err
		}
		return c.DeleteOrphans(ctx, orphans)
	})
	if err != nil {
		return err
	}
	all := time.Now().AddDate(1, 0, 0)
	if _, err := c.Due(ctx, name, all, func(keys []viewlet.Key) error { return c.Forgive(ctx, keys) }); err != nil {
		return err
	}
	if err := c.Unfail(ctx, name); err != nil {
		return err
	}
	return c.DropFingerprint(ctx, name)
}
