package render

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// StandbyConfig says which standby to render from.
type StandbyConfig struct {
	// Config is as for the primary, and about the standby.
	Config
	// Lag is how long the standby may take to show what the primary shows; 10 s
	// when zero. One that takes longer is left to itself until it has caught up.
	Lag time.Duration
	// Log is told when the standby is taken in and out. Required.
	Log *slog.Logger
}

// ErrAnotherCluster says that what was given as a standby has other data.
var ErrAnotherCluster = errors.New("it is no standby of this Postgres, but of another cluster")

// errPromoted says that the standby replays nobody's WAL any more.
var errPromoted = errors.New("it is no standby: it was promoted, or is the primary itself")

// errDoubted says that the standby has to be looked at anew.
var errDoubted = errors.New("the primary was lost")

// standby is a server that is rendered from in place of the primary, for as
// long as it shows what the primary did when that was last looked at.
type standby struct {
	server
	primary server
	lag     time.Duration
	log     *slog.Logger
	addr    string
	wake    chan struct{} // the watcher is to look now

	mu      sync.Mutex
	serving bool
	said    bool  // what the log was last told: it is serving
	silent  bool  // the log was told nothing yet
	why     error // it does not serve any more
	id      identity
	floor   viewlet.LSN                   // nothing older may be rendered from
	at      viewlet.LSN                   // where it was seen last
	wanted  viewlet.LSN                   // somebody waits for it
	changed chan struct{}                 // closed when serving or at change
	calls   map[uint64]context.CancelFunc // queries under way
	last    uint64                        // of calls
	doubts  int                           // how often it was to be looked at anew
}

// identity tells copies of a cluster that share their history.
type identity struct{ system, timeline string }

// UseStandby has queries run on a standby while Run watches it. It is not for
// use while anything is rendered. An error is about the URL: nothing is asked
// of the standby yet.
func (db *Database) UseStandby(ctx context.Context, cfg StandbyConfig) error {
	s := &standby{
		primary: db.server, lag: cfg.Lag, log: cfg.Log, silent: true,
		wake: make(chan struct{}, 1), changed: make(chan struct{}), calls: map[uint64]context.CancelFunc{},
	}
	if s.lag == 0 {
		s.lag = 10 * time.Second
	}
	var err error
	if s.server, err = newServer(ctx, cfg.resolved()); err != nil {
		return fmt.Errorf("render_url: %w", err)
	}
	s.accepts = s.accept
	c := s.pool.Config().ConnConfig
	s.addr = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
	db.standby = s
	return nil
}

// StandbyServes reports whether there is a standby, and it is rendered from at
// this moment.
func (db *Database) StandbyServes() bool {
	s := db.standby
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving
}

// CheckStandby says why the standby that is used cannot be rendered from: it
// does not answer, has another history, was promoted, is behind. Or it is
// ErrAnotherCluster, which time does not mend.
func (db *Database) CheckStandby(ctx context.Context) error {
	conn, err := db.standby.takeIn(ctx)
	if err != nil {
		return fmt.Errorf("render from %s: %w", db.standby.addr, err)
	}
	return conn.Close(ctx)
}

// Run watches the standby, if there is one, until ctx ends.
func (db *Database) Run(ctx context.Context) error {
	const soonest, latest = time.Second, 30 * time.Second
	if db.standby == nil {
		return nil
	}
	for pause := soonest; ctx.Err() == nil; pause = min(2*pause, latest) {
		began := time.Now()
		err := db.standby.attend(ctx)
		if db.standby.out(err); errors.Is(err, errDoubted) {
			pause = soonest / 2
			continue
		}
		if time.Since(began) > time.Minute {
			pause = soonest
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// doubt has the standby looked at anew before it is rendered from again: the
// primary may be another server now, whose history it does not share.
func (db *Database) doubt() {
	if s := db.standby; s != nil {
		s.mu.Lock()
		s.doubts++
		s.mu.Unlock()
		s.out(errDoubted)
	}
}

// Settled is Snapshot for those that render next: it waits until the standby
// shows as much, or is given up.
func (db *Database) Settled(ctx context.Context) (viewlet.Snapshot, error) {
	snap, err := db.Snapshot(ctx)
	if err == nil && db.standby != nil {
		db.standby.reach(ctx, snap.LSN)
	}
	return snap, err
}

// OnPrimary gives a Renderer that renders from the primary only.
func (r *Renderer) OnPrimary() *Renderer {
	if r.db.standby == nil {
		return r
	}
	db := &Database{server: r.db.server, wholes: r.db.wholes, lookups: r.db.lookups, types: map[uint32]pgType{}}
	primary, _ := New(db, r.set, r.maxFragment) // whoever made r was told of the problems
	return primary
}

// read runs the query on the standby while that serves, and on the primary
// where the standby could not. What the query gathers it gathers anew each time
// that it is called.
func (db *Database) read(ctx context.Context, query func(context.Context, server) error) error {
	if s := db.standby; s != nil {
		if on, leave := s.enter(ctx); on != nil {
			err := query(on, s.server)
			leave()
			if err == nil || ctx.Err() != nil || faultOf(err) == faultOfData {
				return err
			}
			s.judge(err)
		}
	}
	return query(ctx, db.server)
}

// enter gives a context that ends when the standby is taken out; nil while it
// does not serve.
func (s *standby) enter(ctx context.Context) (on context.Context, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.serving {
		return nil, nil
	}
	on, cancel := context.WithCancel(ctx)
	s.last++
	call := s.last
	s.calls[call] = cancel
	return on, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.calls, call)
		cancel()
	}
}

// behindError says that the standby has not replayed enough: it was restarted,
// or another one answers.
type behindError struct{ at, floor viewlet.LSN }

func (e *behindError) Error() string {
	return fmt.Sprintf("the standby is at %v, and %v is needed", e.at, e.floor)
}

// accept is asked of each query where the standby stands, before its snapshot.
func (s *standby) accept(at place) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !at.standby:
		return errPromoted
	case at.lsn < s.floor:
		return &behindError{at.lsn, s.floor}
	}
	return nil
}

// judge takes the standby out if a query failed in a way that the next will too.
// What Postgres itself says of a query may be the replay's doing: a lock, a row
// that is gone, a table that is not there yet.
func (s *standby) judge(err error) {
	var behind *behindError
	var pg *pgconn.PgError
	if errors.As(err, &behind) {
		return
	}
	if errors.As(err, &pg) && len(pg.Code) == 5 {
		switch pg.Code[:2] {
		case "08", "53", "57", "58": // the connection, resources, a shutdown, the disk
		default:
			return
		}
	}
	s.out(err)
}

// reach waits until the standby shows what the primary did at lsn, and lets
// nothing older be rendered from it from then on. One that takes too long is
// taken out.
func (s *standby) reach(ctx context.Context, lsn viewlet.LSN) {
	late := time.NewTimer(s.lag)
	defer late.Stop()
	for {
		s.mu.Lock()
		if !s.serving || s.at >= lsn {
			s.floor = max(s.floor, lsn)
			s.mu.Unlock()
			return
		}
		s.wanted = max(s.wanted, lsn)
		at, changed := s.at, s.changed
		s.mu.Unlock()
		s.poke()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-late.C:
			s.out(fmt.Errorf("it is at %v, and has not replayed %v within %v", at, lsn, s.lag))
		}
	}
}

func (s *standby) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// attend takes the standby in and watches it, until it cannot serve any more:
// that is what it returns.
func (s *standby) attend(ctx context.Context) error {
	s.mu.Lock()
	doubts := s.doubts
	s.mu.Unlock()
	conn, err := s.takeIn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if !s.in(doubts) {
		return errDoubted // while it was looked at
	}
	const soonest, often = time.Millisecond, time.Second
	pause := soonest
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		case <-s.idle(pause >= often):
			pause = soonest
		}
		at, err := s.look(ctx, conn)
		if err != nil {
			return err
		}
		serving, awaited := s.note(at)
		switch {
		case !serving:
			return s.reason()
		case awaited:
			pause = min(2*pause, 50*time.Millisecond)
		default:
			pause = often
		}
	}
}

// idle lets a long pause be broken by whoever waits for the standby.
func (s *standby) idle(long bool) <-chan struct{} {
	if long {
		return s.wake
	}
	return nil
}

// takeIn opens the connection that the standby is watched on, and lets it serve
// if it is one, and catches up with the primary in half the lag that it may have.
func (s *standby) takeIn(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.lag)
	defer cancel()
	id, err := s.verify(ctx)
	if err != nil {
		return nil, err
	}
	s.history(id)
	now, err := s.primary.place(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig.Copy())
	if err != nil {
		return nil, err
	}
	if err = s.catchUp(ctx, conn, now.lsn); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}

// history forgets positions of another history.
func (s *standby) history(id identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != s.id {
		s.id, s.floor, s.at, s.wanted = id, 0, 0, 0
	}
}

func (s *standby) catchUp(ctx context.Context, conn *pgx.Conn, lsn viewlet.LSN) error {
	for began := time.Now(); ; {
		at, err := s.look(ctx, conn)
		if err != nil {
			return err
		}
		if at >= lsn {
			s.raise(lsn)
			return nil
		}
		if time.Since(began) > s.lag/2 {
			return fmt.Errorf("it is at %v, and has not replayed %v within %v", at, lsn, s.lag/2)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// look reads how far the standby has replayed.
func (s *standby) look(ctx context.Context, conn *pgx.Conn) (viewlet.LSN, error) {
	ctx, cancel := context.WithTimeout(ctx, s.lag)
	defer cancel()
	result := conn.PgConn().ExecParams(ctx, positionSQL, nil, nil, nil, textFormat).Read()
	if result.Err != nil {
		return 0, result.Err
	}
	at, err := parsePlace(result.Rows[0])
	if err == nil && !at.standby {
		err = errPromoted
	}
	return at.lsn, err
}

// note says where the standby is. awaited reports that somebody waits for more.
func (s *standby) note(at viewlet.LSN) (serving, awaited bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at != s.at {
		s.at = at
		s.tellChanged()
	}
	return s.serving, s.at < s.wanted
}

func (s *standby) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

func (s *standby) tellChanged() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// raise lets nothing older than lsn be rendered from the standby.
func (s *standby) raise(lsn viewlet.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = max(s.floor, lsn)
}

// in lets the standby serve, which is at its floor or beyond, unless there was
// another doubt since.
func (s *standby) in(doubts int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubts != doubts {
		return false
	}
	s.serving, s.wanted = true, 0
	s.tellChanged()
	if s.silent || !s.said {
		s.log.Info("rendering from the standby", "server", s.addr, "lsn", s.floor)
	}
	s.silent, s.said = false, true
	return true
}

// out ends what is under way on the standby, and has the primary serve. It is
// said once, and not while the standby is merely looked at anew.
func (s *standby) out(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving {
		s.serving, s.why = false, why
		s.tellChanged()
		for _, cancel := range s.calls {
			cancel()
		}
		s.poke()
	}
	if errors.Is(why, errDoubted) || errors.Is(why, context.Canceled) || !s.silent && !s.said {
		return
	}
	s.log.Warn("not rendering from the standby, the primary serves", "server", s.addr, "err", why)
	s.silent, s.said = false, false
}

// verify makes sure that the standby is a copy of the primary's cluster that
// follows the same history.
func (s *standby) verify(ctx context.Context) (identity, error) {
	theirs, err := s.server.identify(ctx)
	if err != nil {
		return theirs, err
	}
	ours, err := s.primary.identity(ctx)
	switch {
	case err != nil:
		return ours, err
	case ours.system != theirs.system:
		return ours, fmt.Errorf("%w: its system identifier is %s, and the primary's %s", ErrAnotherCluster, theirs.system, ours.system)
	case ours.timeline != theirs.timeline:
		return ours, fmt.Errorf("it is on timeline %s, and the primary on %s", theirs.timeline, ours.timeline)
	}
	return ours, nil
}

// identity is whom changes come from, where that is known: another connection may
// lead to an old primary that still runs.
func (s server) identity(ctx context.Context) (identity, error) {
	if from := s.origin.Load(); from != nil && from.timeline != 0 {
		return identity{from.system, strconv.Itoa(int(from.timeline))}, nil
	}
	return s.identify(ctx)
}

// identify asks who the server is. Only a walsender tells which timeline a
// standby replays.
//
// https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-IDENTIFY-SYSTEM
func (s server) identify(ctx context.Context) (identity, error) {
	cfg := s.pool.Config().ConnConfig.Config.Copy()
	cfg.RuntimeParams = maps.Clone(cfg.RuntimeParams)
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return identity{}, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	results, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return identity{}, fmt.Errorf("identify system: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 2 {
		return identity{}, errors.New("identify system: the server answered something else")
	}
	row := results[0].Rows[0]
	return identity{string(row[0]), string(row[1])}, nil
}
