package viewlet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// MessagePrefix is the prefix of the logical decoding messages that ask for a
// refresh:
//
//	SELECT pg_logical_emit_message(true, 'cdc-viewlet', 'product_teaser:42')
const MessagePrefix = "cdc-viewlet"

// Matcher says what a change makes stale. One goroutine calls it.
type Matcher interface {
	// Match appends what the change makes stale to dst. An error names a rule
	// that cannot be followed; what was appended stands in for it.
	Match(dst []Refresh, c *Change) ([]Refresh, error)
	// ParseMessage appends what a message of MessagePrefix asks for. What it
	// cannot read is in the error, the rest is appended.
	ParseMessage(dst []Refresh, content []byte) ([]Refresh, error)
}

// Renderer makes fragments of what the database shows now. Many lanes call it
// at once. An error is a *Broken, which no retry of the same query mends, or
// the world's fault, which goes away.
type Renderer interface {
	// Snapshot tells which transactions a query that starts now would see, on
	// whichever server it runs. It may wait for that.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Expand yields the keys that the lookup via names for each of args, or
	// with Whole every key of the viewlet, in pieces of at most a thousand.
	// A key may come twice. The slice is yield's to keep.
	Expand(ctx context.Context, viewlet, via string, args []string, yield func([]Key) error) error
	// Render gives one fragment for each of the viewlet's keys.
	Render(ctx context.Context, viewlet string, keys []Key) ([]Fragment, error)
}

// ErrForgotten, from a Store, says that it no longer holds what was written to
// it, or that somebody else writes to it now. It ends Pipeline.Run: what is to be
// rendered is to be found out anew.
var ErrForgotten = errors.New("the store is not as it was left")

// Store is where fragments are kept. Many lanes call it at once. Every method
// may be called again after it failed.
type Store interface {
	// Store writes, or with a nil Body deletes, each fragment unless the store
	// holds a newer one, and counts into pass what it did. A fragment with an
	// Err is noted as failed, and left as it is or deleted.
	Store(ctx context.Context, viewlet string, fragments []Fragment, pass *Pass) error
	// Wanted gives those of the keys that are in the store. For the others it
	// notes that nobody beside the pipeline may write anything older than lsn.
	Wanted(ctx context.Context, viewlet string, keys []Key, lsn LSN) ([]Key, error)
	// Older yields the viewlet's keys in the store that were last written
	// before since; now and then none, so that its caller can do other things.
	Older(ctx context.Context, viewlet string, since LSN, yield func([]Key) error) error
	// Whole notes that all of the viewlet is in the store, as its query and
	// its template are now.
	Whole(ctx context.Context, viewlet string) error
	// Broken notes durably that the viewlet cannot be rendered, and why; until
	// Whole is called for it, its fragments may be stale.
	Broken(ctx context.Context, viewlet string, cause error) error
	// Reached notes that everything that was committed before lsn is in the
	// store. It is called before lsn is confirmed to the source.
	Reached(ctx context.Context, lsn LSN) error
}

// Source delivers committed changes.
type Source interface {
	// Run delivers to the sink until ctx ends, and then hands on what was last
	// confirmed before it returns. Everything not confirmed is delivered again
	// by the next Run, of this source or of its successor.
	Run(ctx context.Context, sink Sink) error
	// Confirm says that everything before lsn need not come again. It does not
	// block.
	Confirm(lsn LSN)
}

// Broken is a viewlet that cannot be rendered as it is: its table is gone, its
// query fails whatever the key.
type Broken struct{ Err error }

func (b *Broken) Error() string { return b.Err.Error() }
func (b *Broken) Unwrap() error { return b.Err }

func isBroken(err error) bool {
	var broken *Broken
	return errors.As(err, &broken)
}

// Config is what a Pipeline is made of. Those without a default must be given.
type Config struct {
	Lanes  []Lane
	Match  Matcher
	Render Renderer
	Store  Store

	// Failures tells which fragments to try again now and then; nil: none.
	Failures Failures

	// Start is what the source has been confirmed already.
	Start LSN
	// Backoff gives, for each new series of failures, what gives the pauses
	// between one try and the next.
	Backoff func() func() time.Duration
	// Observe is told of each pass, by many goroutines. May be nil.
	Observe func(Pass)
	// Log is where life cycle and failures go; slog.Default() when nil.
	Log *slog.Logger

	// MaxPending is how many refreshes may wait, all lanes together, before
	// the source is held back; 100,000 when zero.
	MaxPending int
	// Chunk is how many keys are rendered by one query and written in one
	// pipeline; 200 when zero.
	Chunk int
	// Extra is how many chunks may be under way beside one of each lane, all
	// lanes together; 2 when zero.
	Extra int
	// ConfirmEvery is the least time between two confirmed positions; 250 ms
	// when zero. What comes alone is confirmed as soon as it is served.
	ConfirmEvery time.Duration
	// Grace is how long the passes under way may go on once Run's context has
	// ended; 10 s when zero.
	Grace time.Duration
}

// Lane configures the lane of one viewlet.
type Lane struct {
	Viewlet string
	// Requested renders only what is in the store already.
	Requested bool
	// DeleteFailed says that a fragment with an Err is deleted, as the store
	// does, and so is all of a viewlet that is broken.
	DeleteFailed bool
}

// Pipeline carries changes from a Source to a Store: matched, coalesced in one
// lane for each viewlet, rendered and written. It is the Sink of its Source.
type Pipeline struct {
	cfg     Config
	log     *slog.Logger
	lanes   map[string]*lane
	order   []*lane
	room    room
	visible visibility
	intake  intake
	outage  outage
	// retrying is held by the lane that tries failed fragments again.
	retrying chan struct{}
	extra    chan struct{} // filled by chunks that are more than one of their lane
	moved    chan struct{} // a lane let go, or the source moved on

	seen      atomic.Uint64 // the end of what the source has delivered whole
	confirmed watermark
}

// New gives a pipeline that Run sets going.
func New(cfg Config) *Pipeline {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Pass) {}
	}
	cfg.MaxPending = orDefault(cfg.MaxPending, 100_000)
	cfg.Chunk = orDefault(cfg.Chunk, 200)
	cfg.Extra = orDefault(cfg.Extra, 2)
	cfg.ConfirmEvery = orDefault(cfg.ConfirmEvery, 250*time.Millisecond)
	cfg.Grace = orDefault(cfg.Grace, 10*time.Second)
	p := &Pipeline{
		cfg:   cfg,
		log:   cfg.Log,
		lanes: make(map[string]*lane, len(cfg.Lanes)),
		room:  room{max: cfg.MaxPending},
		extra: make(chan struct{}, cfg.Extra),
		moved: make(chan struct{}, 1),

		retrying: make(chan struct{}, 1),
	}
	p.visible.init(cfg.Render, cfg.Backoff, cfg.Log, &p.outage)
	p.seen.Store(uint64(cfg.Start))
	p.confirmed.raise(cfg.Start)
	for _, c := range cfg.Lanes {
		l := newLane(p, c)
		p.lanes[c.Viewlet] = l
		p.order = append(p.order, l)
	}
	return p
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Run carries changes until ctx ends. Then the passes under way are finished,
// what they reached is confirmed, and it returns nil. It returns early with
// the error that ended the source, or ErrForgotten: what was not confirmed
// comes again, to a new Pipeline.
func (p *Pipeline) Run(ctx context.Context, src Source) error {
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(p.cfg.Grace, abandon) })()

	g, work := errgroup.WithContext(work)
	streaming, endStream := context.WithCancel(work)
	defer endStream()
	g.Go(func() error {
		err := src.Run(streaming, p)
		if streaming.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		return fmt.Errorf("read changes: %w", err)
	})
	watching, endWatch := context.WithCancel(work)
	g.Go(func() error { return p.visible.run(watching) })
	if p.cfg.Failures != nil {
		for _, l := range p.order {
			g.Go(func() error { l.retry(watching); return nil })
		}
	}
	lanesDone := make(chan struct{})
	g.Go(func() error {
		defer close(lanesDone)
		defer endWatch()
		return p.runLanes(work, ctx.Done())
	})
	g.Go(func() error {
		defer endStream()
		return p.confirmLoop(work, lanesDone, src)
	})
	return g.Wait()
}

// runLanes returns when every lane has stopped.
func (p *Pipeline) runLanes(ctx context.Context, stop <-chan struct{}) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range p.order {
		g.Go(func() error { return l.run(ctx, stop) })
	}
	return g.Wait()
}

// confirmLoop tells the source, and the store before it, how far everything is
// in the store, whenever that has moved and once more when the lanes are done.
//
// While nothing moves, the store is asked now and then whether it still knows.
func (p *Pipeline) confirmLoop(ctx context.Context, lanesDone <-chan struct{}, src Source) error {
	still := time.NewTicker(stillKnows)
	defer still.Stop()
	for {
		select {
		case <-still.C:
			if lsn := p.confirmed.get(); lsn > 0 {
				// Any other error comes again when there is something to confirm.
				if err := p.cfg.Store.Reached(ctx, lsn); errors.Is(err, ErrForgotten) {
					return err
				}
			}
		case <-ctx.Done():
			return nil
		case <-lanesDone:
			return p.confirm(ctx, src)
		case <-p.moved:
			before := p.confirmed.get()
			if err := p.confirm(ctx, src); err != nil {
				return err
			}
			pause := p.cfg.ConfirmEvery
			if p.confirmed.get() == before { // something is held, most often not for long
				pause = min(pause, heldLong)
			}
			sleep(ctx, pause)
		}
	}
}

// heldLong is how soon the confirm loop looks again whether a lane has let go.
const heldLong = 5 * time.Millisecond

// stillKnows is how soon a store that has forgotten is noticed while nothing
// is written.
const stillKnows = 5 * time.Second

// confirm returns an error only when the store has forgotten.
func (p *Pipeline) confirm(ctx context.Context, src Source) error {
	lsn := p.reached()
	if lsn <= p.confirmed.get() {
		return nil
	}
	for pause := p.cfg.Backoff(); ; {
		err := p.cfg.Store.Reached(ctx, lsn)
		if err == nil {
			break
		}
		if errors.Is(err, ErrForgotten) {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if p.outage.fails("state", err) {
			p.log.Warn("cannot write state, retrying", "lsn", lsn, "err", err)
		}
		if !sleep(ctx, pause()) {
			return nil
		}
	}
	p.outage.works(p.log, "state")
	src.Confirm(lsn)
	p.confirmed.raise(lsn)
	return nil
}

// reached is the position before which everything is in the store: the lowest
// that a lane still holds, or the end of what was delivered. What was delivered
// is read first: a refresh is in its lane before the position moves past it.
func (p *Pipeline) reached() LSN {
	lsn := LSN(p.seen.Load())
	for _, l := range p.order {
		if floor, held := l.pending.floorHeld(); held {
			lsn = min(lsn, floor)
		}
	}
	return lsn
}

// poke wakes the confirm loop.
func (p *Pipeline) poke() {
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// Expect names transactions that the source does not deliver any more, and
// that are yet to become visible. It is called before Run, and what is asked
// for by Refresh waits for them.
func (p *Pipeline) Expect(xids []uint32) {
	for _, xid := range xids {
		p.visible.expect(awaited{xid: xid, commit: p.cfg.Start}) // flushed before that
	}
}

// Refresh asks for a refresh as of now, beside the source. It reports whether
// there is such a viewlet, does not block, and may be called before Run. Each
// of then is called once, when the refresh is in the store, or with an error
// when the viewlet is broken; it must not block.
func (p *Pipeline) Refresh(r Refresh, then ...func(error)) bool {
	l, ok := p.lanes[r.Viewlet]
	if ok {
		l.pending.add([]Refresh{r}, p.now(then...))
	}
	return ok
}

// now is where a refresh comes from that no change asks for.
func (p *Pipeline) now(then ...func(error)) origin {
	return origin{floor: LSN(p.seen.Load()), commit: p.cfg.Start, asked: true, then: then}
}

// Wait blocks until everything before lsn is in the store and confirmed, or
// ctx ends.
func (p *Pipeline) Wait(ctx context.Context, lsn LSN) error { return p.confirmed.wait(ctx, lsn) }

// sleep pauses, and reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
