package web_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/web"
)

// bundle is a Server on fakes of what is behind its seams.
type bundle struct {
	*web.Server
	rules    *rules
	cache    *memory
	renderer *renderer
	door     *door
	daemon   *daemon
	metrics  *web.Metrics
	log      *journal
}

func setup(t testing.TB, change ...func(*web.Config)) *bundle {
	t.Helper()
	b := &bundle{
		rules:    &rules{},
		cache:    &memory{bodies: map[viewlet.Key][]byte{}},
		renderer: &renderer{},
		door:     &door{},
		daemon:   &daemon{},
		metrics:  web.NewMetrics(),
		log:      &journal{},
	}
	c := web.Config{
		Rules: b.rules, Cache: b.cache, Renderer: b.renderer, Door: b.door, Daemon: b.daemon, Metrics: b.metrics,
		Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	for _, f := range change {
		f(&c)
	}
	b.Server = web.New(c)
	return b
}

// do asks the handler; headers are name, value, name, value...
func (b *bundle) do(ctx context.Context, method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, r)
	return w
}

func (b *bundle) get(t testing.TB, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return b.do(t.Context(), http.MethodGet, target, headers...)
}

// scrape gives the daemon's own lines of /metrics, without the runtime's.
func (b *bundle) scrape(t testing.TB) string {
	t.Helper()
	w := b.get(t, "/metrics")
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics: %d %s", w.Code, w.Body)
	}
	var own strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "cdc_viewlet_") {
			own.WriteString(line)
		}
	}
	return own.String()
}

func wantMetric(t testing.TB, b *bundle, line string) {
	t.Helper()
	if text := b.scrape(t); !strings.Contains("\n"+text, "\n"+line+"\n") {
		t.Errorf("/metrics lacks %q:\n%s", line, text)
	}
}

// rules are product_teaser(id int), teaser(id int, lang), note(text), feed()
// and menu().
type rules struct {
	err       error // of Validate
	validated atomic.Int32
}

func (*rules) Viewlet(name string) (web.Viewlet, error) {
	switch name {
	case "product_teaser":
		return web.Viewlet{Params: 1, ContentType: "text/html; charset=utf-8"}, nil
	case "note":
		return web.Viewlet{Params: 1, ContentType: "text/plain; charset=utf-8"}, nil
	case "teaser":
		return web.Viewlet{Params: 2, ContentType: "text/html; charset=utf-8"}, nil
	case "feed":
		return web.Viewlet{ContentType: "application/json"}, nil
	case "menu":
		return web.Viewlet{ContentType: "text/html; charset=utf-8"}, nil
	}
	return web.Viewlet{}, fmt.Errorf("find: %w", web.UnknownViewletError{Reason: fmt.Sprintf("no viewlet %q; did you mean note?", name)})
}

func (r *rules) Validate(_ context.Context, name string, args []string) (viewlet.Key, error) {
	r.validated.Add(1)
	if r.err != nil {
		return viewlet.Key{}, r.err
	}
	args = append([]string(nil), args...)
	if strings.HasSuffix(name, "teaser") {
		n, err := strconv.ParseInt(args[0], 10, 32)
		if err != nil {
			return viewlet.Key{}, web.ArgumentError{Reason: fmt.Sprintf("id of %s: %q is not an integer", name, args[0])}
		}
		args[0] = strconv.FormatInt(n, 10)
	}
	return viewlet.NewKey(name, args...), nil
}

// memory is a cache in memory.
type memory struct {
	mu     sync.Mutex
	bodies map[viewlet.Key][]byte
	err    error
	calls  int
	hang   bool // until ctx ends
}

func (c *memory) Get(ctx context.Context, key viewlet.Key) ([]byte, bool, error) {
	if err := c.enter(ctx); err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	body, found := c.bodies[key]
	return body, found, nil
}

func (c *memory) Fill(ctx context.Context, f viewlet.Fragment) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies[f.Key] = f.Body
	return nil
}

func (c *memory) enter(ctx context.Context) error {
	c.mu.Lock()
	c.calls++
	err, hang := c.err, c.hang
	c.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (c *memory) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *memory) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.bodies)
}

// renderer renders a key as its arguments in brackets, unless told otherwise.
type renderer struct {
	calls  atomic.Int32
	render func(context.Context, viewlet.Key) (viewlet.Fragment, error)
}

func (r *renderer) Render(ctx context.Context, key viewlet.Key) (viewlet.Fragment, error) {
	r.calls.Add(1)
	if r.render != nil {
		return r.render(ctx, key)
	}
	args, err := key.Split(nil)
	return viewlet.Fragment{Key: key, Body: fmt.Appendf(nil, "%q", args)}, err
}

// door keeps what comes in. What waits gets an answer from done.
type door struct {
	mu   sync.Mutex
	came []viewlet.Refresh
	err  error
	done chan error
}

func (d *door) Refresh(ctx context.Context, r viewlet.Refresh) (<-chan error, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, d.err
	}
	d.came = append(d.came, r)
	return d.done, nil
}

type daemon struct{ now atomic.Pointer[web.Status] }

func (d *daemon) Status() web.Status {
	if st := d.now.Load(); st != nil {
		return *st
	}
	return web.Status{}
}

// journal is a log that can be read while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

var errDown = errors.New("connection refused")
