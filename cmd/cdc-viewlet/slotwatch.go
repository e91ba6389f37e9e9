package main

import (
	"context"
	"math"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/web"
)

// watchSlot tells the metrics what Postgres keeps for the slot, and the log
// before that becomes too much. It looks whether a session runs or not: a slot is
// lost while nothing is confirmed.
func (d *daemon) watchSlot(ctx context.Context) {
	const often = 5 * time.Second
	tick := time.NewTicker(often)
	defer tick.Stop()
	var rate walRate
	for said := 0; ; {
		if slot, err := d.slotStatus(ctx); err == nil {
			rate.note(slot.CurrentWAL, time.Now())
			last := rate.lasts(slot.SafeWALSize)
			d.mu.Lock()
			d.slot = web.Slot{Retained: slot.Retained, Limited: slot.Limited, Safe: slot.SafeWALSize, ToLimit: last}
			d.mu.Unlock()
			danger := dangerOf(slot)
			if danger > said {
				d.app.log.Warn("the slot keeps much WAL, and is lost when it reaches max_slot_wal_keep_size", "slot", d.edition().cfg.Slot,
					"kept", size(slot.Retained), "to_go", size(max(0, slot.SafeWALSize)), "limit", slot.Limit, "wal_status", slot.WALStatus, "in", about(last))
			}
			said = danger
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *daemon) slotStatus(ctx context.Context) (replication.Slot, error) {
	const enough = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, enough)
	defer cancel()
	return replication.SlotStatus(ctx, d.edition().cfg)
}

// dangerOf is how often the way to the slot's limit has been halved: 0 as long as
// less than half of what it may keep is kept.
func dangerOf(slot replication.Slot) int {
	const lost = 10
	if !slot.Limited || slot.Lost() != "" {
		return 0
	}
	if slot.SafeWALSize <= 0 {
		return lost
	}
	all := float64(slot.Retained + slot.SafeWALSize)
	return min(lost, int(math.Log2(all/float64(slot.SafeWALSize))))
}

// about rounds a duration for people.
func about(d time.Duration) string {
	if d == math.MaxInt64 {
		return "unknown"
	}
	return d.Round(time.Second).String()
}

// walRate is how fast WAL is written, in bytes a second: the average over about
// the last minutes, in which the latest counts most.
type walRate struct {
	lsn    viewlet.LSN
	at     time.Time
	rate   float64
	primed bool // rate is known
}

func (r *walRate) note(lsn viewlet.LSN, at time.Time) {
	const memory = 2 * time.Minute
	took := at.Sub(r.at)
	switch {
	case r.at.IsZero() || lsn < r.lsn: // the first; or another server
		r.rate, r.primed = 0, false
	case took <= 0:
		return
	default:
		now, weight := float64(lsn-r.lsn)/took.Seconds(), 1.0
		if r.primed {
			weight = 1 - math.Exp(-took.Seconds()/memory.Seconds())
		}
		r.rate, r.primed = r.rate+weight*(now-r.rate), true
	}
	r.lsn, r.at = lsn, at
}

// lasts is how long so many bytes will do; math.MaxInt64: for ever, as far as is
// known.
func (r *walRate) lasts(bytes int64) time.Duration {
	if !r.primed || r.rate == 0 {
		return math.MaxInt64
	}
	seconds := float64(max(0, bytes)) / r.rate
	if seconds >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(seconds * float64(time.Second))
}
