package web

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Metrics counts what passes do. It is made by NewMetrics, and good for as many
// goroutines as there are lanes.
type Metrics struct {
	refreshes     *prometheus.CounterVec
	renders       *prometheus.CounterVec
	writes        *prometheus.CounterVec
	failures      *prometheus.CounterVec
	passes        *prometheus.SummaryVec
	commitToCache *prometheus.HistogramVec
	gaps          *prometheus.CounterVec

	verified *prometheus.CounterVec
	drift    *prometheus.CounterVec

	reads     *prometheus.CounterVec
	visits    *prometheus.CounterVec // renders for visitors
	responses *prometheus.CounterVec
}

// NewMetrics makes Metrics that have counted nothing.
func NewMetrics() *Metrics {
	return &Metrics{
		refreshes: counter("refreshes_total", "Refreshes served by passes, coalesced ones counted once.", "viewlet"),
		renders:   counter("renders_total", "Fragments rendered by passes.", "viewlet"),
		writes: counter("writes_total", "Fragments by what passes did to them: written, equal (the bytes were there), "+
			"deleted, absent (nothing to delete), refused (something newer was there), skipped (not kept).", "viewlet", "outcome"),
		failures: counter("failures_total", "Fragments that passes could not render by a fault of their own.", "viewlet"),
		// No quantiles and no buckets: two lines a viewlet.
		passes: prometheus.NewSummaryVec(prometheus.SummaryOpts{
			Name: "cdc_viewlet_pass_seconds", Help: "Duration of passes, from taking the refreshes to the last write.",
		}, []string{"viewlet"}),
		commitToCache: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "cdc_viewlet_commit_to_cache_seconds",
			Help:    "Time from the commit of the oldest change that a pass served until all of the pass was in the cache.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"viewlet"}),
		gaps:     counter("gaps_total", "Times that what is in the cache could not be taken up where it was left, so that everything was rendered afresh.", "reason"),
		verified: counter("verified_total", "Fragments compared with fresh renders in the background.", "viewlet"),
		drift: counter("drift_total", "Fragments that were found not to be as Postgres renders them: missing, different, orphaned. "+
			"Those that belong to no viewlet have an empty one.", "viewlet", "kind"),
		reads:     counter("http_reads_total", "Fragments asked for over HTTP by whether they were in the cache: hit, miss.", "viewlet", "outcome"),
		visits:    counter("http_renders_total", "Fragments rendered because they were asked for over HTTP and not in the cache.", "viewlet"),
		responses: counter("http_responses_total", "HTTP responses by status code; 499: the client left before.", "code"),
	}
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cdc_viewlet_" + name, Help: help}, labels)
}

// Observe counts a pass that has just ended. It never blocks, and may be called
// by many lanes at once.
func (m *Metrics) Observe(p viewlet.Pass) {
	m.refreshes.WithLabelValues(p.Viewlet).Add(float64(p.Refreshes))
	m.renders.WithLabelValues(p.Viewlet).Add(float64(p.Keys))
	m.failures.WithLabelValues(p.Viewlet).Add(float64(p.Failed))
	m.passes.WithLabelValues(p.Viewlet).Observe(p.Took.Seconds())
	if !p.Oldest.IsZero() {
		// Postgres's clock may be ahead of ours.
		m.commitToCache.WithLabelValues(p.Viewlet).Observe(max(0, time.Since(p.Oldest).Seconds()))
	}
	for _, w := range [...]struct {
		outcome string
		n       int
	}{
		{"written", p.Written},
		{"equal", p.Equal},
		{"deleted", p.Deleted},
		{"absent", p.Absent},
		{"refused", p.Refused},
		{"skipped", p.Skipped},
	} {
		if w.n > 0 { // with many viewlets, series that stay at zero cost every scrape
			m.writes.WithLabelValues(p.Viewlet, w.outcome).Add(float64(w.n))
		}
	}
}

// Gap counts that everything is rendered afresh, for a reason in one word. It
// never blocks.
func (m *Metrics) Gap(reason string) { m.gaps.WithLabelValues(reason).Inc() }

// Verified counts fragments of a viewlet that were compared with fresh renders.
// It is for any goroutine.
func (m *Metrics) Verified(name string, n int) { m.verified.WithLabelValues(name).Add(float64(n)) }

// Drifted counts a fragment that was found to be missing, different or orphaned,
// without it being on its way; name is empty if it belongs to no viewlet. It is
// for any goroutine.
func (m *Metrics) Drifted(name, kind string) { m.drift.WithLabelValues(name, kind).Inc() }

// own is what this package measures, without the Go runtime and the process.
func (m *Metrics) own(d Daemon) []prometheus.Collector {
	return []prometheus.Collector{
		m.refreshes, m.renders, m.writes, m.failures, m.passes, m.commitToCache, m.gaps, m.verified, m.drift,
		m.reads, m.visits, m.responses, newGauges(d),
	}
}

// handler serves the metrics and the daemon's Status.
func (m *Metrics) handler(d Daemon, log *slog.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.own(d)...)
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:  promhttp.ContinueOnError,
		CoalesceGather: true,
	})
}
