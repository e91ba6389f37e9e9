package verify

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// eachHeld yields the keys in the store, of one viewlet or of all, in chunks of
// one viewlet each. What belongs to none comes under the empty name.
func (c *Check) eachHeld(ctx context.Context, of string, yield func(name string, keys []viewlet.Key) error) error {
	piles := map[string]*pile{}
	err := c.cfg.Store.Walk(ctx, of, func(names []string) error {
		if len(names) == 0 {
			return c.pace(ctx, 1) // it had to be looked for
		}
		for _, name := range names {
			owner, key, asked := c.owner(name, of)
			if !asked {
				continue
			}
			p := piles[owner]
			if p == nil {
				p = &pile{sample: c.cfg.Sample}
				piles[owner] = p
			}
			if p.add(key); p.sample == 0 && len(p.keys) == c.cfg.Chunk {
				if err := yield(owner, p.keys); err != nil {
					return err
				}
				p.keys = nil
			}
		}
		return nil
	})
	for name, p := range piles {
		if err == nil {
			err = c.inChunks(p.keys, func(keys []viewlet.Key) error { return yield(name, keys) })
		}
	}
	return err
}

// owner gives the viewlet that has the name in the store, empty where none has
// it, and whether it is asked for: all is, or it is in that viewlet's part of
// the names. A name that is no key is a Key of its own.
func (c *Check) owner(name, of string) (owner string, key viewlet.Key, asked bool) {
	within, _, _ := strings.Cut(name, ":")
	if of != "" && of != within {
		return "", key, false
	}
	key, err := viewlet.ParseKey(name)
	if err != nil {
		return "", viewlet.Key{Viewlet: name}, true
	}
	v, known := c.viewlets[within]
	if args, err := key.Split(nil); !known || err != nil || len(args) != v.Params {
		return "", key, true
	}
	return within, key, true
}

// pile gathers keys; with a sample at most so many, each as likely as any.
type pile struct {
	keys   []viewlet.Key
	sample int
	had    int
}

func (p *pile) add(key viewlet.Key) {
	p.had++
	if p.sample == 0 || len(p.keys) < p.sample {
		p.keys = append(p.keys, key)
		return
	}
	if i := rand.IntN(p.had); i < p.sample {
		p.keys[i] = key
	}
}

// eachInstance yields the keys of every instance of a viewlet, in chunks.
func (c *Check) eachInstance(ctx context.Context, name string, yield func([]viewlet.Key) error) error {
	switch {
	case c.cfg.Sample > 0:
		sample := pile{sample: c.cfg.Sample}
		err := c.expand(ctx, name, func(keys []viewlet.Key) error {
			for _, k := range keys {
				sample.add(k)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return c.inChunks(sample.keys, yield)
	case c.cfg.Pace != nil:
		return c.inSlices(ctx, name, yield)
	}
	return c.expand(ctx, name, func(keys []viewlet.Key) error { return c.inChunks(keys, yield) })
}

func (c *Check) inChunks(keys []viewlet.Key, yield func([]viewlet.Key) error) error {
	for chunk := range slices.Chunk(keys, c.cfg.Chunk) {
		if err := yield(chunk); err != nil {
			return err
		}
	}
	return nil
}

// expand yields all instances. A viewlet that is broken is told of.
func (c *Check) expand(ctx context.Context, name string, yield func([]viewlet.Key) error) error {
	err := c.cfg.Truth.Expand(ctx, name, viewlet.Whole, nil, yield)
	if broken, telling := c.isBroken(ctx, name, err); broken {
		return telling
	}
	return err
}

// share is how many times as long as reading the keys of all instances takes,
// passes until they are read again.
const share = 20

// inSlices reads all keys again for each slice of them, and keeps that slice
// while it is looked at slowly: a cursor that stays open would keep Postgres from
// cleaning up.
func (c *Check) inSlices(ctx context.Context, name string, yield func([]viewlet.Key) error) error {
	part := slice{seed: maphash.MakeSeed(), of: 1}
	for part.i < part.of {
		began := time.Now()
		keys, had, err := c.keysOf(ctx, name, part)
		if err != nil {
			return err
		}
		took := time.Since(began)
		if part.of == 1 && had > c.slice { // so many, it turns out
			part.of = uint64((had + c.slice - 1) / c.slice)
		} else {
			if err := c.inChunks(keys, yield); err != nil {
				return err
			}
			part.i++
		}
		if err := rest(ctx, share*took-time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// slice is the keys of which the hash is i, modulo of.
type slice struct {
	seed  maphash.Seed
	i, of uint64
}

// keysOf gives the keys in the slice, and how many there are in all. There is one
// slice until it is known that there are too many keys for that.
func (c *Check) keysOf(ctx context.Context, name string, part slice) (in []viewlet.Key, had int, err error) {
	err = c.expand(ctx, name, func(keys []viewlet.Key) error {
		had += len(keys)
		if part.of == 1 && had > c.slice {
			return nil
		}
		for _, k := range keys {
			if maphash.String(part.seed, k.Args)%part.of == part.i {
				in = append(in, k)
			}
		}
		return nil
	})
	return in, had, err
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(max(0, d))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
