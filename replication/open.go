package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgproto3"
)

// standbyPoll is how often a standby looks whether the slot is free.
const standbyPoll = time.Second

// Open connects and starts to stream the slot. While somebody else streams it,
// Open waits as a standby: it says so once, by cfg.OnStandby and in the log.
// It returns when it has the slot, when ctx ends, or with ErrNoSlot, ErrSlotLost,
// a Problem, or what broke the connection; ctx is not used after that. Run is to
// follow soon, or During until then, for nobody else answers the server's
// keepalives; a Stream that is not Run is to be closed. Which tables are partitioned is read here:
// whoever publishes one that was made later opens a new Stream.
func Open(ctx context.Context, cfg Config) (*Stream, error) {
	cfg, err := cfg.resolved()
	if err != nil {
		return nil, err
	}
	w, err := connectReplication(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, cfg, w)
	if err != nil {
		hangUp(ctx, w.PgConn)
		return nil, fmt.Errorf("open slot %q: %w", cfg.Slot, err)
	}
	cfg.Log.Info("streaming", "slot", cfg.Slot, "lsn", s.Start, "system", s.SystemID, "timeline", s.Timeline)
	return s, nil
}

// start tries until nobody else has the slot.
func start(ctx context.Context, cfg Config, w *walsender) (*Stream, error) {
	poll := time.NewTicker(standbyPoll)
	defer poll.Stop()
	for said := false; ; {
		slot, err := streamable(ctx, cfg, w)
		if err != nil {
			return nil, err
		}
		if !slot.Active {
			s, err := startHere(ctx, cfg, w, slot)
			if sqlState(err) != objectInUse {
				return s, err
			}
		}
		if slot.Active && !said {
			cfg.Log.Info("the slot is in use: waiting as standby", "slot", cfg.Slot, "pid", slot.ActivePID)
			cfg.OnStandby(slot.ActivePID)
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-poll.C:
		}
	}
}

// streamable reads the slot, and says what is wrong with it but that it is in use.
func streamable(ctx context.Context, cfg Config, w *walsender) (Slot, error) {
	slot, err := readSlot(ctx, w.PgConn, cfg.Slot)
	if err != nil {
		return slot, err
	}
	if !slot.Exists {
		return slot, ErrNoSlot
	}
	if p := slot.Foreign(cfg.Slot); p != nil {
		return slot, *p
	}
	if why := slot.Lost(); why != "" {
		return slot, fmt.Errorf("%w: %s", ErrSlotLost, why)
	}
	return slot, nil
}

// patientTimeout is the longest wal_sender_timeout that is left, unless the URL
// has one: for so long a daemon that is cut off keeps the slot from the next.
const patientTimeout = 15 * time.Second

// startHere starts to stream from where the slot is confirmed. Who the server is
// is asked again: it may have been promoted while the slot was waited for.
func startHere(ctx context.Context, cfg Config, w *walsender, slot Slot) (*Stream, error) {
	r, err := queryRow(ctx, w.PgConn, `
		SELECT setting, source = 'client', (SELECT string_agg(oid::text, ' ') FROM pg_catalog.pg_class WHERE relkind = 'p')
		FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'`)
	if err != nil {
		return nil, fmt.Errorf("read the server's settings: %w", err)
	}
	// https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-WAL-SENDER-TIMEOUT
	timeout, inURL := time.Duration(r.int(0))*time.Millisecond, r.bool(1)
	if !inURL && (timeout == 0 || timeout > patientTimeout) {
		timeout = patientTimeout
		if _, err := query(ctx, w.PgConn, fmt.Sprintf("SET wal_sender_timeout = %d", timeout.Milliseconds())); err != nil {
			return nil, fmt.Errorf("set wal_sender_timeout: %w", err)
		}
	}
	if w.id, err = pglogrepl.IdentifySystem(ctx, w.PgConn); err != nil {
		return nil, fmt.Errorf("identify system: %w", err)
	}
	if err := startReplication(ctx, cfg, w); err != nil {
		return nil, err
	}
	w.wire.gather.measure()
	s := &Stream{
		SystemID: w.id.SystemID,
		Timeline: w.id.Timeline,
		Start:    slot.ConfirmedFlush,
		End:      viewlet.LSN(w.id.XLogPos),
		Standby:  slot.Recovering,
		cfg:      cfg,
		conn:     w.PgConn,
		in:       w.in,
		wire:     w.wire,
		interval: cfg.StatusInterval,
		silence:  2 * defaultWALSenderTimeout,
		sent:     slot.ConfirmedFlush,
	}
	if timeout > 0 {
		s.interval = min(s.interval, timeout/3)
		s.silence = 2 * timeout
	}
	s.decoder.Partitioned = make(map[uint32]bool)
	for _, oid := range r.oids(2) {
		s.decoder.Partitioned[oid] = true
	}
	s.confirmed.Store(uint64(slot.ConfirmedFlush))
	return s, nil
}

// startReplication begins the stream where the slot was confirmed. A refusal
// leaves the connection as it was.
//
// https://www.postgresql.org/docs/current/protocol-logical-replication.html
func startReplication(ctx context.Context, cfg Config, w *walsender) error {
	err := pglogrepl.StartReplication(ctx, w.PgConn, quoteIdent(cfg.Slot), 0, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'",
			"publication_names " + quoteLiteral(quoteIdent(cfg.Publication)),
			"messages 'true'",
		},
	})
	if sqlState(err) == "" {
		return err
	}
	for !w.IsClosed() {
		msg, again := w.ReceiveMessage(ctx)
		if again != nil {
			return again
		}
		if _, ready := msg.(*pgproto3.ReadyForQuery); ready {
			break
		}
	}
	return err
}
