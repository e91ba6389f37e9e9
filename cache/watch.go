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

// ErrUnwatched says that the writes since a fragment was rendered need not have
// left guards, because Redis has lost the watch: it is to be rendered again.
var ErrUnwatched = errors.New("redis has lost what keeps older fragments out meanwhile")

// clusterWatch stands for what a Cluster does without.
var clusterWatch = viewlet.Watch{Token: "cluster"}

// watches are those of the viewlets that we have asked for.
type watches struct {
	mu sync.Mutex
	of map[string]*watch
}

// watch is one of them.
type watch struct {
	asking chan struct{} // holds one while somebody asks

	mu    sync.Mutex
	is    viewlet.Watch
	until time.Time // how long it is good without asking
	vain  error     // what came of asking
	again time.Time // before which nobody asks again after that
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
		one = &watch{asking: make(chan struct{}, 1)}
		w.of[name] = one
	}
	return one
}

// known gives the watch as long as it is good, or why nobody asks for it now.
func (w *watch) known() (is viewlet.Watch, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Before(w.again) {
		return viewlet.Watch{}, false, w.vain
	}
	return w.is, now.Before(w.until), nil
}

func (w *watch) note(is viewlet.Watch, until time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.is, w.until, w.again = is, until, time.Time{}
	} else if !errors.Is(err, context.Canceled) {
		w.vain, w.again = err, time.Now().Add(vainPause)
	}
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
// look gives a position of what is committed and visible now. It is called where
// writes left no guards before: what is rendered may not be older than that. Most
// calls of Watch ask nobody.
func (c *Cache) Watch(ctx context.Context, name string, look func(context.Context) (viewlet.LSN, error)) (viewlet.Watch, error) {
	if c.cluster {
		return clusterWatch, nil
	}
	w := c.watches.get(name)
	if is, ok, err := w.known(); ok || err != nil {
		return is, err
	}
	select {
	case w.asking <- struct{}{}:
		defer func() { <-w.asking }()
	case <-ctx.Done():
		return viewlet.Watch{}, ctx.Err()
	}
	was, ok, err := w.known() // somebody else may have asked meanwhile
	if ok || err != nil {
		return was, err
	}
	until := time.Now().Add(c.guardTTL)
	is := was
	is.Token, err = c.watch(ctx, name)
	if err == nil && is.Token != was.Token {
		is.From, err = look(ctx)
	}
	w.note(is, until, err)
	if err != nil {
		return viewlet.Watch{}, fmt.Errorf("watch %s: %w", name, err)
	}
	return is, nil
}

// watch leaves the viewlet's watch in Redis, or prolongs it, and gives its token.
func (c *Cache) watch(ctx context.Context, name string) (token string, err error) {
	err = c.exchange(ctx, func(ctx context.Context) (err error) {
		token, err = c.scripts.watch.Run(ctx, c.rdb, []string{c.names.watch(name)}, rand.Text(), (2 * c.guardTTL).Milliseconds()).Text()
		return err
	})
	return token, err
}
