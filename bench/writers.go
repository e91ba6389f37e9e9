package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// writerRules watch all that pgbench changes often, and never fire.
const writerRules = `
viewlet "account" {
  params = ["aid"]
  query  = "SELECT aid, abalance FROM pgbench_accounts WHERE aid = @aid"
  all    = "SELECT 1 WHERE false"
}
table "pgbench_accounts" {
  when    = new.abalance < -2000000000
  refresh = account(aid)
}
`

// writers is what a daemon costs those who write: to a Postgres that waits for
// its disk, as a shop's does, and to one that does not, where pgbench itself
// keeps every core busy.
func writers(ctx context.Context, h *house) (results []result, err error) {
	program := client("pgbench")
	if program == "" {
		return []result{{with: "pgbench, which is not installed"}}, nil
	}
	seconds := max(h.of(20), 3)
	err = h.in(ctx, "writers", func(db *database) error {
		if out, err := exec.CommandContext(ctx, program, "-i", "-q", "-s", "10", db.url()).CombinedOutput(); err != nil {
			return fmt.Errorf("fill: %w\n%s", err, out)
		}
		var walsender, own []float64 // in percent of one core
		core := float64(time.Duration(seconds)*time.Second) / 100
		with := func() (float64, error) {
			d, err := db.daemon(ctx, "writers", writerRules)
			if err != nil {
				return 0, err
			}
			defer d.stop()
			if _, err := d.ready(ctx); err != nil {
				return 0, err
			}
			before := db.walsenderOf(ctx, "writers")
			rate, err := db.pgbench(ctx, program, seconds)
			walsender = append(walsender, float64(db.walsenderOf(ctx, "writers")-before)/core)
			d.stop()
			own = append(own, float64(d.cpu())/core)
			return rate, err
		}
		without := func() (float64, error) {
			if err := db.exec(ctx, "SELECT pg_drop_replication_slot('writers')", "DROP PUBLICATION bench"); err != nil {
				return 0, err
			}
			return db.pgbench(ctx, program, seconds)
		}
		alone := func(what string) error {
			walsender, own = nil, nil
			ours, theirs, err := h.alternate(with, without)
			if len(walsender) > 0 {
				results = append(results, result{
					what: what, unit: "tx/s", ours: ours, theirs: theirs, with: "no daemon, and no slot", aim: "about 1",
					notes: []string{fmt.Sprintf("the walsender took %.1f %% of one core, the daemon %.1f %% (medians)", median(walsender), median(own))},
				})
			}
			return err
		}
		err := db.durable(ctx, func() error { return alone("") })
		if err != nil {
			return err
		}
		err = alone("no fsync")
		if err != nil || client("pg_recvlogical") == "" {
			return err
		}
		ours, theirs, err := h.alternate(with, func() (float64, error) { return db.beside(ctx, program, seconds) })
		results = append(results, result{
			what: "client", unit: "tx/s", ours: ours, theirs: theirs, with: "pg_recvlogical on the same slot, no fsync", aim: "stated",
		})
		return err
	})
	return results, err
}

// durable has the server wait for its disk while do runs.
func (db *database) durable(ctx context.Context, do func() error) (err error) {
	defer func() { err = errors.Join(err, db.sync(context.WithoutCancel(ctx), false)) }()
	if err := db.sync(ctx, true); err != nil {
		return err
	}
	return do()
}

// sync turns fsync and what goes with it on or off, and returns once that is
// in force: Postgres reads its configuration when it comes to it.
func (db *database) sync(ctx context.Context, on bool) error {
	err := db.exec(ctx, fmt.Sprintf("ALTER SYSTEM SET fsync = %t", on), fmt.Sprintf("ALTER SYSTEM SET full_page_writes = %t", on), "SELECT pg_reload_conf()")
	if err != nil {
		return err
	}
	return until(ctx, fmt.Sprintf("fsync is %t", on), 5*time.Millisecond, func() (is bool, err error) {
		err = db.pool.QueryRow(ctx, "SELECT current_setting('fsync')::bool = $1 AND current_setting('full_page_writes')::bool = $1", on).Scan(&is)
		return is, err
	})
}

// beside runs pgbench while Postgres's own client drains the slot that the
// daemon has left, to nowhere.
func (db *database) beside(ctx context.Context, program string, seconds int) (rate float64, err error) {
	if err := db.left(ctx); err != nil {
		return 0, err
	}
	draining, stop := context.WithCancel(ctx)
	drain := exec.CommandContext(draining, client("pg_recvlogical"), "--dbname="+db.url(), "--slot=writers", "--start", "--no-loop",
		"--option=proto_version=1", "--option=publication_names=bench", "--file=/dev/null")
	if err := drain.Start(); err != nil {
		stop()
		return 0, err
	}
	defer func() {
		stop()
		_ = drain.Wait()
		err = errors.Join(err, db.left(ctx))
	}()
	err = until(ctx, "pg_recvlogical streams", 5*time.Millisecond, func() (bool, error) {
		return db.walsenderOf(ctx, "writers") > 0, nil
	})
	if err != nil {
		return 0, err
	}
	return db.pgbench(ctx, program, seconds)
}

// left waits until nobody has the slot.
func (db *database) left(ctx context.Context) error {
	return until(ctx, "the slot is free", 5*time.Millisecond, func() (free bool, err error) {
		err = db.pool.QueryRow(ctx, "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'writers'").Scan(&free)
		return free, err
	})
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

func (db *database) pgbench(ctx context.Context, program string, seconds int) (float64, error) {
	out, err := exec.CommandContext(ctx, program, "-n", "-c", "4", "-j", "2", "-T", strconv.Itoa(seconds), db.url()).CombinedOutput()
	found := tps.FindSubmatch(out)
	if err != nil || found == nil {
		return 0, fmt.Errorf("run pgbench: %w\n%s", err, out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
