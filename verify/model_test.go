package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// world is a database, a store, and a daemon between them that is right. Each
// time that the Check asks one of them something, some of what is under way goes
// on, so that a seed gives one order of events.
type world struct {
	rnd  *rand.Rand
	busy int // how much happens meanwhile, at most
	ids  int // of rows that are written to

	rows              map[viewlet.Key]string
	under             map[viewlet.Key]int // a row's parent; 0: none
	parents           [3]string
	lsn, flushed      viewlet.LSN // a commit is visible first, and flushed later
	commits           []commit    // not delivered yet
	pending           map[viewlet.Key]bool
	lookups           map[int]bool
	delivered         viewlet.LSN
	waiting, serving  viewlet.LSN        // the first commit of what is pending, of what is rendered; 0: none
	rendered          []viewlet.Fragment // not written yet
	kept              map[viewlet.Key]viewlet.Fragment
	guards            map[viewlet.Key]viewlet.LSN
	faults            map[string]error
	fails             map[viewlet.Key]error
	passes, reads, of int
}

// commit makes a row's fragment stale, or those of all rows under a parent, as a
// lookup finds them when it is served.
type commit struct {
	key    viewlet.Key
	parent int // when there is no key
	lsn    viewlet.LSN
}

func newWorld(seed uint64) *world {
	w := &world{
		rnd: rand.New(rand.NewPCG(seed, 0)), rows: map[viewlet.Key]string{}, pending: map[viewlet.Key]bool{},
		under: map[viewlet.Key]int{}, lookups: map[int]bool{},
		kept: map[viewlet.Key]viewlet.Fragment{}, guards: map[viewlet.Key]viewlet.LSN{},
		faults: map[string]error{}, fails: map[viewlet.Key]error{}, lsn: 10, flushed: 10, delivered: 10,
	}
	return w
}

// put makes a row, and its fragment.
func (w *world) put(key viewlet.Key, body string) {
	w.rows[key] = body
	w.kept[key] = viewlet.Fragment{Key: key, Body: []byte(body)}
}

func (w *world) live() {
	if w.busy == 0 {
		return
	}
	for range w.rnd.IntN(w.busy) {
		w.step()
	}
}

func (w *world) step() {
	switch w.rnd.IntN(5) {
	case 0:
		w.commit()
	case 1:
		w.flushed += viewlet.LSN(w.rnd.IntN(int(w.lsn-w.flushed) + 1))
	case 2:
		w.deliver()
	case 3:
		w.pass()
	case 4:
		w.write()
	}
}

// commit changes a row, or the parent of some, to one of few values: a fragment
// often becomes what it was.
func (w *world) commit() {
	w.lsn++
	if parent := w.rnd.IntN(6); parent == 1 || parent == 2 {
		w.parents[parent] = strings.Repeat("p", w.rnd.IntN(3))
		w.commits = append(w.commits, commit{parent: parent, lsn: w.lsn})
		return
	}
	key := viewlet.NewKey("row", fmt.Sprint(w.rnd.IntN(w.ids)))
	switch value := w.rnd.IntN(6); value {
	case 0:
		delete(w.rows, key)
	case 1, 2:
		w.under[key] = value
	default:
		w.rows[key] = strings.Repeat("x", value-2)
	}
	w.commits = append(w.commits, commit{key: key, lsn: w.lsn})
}

// pass renders what is pending. A lane has one pass at a time.
func (w *world) pass() {
	if w.serving > 0 {
		return
	}
	w.serving, w.waiting = w.waiting, 0
	for parent := range w.lookups {
		for key := range w.rows {
			if w.under[key] == parent {
				w.pending[key] = true
			}
		}
	}
	for key := range w.pending {
		w.rendered = append(w.rendered, w.render(key))
	}
	clear(w.pending)
	clear(w.lookups)
}

func (w *world) deliver() {
	for len(w.commits) > 0 && w.commits[0].lsn <= w.flushed && w.rnd.IntN(4) > 0 {
		if c := w.commits[0]; c.parent > 0 {
			w.lookups[c.parent] = true
		} else {
			w.pending[c.key] = true
		}
		w.delivered = w.commits[0].lsn
		if w.waiting == 0 {
			w.waiting = w.delivered
		}
		w.commits = w.commits[1:]
	}
	if len(w.commits) == 0 {
		w.delivered = max(w.delivered, w.flushed)
	}
}

func (w *world) write() {
	for _, f := range w.rendered {
		w.guards[f.Key] = f.LSN
		if f.Body == nil {
			delete(w.kept, f.Key)
		} else {
			w.kept[f.Key] = f
		}
	}
	w.rendered, w.serving = nil, 0
}

// reached is what everything before is in the store.
func (w *world) reached() viewlet.LSN {
	lsn := w.delivered
	for _, first := range []viewlet.LSN{w.waiting, w.serving} {
		if first > 0 {
			lsn = min(lsn, first-1)
		}
	}
	return lsn
}

func (w *world) render(key viewlet.Key) viewlet.Fragment {
	f := viewlet.Fragment{Key: key, LSN: w.flushed, Err: w.fails[key]}
	if body, ok := w.rows[key]; ok && f.Err == nil {
		f.Body = []byte(body + w.parents[w.under[key]])
	}
	return f
}

func (w *world) Expand(ctx context.Context, name, via string, _ []string, yield func([]viewlet.Key) error) error {
	w.of++
	var all []viewlet.Key
	for key := range w.rows {
		if key.Viewlet == name && via == viewlet.Whole {
			all = append(all, key)
		}
	}
	for piece := range slices.Chunk(all, 7) {
		w.live()
		if err := yield(piece); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) Render(_ context.Context, name string, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	w.live()
	var fragments []viewlet.Fragment
	for _, key := range keys {
		if key.Viewlet != name {
			return nil, fmt.Errorf("%s is asked for %s", name, key)
		}
		fragments = append(fragments, w.render(key))
	}
	w.live()
	return fragments, nil
}

func (w *world) Names(_ context.Context, key viewlet.Key) (bool, error) {
	return !strings.HasPrefix(key.Args, ":0") || key.Args == ":0", nil
}

func (w *world) Visible(context.Context) (viewlet.LSN, error) {
	w.live()
	w.flushed = w.lsn // it waits for that
	return w.flushed, nil
}

func (w *world) Walk(_ context.Context, of string, yield func([]string) error) error {
	var names []string
	for _, key := range slices.Collect(maps.Keys(w.kept)) {
		if name := key.String(); strings.HasPrefix(name, of) {
			names = append(names, name)
		}
	}
	for piece := range slices.Chunk(names, 10) {
		w.live()
		if err := yield(piece); err != nil {
			return err
		}
	}
	return yield(nil)
}

func (w *world) Held(_ context.Context, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	w.reads += len(keys)
	held := make([]viewlet.Fragment, len(keys))
	for i, key := range keys {
		w.live()
		held[i] = w.kept[key]
		w.live() // the guard is read next
		held[i].Key, held[i].LSN = key, w.guards[key]
	}
	return held, nil
}

func (w *world) Absent(_ context.Context, keys []viewlet.Key) ([]viewlet.Key, error) {
	w.live()
	return slices.DeleteFunc(slices.Clone(keys), func(k viewlet.Key) bool { return w.kept[k].Body != nil }), nil
}

func (w *world) Faults(_ context.Context, names []string) ([]error, error) {
	faults := make([]error, len(names))
	for i, name := range names {
		faults[i] = w.faults[name]
	}
	return faults, nil
}

// passed goes on until the daemon has confirmed lsn.
func (w *world) passed(_ context.Context, lsn viewlet.LSN) error {
	w.passes++
	for w.reached() < lsn {
		if w.busy == 0 {
			w.deliver()
			return nil
		}
		w.step()
	}
	return nil
}

// check gives what a Check finds, by name.
func (w *world) check(t testing.TB, change func(*Config)) (found map[string]Finding, check *Check) {
	t.Helper()
	found = map[string]Finding{}
	cfg := Config{
		Viewlets: []Viewlet{{Name: "row", Params: 1}}, Truth: w, Store: w, Passed: w.passed, Chunk: 5, Workers: 1,
		Found: func(_ context.Context, findings []Finding) error {
			for _, f := range findings {
				found[f.Name()] = f
			}
			return nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	check = New(cfg)
	if err := check.All(t.Context()); err != nil {
		t.Fatal(err)
	}
	return found, check
}

// A daemon that is right is never said to be wrong, whatever happens between the
// looks, and what it has no part in is found all the same.
func TestNoFalseAlarm(t *testing.T) {
	began := uint64(time.Now().UnixNano())
	const ids = 40
	settled := 0
	for seed := began; seed < began+1000; seed++ {
		w := newWorld(seed)
		w.busy, w.ids = 1+int(seed%12), ids
		for i := range 2 * ids {
			w.put(viewlet.NewKey("row", fmt.Sprint(i)), "x")
		}
		want := map[string]Kind{}
		spoil := func(id int, kind Kind) viewlet.Key {
			key := viewlet.NewKey("row", fmt.Sprint(ids+id))
			want[key.String()] = kind
			return key
		}
		delete(w.kept, spoil(0, Missing))
		w.kept[spoil(1, Different)] = viewlet.Fragment{Body: []byte("tampered")}
		delete(w.rows, spoil(2, Orphaned))
		w.kept[viewlet.NewKey("gone", "1")] = viewlet.Fragment{Body: []byte("x")}
		want["gone:1"] = Orphaned

		found, check := w.check(t, nil)
		settled += w.passes
		for name, f := range found {
			if want[name] != f.Kind {
				t.Errorf("seed %d: %s is said to be %s", seed, name, f.Kind)
			}
		}
		for name, kind := range want {
			if found[name].Kind != kind {
				t.Errorf("seed %d: %s is not said to be %s", seed, name, kind)
			}
		}
		if n := check.Unsettled(); n > ids/4 {
			t.Errorf("seed %d: %d fragments are unsettled", seed, n)
		}
		if t.Failed() {
			return
		}
	}
	if settled < 2500 { // twice for what is spoiled, each time
		t.Errorf("only %d times was there something to look at again", settled)
	}
}

// What a look takes for different is told once the daemon had the chance to mend
// it, and not before.
func TestKinds(t *testing.T) {
	key := func(args ...string) viewlet.Key { return viewlet.NewKey("row", args...) }
	broken := errors.New("division by zero")
	for _, c := range []struct {
		name  string
		world func(w *world)
		want  map[string]Kind
		stray bool
	}{
		{"equal", func(w *world) { w.put(key("1"), "x") }, map[string]Kind{}, false},
		{"nothing there, and nothing to be", func(*world) {}, map[string]Kind{}, false},
		{"empty bytes are not nothing", func(w *world) { w.put(key("1"), ""); delete(w.kept, key("1")) }, map[string]Kind{"row:1": Missing}, false},
		{"no string", func(w *world) {
			w.put(key("1"), "x")
			w.kept[key("1")] = viewlet.Fragment{Err: errors.New("a hash")}
		}, map[string]Kind{"row:1": Different}, false},
		{"cannot be rendered", func(w *world) { w.put(key("1"), "x"); w.fails[key("1")] = broken }, map[string]Kind{"row:1": Failed}, false},
		{"could not be rendered", func(w *world) {
			w.put(key("1"), "x")
			w.rows[key("1")], w.faults["row:1"] = "y", broken
		}, map[string]Kind{"row:1": Failed}, false},
		{"its viewlet could not be rendered", func(w *world) {
			w.put(key("1"), "x")
			w.rows[key("1")], w.faults["row:*"] = "y", broken
		}, map[string]Kind{"row:1": Failed}, false},
		{"failed and equal", func(w *world) { w.put(key("1"), "x"); w.faults["row:1"] = broken }, map[string]Kind{}, false},
		{"a key that no instance has", func(w *world) {
			w.put(key("01"), "x")
			w.rows[key("01")] = "y"
		}, map[string]Kind{"row:01": Orphaned}, true},
		{"such a key that cannot even be rendered", func(w *world) {
			w.put(key("0oak"), "x")
			w.fails[key("0oak")] = broken
		}, map[string]Kind{"row:0oak": Orphaned}, true},
		{"too many arguments", func(w *world) { w.kept[key("1", "2")] = viewlet.Fragment{Body: []byte("x")} }, map[string]Kind{"row:1:2": Orphaned}, true},
		{"badly encoded", func(w *world) { w.kept[viewlet.Key{Viewlet: "row:%zz"}] = viewlet.Fragment{Body: []byte("x")} }, map[string]Kind{"row:%zz": Orphaned}, true},
		{"another viewlet's", func(w *world) { w.kept[viewlet.NewKey("rows")] = viewlet.Fragment{Body: []byte("x")} }, map[string]Kind{"rows": Orphaned}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(0)
			c.world(w)
			found, _ := w.check(t, nil)
			got := map[string]Kind{}
			for name, f := range found {
				got[name] = f.Kind
				if f.Stray != c.stray || f.Stray && (f.Fresh.Body != nil || f.Err != nil) {
					t.Errorf("%s: stray is %t: %+v", name, f.Stray, f)
				}
				if (f.Err != nil) != (f.Kind == Failed) {
					t.Errorf("%s is %s, because %v", name, f.Kind, f.Err)
				}
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}
}

func TestPartial(t *testing.T) {
	w := newWorld(0)
	w.put(viewlet.NewKey("row", "1"), "x")
	w.put(viewlet.NewKey("row", "2"), "x")
	delete(w.kept, viewlet.NewKey("row", "1"))
	w.rows[viewlet.NewKey("row", "2")] = "y"
	found, _ := w.check(t, func(cfg *Config) { cfg.Viewlets[0].Partial = true })
	if len(found) != 1 || found["row:2"].Kind != Different {
		t.Errorf("found %v", found)
	}
}

// A sample reads no more than was asked for, and any fragment may be in it.
func TestSample(t *testing.T) {
	w := newWorld(0)
	for i := range 100 {
		w.put(viewlet.NewKey("row", fmt.Sprint(i)), "x")
	}
	w.kept[viewlet.NewKey("row", "7")] = viewlet.Fragment{Body: []byte("tampered")}
	found := false
	for range 1000 {
		w.reads = 0
		findings, _ := w.check(t, func(cfg *Config) { cfg.Sample = 10 })
		if w.reads > 10+2 { // a difference is read three times
			t.Fatalf("a sample of 10 reads %d", w.reads)
		}
		found = found || len(findings) > 0
	}
	if !found {
		t.Error("1000 samples of a tenth have not found it")
	}
}

// Paced, instances come in slices that together are all of them, and no more
// keys are looked at than Pace has let pass.
func TestPaced(t *testing.T) {
	w := newWorld(0)
	const slice, many = 1000, 3*1000 + 1
	for i := range many {
		w.rows[viewlet.NewKey("row", fmt.Sprint(i))] = "x"
	}
	passed := 0
	seen := map[viewlet.Key]bool{}
	c := New(Config{
		Viewlets: []Viewlet{{Name: "row", Params: 1}}, Truth: w, Store: w, Passed: w.passed, Chunk: 100,
		Pace: func(_ context.Context, keys int) error { passed += keys; return nil },
		Found: func(_ context.Context, findings []Finding) error {
			for _, f := range findings {
				if seen[f.Key] {
					t.Errorf("%s comes twice", f.Key)
				}
				seen[f.Key] = true
			}
			return nil
		},
	})
	c.slice = slice
	if err := c.All(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(seen) != many || passed < many {
		t.Errorf("%d of %d were looked at, and %d let pass", len(seen), many, passed)
	}
	if w.of != 1+4 { // to count, and once for each slice
		t.Errorf("all keys were read %d times", w.of)
	}
}

// A viewlet that cannot be rendered is told of once, and the others are compared.
func TestBrokenViewlet(t *testing.T) {
	w := newWorld(0)
	for i := range 100 {
		w.put(viewlet.NewKey("row", fmt.Sprint(i)), "x")
		w.put(viewlet.NewKey("bad", fmt.Sprint(i)), "x")
	}
	w.rows[viewlet.NewKey("row", "1")] = "y"
	told := 0
	found, _ := w.check(t, func(cfg *Config) {
		cfg.Truth = breaks{w}
		cfg.Viewlets = append(cfg.Viewlets, Viewlet{Name: "bad", Params: 1})
		found := cfg.Found
		cfg.Found = func(ctx context.Context, findings []Finding) error {
			told += len(findings)
			return found(ctx, findings)
		}
	})
	if told != 2 || found["bad:*"].Kind != Failed || found["row:1"].Kind != Different {
		t.Errorf("told of %d: %v", told, found)
	}
}

// breaks is a world in which the viewlet bad is broken.
type breaks struct{ *world }

func (b breaks) Render(ctx context.Context, name string, keys []viewlet.Key) ([]viewlet.Fragment, error) {
	if name == "bad" {
		return nil, &viewlet.Broken{Err: errors.New("no such table")}
	}
	return b.world.Render(ctx, name, keys)
}
