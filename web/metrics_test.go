package web_test

import (
	"flag"
	"fmt"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/web"
)

var update = flag.Bool("update", false, "write the golden files anew")

// everything puts something in every metric.
func everything(t *testing.T) *bundle {
	b := setup(t)
	b.get(t, "/viewlet/menu")
	b.get(t, "/viewlet/menu")
	b.get(t, "/viewlet/nix")
	b.metrics.Observe(viewlet.Pass{
		Viewlet: "product_teaser", Refreshes: 5, Keys: 22, Written: 7, Equal: 5, Deleted: 4, Absent: 3, Refused: 2, Skipped: 1, Failed: 1,
		Oldest: time.Now().Add(-3 * time.Millisecond), Took: 2 * time.Millisecond,
	})
	b.metrics.Observe(viewlet.Pass{Viewlet: "product_teaser", Refreshes: 1, Keys: 1, Equal: 1, Oldest: time.Now().Add(time.Hour), Took: time.Millisecond})
	b.metrics.Observe(viewlet.Pass{Viewlet: "menu", Refreshes: 1, Keys: 1, Written: 1, Took: time.Second, Whole: true})
	b.metrics.Gap("slot_new")
	b.metrics.Verified("product_teaser", 50)
	b.metrics.Drifted("product_teaser", "different")
	b.metrics.Drifted("", "orphaned")
	b.daemon.now.Store(&web.Status{
		State: web.Streaming, Changes: 1200, Transactions: 40, Reconnects: 2,
		Received: 0x16B3748, Confirmed: 0x16B3000, ServerEnd: 0x16B3800, Oldest: time.Now().Add(-1500 * time.Millisecond),
		Slot:  web.Slot{Retained: 5 << 20, Limited: true, Safe: 3 << 20, ToLimit: 90 * time.Second},
		Lanes: []web.Lane{{Viewlet: "product_teaser", Depth: 12, Failed: 1}, {Viewlet: "menu", Broken: true}},
	})
	return b
}

func TestMetricsText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := everything(t).scrape(t)
		if *update {
			if err := os.WriteFile("testdata/metrics.txt", []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile("testdata/metrics.txt")
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("metrics differ from testdata/metrics.txt (go test -update writes it anew):\n%s", got)
		}
	})
}

func TestMetricsLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(everything(t).scrape(t))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestRuntimeMetricsAreThere(t *testing.T) {
	text := setup(t).get(t, "/metrics").Body.String()
	for _, name := range []string{"go_goroutines", "go_build_info", "process_open_fds"} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
}

func TestUpToDate(t *testing.T) {
	b := setup(t)
	for _, c := range []struct {
		status web.Status
		want   int
	}{
		{web.Status{}, 0},
		{web.Status{State: web.Streaming, Received: 10, Confirmed: 10}, 1},
		{web.Status{State: web.Streaming, Received: 10, Confirmed: 20}, 1},
		{web.Status{State: web.Streaming, Received: 10, Confirmed: 9}, 0},
		{web.Status{State: web.Streaming, Received: 10, Confirmed: 10, Oldest: time.Now()}, 0},
		{web.Status{State: web.Warming, Received: 10, Confirmed: 10}, 0},
	} {
		b.daemon.now.Store(&c.status)
		wantMetric(t, b, fmt.Sprint("cdc_viewlet_up_to_date ", c.want))
	}
}

func TestLagIsNeverNegative(t *testing.T) {
	b := setup(t)
	b.daemon.now.Store(&web.Status{Confirmed: 20, ServerEnd: 10, Oldest: time.Now().Add(time.Hour)})
	wantMetric(t, b, "cdc_viewlet_lag_bytes 0")
	wantMetric(t, b, "cdc_viewlet_lag_seconds 0")
}

// Without a limit, or while nothing is written, a slot is never lost.
func TestSlotWithoutLimit(t *testing.T) {
	b := setup(t)
	for _, slot := range []web.Slot{{}, {Retained: 5, ToLimit: time.Second}, {Limited: true, Safe: 5, ToLimit: math.MaxInt64}} {
		b.daemon.now.Store(&web.Status{Slot: slot})
		wantMetric(t, b, "cdc_viewlet_slot_seconds_to_limit +Inf")
	}
	wantMetric(t, b, "cdc_viewlet_slot_safe_bytes 5")
}

func TestRendersFromStandby(t *testing.T) {
	b := setup(t)
	for serves, want := range map[bool]string{true: "cdc_viewlet_renders_from_standby 1", false: "cdc_viewlet_renders_from_standby 0"} {
		b.daemon.now.Store(&web.Status{RendersFromStandby: serves})
		wantMetric(t, b, want)
	}
}

func TestUnknownNamesMakeNoSeries(t *testing.T) {
	b := setup(t)
	for i := range 100 {
		b.get(t, fmt.Sprint("/viewlet/nix", i, "/1"))
		b.get(t, fmt.Sprint("/nix", i))
	}
	if text := b.scrape(t); strings.Contains(text, "nix") || !strings.Contains(text, `responses_total{code="404"} 200`) {
		t.Errorf("visitors can make series:\n%s", text)
	}
}

// BenchmarkScrape is a scrape with 1,000 viewlets that have all had passes.
func BenchmarkScrape(b *testing.B) {
	s := setup(b)
	st := web.Status{State: web.Streaming}
	for i := range 1000 {
		name := fmt.Sprintf("viewlet_%04d", i)
		st.Lanes = append(st.Lanes, web.Lane{Viewlet: name})
		s.metrics.Observe(viewlet.Pass{Viewlet: name, Refreshes: 1, Keys: 2, Written: 1, Equal: 1, Oldest: time.Now(), Took: time.Millisecond})
	}
	s.daemon.now.Store(&st)
	for b.Loop() {
		if w := s.do(b.Context(), http.MethodGet, "/metrics", "Accept-Encoding", "gzip"); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	m, p := web.NewMetrics(), viewlet.Pass{Viewlet: "menu", Refreshes: 1, Keys: 2, Written: 1, Equal: 1, Oldest: time.Now(), Took: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(p)
	}
}

func BenchmarkHit(b *testing.B) {
	s := setup(b)
	s.cache.bodies[viewlet.NewKey("product_teaser", "42")] = make([]byte, 1000)
	for b.Loop() {
		s.do(b.Context(), http.MethodGet, "/viewlet/product_teaser/42")
	}
}
