package cache

import (
	"context"
	"crypto/rand"
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

// ErrTaken says that somebody else has taken the State since.
var ErrTaken = errors.New("another daemon has taken the state in redis")

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
	// Shapes tell, by viewlet, of the tables that refresh it what no change
	// tells, as it was when all its fragments were rendered. Nil: none is noted.
	Shapes map[string]string
	// Rules tell the rules that were last in force, as they were written; empty:
	// not known.
	Rules string
	// Elsewhere says that another process has it now than the one that it was
	// written to: Redis was restarted or failed over. What was written last may
	// be lost, and then the LSN is an older one. In a Cluster that is of any
	// primary, and the LSN, which is in one of them, does not tell.
	Elsewhere, Cluster bool
}

const (
	fingerprintPrefix = "viewlet:"
	shapePrefix       = "shape:"
	rulesField        = "rules"
)

// State reads the state; when there is none its System is empty.
func (c *Cache) State(ctx context.Context) (State, error) {
	runs, err := c.runs(ctx)
	if err != nil {
		return State{}, fmt.Errorf("read state: %w", err)
	}
	return c.readState(ctx, runs)
}

// Take is State for who will save it. From then on what others save is refused
// with ErrTaken, until they take it again: a daemon that hung while another took
// over its slot knows nothing of what happened since. And what we save is refused
// if Redis was restarted or failed over: a process that begins from a file, or was
// a replica, may lack what was written last.
func (c *Cache) Take(ctx context.Context) (State, error) {
	holder := holder{session: rand.Text()}
	err := c.exchange(ctx, func(ctx context.Context) error {
		return c.rdb.HSet(ctx, c.names.state(), sessionField, holder.session).Err()
	})
	if err == nil {
		holder.runs, err = c.runs(ctx)
	}
	if err != nil {
		return State{}, fmt.Errorf("take state: %w", err)
	}
	s, err := c.readState(ctx, holder.runs)
	if err == nil {
		c.holder.Store(&holder)
	}
	return s, err
}

// holder is who took the state: nobody, while it is zero.
type holder struct {
	session string // in the state since
	runs    runs   // that had the data then, or at the last save
}

const sessionField = "session"

// readState reads what is in those runs.
func (c *Cache) readState(ctx context.Context, in runs) (State, error) {
	s := State{Fingerprints: make(map[string]string), Cluster: c.cluster}
	var fields map[string]string
	err := c.exchange(ctx, func(ctx context.Context) (err error) {
		fields, err = c.rdb.HGetAll(ctx, c.names.state()).Result()
		return err
	})
	if err == nil && fields["system"] != "" {
		err = s.decode(fields)
		s.Elsewhere = !in.include(fields["run"])
	}
	if err != nil {
		return State{}, fmt.Errorf("read state: %w", err)
	}
	return s, nil
}

func (s *State) decode(fields map[string]string) error {
	s.System, s.Slot, s.Database, s.Rules = fields["system"], fields["slot"], fields["database"], fields[rulesField]
	for field, value := range fields {
		if name, ok := strings.CutPrefix(field, fingerprintPrefix); ok {
			s.Fingerprints[name] = value
		}
		if name, ok := strings.CutPrefix(field, shapePrefix); ok {
			if s.Shapes == nil {
				s.Shapes = make(map[string]string)
			}
			s.Shapes[name] = value
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

// Reached is the State's LSN alone; zero when there is no State.
func (c *Cache) Reached(ctx context.Context) (viewlet.LSN, error) {
	var lsn viewlet.LSN
	err := c.exchange(ctx, func(ctx context.Context) error {
		text, err := c.rdb.HGet(ctx, c.names.state(), "lsn").Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		if err == nil {
			lsn, err = viewlet.ParseLSN(text)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read state: %w", err)
	}
	return lsn, nil
}

// SaveState replaces the state, fingerprints and all. ErrTaken, and nothing is
// written, if somebody else took it; ErrEmpty if it is gone since it was taken.
func (c *Cache) SaveState(ctx context.Context, s State) error {
	fields := []any{
		"system", s.System, "timeline", s.Timeline, "slot", s.Slot,
		"database", s.Database, "lsn", s.LSN.String(),
	}
	for name, fingerprint := range s.Fingerprints {
		fields = append(fields, fingerprintPrefix+name, fingerprint)
	}
	for name, shape := range s.Shapes {
		fields = append(fields, shapePrefix+name, shape)
	}
	if s.Rules != "" {
		fields = append(fields, rulesField, s.Rules)
	}
	if _, err := c.setState(ctx, "anew", fields...); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// SaveLSN notes that everything committed before lsn is in Redis, unless more is
// noted already, and gives what was noted before. If that is less than the caller
// last saved, Redis has lost writes, such as by a restart from an old file.
// ErrEmpty, and nothing is written, if it has lost them all; ErrTaken if somebody
// else took the state. With Config.WaitReplicas it is an error when the replicas
// do not have it, too, within half of the timeout.
func (c *Cache) SaveLSN(ctx context.Context, lsn viewlet.LSN) (before viewlet.LSN, err error) {
	was, err := c.setState(ctx, "onward", "lsn", lsn.String())
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
// says. ErrEmpty or ErrTaken, and nothing is written, as with SaveLSN.
func (c *Cache) SaveFingerprint(ctx context.Context, name, fingerprint string) error {
	if _, err := c.setState(ctx, "field", fingerprintPrefix+name, fingerprint); err != nil {
		return fmt.Errorf("save fingerprint of %s: %w", name, err)
	}
	return nil
}

// SaveRules notes the rules that are in force from now on. ErrEmpty or ErrTaken,
// and nothing is written, as with SaveLSN.
func (c *Cache) SaveRules(ctx context.Context, rules string) error {
	if _, err := c.setState(ctx, "field", rulesField, rules); err != nil {
		return fmt.Errorf("save rules: %w", err)
	}
	return nil
}

// SaveShape notes with which shape of its tables all of a viewlet was rendered.
// ErrEmpty or ErrTaken, and nothing is written, as with SaveLSN.
func (c *Cache) SaveShape(ctx context.Context, name, shape string) error {
	if _, err := c.setState(ctx, "field", shapePrefix+name, shape); err != nil {
		return fmt.Errorf("save shape of %s: %w", name, err)
	}
	return nil
}

// DropFingerprint notes that a viewlet's fragments may be of any rendering.
func (c *Cache) DropFingerprint(ctx context.Context, name string) error {
	err := c.exchange(ctx, func(ctx context.Context) error {
		return c.rdb.HDel(ctx, c.names.state(), fingerprintPrefix+name, shapePrefix+name).Err()
	})
	if err != nil {
		return fmt.Errorf("drop fingerprint of %s: %w", name, err)
	}
	return nil
}

// setState sets fields of the state, the way that state.lua knows by that word,
// and gives what the first of them was.
func (c *Cache) setState(ctx context.Context, how string, fields ...any) (before string, err error) {
	by, within, err := c.stillHeld(ctx)
	if err != nil {
		return "", err
	}
	var reply []string
	err = c.exchange(ctx, func(ctx context.Context) (err error) {
		args := append([]any{within, by.runs.String(), by.session, how}, fields...)
		reply, err = c.scripts.state.Run(ctx, c.rdb, []string{c.names.state()}, args...).StringSlice()
		return err
	})
	switch {
	case err != nil:
		return "", err
	case reply[0] == "gone":
		return "", ErrEmpty
	case reply[0] == "taken":
		return "", ErrTaken
	}
	return reply[1], nil
}
