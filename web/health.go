package web

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Daemon tells how the daemon does.
type Daemon interface {
	// Status is called for every scrape and every probe, by many goroutines. It
	// asks no server and does not block.
	Status() Status
}

// State is what the daemon is at. The zero State is Starting.
type State string

// The states. A daemon that has lost its connection is Starting again.
const (
	Starting  State = "starting"  // connecting
	Standby   State = "standby"   // another holds the slot
	Warming   State = "warming"   // streaming, and not everything is rendered yet
	Streaming State = "streaming" // streaming and warm: ready
	Stopping  State = "stopping"  // finishing the passes under way
)

// Status is how the daemon does at one moment.
type Status struct {
	State State
	// Reason is one line for people on why the State is not Streaming, without
	// secrets; empty where the State says enough.
	Reason string

	// Since the daemon started.
	Changes      uint64 // received of committed transactions
	Transactions uint64 // received whole
	Reconnects   uint64 // connections lost and made again

	Received  viewlet.LSN // behind the last commit received
	Confirmed viewlet.LSN // everything before is in the cache, and Postgres has been told
	ServerEnd viewlet.LSN // the server's WAL end, as its last message said
	// Oldest is the commit time of the oldest transaction that is not confirmed;
	// zero: there is none.
	Oldest time.Time

	Slot  Slot
	Lanes []Lane // one for each viewlet in force
	// RendersFromStandby is whether queries run on the standby of render_url now.
	RendersFromStandby bool
}

// Slot is what Postgres keeps for us, and how long it will, as it was when it was
// last asked. The zero Slot is not known.
type Slot struct {
	Retained int64 // bytes of WAL that it keeps
	// ToLimit is how long the WAL that may yet be written will last, at the rate
	// of the last minutes, if nothing is confirmed; math.MaxInt64: for ever.
	ToLimit time.Duration
	Limited bool  // there is a limit, max_slot_wal_keep_size
	Safe    int64 // bytes that may yet be written before the slot is lost; only when Limited
}

// safeBytes is how much may yet be written before the slot is lost.
func (s Slot) safeBytes() float64 {
	if !s.Limited {
		return math.Inf(1)
	}
	return float64(s.Safe)
}

// secondsToLimit is when the slot is lost at the earliest.
func (s Slot) secondsToLimit() float64 {
	if !s.Limited || s.ToLimit == math.MaxInt64 {
		return math.Inf(1)
	}
	return s.ToLimit.Seconds()
}

// Lane is how one viewlet's lane does.
type Lane struct {
	Viewlet string
	Depth   int  // refreshes that wait for a pass or are in one
	Broken  bool // the viewlet itself cannot be rendered
	Failed  int  // fragments that could not be rendered when last tried
}

// lagBytes is how much WAL Postgres keeps for us.
func (st Status) lagBytes() float64 {
	if st.ServerEnd <= st.Confirmed {
		return 0
	}
	return float64(st.ServerEnd - st.Confirmed)
}

// lagSeconds is the age of the oldest commit that is not confirmed. Postgres's
// clock may be ahead of ours.
func (st Status) lagSeconds() float64 {
	if st.Oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(st.Oldest).Seconds())
}

// upToDate is whether everything received is in the cache.
func (st Status) upToDate() bool {
	return st.State == Streaming && st.Confirmed >= st.Received && st.Oldest.IsZero()
}

// serveHealth answers GET /healthz: the process lives.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	answer(w, r, http.StatusOK, "ok", struct {
		OK bool `json:"ok"`
	}{true})
}

// serveReady answers GET /readyz: 200 once what is in the cache can be relied
// on. What cannot be rendered is named, and makes the rest no less ready.
func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	st := s.daemon.Status()
	if st.State == "" {
		st.State = Starting
	}
	report := struct {
		Ready  bool   `json:"ready"`
		State  State  `json:"state"`
		Reason string `json:"reason,omitempty"`

		Broken []string `json:"broken,omitempty"`
		Failed int      `json:"failed,omitempty"`
	}{Ready: st.State == Streaming, State: st.State, Reason: oneLine(st.Reason)}
	for _, l := range st.Lanes {
		if report.Failed += l.Failed; l.Broken {
			report.Broken = append(report.Broken, l.Viewlet)
		}
	}
	if report.Ready {
		text := "ready"
		if len(report.Broken) > 0 {
			text += "; broken: " + strings.Join(report.Broken, ", ")
		}
		if report.Failed > 0 {
			text += fmt.Sprintf("; failed fragments: %d", report.Failed)
		}
		answer(w, r, http.StatusOK, text, report)
		return
	}
	text := string(st.State)
	if report.Reason != "" {
		text += ": " + report.Reason
	}
	answer(w, r, http.StatusServiceUnavailable, text, report)
}
