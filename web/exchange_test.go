package web_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/web"
)

// single is a cache with one connection, for which who asks it has to queue,
// and that sends what it held when it was asked.
type single struct {
	*memory
	turn  chan struct{} // holds one while the connection is in use
	takes time.Duration // each Get
	gets  atomic.Int32
}

func (c *single) Get(ctx context.Context, key viewlet.Key) ([]byte, bool, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	c.gets.Add(1)
	body, found, err := c.memory.Get(ctx, key)
	select {
	case <-time.After(c.takes):
		return body, found, err
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

func setupSingle(t *testing.T, takes time.Duration) (*bundle, *single) {
	t.Helper()
	c := &single{turn: make(chan struct{}, 1), takes: takes}
	b := setup(t, func(config *web.Config) {
		c.memory = config.Cache.(*memory)
		config.Cache = c
	})
	return b, c
}

// A thousand who each asked the cache themselves would queue for it longer than
// CacheTimeout, and be served without it.
func TestVisitorsAskTheCacheTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := setupSingle(t, 10*time.Millisecond)
		var served atomic.Int32
		var visitors sync.WaitGroup
		for range 1000 {
			visitors.Go(func() {
				if b.get(t, "/viewlet/product_teaser/42").Code == http.StatusOK {
					served.Add(1)
				}
			})
		}
		visitors.Wait()
		if n := b.renderer.calls.Load(); n != 1 || served.Load() != 1000 {
			t.Errorf("rendered %d times, served %d; want 1 and 1000", n, served.Load())
		}
		// The first visitor's, that of those who came during it, and the flight's.
		if n := c.gets.Load(); n > 3 {
			t.Errorf("the cache was asked %d times", n)
		}
		if got := b.log.String(); got != "" {
			t.Errorf("logged:\n%s", got)
		}
	})
}

// What was asked for before a visitor came may be older than what that visitor
// has seen elsewhere.
func TestVisitorGetsNothingAskedForEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := setupSingle(t, 100*time.Millisecond)
		key := viewlet.NewKey("menu")
		put := func(body string) {
			if err := c.Fill(t.Context(), viewlet.Fragment{Key: key, Body: []byte(body)}); err != nil {
				t.Error(err)
			}
		}
		ask := func(want string) <-chan string {
			got := make(chan string, 1)
			go func() {
				body := b.get(t, "/viewlet/menu").Body.String()
				if body != want {
					t.Errorf("got %q, want %q", body, want)
				}
				got <- body
			}()
			synctest.Wait() // it waits for the cache
			return got
		}
		put("old")
		first := ask("old")
		put("new")
		second := ask("new")
		<-first
		synctest.Wait() // the second has asked
		put("newest")
		third := ask("newest")
		<-second
		<-third
		if n := c.gets.Load(); n != 3 {
			t.Errorf("the cache was asked %d times, want 3", n)
		}
	})
}

// The first visitor, for whom the cache is asked, may leave; who came later stays.
func TestVisitorWhoLeavesTakesNoCacheReadAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := setupSingle(t, 100*time.Millisecond)
		c.bodies[viewlet.NewKey("menu")] = []byte("menu")
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan int, 1)
		go func() { left <- b.do(ctx, http.MethodGet, "/viewlet/menu").Code }()
		synctest.Wait() // the cache is asked
		stayed := make(chan string, 1)
		go func() { stayed <- b.get(t, "/viewlet/menu").Body.String() }()
		synctest.Wait() // it waits for the next time
		leave()
		if code := <-left; code != 499 {
			t.Errorf("the visitor who left got %d", code)
		}
		if got := <-stayed; got != "menu" || b.renderer.calls.Load() != 0 || b.log.String() != "" {
			t.Errorf("the visitor who stayed got %q after %d renders, log %q", got, b.renderer.calls.Load(), b.log)
		}
	})
}
