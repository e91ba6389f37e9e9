package web_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/web"
)

// hold makes every render wait until the channel is closed, or its ctx ends.
func hold(b *bundle) (release chan struct{}) {
	release = make(chan struct{})
	b.renderer.render = func(ctx context.Context, key viewlet.Key) (viewlet.Fragment, error) {
		select {
		case <-release:
			return viewlet.Fragment{Key: key, Body: []byte("done")}, nil
		case <-ctx.Done():
			return viewlet.Fragment{}, ctx.Err()
		}
	}
	return release
}

// stubborn renders when released, whatever its ctx says.
func stubborn(release <-chan struct{}) func(context.Context, viewlet.Key) (viewlet.Fragment, error) {
	return func(_ context.Context, key viewlet.Key) (viewlet.Fragment, error) {
		<-release
		return viewlet.Fragment{Key: key}, nil
	}
}

func TestThousandMissesAtOnceRenderOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		release := hold(b)
		var served atomic.Int32
		var visitors sync.WaitGroup
		for i := range 1000 {
			visitors.Go(func() {
				// Half of them write the argument in another way.
				path := "/viewlet/product_teaser/" + strings.Repeat("0", i%2) + "42"
				if w := b.get(t, path); w.Code == http.StatusOK && w.Body.String() == "done" {
					served.Add(1)
				}
			})
		}
		synctest.Wait()
		close(release)
		visitors.Wait()
		if n := b.renderer.calls.Load(); n != 1 || served.Load() != 1000 {
			t.Errorf("rendered %d times, served %d; want 1 and 1000", n, served.Load())
		}
	})
}

func TestStragglersFindTheCacheFilled(t *testing.T) {
	b := setup(t)
	var visitors sync.WaitGroup
	for range 1000 {
		visitors.Go(func() { b.get(t, "/viewlet/product_teaser/42") })
	}
	visitors.Wait()
	if n := b.renderer.calls.Load(); n != 1 {
		t.Errorf("rendered %d times, want once", n)
	}
}

func TestVisitorWhoLeavesCancelsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		release := hold(b)
		ctx, leave := context.WithCancel(t.Context())
		first := make(chan int, 1)
		go func() { first <- b.do(ctx, http.MethodGet, "/viewlet/product_teaser/42").Code }()
		synctest.Wait() // the first visitor's flight is under way
		second := make(chan string, 1)
		go func() { second <- b.get(t, "/viewlet/product_teaser/42").Body.String() }()
		synctest.Wait()
		leave()
		if code := <-first; code != 499 {
			t.Errorf("the visitor who left got %d", code)
		}
		close(release)
		if got := <-second; got != "done" || b.renderer.calls.Load() != 1 {
			t.Errorf("the visitor who stayed got %q after %d renders", got, b.renderer.calls.Load())
		}
		if got := b.log.String(); got != "" {
			t.Errorf("a visitor who leaves is no news:\n%s", got)
		}
	})
}

func TestVisitorLeavesDuringTheCacheRead(t *testing.T) {
	b := setup(t)
	b.cache.hang = true
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if w := b.do(ctx, http.MethodGet, "/viewlet/product_teaser/42"); w.Code != 499 || b.log.String() != "" || b.rules.validated.Load() != 0 {
		t.Errorf("%d, validated %d times, log %q", w.Code, b.rules.validated.Load(), b.log)
	}
}

func TestRenderIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(c *web.Config) { c.RenderTimeout = 3 * time.Second })
		hold(b) // and never release
		start := time.Now()
		w := b.get(t, "/viewlet/product_teaser/42")
		if took := time.Since(start); w.Code != http.StatusServiceUnavailable || took != 3*time.Second {
			t.Errorf("%d after %s", w.Code, took)
		}
	})
}

func TestHangingRedisDelaysLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.cache.hang = true
		start := time.Now()
		w := b.get(t, "/viewlet/product_teaser/42")
		if took := time.Since(start); w.Code != http.StatusOK || took != time.Second {
			t.Errorf("%d after %s", w.Code, took)
		}
	})
}

func TestFewRendersAtOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(c *web.Config) { c.Renders = 3 })
		release := hold(b)
		var served atomic.Int32
		var visitors sync.WaitGroup
		for i := range 50 {
			visitors.Go(func() {
				if b.get(t, fmt.Sprint("/viewlet/product_teaser/", i)).Code == http.StatusOK {
					served.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := b.renderer.calls.Load(); n != 3 {
			t.Errorf("%d renders at one time, want 3", n)
		}
		close(release)
		visitors.Wait()
		if n := served.Load(); n != 50 {
			t.Errorf("served %d of 50", n)
		}
	})
}

func TestFillFailsUnseen(t *testing.T) {
	b := setup(t)
	b.renderer.render = func(_ context.Context, key viewlet.Key) (viewlet.Fragment, error) {
		b.cache.fail(errDown) // between the read and the fill
		return viewlet.Fragment{Key: key, Body: []byte("Oak")}, nil
	}
	w := b.get(t, "/viewlet/product_teaser/42")
	if w.Code != http.StatusOK || w.Body.String() != "Oak" || !strings.Contains(b.log.String(), "cache cannot be filled") {
		t.Errorf("%d %q, log %q", w.Code, w.Body, b.log)
	}
}

func TestLogIsSparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.cache.fail(errDown)
		for range 100 {
			b.get(t, "/viewlet/menu")
		}
		<-time.After(10 * time.Second)
		b.get(t, "/viewlet/menu")
		lines := strings.Split(strings.TrimSpace(b.log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[1], "more=99") {
			t.Errorf("want two lines, the second with more=99:\n%s", b.log)
		}
	})
}
