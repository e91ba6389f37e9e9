package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

// plugin is the output plugin that a slot must have: the one that every
// Postgres has.
const plugin = "pgoutput"

// walLost is the wal_status of a slot that can only be dropped.
const walLost = "lost"

// slowSlot is after how long the creation of a slot is said to be waiting.
const slowSlot = 2 * time.Second

// ErrNoSlot says that the slot does not exist: Setup makes it, and then
// everything is to be rendered, for what changed meanwhile was not kept.
var ErrNoSlot = errors.New("the slot does not exist")

// ErrSlotLost says that Postgres has removed WAL that the slot still needed.
// It can only be dropped.
var ErrSlotLost = errors.New("the slot is lost: Postgres has removed WAL that it needed")

// Slot is what pg_replication_slots says of a slot.
//
// https://www.postgresql.org/docs/current/view-pg-replication-slots.html
type Slot struct {
	Exists         bool        // if not, only CurrentWAL and OurDatabase are set
	Physical       bool        // of no use to us
	Plugin         string      // empty: a physical slot, or one that is just being made
	Database       string      // empty: a physical slot
	OurDatabase    string      // the database that was asked, whether the slot exists or not
	Temporary      bool        //
	TwoPhase       bool        //
	Active         bool        // somebody streams it
	ActivePID      int         // the walsender that streams it; 0: nobody
	RestartLSN     viewlet.LSN // the oldest WAL that it keeps
	ConfirmedFlush viewlet.LSN // everything before is in the cache
	WALStatus      string      // reserved, extended, unreserved or lost
	SafeWALSize    int64       // bytes that may yet be written before it is lost; only when Limited
	Limited        bool        // max_slot_wal_keep_size is set
	Retained       int64       // bytes of WAL that it keeps
	CurrentWAL     viewlet.LSN // where the server writes now, or a standby replays
}

// SlotStatus asks for the slot's status; one that does not exist is no error.
func SlotStatus(ctx context.Context, cfg Config) (Slot, error) {
	cfg, err := cfg.resolved()
	if err != nil {
		return Slot{}, err
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return Slot{}, err
	}
	defer hangUp(ctx, conn)
	return readSlot(ctx, conn, cfg.Slot)
}

func readSlot(ctx context.Context, conn *pgconn.PgConn, name string) (Slot, error) {
	r, err := queryRow(ctx, conn, fmt.Sprintf(slotSQL, quoteLiteral(name)))
	if err != nil {
		return Slot{}, fmt.Errorf("read slot %q: %w", name, err)
	}
	return Slot{
		CurrentWAL:     r.lsn(0),
		OurDatabase:    r.string(1),
		Exists:         !r.null(2),
		Plugin:         r.string(3),
		Database:       r.string(4),
		Temporary:      r.bool(5),
		TwoPhase:       r.bool(6),
		Active:         r.bool(7),
		ActivePID:      int(r.int(8)),
		RestartLSN:     r.lsn(9),
		ConfirmedFlush: r.lsn(10),
		WALStatus:      r.string(11),
		SafeWALSize:    r.int(12),
		Limited:        !r.null(12),
		Retained:       r.int(13),
		Physical:       r.bool(14),
	}, nil
}

const slotSQL = `
SELECT w.lsn, current_database(), s.slot_name, s.plugin, s.database, s.temporary, s.two_phase, s.active, s.active_pid,
	s.restart_lsn, s.confirmed_flush_lsn, s.wal_status, s.safe_wal_size,
	pg_catalog.pg_wal_lsn_diff(w.lsn, s.restart_lsn), s.slot_type = 'physical'
FROM (
	SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
		ELSE pg_catalog.pg_current_wal_lsn() END
) w(lsn)
LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = %s`

// problem says why the slot cannot be streamed whoever else does; nil when it can.
func (s Slot) problem(name string) *Problem {
	if p := s.foreign(name); p != nil || s.WALStatus != walLost {
		return p
	}
	return &Problem{
		fmt.Sprintf("slot %q is lost: Postgres has removed WAL that it needed", name),
		fmt.Sprintf("raise max_slot_wal_keep_size, then SELECT pg_drop_replication_slot(%s); a new slot is made, and everything rendered, at the next start", quoteLiteral(name)),
	}
}

// foreign says that the slot was made for something else; nil when it was not,
// or when there is none.
func (s Slot) foreign(name string) *Problem {
	another := fmt.Sprintf("give this daemon another slot, or, if nobody needs that one: SELECT pg_drop_replication_slot(%s);", quoteLiteral(name))
	switch {
	case !s.Exists:
		return nil
	case s.Physical:
		return &Problem{fmt.Sprintf("slot %q is a physical slot", name), another}
	case s.Plugin != plugin && s.Plugin != "":
		return &Problem{fmt.Sprintf("slot %q belongs to the plugin %s, not to %s", name, s.Plugin, plugin), another}
	case s.Database != s.OurDatabase:
		return &Problem{fmt.Sprintf("slot %q belongs to the database %q, not to %q", name, s.Database, s.OurDatabase), another}
	}
	return nil
}

// createSlot makes the slot. It waits for the transactions that are open.
//
// https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-CREATE-REPLICATION-SLOT
func createSlot(ctx context.Context, conn *pgconn.PgConn, cfg Config) (viewlet.LSN, error) {
	slow := time.AfterFunc(slowSlot, func() {
		cfg.Log.Warn("creating the slot waits for transactions that were open before it",
			"slot", cfg.Slot,
			"find", "SELECT pid, xact_start, state, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start; SELECT gid, prepared FROM pg_prepared_xacts")
	})
	defer slow.Stop()
	made, err := pglogrepl.CreateReplicationSlot(ctx, conn, quoteIdent(cfg.Slot), plugin,
		pglogrepl.CreateReplicationSlotOptions{SnapshotAction: "NOEXPORT_SNAPSHOT"})
	if err != nil {
		return 0, fmt.Errorf("create slot %q: %w", cfg.Slot, err)
	}
	start, err := viewlet.ParseLSN(made.ConsistentPoint)
	if err != nil {
		return 0, fmt.Errorf("create slot %q: %w", cfg.Slot, err)
	}
	cfg.Log.Info("slot created", "slot", cfg.Slot, "lsn", start)
	return start, nil
}

func createSlotSQL(cfg Config) string {
	return fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, '%s');\n", quoteLiteral(cfg.Slot), plugin)
}

// dropSlot drops the slot, if it exists and is one that createSlot makes.
func dropSlot(ctx context.Context, conn *pgconn.PgConn, cfg Config) error {
	slot, err := readSlot(ctx, conn, cfg.Slot)
	if err != nil || !slot.Exists {
		return err
	}
	if p := slot.foreign(cfg.Slot); p != nil {
		return *p
	}
	_, err = query(ctx, conn, fmt.Sprintf("SELECT pg_catalog.pg_drop_replication_slot(%s)", quoteLiteral(cfg.Slot)))
	switch sqlState(err) {
	case objectInUse:
		return Problem{
			fmt.Sprintf("slot %q is in use by the server process %d", cfg.Slot, slot.ActivePID),
			fmt.Sprintf("stop the daemon that streams it, or SELECT pg_terminate_backend(%d);", slot.ActivePID),
		}
	case undefinedObject:
		return nil // somebody else was faster
	}
	if err != nil {
		return fmt.Errorf("drop slot %q: %w", cfg.Slot, err)
	}
	cfg.Log.Info("slot dropped", "slot", cfg.Slot)
	return nil
}
