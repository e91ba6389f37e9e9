package cache

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Each step is done to product_teaser:42, in order, on what the ones before
// left there.
func TestGuardOrder(t *testing.T) {
	const low, mid, high viewlet.LSN = 0x9, 0x1FFFFFFFFFFFFFFF, 0x2000000000000000 // beyond a float64's digits
	type step struct {
		verb string // store, requested, fill
		lsn  viewlet.LSN
		body string
		want Outcome
		then string
	}
	for name, steps := range map[string][]step{
		"older loses":                {{"store", mid, "new", Written, "new"}, {"store", low, "old", Refused, "new"}, {"store", mid - 1, "old", Refused, "new"}},
		"newer wins":                 {{"store", mid, "a", Written, "a"}, {"store", mid + 1, "b", Written, "b"}, {"store", high + 1, "c", Written, "c"}},
		"equal is accepted":          {{"store", mid, "a", Written, "a"}, {"store", mid, "b", Written, "b"}},
		"older deletion loses":       {{"store", mid, "a", Written, "a"}, {"store", low, "-", Refused, "a"}},
		"guard outlives deletion":    {{"store", low, "a", Written, "a"}, {"store", high, "-", Deleted, "-"}, {"store", mid, "a", Refused, "-"}, {"fill", mid, "a", Refused, "-"}},
		"absent moves the guard":     {{"store", high, "-", Absent, "-"}, {"store", mid, "a", Refused, "-"}},
		"equal bytes move the guard": {{"store", low, "a", Written, "a"}, {"store", high, "a", Equal, "a"}, {"store", mid, "b", Refused, "a"}},
		"fill on nothing":            {{"fill", low, "a", Written, "a"}, {"store", low, "b", Written, "b"}},
		"fill as new loses":          {{"store", mid, "a", Written, "a"}, {"fill", mid, "b", Refused, "a"}, {"fill", mid - 1, "b", Refused, "a"}},
		"fill newer wins":            {{"store", mid, "a", Written, "a"}, {"fill", mid + 1, "b", Written, "b"}},
		"fill of nothing, no trace":  {{"fill", high, "-", Refused, "-"}, {"store", low, "a", Written, "a"}},
		"not requested":              {{"requested", mid, "a", Skipped, "-"}, {"fill", mid, "a", Refused, "-"}, {"fill", high, "b", Written, "b"}, {"requested", high, "c", Written, "c"}, {"requested", high, "-", Deleted, "-"}},
		"empty is not nothing":       {{"store", low, "", Written, ""}, {"store", low, "", Equal, ""}, {"store", low, "-", Deleted, "-"}},
		"binary":                     {{"store", low, "\x00\r\n\xff%s\x01", Written, "\x00\r\n\xff%s\x01"}, {"store", low, "\x00\r\n\xff%s\x01", Equal, "\x00\r\n\xff%s\x01"}},
		"the lowest and the highest": {{"store", 0, "a", Written, "a"}, {"store", 1<<64 - 1, "b", Written, "b"}, {"store", 1<<64 - 2, "c", Refused, "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := setup(t, Config{})
			for i, s := range steps {
				f := fragment(t, "product_teaser:42", s.lsn, s.body)
				got := Written
				if s.verb == "fill" {
					if !fill(t, c, f) {
						got = Refused
					}
				} else {
					got = store(t, c, f, Options{Requested: s.verb == "requested"})
				}
				if now := get(t, c, "product_teaser:42"); got != s.want || now != s.then {
					t.Fatalf("step %d, %s %q at %s: got %#v and then %q, want %#v and %q", i+1, s.verb, s.body, s.lsn, got, now, s.want, s.then)
				}
			}
		})
	}
}

func TestKeysInRedis(t *testing.T) {
	for _, prefix := range []string{"viewlet:", `[app]*?\:`, "{shop}:"} {
		t.Run(prefix, func(t *testing.T) {
			c, s := setup(t, Config{Prefix: prefix, GuardTTL: time.Minute})
			store(t, c, fragment(t, "product_teaser:42", 0x1_0000_00ab, "x"), Options{})
			store(t, c, fragment(t, "category_menu", 5, "y"), Options{})
			for k, want := range map[string]string{
				prefix + "product_teaser:42":                           "x",
				prefix + "@lsn:{" + prefix + "product_teaser:42" + "}": "00000001000000AB",
				prefix + "category_menu":                               "y",
			} {
				if got := must(s.raw.Get(t.Context(), k).Result())(t); got != want {
					t.Errorf("%s is %q, want %q", k, got, want)
				}
			}
			ttl := must(s.raw.PTTL(t.Context(), prefix+"@lsn:{"+prefix+"product_teaser:42"+"}").Result())(t)
			if ttl <= 50*time.Second || ttl > time.Minute {
				t.Errorf("the guard lives for %s, want a minute", ttl)
			}
			if got, want := c.RedisKey(key(t, "product_teaser:42")), prefix+"product_teaser:42"; got != want {
				t.Errorf("RedisKey gives %q, want %q", got, want)
			}
		})
	}
}

func TestTTL(t *testing.T) {
	c, s := setup(t, Config{})
	const hour, forEver = time.Hour, time.Duration(0)
	for i, step := range []struct {
		body string
		ttl  time.Duration
		want Outcome
	}{
		{"a", forEver, Written},
		{"a", hour, Equal}, // a TTL is put on
		{"a", 2 * hour, Equal},
		{"a", forEver, Equal}, // and taken off
		{"b", hour, Written},
		{"c", forEver, Written},
		{"c", time.Nanosecond, Equal}, // a millisecond, not for ever and not an error
	} {
		got := store(t, c, fragment(t, "v:1", 1, step.body), Options{TTL: step.ttl})
		if got != step.want {
			t.Errorf("step %d: got %#v, want %#v", i+1, got, step.want)
		}
		left := must(s.raw.PTTL(t.Context(), "viewlet:v:1").Result())(t)
		switch {
		case step.ttl == forEver && left != -1, // go-redis's "no TTL"
			step.ttl >= hour && (left <= step.ttl-time.Minute || left > step.ttl),
			step.ttl == time.Nanosecond && left > time.Millisecond:
			t.Errorf("step %d: %s left, want %s", i+1, left, step.ttl)
		}
	}
	if !eventually(t, func() bool { return get(t, c, "v:1") == "-" }) {
		t.Error("the fragment outlived its TTL")
	}
}

var weirdArgs = []string{
	`it's "quoted"`, "a:b", "100%", "{braces}", "}{", "🌳", "line\nbreak", "*", "?", "[a-z]", `back\slash`, "", " ", "\x00",
	"@state", "%2F", "<b>&", "ÄÖ", "\u2028", "\x7f",
}

func TestWeirdKeys(t *testing.T) {
	c, s := setup(t, Config{Prefix: `[app]*:`})
	news := must(c.Subscribe(t.Context()))(t)
	var fragments []viewlet.Fragment
	want := make(map[viewlet.Key][]string)
	for _, a := range weirdArgs {
		for _, args := range [][]string{{a}, {a, "sv"}, {a, a}} {
			k := viewlet.NewKey("page", args...)
			want[k] = args
			fragments = append(fragments, viewlet.Fragment{Key: k, LSN: 0x16B3748, Body: []byte(strings.Join(args, "|"))})
		}
	}
	for i, o := range must(c.Store(t.Context(), fragments, Options{}))(t) {
		if o != Written {
			t.Errorf("%s: got %#v", fragments[i].Key, o)
		}
	}
	for k, args := range want {
		body, found, err := c.Get(t.Context(), k)
		if err != nil || !found || string(body) != strings.Join(args, "|") {
			t.Errorf("%s: got %q, %v, %v", k, body, found, err)
		}
	}
	left := len(want)
	for a := range news {
		k := viewlet.NewKey(a.Viewlet, a.Args...)
		if !reflect.DeepEqual(want[k], a.Args) || a.Key != "[app]*:"+k.String() || a.Deleted || a.LSN != 0x16B3748 {
			t.Errorf("announced %+v of %s, want args %q", a, k, want[k])
		}
		if left--; left == 0 {
			break
		}
	}
	// Keys of others, which only a careless pattern would match.
	for _, other := range []string{"axx:page:1", "pxx:page:1", "app:page:1"} {
		s.raw.Set(t.Context(), other, "", 0)
	}
	got := allKeys(t, c, "page")
	if len(got) != len(want) {
		t.Errorf("Keys gave %d, want %d", len(got), len(want))
	}
	for k := range want {
		if !got[k] {
			t.Errorf("Keys gave no %s", k)
		}
	}
}

func TestAnnouncements(t *testing.T) {
	c, s := setup(t, Config{})
	raw := s.raw.Subscribe(t.Context(), "viewlet:@refreshed")
	defer raw.Close()
	must(raw.Receive(t.Context()))(t)

	for _, step := range []struct {
		f viewlet.Fragment
		o Options
	}{
		{fragment(t, "teaser:42:sv", 0x16B3748, "a"), Options{}},
		{fragment(t, "teaser:42:sv", 0x16B3749, "a"), Options{}},               // equal
		{fragment(t, "teaser:42:sv", 0x16B3749, "a"), Options{TTL: time.Hour}}, // only its TTL
		{fragment(t, "teaser:42:sv", 0x16B3748, "b"), Options{}},               // refused
		{fragment(t, "absent", 0x16B3748, "-"), Options{}},
		{fragment(t, "skipped", 0x16B3748, "a"), Options{Requested: true}},
		{viewlet.Fragment{Key: key(t, "teaser:42:sv"), LSN: 0x16B3750, Err: errors.New("broken")}, Options{}},
		{fragment(t, "teaser:42:sv", 0x16B3751, "-"), Options{}},
		{fragment(t, "menu", 0x16B3752, "z"), Options{}},
	} {
		store(t, c, step.f, step.o)
	}
	for _, want := range []string{
		`{"viewlet":"teaser","args":["42","sv"],"key":"viewlet:teaser:42:sv","deleted":false,"lsn":"0/16B3748"}`,
		`{"viewlet":"teaser","args":["42","sv"],"key":"viewlet:teaser:42:sv","deleted":true,"lsn":"0/16B3751"}`,
		`{"viewlet":"menu","args":[],"key":"viewlet:menu","deleted":false,"lsn":"0/16B3752"}`,
	} {
		if got := must(raw.ReceiveMessage(t.Context()))(t).Payload; got != want {
			t.Fatalf("announced %s\nwant      %s", got, want)
		}
	}
}

// A fragment is a string: something else under its key must not stop the
// others, and is replaced.
func TestForeignTypeIsReplaced(t *testing.T) {
	c, s := setup(t, Config{})
	s.raw.HSet(t.Context(), "viewlet:v:1", "a", "b")
	s.raw.HSet(t.Context(), "viewlet:v:2", "a", "b")
	got := must(c.Store(t.Context(), []viewlet.Fragment{
		fragment(t, "v:1", 1, "x"), fragment(t, "v:2", 1, "-"), fragment(t, "v:3", 1, "z"),
	}, Options{}))(t)
	if want := []Outcome{Written, Deleted, Written}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, want %#v", got, want)
	}
	if a, b := get(t, c, "v:1"), get(t, c, "v:2"); a != "x" || b != "-" {
		t.Errorf("got %q and %q", a, b)
	}
}

func TestScriptFlush(t *testing.T) {
	c, s := setup(t, Config{})
	c.perCall = 3 // several calls in the pipeline
	var fragments []viewlet.Fragment
	for i := range 10 {
		fragments = append(fragments, fragment(t, fmt.Sprintf("v:%d", i), 1, "x"))
	}
	for round, want := range []Outcome{Written, Equal, Equal} {
		for i, o := range must(c.Store(t.Context(), fragments, Options{}))(t) {
			if o != want {
				t.Errorf("round %d, v:%d: got %#v, want %#v", round, i, o, want)
			}
		}
		must(c.Keep(t.Context(), keys(t, "v:1"), 1))(t)
		if err := s.raw.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// More than fits into one pipeline: by number, and by size.
func TestStoreMany(t *testing.T) {
	c, s := setup(t, Config{})
	fragments := make([]viewlet.Fragment, 0, 5000)
	for i := range cap(fragments) {
		fragments = append(fragments, fragment(t, fmt.Sprintf("small:%d", i), 1, fmt.Sprint(i)))
	}
	big := strings.Repeat("x", 1<<20)
	for i := range 20 {
		fragments = append(fragments, fragment(t, fmt.Sprintf("big:%d", i), 1, big+fmt.Sprint(i)))
	}
	for i, o := range must(c.Store(t.Context(), fragments, Options{}))(t) {
		if o != Written {
			t.Fatalf("%s: got %#v", fragments[i].Key, o)
		}
	}
	for _, f := range fragments {
		if got := get(t, c, f.Key.String()); got != string(f.Body) {
			t.Fatalf("%s: got %d bytes, want %d", f.Key, len(got), len(f.Body))
		}
	}
	if n := must(s.raw.DBSize(t.Context()).Result())(t); n != int64(2*len(fragments)) {
		t.Errorf("Redis has %d keys, want a fragment and a guard each", n)
	}
	if out := must(c.Store(t.Context(), nil, Options{}))(t); len(out) != 0 {
		t.Errorf("got %d outcomes of no fragments", len(out))
	}
}

// Whoever stores what, how, and in which order: in the end each key has what
// was rendered last.
func TestConcurrentWriters(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c, s := setup(t, Config{})
	c.perCall = 4
	const names, rounds, writers = 20, 60, 6
	watch := watched(t, c, "v")

	var mu sync.Mutex
	last := make(map[string]viewlet.LSN)
	bodyOf := func(name string, lsn viewlet.LSN) string {
		if lsn%5 == 0 {
			return "-"
		}
		return fmt.Sprintf("%s at %s", name, lsn/3) // often equal to its neighbour's
	}
	var group sync.WaitGroup
	for w := range writers {
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		group.Go(func() {
			for range rounds {
				var fragments []viewlet.Fragment
				for _, i := range random.Perm(names)[:1+random.IntN(names)] {
					name := fmt.Sprintf("v:%d", i)
					lsn := viewlet.LSN(1<<60 + random.Uint64N(2000))
					fragments = append(fragments, fragment(t, name, lsn, bodyOf(name, lsn)))
				}
				var err error
				switch filled := fragments[0]; random.IntN(3) {
				case 0:
					fragments = nil
					if filled.Body != nil {
						filled.Watch = watch
						_, err = c.Fill(t.Context(), filled, Options{})
						fragments = []viewlet.Fragment{filled}
					}
				default:
					_, err = c.Store(t.Context(), fragments, Options{})
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, f := range fragments {
					last[f.Key.String()] = max(last[f.Key.String()], f.LSN)
				}
				mu.Unlock()
				if random.IntN(10) == 0 {
					s.raw.ScriptFlush(t.Context())
				}
			}
		})
	}
	group.Wait()
	for name, lsn := range last {
		if got, want := get(t, c, name), bodyOf(name, lsn); got != want {
			t.Errorf("%s is %q, want %q, with seed %d", name, got, want, seed)
		}
	}
}

func TestCount(t *testing.T) {
	var got viewlet.Pass
	for n, o := range []Outcome{Written, Equal, Deleted, Absent, Refused, Skipped, Failed} {
		for range n + 1 {
			o.Count(&got)
		}
	}
	want := viewlet.Pass{Written: 1, Equal: 2, Deleted: 3, Absent: 4, Refused: 5, Skipped: 6, Failed: 7}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func BenchmarkStore(b *testing.B) {
	for _, equal := range []bool{false, true} {
		for _, perCall := range []int{1, 10, 50, 100, 200} {
			b.Run(fmt.Sprintf("equal=%v/percall=%d", equal, perCall), func(b *testing.B) { benchmarkStore(b, equal, perCall, Options{}) })
		}
		b.Run(fmt.Sprintf("equal=%v/held", equal), func(b *testing.B) { benchmarkStore(b, equal, 100, Options{Held: true}) })
	}
}

// benchmarkStore stores chunks as a lane does, without what comes before.
func benchmarkStore(b *testing.B, equal bool, perCall int, o Options) {
	const chunk = 200
	body := []byte(strings.Repeat(`<a href="/p/42">Oak table, 120 cm</a> `, 10))
	c, s := setup(b, Config{})
	takeState(b, c)
	c.perCall = perCall
	lsn, before := viewlet.LSN(0), s.processor(b)
	for b.Loop() {
		lsn++
		fragments := make([]viewlet.Fragment, chunk)
		for i := range fragments {
			own := body
			if !equal {
				own = fmt.Appendf(body[:len(body):len(body)], "%d", lsn)
			}
			n := (int(lsn)*chunk + i) % 50_000
			fragments[i] = viewlet.Fragment{Key: viewlet.NewKey("product_teaser", fmt.Sprint(n)), LSN: lsn, Body: own}
		}
		if _, err := c.Store(b.Context(), fragments, o); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*chunk)/b.Elapsed().Seconds(), "fragments/s")
	b.ReportMetric((s.processor(b)-before).Seconds()*1e6/float64(b.N*chunk), "redis-µs/fragment")
}

// Redis does not read what it deletes: it may be more than Redis has room for.
func TestDeleteLarge(t *testing.T) {
	c, s := setup(t, Config{})
	const many, size = 50, 1 << 20
	stored, gone := make([]viewlet.Fragment, many), make([]viewlet.Fragment, many)
	for i := range stored {
		k := viewlet.NewKey("v", fmt.Sprint(i))
		stored[i] = viewlet.Fragment{Key: k, LSN: 1, Body: bytes.Repeat([]byte{'x'}, size)}
		gone[i] = viewlet.Fragment{Key: k, LSN: 2}
	}
	must(c.Store(t.Context(), stored, Options{}))(t)
	before := memoryPeak(t, s)
	for i, o := range must(c.Store(t.Context(), gone, Options{}))(t) {
		if o != Deleted {
			t.Errorf("%s: got %#v", gone[i].Key, o)
		}
	}
	if after := memoryPeak(t, s); after > before+many*size/5 {
		t.Errorf("deleting took %d MiB", (after-before)>>20)
	}
}

// memoryPeak is the most bytes that Redis has had.
func memoryPeak(t testing.TB, s *server) (n int) {
	t.Helper()
	info := must(s.raw.Info(t.Context(), "memory").Result())(t)
	_, info, _ = strings.Cut(info, "used_memory_peak:")
	if _, err := fmt.Sscan(strings.TrimSpace(strings.Split(info, "\n")[0]), &n); err != nil {
		t.Fatal(err)
	}
	return n
}
