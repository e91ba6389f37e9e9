package web_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/web"
)

// pipes is a net.Listener whose connections are net.Pipes, so that synctest
// sees who waits for whom.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "pipe"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// run serves b within a synctest bubble. stop ends Run's ctx; done gets its error.
func run(t *testing.T, b *bundle) (client *http.Client, stop context.CancelFunc, done <-chan error) {
	t.Helper()
	ln := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, ln) }()
	return &http.Client{Transport: &http.Transport{DialContext: ln.dial, DisableKeepAlives: true}}, stop, ended
}

type reply struct {
	status int
	body   string
	err    error
}

// ask asks in the background.
func ask(ctx context.Context, client *http.Client, method, path string) <-chan reply {
	replies := make(chan reply, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, method, "http://shop"+path, nil)
		if err != nil {
			replies <- reply{err: err}
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			replies <- reply{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		replies <- reply{resp.StatusCode, string(body), err}
	}()
	return replies
}

func TestRunAnswersWhatIsUnderWayThenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		release := hold(b)
		client, stop, done := run(t, b)
		visitor := ask(t.Context(), client, http.MethodGet, "/viewlet/product_teaser/42")
		synctest.Wait()
		stop()
		synctest.Wait()
		if len(done) != 0 {
			t.Fatalf("Run ended before the visitor was served: %v", <-done)
		}
		if late := <-ask(t.Context(), client, http.MethodGet, "/healthz"); late.err == nil {
			t.Errorf("a visitor who comes after the end got %+v", late)
		}
		close(release)
		if got := <-visitor; got != (reply{http.StatusOK, "done", nil}) {
			t.Errorf("the visitor under way got %+v", got)
		}
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRunWaitsForFlightsThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		release := hold(b)
		client, stop, done := run(t, b)
		ctx, leave := context.WithCancel(t.Context())
		visitor := ask(ctx, client, http.MethodGet, "/viewlet/product_teaser/42")
		synctest.Wait()
		leave()
		if got := <-visitor; got.err == nil {
			t.Fatalf("the visitor who left got %+v", got)
		}
		stop()
		<-time.After(time.Second) // http.Server.Shutdown polls
		if len(done) != 0 {
			t.Fatalf("Run ended before the flight: %v", <-done)
		}
		close(release)
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if b.cache.len() != 1 {
			t.Error("the cache is not filled")
		}
	})
}

func TestRunEndsWhileSomeoneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.door.done = make(chan error) // for ever
		client, stop, done := run(t, b)
		start := time.Now()
		waiter := ask(t.Context(), client, http.MethodPost, "/refresh/menu?wait=1")
		synctest.Wait()
		stop()
		if got := <-waiter; got.status != http.StatusAccepted {
			t.Errorf("who waited got %+v", got)
		}
		if err := <-done; err != nil || time.Since(start) > 5*time.Second {
			t.Errorf("Run: %v after %s", err, time.Since(start))
		}
	})
}

func TestRunLeavesAStuckVisitorBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(c *web.Config) { c.RenderTimeout = time.Second })
		client, stop, done := run(t, b)
		stuck := make(chan struct{})
		b.renderer.render = stubborn(stuck)
		ask(t.Context(), client, http.MethodGet, "/viewlet/product_teaser/42")
		synctest.Wait()
		start := time.Now()
		stop()
		if err := <-done; err == nil || time.Since(start) != 3*time.Second {
			t.Errorf("Run: %v after %s, want an error after twice the render's second and one more", err, time.Since(start))
		}
		close(stuck)
	})
}

func TestRunServesRealConnections(t *testing.T) {
	b := setup(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, ln) }()
	resp, err := http.Get("http://" + ln.Addr().String() + "/viewlet/product_teaser/42")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != `["42"]` {
		t.Errorf("%q, %v", body, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestRunTellsWhyItCannotServe(t *testing.T) {
	b := setup(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := b.Run(t.Context(), ln); err == nil {
		t.Error("serves on a closed listener")
	}
}
