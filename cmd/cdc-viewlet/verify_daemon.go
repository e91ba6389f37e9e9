package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// behindDaemon waits for the daemon, which may be another process, or none.
type behindDaemon struct {
	log    *slog.Logger
	redis  *cache.Cache
	slot   replication.Config
	limit  time.Duration
	gaveUp bool
}

// restart is how long nobody may stream the slot before that is taken for the
// way it is.
const restart = 3 * time.Second

// pass returns when everything that was committed before lsn is in Redis; or
// when there is no use in waiting, which it says once. It is for one goroutine
// at a time.
func (b *behindDaemon) pass(ctx context.Context, lsn viewlet.LSN) error {
	const soonest, latest = 5 * time.Millisecond, 200 * time.Millisecond
	began, streamed := time.Now(), time.Now()
	for pause, asked := soonest, began; ; pause = min(2*pause, latest) {
		reached, err := b.redis.Reached(ctx)
		if err != nil || reached >= lsn || b.gaveUp {
			return err
		}
		if time.Since(asked) > time.Second {
			slot, err := replication.SlotStatus(ctx, b.slot)
			if err != nil {
				return err
			}
			if asked = time.Now(); slot.Active {
				streamed = asked
			}
		}
		switch {
		case time.Since(streamed) > restart:
			b.log.Warn("no daemon streams the slot, so what it has not seen counts as different", "slot", b.slot.Slot, "fresh_as_of", reached)
			b.gaveUp = true
		case time.Since(began) > b.limit:
			b.log.Warn("the daemon lags, so what it has not rendered yet counts as different", "fresh_as_of", reached, "waited", b.limit)
			b.gaveUp = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
