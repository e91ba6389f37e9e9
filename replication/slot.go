package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
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

// ErrSlotLost says that Postgres has invalidated the slot, such as because it
// has removed WAL that the slot still needed. Setup drops it and makes another.
var ErrSlotLost = errors.New("the slot is lost")

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
	Invalidation   string      // why it is lost, in Postgres's word; empty before 17
	SafeWALSize    int64       // bytes that may yet be written before it is lost; only when Limited
	Limited        bool        // max_slot_wal_keep_size is set
	Limit          string      // max_slot_wal_keep_size as SHOW shows it
	Retained       int64       // bytes of WAL that it keeps
	CurrentWAL     viewlet.LSN // where the server writes now, or a standby replays
	Recovering     bool        // the server is a standby
	Failover       bool        // a standby of Postgres 17 may keep a copy of it
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
		Limit:          r.string(15),
		Recovering:     r.bool(16),
		Invalidation:   r.string(17),
		Failover:       r.bool(18),
	}, nil
}

// Why a slot is lost, and whether it is for failover, is told since Postgres
// 17; jsonb reads the columns where they are.
const slotSQL = `
SELECT w.lsn, current_database(), s.slot_name, s.plugin, s.database, s.temporary, s.two_phase, s.active, s.active_pid,
	s.restart_lsn, s.confirmed_flush_lsn, s.wal_status, s.safe_wal_size,
	pg_catalog.pg_wal_lsn_diff(w.lsn, s.restart_lsn), s.slot_type = 'physical',
	current_setting('max_slot_wal_keep_size'), pg_catalog.pg_is_in_recovery(),
	to_jsonb(s) ->> 'invalidation_reason', to_jsonb(s) ->> 'failover' = 'true'
FROM (
	SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
		ELSE pg_catalog.pg_current_wal_lsn() END
) w(lsn)
LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = %s`

// Lost says why Postgres has invalidated the slot, and how that is avoided; empty
// when it has not.
//
// https://www.postgresql.org/docs/current/view-pg-replication-slots.html
func (s Slot) Lost() string {
	switch {
	case s.WALStatus != walLost:
		return ""
	case s.Invalidation == "rows_removed":
		return "the primary has removed rows that the standby's slot needed: set hot_standby_feedback = on there"
	case s.Invalidation == "wal_level_insufficient":
		return "wal_level was lowered on the primary: let it be logical"
	case s.Invalidation == "idle_timeout":
		return "nobody streamed it for idle_replication_slot_timeout: raise that, or let the daemon run"
	}
	return fmt.Sprintf("Postgres has removed WAL that it needed: it keeps no more than max_slot_wal_keep_size, which is %s; raise that", s.Limit)
}

// Foreign says that the slot of that name was made for something else; nil when
// it was not, or when there is none.
func (s Slot) Foreign(name string) *Problem {
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
func createSlot(ctx context.Context, conn *pgconn.PgConn, cfg Config, standby bool) (viewlet.LSN, error) {
	slow := time.AfterFunc(slowSlot, func() {
		cfg.Log.Warn("creating the slot waits for transactions that were open before it",
			"slot", cfg.Slot,
			"find", "SELECT pid, xact_start, state, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start; SELECT gid, prepared FROM pg_prepared_xacts")
	})
	defer slow.Stop()
	options := "NOEXPORT_SNAPSHOT"
	failover := hasFailover(serverVersion(conn)) && !standby
	if failover {
		options = "(SNAPSHOT 'nothing', FAILOVER)"
	}
	made, err := queryRow(ctx, conn, fmt.Sprintf("CREATE_REPLICATION_SLOT %s LOGICAL %s %s", quoteIdent(cfg.Slot), plugin, options))
	if err != nil {
		return 0, fmt.Errorf("create slot %q: %w", cfg.Slot, err)
	}
	const consistentPoint = 1 // the column
	start := made.lsn(consistentPoint)
	cfg.Log.Info("slot created", "slot", cfg.Slot, "lsn", start, "failover", failover)
	return start, nil
}

// hasFailover reports whether a standby of that major version can keep a copy of
// a slot, for when it is promoted.
//
// https://www.postgresql.org/docs/current/logicaldecoding-explanation.html#LOGICALDECODING-REPLICATION-SLOTS-SYNCHRONIZATION
func hasFailover(version int) bool { return version >= 17 }

func createSlotSQL(cfg Config, version int) string {
	failover := ""
	if hasFailover(version) {
		failover = ", failover => true"
	}
	return fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, '%s'%s);\n", quoteLiteral(cfg.Slot), plugin, failover)
}

// dropSlot drops the slot, if it exists and is one that createSlot makes.
func dropSlot(ctx context.Context, conn *pgconn.PgConn, cfg Config) error {
	slot, err := readSlot(ctx, conn, cfg.Slot)
	if err != nil || !slot.Exists {
		return err
	}
	if p := slot.Foreign(cfg.Slot); p != nil {
		return *p
	}
	_, err = query(ctx, conn, dropSlotSQL(cfg))
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

func dropSlotSQL(cfg Config) string {
	return fmt.Sprintf("SELECT pg_catalog.pg_drop_replication_slot(%s)", quoteLiteral(cfg.Slot))
}
