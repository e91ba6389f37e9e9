package viewlet

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var modelSeeds = flag.Int("model-seeds", 150, "how many random histories the pipeline's model test tries")

// The world of the model: a database of counters, a stream of transactions
// that raise them, and a store that should end up showing them. Everything in
// it fails at random, by its seed.
type world struct {
	mu     sync.Mutex
	rnd    *rand.Rand
	faults bool

	txs     []modelTx
	insert  LSN                    // WAL insert position
	flushed LSN                    // what of it is on disk, and so streamed and replayed
	standby bool                   // some queries are a standby's
	floor   LSN                    // nothing older than this is read from it
	rows    map[Key]int            // committed: the number of the last transaction
	visible map[Key]int            // what a new snapshot sees
	more    chan struct{}          // closed when more is flushed
	stored  map[Key]int            // the store
	guard   map[Key]LSN            // beside it
	owed    map[string]bool        // viewlets noted as broken or never rendered whole
	broken  map[string]bool        // viewlets whose query fails
	poison  map[Key]bool           // rows whose fragments cannot be rendered
	failed  map[Key]bool           // fragments noted as failed
	reached LSN                    // state in the store
	slot    LSN                    // confirmed
	busy    map[Key]bool           // keys being rendered
	wrong   []string               // what must never happen
	mutate  func(func()) (ok bool) // a store that lies; nil: it does not
}

type modelTx struct {
	Tx
	end       LSN
	refreshes []Refresh
	keys      []Key // whose rows it changed
	number    int
	seen      bool
}

var modelViewlets = []string{"a", "b", "c"}

const modelKeys = 12

func newWorld(seed uint64) *world {
	w := &world{
		rnd: rand.New(rand.NewPCG(seed, 0)), faults: true, insert: 1000, flushed: 1000, reached: 1000, slot: 1000,
		rows: map[Key]int{}, visible: map[Key]int{}, stored: map[Key]int{}, guard: map[Key]LSN{},
		owed: map[string]bool{}, broken: map[string]bool{}, busy: map[Key]bool{},
		poison: map[Key]bool{}, failed: map[Key]bool{}, more: make(chan struct{}),
	}
	w.standby = w.rnd.IntN(2) == 0
	for _, v := range modelViewlets {
		w.owed[v] = true
		for i := range modelKeys {
			w.rows[NewKey(v, strconv.Itoa(i))] = 0
			w.visible[NewKey(v, strconv.Itoa(i))] = 0
		}
	}
	return w
}

func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.faults && w.rnd.Float64() < p
}

func (w *world) between(lo, hi time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return lo + time.Duration(w.rnd.Int64N(int64(hi-lo)))
}

func (w *world) never(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// commit writes one random transaction. It is visible some time later; or it
// does not wait for the disk, and is flushed some time later.
func (w *world) commit() {
	w.mu.Lock()
	n := len(w.txs) + 1
	tx := modelTx{number: n, Tx: Tx{XID: uint32(n), FinalLSN: w.insert + 8, Committed: time.Now()}, end: w.insert + 16}
	for range 1 + w.rnd.IntN(5) {
		v := modelViewlets[w.rnd.IntN(len(modelViewlets))]
		switch w.rnd.IntN(10) {
		case 0: // a lookup: all keys of one parity
			parity := w.rnd.IntN(2)
			tx.refreshes = append(tx.refreshes, Refresh{Key: NewKey(v, strconv.Itoa(parity)), Via: "parity"})
			for i := parity; i < modelKeys; i += 2 {
				tx.keys = append(tx.keys, NewKey(v, strconv.Itoa(i)))
			}
		case 1:
			tx.refreshes = append(tx.refreshes, Refresh{Key: Key{Viewlet: v}, Via: Whole})
			for i := range modelKeys {
				tx.keys = append(tx.keys, NewKey(v, strconv.Itoa(i)))
			}
		default:
			k := NewKey(v, strconv.Itoa(w.rnd.IntN(modelKeys)))
			tx.refreshes, tx.keys = append(tx.refreshes, Refresh{Key: k}), append(tx.keys, k)
		}
	}
	for _, k := range tx.keys {
		w.rows[k] = n
	}
	w.insert = tx.end
	w.txs = append(w.txs, tx)
	delay := time.Duration(w.rnd.Int64N(int64(20 * time.Millisecond)))
	kind := w.rnd.IntN(6)
	w.mu.Unlock()
	switch kind {
	case 0, 1:
		w.flush(tx.end)
		go func() { time.Sleep(delay); w.show(n) }()
	case 2:
		w.show(n)
		go func() { time.Sleep(delay); w.flush(tx.end) }()
	default:
		w.flush(tx.end)
		w.show(n)
	}
}

func (w *world) flush(end LSN) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if end > w.flushed {
		w.flushed = end
		close(w.more)
		w.more = make(chan struct{})
	}
}

func (w *world) show(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.txs[n-1].seen = true
	for _, k := range w.txs[n-1].keys {
		w.visible[k] = max(w.visible[k], n)
	}
}

// Run delivers what is behind the slot, as Postgres does.
func (w *world) Run(ctx context.Context, sink Sink) error {
	w.mu.Lock()
	from := w.slot
	w.mu.Unlock()
	for next := 0; ; {
		if full := sink.Room(); full != nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-full:
			}
			continue
		}
		if w.chance(0.02) {
			return errors.New("connection reset")
		}
		w.mu.Lock()
		more := w.more
		var tx *modelTx
		end := w.flushed
		if next < len(w.txs) && w.txs[next].end <= end {
			tx = new(w.txs[next])
		}
		w.mu.Unlock()
		if tx == nil {
			sink.Idle(end)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-more:
			}
			continue
		}
		next++
		if tx.end <= from {
			continue
		}
		if err := w.deliver(sink, tx); err != nil {
			return err
		}
	}
}

func (w *world) deliver(sink Sink, tx *modelTx) error {
	sink.Begin(tx.Tx)
	for _, r := range tx.refreshes {
		via := Value{Kind: Text, Text: []byte(r.Via)}
		args := Value{Kind: Text, Text: []byte(r.Args)}
		c := Change{Op: Update, Rel: &Relation{Name: r.Viewlet}, New: Tuple{via, args}}
		if err := sink.Change(&c); err != nil {
			return err
		}
		if w.chance(0.01) {
			return errors.New("connection reset within a transaction")
		}
	}
	return sink.Commit(tx.end)
}

// Confirm checks what a confirmation claims: nothing before it is missing in
// the store, or noted there as owed.
func (w *world) Confirm(lsn LSN) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if lsn > w.reached {
		w.never("%v confirmed before the store knew of it, it knows %v", lsn, w.reached)
	}
	w.slot = max(w.slot, lsn)
	for _, tx := range w.txs {
		for _, k := range tx.keys {
			if tx.end <= lsn && w.stored[k] < tx.number && !w.owed[k.Viewlet] && !w.failed[k] {
				w.never("%v confirmed, but %v shows %d instead of %d", lsn, k, w.stored[k], tx.number)
			}
		}
	}
}

func (w *world) Match(dst []Refresh, c *Change) ([]Refresh, error) {
	return append(dst, Refresh{Key: Key{Viewlet: c.Rel.Name, Args: string(c.New[1].Text)}, Via: string(c.New[0].Text)}), nil
}

func (w *world) ParseMessage(dst []Refresh, content []byte) ([]Refresh, error) {
	k, err := ParseKey(string(content))
	return append(dst, Refresh{Key: k}), err
}

func (w *world) Snapshot(ctx context.Context) (Snapshot, error) {
	time.Sleep(w.between(0, time.Millisecond))
	if w.chance(0.05) {
		return Snapshot{}, errors.New("too many clients already")
	}
	w.mu.Lock()
	snap := w.snapshot()
	w.floor = max(w.floor, snap.LSN)
	w.mu.Unlock()
	time.Sleep(w.between(0, time.Millisecond))
	return snap, nil
}

func (w *world) snapshot() Snapshot {
	s := Snapshot{Xmin: 1, Xmax: 1, LSN: w.flushed}
	for _, tx := range w.txs {
		if tx.seen {
			s.Xmax = uint64(tx.number) + 1
		}
	}
	for _, tx := range w.txs {
		if !tx.seen && uint64(tx.number) < s.Xmax {
			s.Xip = append(s.Xip, uint64(tx.number))
		}
	}
	return s
}

func (w *world) Expand(ctx context.Context, viewlet, via string, args []string, yield func([]Key) error) error {
	if err := w.query(viewlet); err != nil {
		return err
	}
	var keys []Key
	if via == Whole {
		args = []string{":0", ":1"}
	}
	for _, a := range args {
		first, _ := strconv.Atoi(a[1:])
		for i := first; i < modelKeys; i += 2 {
			keys = append(keys, NewKey(viewlet, strconv.Itoa(i)))
		}
	}
	for piece := range slices.Chunk(keys, 4) {
		if w.chance(0.02) {
			return errors.New("connection reset in a cursor")
		}
		if err := yield(slices.Clone(piece)); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) query(viewlet string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken[viewlet] {
		return &Broken{Err: errors.New("relation does not exist")}
	}
	return nil
}

func (w *world) Render(ctx context.Context, viewlet string, keys []Key) ([]Fragment, error) {
	if err := w.query(viewlet); err != nil {
		return nil, err
	}
	w.mu.Lock()
	snap := w.snapshot()
	at, seen, shown := snap.LSN, &snap, w.shown
	if w.standby { // who knows where the next one goes
		seen = nil
	}
	if w.standby && w.rnd.IntN(2) == 0 {
		at, shown = w.floor, w.replayed
		if w.rnd.IntN(2) == 0 {
			at += LSN(w.rnd.Uint64N(uint64(w.flushed-w.floor) + 1))
		}
	}
	w.mu.Unlock()
	time.Sleep(w.between(0, 2*time.Millisecond))
	w.mu.Lock()
	fragments := make([]Fragment, len(keys))
	for i, k := range keys {
		fragments[i] = Fragment{Key: k, Body: strconv.AppendInt(nil, int64(shown(k, at)), 10), LSN: at, Seen: seen}
		if w.poison[k] {
			fragments[i].Err = errors.New("division by zero")
		}
	}
	w.mu.Unlock()
	time.Sleep(w.between(0, 5*time.Millisecond))
	if w.chance(0.05) {
		return nil, errors.New("server closed the connection")
	}
	return fragments, ctx.Err()
}

// shown is what the primary has of a key, and replayed what a standby has that has
// come no further than it says.
func (w *world) shown(k Key, _ LSN) int { return w.visible[k] }

func (w *world) replayed(k Key, at LSN) int {
	for _, tx := range slices.Backward(w.txs) {
		if tx.end <= at && slices.Contains(tx.keys, k) {
			return tx.number
		}
	}
	return 0
}

func (w *world) Store(ctx context.Context, viewlet string, fragments []Fragment, pass *Pass) error {
	if w.chance(0.05) {
		return errors.New("LOADING")
	}
	defer w.writing(fragments)()
	write := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, f := range fragments {
			if f.Err != nil {
				w.failed[f.Key] = true
				continue
			}
			if f.LSN < w.guard[f.Key] {
				continue
			}
			delete(w.failed, f.Key)
			w.guard[f.Key] = f.LSN
			w.stored[f.Key], _ = strconv.Atoi(string(f.Body))
		}
	}
	if w.mutate == nil || !w.mutate(write) {
		write()
	}
	time.Sleep(w.between(0, time.Millisecond))
	if w.chance(0.05) {
		return errors.New("i/o timeout after the write")
	}
	return ctx.Err()
}

// writing sees that no key has two writers.
func (w *world) writing(fragments []Fragment) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range fragments {
		if w.busy[f.Key] {
			w.never("%v has two writers", f.Key)
		}
		w.busy[f.Key] = true
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, f := range fragments {
			delete(w.busy, f.Key)
		}
	}
}

func (w *world) Due(_ context.Context, viewlet string, yield func([]Key) error) (next time.Time, err error) {
	if w.chance(0.1) {
		return next, errors.New("LOADING")
	}
	w.mu.Lock()
	var keys []Key
	for k := range w.failed {
		if k.Viewlet == viewlet {
			keys = append(keys, k)
		}
	}
	w.mu.Unlock()
	if len(keys) == 0 {
		return next, nil
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Compare(a.Args, b.Args) })
	return time.Now().Add(2 * time.Second), yield(keys)
}

func (w *world) Still(_ context.Context, fragments []Fragment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range fragments {
		if f.Err == nil {
			w.never("%v fails again without an error", f.Key)
		}
	}
	return nil
}

func (w *world) Forgive(_ context.Context, keys []Key) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.never("%v are forgiven, of a viewlet that keeps all", keys)
	return nil
}

func (w *world) Wanted(_ context.Context, _ string, keys []Key, _ LSN) ([]Key, error) {
	return keys, nil
}

func (w *world) Older(_ context.Context, viewlet string, since LSN, yield func([]Key) error) error {
	w.mu.Lock()
	var keys []Key
	for k := range w.stored {
		if k.Viewlet == viewlet && w.guard[k] < since {
			keys = append(keys, k)
		}
	}
	w.mu.Unlock()
	slices.SortFunc(keys, func(a, b Key) int { return len(a.Args) - len(b.Args) })
	if err := yield(nil); err != nil { // nothing yet
		return err
	}
	return yield(keys)
}

func (w *world) Whole(_ context.Context, viewlet string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.owed, viewlet)
	return nil
}

func (w *world) Broken(_ context.Context, viewlet string, _ error) error {
	if w.chance(0.2) {
		return errors.New("READONLY")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owed[viewlet] = true
	return nil
}

func (w *world) Reached(_ context.Context, lsn LSN) error {
	if w.chance(0.1) {
		return errors.New("OOM")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached = max(w.reached, lsn)
	return nil
}

// pipeline is what a daemon that starts now makes of the world.
func (w *world) pipeline() *Pipeline {
	w.mu.Lock()
	defer w.mu.Unlock()
	cfg := Config{
		Match: w, Render: w, Store: w, Failures: w, Start: w.slot, MaxPending: 10, Chunk: 3,
		Backoff: func() func() time.Duration { return func() time.Duration { return 3 * time.Millisecond } },
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, v := range modelViewlets {
		cfg.Lanes = append(cfg.Lanes, Lane{Viewlet: v})
	}
	p := New(cfg)
	var invisible []uint32
	for _, tx := range w.txs {
		if !tx.seen && tx.end <= w.slot {
			invisible = append(invisible, tx.XID)
		}
	}
	p.Expect(invisible)
	for _, v := range slices.Sorted(maps.Keys(w.owed)) {
		p.Refresh(Refresh{Key: Key{Viewlet: v}, Via: Whole})
	}
	return p
}

// live runs one daemon after the other until the history is written, and then
// one in peace until it has caught up.
func (w *world) live(t *testing.T) {
	history := make(chan struct{})
	go func() {
		defer close(history)
		for range 60 {
			time.Sleep(w.between(0, 8*time.Millisecond))
			w.commit()
			w.mu.Lock()
			if v := modelViewlets[w.rnd.IntN(3)]; w.rnd.IntN(12) == 0 {
				w.broken[v] = !w.broken[v]
			}
			if k := NewKey(modelViewlets[w.rnd.IntN(3)], strconv.Itoa(w.rnd.IntN(modelKeys))); w.rnd.IntN(6) == 0 {
				w.poison[k] = !w.poison[k]
			}
			w.mu.Unlock()
		}
	}()
	for writing := true; writing; {
		ctx, stop := context.WithTimeout(context.Background(), w.between(time.Millisecond, 300*time.Millisecond))
		err := w.pipeline().Run(ctx, w)
		if err != nil && ctx.Err() == nil {
			t.Logf("daemon ended: %v", err)
		}
		stop()
		select {
		case <-history:
			writing = false
		default:
		}
	}
	w.mu.Lock()
	w.faults = false
	clear(w.broken)
	clear(w.poison)
	end := w.insert
	w.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	p := w.pipeline()
	ended := make(chan error)
	go func() { ended <- p.Run(ctx, w) }()
	if err := p.Wait(ctx, end); err != nil {
		t.Error(err)
	}
	anyFailed := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.failed) > 0
	}
	for deadline := time.Now().Add(time.Minute); !p.Status().Warm() || anyFailed(); {
		if time.Sleep(10 * time.Millisecond); time.Now().After(deadline) {
			w.never("%v are still failed", w.failed)
			break
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("a graceful stop gives %v", err)
	}
}

// TestModel tries random histories of commits, faults, crashes and restarts.
// Whatever happens, nothing is confirmed that the store does not show, no key
// has two writers, and in the end the store shows what the database does.
func TestModel(t *testing.T) {
	base := uint64(time.Now().UnixNano())
	for i := range *modelSeeds {
		seed := base + uint64(i)
		if i < 10 {
			seed = uint64(i) // the same in every run
		}
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(seed)
				w.live(t)
				for k, want := range w.rows {
					if w.stored[k] != want {
						w.never("%v shows %d in the end instead of %d", k, w.stored[k], want)
					}
				}
				for _, wrong := range w.wrong {
					t.Errorf("seed %d: %s", seed, wrong)
				}
			})
		})
	}
}

// TestModelCatchesALie shows that the model can fail: a store that answers
// before it has written, which is a confirm before the store, is found out.
func TestModelCatchesALie(t *testing.T) {
	for seed := range uint64(20) {
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(seed)
			w.mutate = func(write func()) bool {
				go func() { time.Sleep(200 * time.Millisecond); write() }()
				return true
			}
			w.live(t)
			wrong = w.wrong
			time.Sleep(time.Second) // the bubble's: lets the last of the lies end
		})
		if len(wrong) > 0 {
			t.Logf("seed %d: found %s", seed, wrong[0])
			return
		}
	}
	t.Error("no seed noticed that the store answers before it writes")
}
