package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "tell where the slot, Redis and each viewlet stand",
		Long: `Asks Postgres for the slot and Redis for what the daemon noted there. Exit code 1
if the slot is missing, lost or somebody else's, or something could not be
rendered.`,
		Example: "  cdc-viewlet status",
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

func (a *app) status(ctx context.Context) error {
	set, err := a.loadRules()
	if err != nil {
		return err
	}
	cfg, err := a.replicationConfig(set)
	if err != nil {
		return err
	}
	slot, err := replication.SlotStatus(ctx, cfg)
	if err != nil {
		return err
	}
	redis, err := a.readCache(ctx, set)
	if err != nil {
		return err
	}
	defer redis.Close()
	state, err := redis.State(ctx)
	if err != nil {
		return err
	}
	failed, err := readFailures(ctx, redis, "")
	if err != nil {
		return err
	}
	db, err := a.openDatabase(ctx, set)
	if err != nil {
		return err
	}
	defer db.Close()
	if set, err = a.inForce(ctx, set, db); err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	healthy := writeSlot(w, cfg, slot)
	writeRedis(w, redis, state)
	writeViewlets(w, set, state, failed, slot.Active)
	if err := w.Flush(); err != nil {
		return err
	}
	if !healthy || len(failed.first) > 0 {
		return errReported
	}
	return nil
}

func writeSlot(w io.Writer, cfg replication.Config, slot replication.Slot) bool {
	if !slot.Exists {
		fmt.Fprintf(w, "slot\t%s does not exist: `cdc-viewlet run` or `cdc-viewlet setup` makes it\n", cfg.Slot)
		return false
	}
	if p := slot.Foreign(cfg.Slot); p != nil {
		fmt.Fprintf(w, "slot\t%v\n", p)
		return false
	}
	streaming := "nobody streams it"
	if slot.Active {
		streaming = fmt.Sprintf("streaming, walsender pid %d", slot.ActivePID)
	}
	fmt.Fprintf(w, "slot\t%s, %s\n", cfg.Slot, streaming)
	fmt.Fprintf(w, "confirmed\t%v, %s behind %v\n", slot.ConfirmedFlush, bytesBetween(slot.ConfirmedFlush, slot.CurrentWAL), slot.CurrentWAL)
	limit := "without limit: set max_slot_wal_keep_size, or a daemon that is down fills the disk"
	if why := slot.Lost(); why != "" {
		limit = why + "; `cdc-viewlet run` makes another"
	} else if slot.Limited {
		limit = size(slot.SafeWALSize) + " to go until it is lost"
	}
	fmt.Fprintf(w, "retained WAL\t%s, %s (%s)\n", size(slot.Retained), slot.WALStatus, limit)
	return slot.WALStatus != "lost"
}

func writeRedis(w io.Writer, redis *cache.Cache, state cache.State) {
	if state.System == "" {
		fmt.Fprintf(w, "redis\t%s, nothing written yet\n", redis.Addr())
		return
	}
	fmt.Fprintf(w, "redis\t%s, fresh as of %v\n", redis.Addr(), state.LSN)
}

func writeViewlets(w io.Writer, set *rules.Set, state cache.State, failed failures, followed bool) {
	fmt.Fprintln(w)
	for _, v := range set.Viewlets {
		fmt.Fprintf(w, "%s\t%s\n", v.Name, viewletState(state.Fingerprints[v.Name], set.Fingerprint(v.Name), failed.broken[v.Name], failed.counts[v.Name], followed))
	}
	for i, name := range slices.Sorted(maps.Keys(failed.first)) {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "failed\t%s: %s (%s)\n", name, failed.first[name].Error, when(failed.first[name]))
	}
	if more := failed.all - len(failed.first); more > 0 {
		fmt.Fprintf(w, "failed\tand %d more\n", more)
	}
}

func viewletState(written, wanted string, broken bool, failed int, followed bool) string {
	state := "fresh"
	if !followed {
		state = "rendered, and no daemon keeps it fresh now"
	}
	switch {
	case broken:
		state = "broken"
	case written == "":
		state = "not rendered whole yet"
	case !strings.HasPrefix(written, wanted+marksSign):
		state = "its rules have changed since it was rendered"
	}
	if failed > 0 {
		state += fmt.Sprintf(", %d failed", failed)
	}
	return state
}

// when tells since when something fails, and when it was last tried.
func when(f cache.Failure) string {
	const form = "2006-01-02 15:04:05Z07:00"
	since, at := f.Since.Format(form), f.At.Format(form)
	if since == at {
		return at
	}
	return "since " + since + ", last tried " + at
}

func bytesBetween(from, to viewlet.LSN) string {
	if to <= from {
		return "0 B"
	}
	return size(int64(to - from))
}

func size(n int64) string {
	const step = 1024
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/step, 0
	for f >= step && unit < 3 {
		f, unit = f/step, unit+1
	}
	return fmt.Sprintf("%.1f %s", f, [...]string{"KiB", "MiB", "GiB", "TiB"}[unit])
}
