package cache

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

//go:embed state.lua
var stateLua string

// ErrEmpty says that there is no State in Redis, because nothing was ever
// written there, or it has lost everything; or that Redis was restarted or
// failed over since the State was read, and may have lost what was written last.
var ErrEmpty = errors.New("redis holds no state: it is new, was emptied, restarted or failed over")

// State is what the fragments in Redis were rendered from.
type State struct {
	System   string      // Postgres's system identifier; empty: there is no State
	Timeline uint32      // of Postgres
	Slot     string      // the replication slot that has the changes since
	Database string      // the name
	LSN      viewlet.LSN // everything committed before is in Redis
	// Fingerprints tell, by viewlet, the query and the template that all its
	// fragments were rendered with.
	Fingerprints map[string]string
	// Elsewhere says that another process has it now than the one that it was
	// written to: Redis was restarted or failed over. What was written last may
	// be lost, and then the LSN is an older one. In a Cluster that is of any
	// primary, and the LSN, which is in one of them, does not tell.
	Elsewhere, Cluster bool
}

const fingerprintPrefix = "viewlet:"

// State reads the state; when there is none its System is empty. From then on
// what is saved of it is refused if Redis was restarted or failed over: a
// process that begins from a file, or was a replica, may lack what was written
// last.
func (c *Cache) State(ctx context.Context) (State, error) {
	s := State{Fingerprints: make(map[string]string), Cluster: c.cluster}
	runs, err := c.runs(ctx)
	var fields map[string]string
	if err == nil {
		err = c.exchange(ctx, func(ctx context.Context) (err error) {
			fields, err = c.rdb.HGetAll(ctx, c.names.state()).Result()
			return err
		})
	}
	if err == nil && fields["system"] != "" {
		err = s.decode(fields)
		s.Elsewhere = !runs.include(fields["run"])
	}
	if err != nil {
		return State{}, fmt.Errorf("read state: %w", err)
	}
	c.run.Store(&runs)
	return s, nil
}

func (s *State) decode(fields map[string]string) error {
	s.System, s.Slot, s.Database = fields["system"], fields["slot"], fields["database"]
	for field, value := range fields {
		if name, ok := strings.CutPrefix(field, fingerprintPrefix); ok {
			s.Fingerprints[name] = value
		}
	}
	timeline, err := strconv.ParseUint(fields["timeline"], 10, 32)
	if err != nil {
		return fmt.Errorf("timeline %q is not a number", fields["timeline"])
	}
	s.Timeline = uint32(timeline)
	s.LSN, err = viewlet.ParseLSN(fields["lsn"])
	return err
}

// SaveState replaces the state, fingerprints and all.
func (c *Cache) SaveState(ctx context.Context, s State) error {
	fields := []any{
		"system", s.System, "timeline", s.Timeline, "slot", s.Slot,
		"database", s.Database, "lsn", s.LSN.String(), "run", c.lastRuns().String(),
	}
	for name, fingerprint := range s.Fingerprints {
		fields = append(fields, fingerprintPrefix+name, fingerprint)
	}
	err := c.exchange(ctx, func(ctx context.Context) error {
		_, err := c.rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
			tx.Del(ctx, c.names.state())
			tx.HSet(ctx, c.names.state(), fields...)
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// SaveLSN notes that everything committed before lsn is in Redis, and gives
// what was noted before. If that is less than the caller last saved, Redis has
// lost writes, such as by a restart from an old file. ErrEmpty, and nothing is
// written, if it has lost them all. With Config.WaitReplicas it is an error when
// the replicas do not have it, too, within half of the timeout.
func (c *Cache) SaveLSN(ctx context.Context, lsn viewlet.LSN) (before viewlet.LSN, err error) {
	was, err := c.setState(ctx, "lsn", lsn.String())
	if err == nil {
		before, err = viewlet.ParseLSN(was)
	}
	if err == nil && c.replicas > 0 {
		err = c.awaitReplicas(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("save LSN: %w", err)
	}
	return before, nil
}

// SaveFingerprint notes that all of a viewlet is in Redis as the fingerprint
// says. ErrEmpty, and nothing is written, if there is no State.
func (c *Cache) SaveFingerprint(ctx context.Context, name, fingerprint string) error {
	if _, err := c.setState(ctx, fingerprintPrefix+name, fingerprint); err != nil {
		return fmt.Errorf("save fingerprint of %s: %w", name, err)
	}
	return nil
}

// DropFingerprint notes that a viewlet's fragments may be of any rendering.
func (c *Cache) DropFingerprint(ctx context.Context, name string) error {
	err := c.exchange(ctx, func(ctx context.Context) error {
		return c.rdb.HDel(ctx, c.names.state(), fingerprintPrefix+name).Err()
	})
	if err != nil {
		return fmt.Errorf("drop fingerprint of %s: %w", name, err)
	}
	return nil
}

func (c *Cache) setState(ctx context.Context, field, value string) (before string, err error) {
	runs, within, err := c.stillRuns(ctx)
	if err != nil {
		return "", err
	}
	err = c.exchange(ctx, func(ctx context.Context) (err error) {
		before, err = c.scripts.state.Run(ctx, c.rdb, []string{c.names.state()}, field, value, within, runs.String()).Text()
		return err
	})
	if errors.Is(err, redis.Nil) {
		err = ErrEmpty
	}
	return before, err
}
