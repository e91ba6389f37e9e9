package viewlet

import (
	"log/slog"
	"math"
	"testing"
	"time"
)

// repeating is a Matcher for which every change makes the same two fragments stale.
type repeating struct{ refreshes []Refresh }

func (r repeating) Match(dst []Refresh, _ *Change) ([]Refresh, error) {
	return append(dst, r.refreshes...), nil
}

func (r repeating) ParseMessage(dst []Refresh, _ []byte) ([]Refresh, error) { return dst, nil }

// repeats gives a pipeline that does not run, and what delivers one more
// transaction of the same refreshes to it.
func repeats() (p *Pipeline, transaction func() error) {
	teaser := func(id string) Refresh { return Refresh{Key: NewKey("teaser", id)} }
	p = New(Config{
		Lanes: []Lane{{Viewlet: "teaser"}}, Match: repeating{[]Refresh{teaser("41"), teaser("42")}}, Log: slog.New(slog.DiscardHandler),
		Backoff: func() func() time.Duration { return func() time.Duration { return 0 } },
	})
	end, change := LSN(0), &Change{Op: Update, Rel: &Relation{Schema: "public", Name: "products"}}
	return p, func() error {
		end += 8
		p.Begin(Tx{XID: uint32(end), FinalLSN: end})
		for range 10 {
			if err := p.Change(change); err != nil {
				return err
			}
		}
		return p.Commit(end + 1)
	}
}

// TestRepeatAllocatesNothing delivers what is in the lane already.
func TestRepeatAllocatesNothing(t *testing.T) {
	p, transaction := repeats()
	run := func() {
		if err := transaction(); err != nil {
			t.Fatal(err)
		}
	}
	run() // takes room for what is kept
	if n := testing.AllocsPerRun(1000, run); n != 0 {
		t.Errorf("a transaction of repeats makes %v allocations", n)
	}
	if depth, _, _ := p.lanes["teaser"].pending.status(); depth != 2 {
		t.Errorf("%d refreshes wait, want 2", depth)
	}
}

// BenchmarkCoalesce delivers transactions of ten changes that say the same.
func BenchmarkCoalesce(b *testing.B) {
	p, transaction := repeats()
	b.ReportAllocs()
	for b.Loop() {
		if err := transaction(); err != nil {
			b.Fatal(err)
		}
		p.visible.settle(Snapshot{Xmin: 1 << 40, Xmax: 1 << 40, LSN: math.MaxUint64})
	}
	b.ReportMetric(float64(10*b.N)/b.Elapsed().Seconds(), "changes/s")
}
