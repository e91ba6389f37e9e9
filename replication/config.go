package replication

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Config says which slot of which server to stream, and how.
type Config struct {
	// URL is a connection string as libpq takes it, to Postgres itself and not
	// to a pooler. Empty: the PG* environment variables alone.
	URL string
	// Slot is the replication slot, of lower-case letters, digits and
	// underscores. Empty: cdc_viewlet.
	Slot string
	// Publication is the publication. Empty: cdc_viewlet.
	Publication string
	// StatusInterval is the longest time without a status update. It is cut to
	// a third of the server's wal_sender_timeout. Zero: 10 s.
	StatusInterval time.Duration
	// Renew is why Setup is to drop the slot and to make it anew though it is not
	// lost, such as ErrUnpublished. Empty: it is not.
	Renew string
	// OnStandby is called once by an Open that finds the slot in use by the
	// server process pid, and waits for it. Nil: nobody asks.
	OnStandby func(pid int)
	// Log takes the life cycle. Nil: nowhere.
	Log *slog.Logger
}

// maxName is NAMEDATALEN-1: the longest name of anything in Postgres, in bytes.
const maxName = 63

// resolved puts in the defaults and checks the rest.
func (c Config) resolved() (Config, error) {
	if c.Slot == "" {
		c.Slot = "cdc_viewlet"
	}
	if c.Publication == "" {
		c.Publication = "cdc_viewlet"
	}
	if c.StatusInterval <= 0 {
		c.StatusInterval = 10 * time.Second
	}
	if c.OnStandby == nil {
		c.OnStandby = func(int) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	// https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION-SLOTS-MANIPULATION
	if len(c.Slot) > maxName || strings.Trim(c.Slot, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return c, fmt.Errorf("slot %q: a name is up to %d lower-case letters, digits and underscores", c.Slot, maxName)
	}
	if !nameable(c.Publication) {
		return c, fmt.Errorf("publication %q: a name is up to %d bytes, none of them zero", c.Publication, maxName)
	}
	return c, nil
}

// nameable reports whether something in Postgres can have that name.
func nameable(name string) bool {
	return name != "" && len(name) <= maxName && strings.IndexByte(name, 0) < 0
}
