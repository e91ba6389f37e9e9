package viewlet

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Snapshot says which transactions a query sees.
//
// https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
type Snapshot struct {
	Xmin uint64   // every transaction below is seen
	Xmax uint64   // none from here on is
	Xip  []uint64 // those between that are in progress, ascending
	LSN  LSN      // what of the WAL is flushed, read in the same statement
}

// ParseSnapshot reads Postgres's text form of a pg_snapshot, xmin:xmax:xip,...
func ParseSnapshot(s string) (Snapshot, error) {
	var snap Snapshot
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return snap, fmt.Errorf("parse snapshot %q: not of the form xmin:xmax:xip", s)
	}
	var err error
	if snap.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return snap, fmt.Errorf("parse snapshot %q: %w", s, err)
	}
	if snap.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return snap, fmt.Errorf("parse snapshot %q: %w", s, err)
	}
	if parts[2] == "" {
		return snap, nil
	}
	for id := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return snap, fmt.Errorf("parse snapshot %q: %w", s, err)
		}
		snap.Xip = append(snap.Xip, xid)
	}
	slices.Sort(snap.Xip)
	return snap, nil
}

// Sees reports whether what the transaction committed is visible. The stream's
// ids are the lower 32 bits of 64; the whole id is the one nearest to Xmax,
// since ids in use are never 2^31 apart.
func (s Snapshot) Sees(xid uint32) bool {
	full := s.Xmax + uint64(int64(int32(xid-uint32(s.Xmax))))
	if full < s.Xmin {
		return true
	}
	_, running := slices.BinarySearch(s.Xip, full)
	return full < s.Xmax && !running
}

// visibility holds a pass back until a new snapshot sees every transaction that
// it serves: Postgres writes a commit to the WAL, and so to the stream, before
// other sessions see it; with synchronous replication long before.
type visibility struct {
	render  Renderer
	backoff func() func() time.Duration
	log     *slog.Logger
	outage  *outage
	wake    chan struct{}

	mu       sync.Mutex
	expected []awaited // not known to be visible, in commit order
	latest   LSN       // of all that were ever expected
	wanted   LSN       // the latest that a pass waits for
	last     *Snapshot // of the last look; nil: there was none
	// seen rises to a commit's FinalLSN when it and all before it are visible.
	seen watermark
}

// awaited is a transaction that is about to be visible.
type awaited struct {
	xid    uint32
	commit LSN // its FinalLSN
	// flushed is how far the WAL is once its commit is in it. One that does not
	// wait for the disk is seen before that, but on no standby.
	//
	// https://www.postgresql.org/docs/current/wal-async-commit.html
	flushed LSN
}

// expectedMax is how many transactions are gathered before a look is taken
// though no pass waits for any of them.
const expectedMax = 1 << 14

func (v *visibility) init(render Renderer, backoff func() func() time.Duration, log *slog.Logger, o *outage) {
	v.render, v.backoff, v.log, v.outage = render, backoff, log, o
	v.wake = make(chan struct{}, 1)
}

// expect notes that a transaction's refreshes are about to be delivered.
func (v *visibility) expect(tx awaited) {
	if tx.xid == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := len(v.expected); n > 0 && v.expected[n-1].xid == tx.xid {
		return // a further piece of it
	}
	v.expected, v.latest = append(v.expected, tx), max(v.latest, tx.commit)
	if len(v.expected) >= expectedMax {
		v.poke()
	}
}

// wait blocks until every transaction expected so far, up to the one whose
// FinalLSN is commit, is visible, or ctx ends.
func (v *visibility) wait(ctx context.Context, commit LSN) error {
	last := v.want(commit)
	if last == 0 {
		return nil
	}
	v.poke()
	return v.seen.wait(ctx, last)
}

// snapshot gives what the last look saw: every query from now on sees at least
// that. Nil: there was none.
func (v *visibility) snapshot() *Snapshot {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// want notes that a pass waits for commit. It gives the last transaction until
// then that is not known to be visible, zero if there is none.
func (v *visibility) want(commit LSN) LSN {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, _ := slices.BinarySearchFunc(v.expected, commit+1, func(tx awaited, lsn LSN) int { return cmp.Compare(tx.commit, lsn) })
	if n == 0 {
		return 0
	}
	last := v.expected[n-1].commit
	v.wanted = max(v.wanted, last)
	return last
}

// unseen gives the transactions until commit that are not known to be visible;
// none when they are more than most.
func (v *visibility) unseen(commit LSN, most int) []uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	var xids []uint32
	for _, tx := range v.expected {
		if tx.commit > commit {
			break
		}
		if len(xids) == most {
			return nil
		}
		xids = append(xids, tx.xid)
	}
	return xids
}

func (v *visibility) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// run looks whenever somebody wants to know, one look for all who wait.
func (v *visibility) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.wake:
		}
		v.watch(ctx)
	}
}

// watch looks until everything wanted is visible.
func (v *visibility) watch(ctx context.Context) {
	const soonest, latest = 500 * time.Microsecond, 100 * time.Millisecond
	failing := v.backoff()
	for pause := soonest; ctx.Err() == nil; {
		snap, err := v.render.Snapshot(ctx)
		if err != nil {
			if v.outage.fails("snapshot", err) {
				v.log.Warn("cannot read the snapshot, retrying", "err", err)
			}
			sleep(ctx, failing())
			continue
		}
		v.outage.works(v.log, "snapshot")
		if v.settle(snap) {
			return
		}
		sleep(ctx, pause)
		pause = min(2*pause, latest)
	}
}

// settle forgets the transactions that the snapshot sees, and that a standby
// shows which has replayed as much; and reports whether all that is wanted is
// visible.
func (v *visibility) settle(snap Snapshot) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last == nil || v.last.LSN <= snap.LSN {
		v.last = &snap
	}
	v.expected = slices.DeleteFunc(v.expected, func(tx awaited) bool { return tx.flushed <= snap.LSN && snap.Sees(tx.xid) })
	if len(v.expected) == 0 {
		v.seen.raise(v.latest)
		return true
	}
	first := v.expected[0].commit
	v.seen.raise(first - 1)
	return first > v.wanted
}
