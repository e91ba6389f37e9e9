package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/replication/pgoutput"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// pulse is how often the loop looks up from reading or waiting: it bounds
	// how late a Confirm is sent and an ended ctx is seen.
	pulse = 50 * time.Millisecond
	// defaultWALSenderTimeout stands in for one that is switched off.
	defaultWALSenderTimeout = 60 * time.Second
)

// Stream is one streaming connection. When it breaks it is done with: whoever
// wants more opens another.
type Stream struct {
	SystemID string      // of the cluster; a restored copy of it has the same
	Timeline int32       // a promoted standby has a higher one
	Start    viewlet.LSN // the slot's confirmed_flush_lsn when the stream began
	End      viewlet.LSN // the server's WAL end then
	Standby  bool        // the server is one; it may be promoted while it streams

	cfg      Config
	conn     *pgconn.PgConn
	in       *frames
	wire     *wire
	decoder  pgoutput.Decoder
	behind   behind
	interval time.Duration // between status updates, at most
	silence  time.Duration // of the server, after which it is given up

	confirmed atomic.Uint64

	sent   viewlet.LSN // confirmed in the last status update
	sentAt time.Time   // when that was
	heard  time.Time   // when the server last sent something, or could not for we did not read
	asked  bool        // a reply was requested since then
}

// Confirm tells Postgres that everything before lsn is in the cache. It never
// blocks and may be called from anywhere; the position is sent within 100 ms.
// One below what was confirmed changes nothing, and neither does one that comes
// after Run returned.
func (s *Stream) Confirm(lsn viewlet.LSN) {
	for {
		was := s.confirmed.Load()
		if uint64(lsn) <= was || s.confirmed.CompareAndSwap(was, uint64(lsn)) {
			return
		}
	}
}

// Close closes a Stream that is not Run.
func (s *Stream) Close() { hangUp(context.Background(), s.conn) }

// ErrUnpublished says that the slot comes by changes from a time at which the
// publication did not exist. Postgres before 18 decodes them with the catalog of
// that time, and never gets past them: the slot can only be made anew.
var ErrUnpublished = errors.New("the publication did not exist when the slot's next changes were made")

// During keeps the connection alive while do runs, before Run is called. When
// the connection breaks meanwhile, do's context ends. It returns when do has.
func (s *Stream) During(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	did, kept := make(chan struct{}), make(chan error, 1)
	go func() { kept <- s.keep(ctx, did, cancel) }()
	err := do(ctx)
	close(did)
	if broken := <-kept; broken != nil {
		return fmt.Errorf("stream slot %q: %w", s.cfg.Slot, broken)
	}
	return err
}

// keep tells why it gave up before done was closed, and ends ctx for that.
func (s *Stream) keep(ctx context.Context, done <-chan struct{}, cancel context.CancelCauseFunc) error {
	err := s.hold(context.WithoutCancel(ctx), done)
	cancel(err)
	return err
}

// Run reads, decodes and calls the sink, all on the caller's goroutine, until
// the connection breaks, the sink returns an error, or ctx ends. In the last
// case it sends what is confirmed, leaves the stream in order and returns ctx's
// error: end ctx after the last Confirm. The connection is closed when Run
// returns.
func (s *Stream) Run(ctx context.Context, sink viewlet.Sink) error {
	defer s.Close()
	s.sentAt, s.heard = time.Now(), time.Now()
	s.wire.stream()
	err := s.stream(ctx, sink)
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("stream slot %q: %w", s.cfg.Slot, err)
	}
	if err := s.leave(); err != nil {
		return fmt.Errorf("leave the stream of slot %q: %w; %w", s.cfg.Slot, err, ctx.Err())
	}
	return ctx.Err()
}

// stream delivers what has been read, and then reads once more.
func (s *Stream) stream(ctx context.Context, sink viewlet.Sink) error {
	for {
		if err := s.attend(ctx); err != nil {
			return err
		}
		if err := s.deliver(ctx, sink); err != nil {
			return err
		}
		if err := s.read(); err != nil {
			return err
		}
	}
}

// attend sends a status update when one is due. A server that is silent is
// asked for a sign of life, and then given up.
func (s *Stream) attend(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now()
	quiet := now.Sub(s.heard)
	if quiet > s.silence {
		return fmt.Errorf("no word from the server for %s", quiet.Round(time.Millisecond))
	}
	ask := quiet > s.silence/2 && !s.asked
	since := now.Sub(s.sentAt)
	moved := viewlet.LSN(s.confirmed.Load()) > s.sent && since >= pulse
	if !ask && !moved && since < s.interval {
		return nil
	}
	s.asked = s.asked || ask
	return s.sendStatus(now, ask)
}

// sendStatus confirms. All three positions are set: pglogrepl fills in zeros
// from the first, and nothing that was merely received is ever confirmed.
//
// https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-STANDBY-STATUS-UPDATE
func (s *Stream) sendStatus(now time.Time, ask bool) error {
	lsn := s.confirmed.Load()
	if err := s.conn.Conn().SetWriteDeadline(now.Add(s.silence)); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), s.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: pglogrepl.LSN(lsn),
		WALFlushPosition: pglogrepl.LSN(lsn),
		WALApplyPosition: pglogrepl.LSN(lsn),
		ClientTime:       now,
		ReplyRequested:   ask,
	})
	if err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	s.sent, s.sentAt = viewlet.LSN(lsn), now
	return nil
}

// deliver hands over each message that has been read, as long as there is room.
func (s *Stream) deliver(ctx context.Context, sink viewlet.Sink) error {
	for {
		if room := sink.Room(); room != nil {
			if err := s.hold(ctx, room); err != nil {
				return err
			}
			continue
		}
		kind, body, ok, err := s.in.next()
		if err != nil || !ok {
			return err
		}
		if err := s.message(kind, body, sink); err != nil {
			return err
		}
	}
}

// hold waits until room is closed and keeps the connection alive meanwhile. The server's
// words stay in the socket, so its silence means nothing.
func (s *Stream) hold(ctx context.Context, room <-chan struct{}) error {
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	for {
		select {
		case <-room:
			s.heard, s.asked = time.Now(), false
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case now := <-beat.C:
			s.heard, s.asked = now, false
			if err := s.attend(ctx); err != nil {
				return err
			}
		}
	}
}

// read reads once, for a pulse at most.
func (s *Stream) read() error {
	size, err := s.in.size()
	s.wire.begin(err != nil || size >= smallBuffer, s.behind.is()) // else the message itself would wait for each buffer
	_, err = s.in.fill()
	if err != nil && !isTimeout(err) {
		return fmt.Errorf("read: %w", err)
	}
	if s.wire.came || err == nil { // a piece of a TLS record is a word, too
		s.heard, s.asked = time.Now(), false
	}
	if err != nil || s.heard.Sub(s.wire.asked) > lately {
		s.behind.caughtUp()
	}
	return nil
}

// message takes one protocol message of the copy-both mode.
//
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
func (s *Stream) message(kind byte, body []byte, sink viewlet.Sink) error {
	switch kind {
	case 'd':
		return s.copyData(body, sink)
	case 'E':
		var msg pgproto3.ErrorResponse
		if err := msg.Decode(body); err != nil {
			return fmt.Errorf("decode ErrorResponse: %w", err)
		}
		if msg.Code == undefinedObject {
			return fmt.Errorf("%w: %w", ErrUnpublished, pgconn.ErrorResponseToPgError(&msg))
		}
		return pgconn.ErrorResponseToPgError(&msg)
	case 'N':
		var msg pgproto3.NoticeResponse
		if err := msg.Decode(body); err != nil {
			return fmt.Errorf("decode NoticeResponse: %w", err)
		}
		s.cfg.Log.Info("notice from Postgres", "severity", msg.Severity, "message", msg.Message)
		return nil
	case 'S':
		return nil // ParameterStatus: a setting that the server reports has changed
	case 'c', 'C': // CopyDone; or CommandComplete, which is how a server that shuts down takes leave
		return errors.New("the server has ended the stream")
	}
	return fmt.Errorf("read: unexpected message of type %q", kind)
}

// copyData takes XLogData or a keepalive.
//
// https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-XLOGDATA
func (s *Stream) copyData(body []byte, sink viewlet.Sink) error {
	const xlogHeader = 1 + 8 + 8 + 8
	switch {
	case len(body) >= xlogHeader && body[0] == pglogrepl.XLogDataByteID:
		within := s.decoder.InTransaction()
		if err := s.decoder.Decode(body[xlogHeader:], sink); err != nil {
			return fmt.Errorf("at %s: %w", viewlet.LSN(binary.BigEndian.Uint64(body[1:])), err)
		}
		if !within && s.decoder.InTransaction() {
			s.behind.begins()
		}
		return nil
	case len(body) > 0 && body[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(body[1:])
		if err != nil {
			return fmt.Errorf("decode keepalive: %w", err)
		}
		return s.keepalive(k, sink)
	}
	return fmt.Errorf("read: unexpected CopyData of %d bytes", len(body))
}

// keepalive tells the sink how far the server has come. Within a transaction
// it tells nothing: the server sends one because the transaction is long.
func (s *Stream) keepalive(k pglogrepl.PrimaryKeepaliveMessage, sink viewlet.Sink) error {
	if !s.decoder.InTransaction() {
		s.behind.caughtUp()
		sink.Idle(viewlet.LSN(k.ServerWALEnd))
	}
	if !k.ReplyRequested {
		return nil
	}
	return s.sendStatus(time.Now(), false)
}

// leave sends what is confirmed and ends the copy-both mode. It waits for the
// server's own end of it, and reads away what is in flight: a connection that
// is closed over unread bytes is reset, and then the server may never see the
// last status. A server that takes too long is left without.
func (s *Stream) leave() error {
	now := time.Now()
	s.wire.leave()
	if err := s.sendStatus(now, false); err != nil {
		return err
	}
	s.conn.Frontend().Send(&pgproto3.CopyDone{})
	if err := s.conn.Frontend().Flush(); err != nil {
		return err
	}
	if err := s.conn.Conn().SetReadDeadline(now.Add(closeTimeout)); err != nil {
		return err
	}
	for {
		kind, _, ok, err := s.in.next()
		switch {
		case err != nil:
			return err
		case ok && kind == 'Z':
			return nil // ReadyForQuery: the stream is over on both sides
		case ok:
			continue
		}
		if _, err := s.in.fill(); isTimeout(err) {
			s.cfg.Log.Warn("left the stream while the server was sending", "slot", s.cfg.Slot, "confirmed", s.sent)
			return nil
		} else if err != nil {
			return err
		}
	}
}
