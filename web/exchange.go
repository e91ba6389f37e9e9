package web

import (
	"context"
	"sync"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// exchanges asks the cache for the visitors. While it is asked for a key, those
// who come for the same key wait together for the next time, so that a rush on
// one fragment does not queue for Redis. What they get was asked for after they
// came: to join what is under way could give them something older than they
// have seen.
type exchanges struct {
	cache   Cache
	timeout time.Duration // of one exchange

	mu       sync.Mutex
	next     map[viewlet.Key]*exchange // an entry while the key is asked for; nil while nobody waits
	underway sync.WaitGroup
}

// exchange is one Get; body, found and err may be read once done is closed.
type exchange struct {
	done  chan struct{}
	body  []byte
	found bool
	err   error
}

func newExchanges(cache Cache, timeout time.Duration) *exchanges {
	return &exchanges{cache: cache, timeout: timeout, next: map[viewlet.Key]*exchange{}}
}

// get is Cache.Get, which goes on when the visitor's ctx ends. The body is not
// the caller's own.
func (x *exchanges) get(ctx context.Context, key viewlet.Key) (body []byte, found bool, err error) {
	e := x.join(ctx, key)
	select {
	case <-e.done:
		return e.body, e.found, e.err
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// join gives the exchange that is sent next, and sees to it that it is sent.
func (x *exchanges) join(ctx context.Context, key viewlet.Key) *exchange {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, asking := x.next[key]
	if e == nil {
		e = &exchange{done: make(chan struct{})}
		x.next[key] = e
	}
	if !asking {
		x.underway.Go(func() { x.ask(context.WithoutCancel(ctx), key) })
	}
	return e
}

// ask sends one exchange after the other until nobody waits for a further one.
func (x *exchanges) ask(ctx context.Context, key viewlet.Key) {
	for e := x.take(key); e != nil; e = x.take(key) {
		short, cancel := context.WithTimeout(ctx, x.timeout)
		e.body, e.found, e.err = x.cache.Get(short, key)
		cancel()
		close(e.done)
	}
}

// take gives the exchange that is waited for: who comes now is too late for it.
func (x *exchanges) take(key viewlet.Key) *exchange {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.next[key]
	if e == nil {
		delete(x.next, key)
	} else {
		x.next[key] = nil
	}
	return e
}
