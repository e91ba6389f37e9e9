package cache

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// A guard is the LSN of a fragment's last write, beside it: who comes with an
// older one is refused. Leaving one costs Redis nearly as much as the fragment
// itself, and whoever has the State comes in order, and is refused once it has
// lost it. So its writes leave guards only while somebody may come late:
//
//   - Somebody else, such as a visitor's miss. It says so before it renders, by
//     Watch, and may write only as long as what it said is still there.
//   - What was sent over a connection that is closed, and was not answered: it may
//     still lie there when the next try has been served. See doubt.
//
// Within a whole rendering they leave guards, too, for Stale. In a Cluster, where
// the State is in another slot, every write does.

//go:embed watch.lua
var watchLua string

// ErrUnwatched says that a fragment is to be rendered again: what was written since
// need not have left guards, because Redis has lost the watch, or it is older than
// what was written before.
var ErrUnwatched = errors.New("it may be older than what was written meanwhile")

// clusterWatch stands for what a Cluster does without.
var clusterWatch = viewlet.Watch{Token: "cluster"}

// watches are those of the viewlets that we have asked for.
type watches struct {
	mu sync.Mutex
	of map[string]*watch
}

// watch is one of them.
type watch struct {
	mu    sync.Mutex
	is    viewlet.Watch
	until time.Time     // how long it is good without asking
	asked chan struct{} // closed when the answer is there; nil: nobody asks
	vain  error         // what came of asking
	again time.Time     // before which nobody asks again after that
}

// vainPause is how long nobody asks a Redis that has not answered: visitors have
// better things to wait for.
const vainPause = time.Second

func (w *watches) get(name string) *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil {
		w.of = map[string]*watch{}
	}
	one := w.of[name]
	if one == nil {
		one = &watch{}
		w.of[name] = one
	}
	return one
}

// forget makes everybody ask anew.
func (w *watches) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of = nil
}

// known gives the watch while it is good, or why nobody asks for it now; else what
// is closed when whoever asks has an answer, and whether the caller is to be that.
func (w *watch) known() (is viewlet.Watch, asked chan struct{}, mine bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	switch {
	case now.Before(w.until):
		return w.is, nil, false, nil
	case now.Before(w.again):
		return viewlet.Watch{}, nil, false, w.vain
	case w.asked == nil:
		w.asked, mine = make(chan struct{}), true
	}
	return viewlet.Watch{}, w.asked, mine, nil
}

// answer is what came of asking.
func (w *watch) answer(is viewlet.Watch, until time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.is, w.until = is, until
	} else {
		w.vain, w.again = err, time.Now().Add(vainPause)
	}
	close(w.asked)
	w.asked = nil
}

// lost makes the next who wants the watch ask for it, if it is still this one.
func (w *watch) lost(token string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.is.Token == token {
		w.until = time.Time{}
	}
}

// Watch gives what goes into the Watch of a Fragment that is rendered from now on,
// within the GuardTTL, and stored by who does not have the State. Everybody's
// writes of the viewlet's fragments leave guards as long as that holds.
//
// look gives a position of what is committed and visible now: no fragment may be
// older than that, for guards live only so long. Most calls of Watch ask nobody. Who
// must ask does it for all, and goes on when ctx ends.
func (c *Cache) Watch(ctx context.Context, name string, look func(context.Context) (viewlet.LSN, error)) (viewlet.Watch, error) {
	if c.cluster {
		return clusterWatch, nil
	}
	w := c.watches.get(name)
	for {
		is, asked, mine, err := w.known()
		if asked == nil {
			return is, err
		}
		if mine {
			go c.renew(context.WithoutCancel(ctx), w, name, look)
		}
		select {
		case <-asked:
		case <-ctx.Done():
			return viewlet.Watch{}, fmt.Errorf("watch %s: %w", name, ctx.Err())
		}
	}
}

func (c *Cache) renew(ctx context.Context, w *watch, name string, look func(context.Context) (viewlet.LSN, error)) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.timeout)
	defer cancel()
	until := time.Now().Add(c.guardTTL / 2)
	var is viewlet.Watch
	var err error
	if is.Token, err = c.watch(ctx, name); err == nil {
		is.From, err = look(ctx)
	}
	if err != nil {
		err = fmt.Errorf("watch %s: %w", name, err)
	}
	w.answer(is, until, err)
}

// watch leaves the viewlet's watch in Redis, or prolongs it, and gives its token.
func (c *Cache) watch(ctx context.Context, name string) (token string, err error) {
	err = c.exchange(ctx, func(ctx context.Context) (err error) {
		token, err = c.scripts.watch.Run(ctx, c.rdb, []string{c.names.watch(name)}, rand.Text(), (2 * c.guardTTL).Milliseconds()).Text()
		return err
	})
	return token, err
}
