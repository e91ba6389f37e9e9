package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config is what a Server works with. The zero value of a duration or number
// means its default; Rules, Cache, Renderer, Door and Daemon must be there.
type Config struct {
	Rules    Rules
	Cache    Cache
	Renderer Renderer
	Door     Door
	Daemon   Daemon
	// Metrics is what the pipeline's passes are counted in; nil: a new one.
	Metrics *Metrics
	// Log takes what a human must know; nil: slog.Default().
	Log *slog.Logger
	// RenderTimeout bounds what a visitor waits for the validation, and again
	// for the rendering, of a fragment that is not in the cache; 10 s by default.
	RenderTimeout time.Duration
	// CacheTimeout bounds one call of the cache; 1 s by default. A visitor who
	// got no answer is served without the cache. Who comes while another one's
	// call is under way waits for that one's end, too.
	CacheTimeout time.Duration
	// WaitTimeout bounds POST /refresh?wait=1; 60 s by default.
	WaitTimeout time.Duration
	// Renders is how many fragments are rendered for visitors at one time, so
	// that they leave connections to the lanes; 4 by default. Others wait.
	Renders int
}

// Server answers HTTP requests. It is made by New.
type Server struct {
	rules   Rules
	reader  *reader
	door    Door
	daemon  Daemon
	metrics http.Handler
	handler http.Handler
	log     *slog.Logger

	renderTimeout time.Duration
	waitTimeout   time.Duration
	stopping      chan struct{} // closed when Run's ctx ends
	unserved      sparingly
	unrefreshed   sparingly
}

// New makes a Server; nothing listens until Run.
func New(c Config) *Server {
	c = c.withDefaults()
	s := &Server{
		rules:         c.Rules,
		reader:        newReader(c),
		door:          c.Door,
		daemon:        c.Daemon,
		metrics:       c.Metrics.handler(c.Daemon, c.Log),
		log:           c.Log,
		renderTimeout: c.RenderTimeout,
		waitTimeout:   c.WaitTimeout,
		stopping:      make(chan struct{}),
	}
	// Without this, any page in a browser that can reach us could POST.
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail(w, r, http.StatusForbidden, "this is another site's browser request")
	}))
	s.handler = promhttp.InstrumentHandlerCounter(c.Metrics.responses, nosniff(own.Handler(http.HandlerFunc(s.route))))
	return s
}

func (c Config) withDefaults() Config {
	if c.Metrics == nil {
		c.Metrics = NewMetrics()
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.RenderTimeout == 0 {
		c.RenderTimeout = 10 * time.Second
	}
	if c.CacheTimeout == 0 {
		c.CacheTimeout = time.Second
	}
	if c.WaitTimeout == 0 {
		c.WaitTimeout = time.Minute
	}
	if c.Renders == 0 {
		c.Renders = 4
	}
	return c
}

// Handler gives the whole site, for a server of one's own or a test.
func (s *Server) Handler() http.Handler { return s.handler }

// Run serves on ln, which it closes, until ctx ends; then it answers the
// requests under way, for as long as a render may take, and returns nil. It is
// called once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      2*s.renderTimeout + s.waitTimeout + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	close(s.stopping)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*s.renderTimeout+time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		return errors.Join(fmt.Errorf("stop serving HTTP on %s: %w", ln.Addr(), err), srv.Close())
	}
	// What is rendered, and asked, for visitors who have left.
	s.reader.flights.Wait()
	s.reader.asked.underway.Wait()
	return nil
}

// route does what http.ServeMux would, but leaves empty segments, dots and
// encoded slashes alone: they are arguments.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	head, rest, more := strings.Cut(strings.TrimPrefix(escapedPath(r.URL), "/"), "/")
	switch {
	case head == "viewlet" && more:
		s.serveFragment(w, r, rest)
	case head == "refresh" && more:
		s.serveRefresh(w, r, rest)
	case head == "healthz" && !more:
		s.serveHealth(w, r)
	case head == "readyz" && !more:
		s.serveReady(w, r)
	case head == "metrics" && !more:
		s.serveMetrics(w, r)
	default:
		fail(w, r, http.StatusNotFound, "no such page; there are /viewlet/NAME/ARGS, /refresh/NAME/ARGS, /healthz, /readyz and /metrics")
	}
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if allow(w, r, http.MethodGet, http.MethodHead) {
		s.metrics.ServeHTTP(w, r)
	}
}

// nosniff keeps browsers from taking a fragment for another type than its own.
func nosniff(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	}
}
