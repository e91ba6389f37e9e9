package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// takeState makes the Cache the one that has the State.
func takeState(t testing.TB, c *Cache) {
	t.Helper()
	must(c.Take(t.Context()))(t)
	if err := c.SaveState(t.Context(), State{System: "1", Slot: "s", Database: "d"}); err != nil {
		t.Fatal(err)
	}
}

// Who has the State leaves guards only where somebody may come late.
func TestWhenGuardsAreLeft(t *testing.T) {
	held := Options{Held: true}
	for name, when := range map[string]struct {
		before func(*Cache, *server)
		how    Options
		want   bool
	}{
		"nobody else writes":          {nil, held, false},
		"who has not taken the state": {nil, Options{}, true},
		"a whole rendering":           {nil, Options{Held: true, Remember: true}, true},
		"a visitor":                   {func(_ *Cache, s *server) { watched(t, s.open(t, Config{}), "v") }, held, true},
		"a visitor of another":        {func(_ *Cache, s *server) { watched(t, s.open(t, Config{}), "w") }, held, false},
		"a visitor long ago": {func(_ *Cache, s *server) {
			watched(t, s.open(t, Config{}), "v")
			s.raw.Del(t.Context(), "viewlet:@watch:v") // as time does
		}, held, false},
		"a connection was closed": {func(c *Cache, s *server) {
			if n := must(s.raw.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Result())(t); n == 0 {
				t.Error("there was no connection to close")
			}
			get(t, c, "v:9") // which needs another one
		}, held, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, s := setup(t, Config{})
			takeState(t, c)
			if when.before != nil {
				when.before(c, s)
			}
			for lsn, body := range []string{"a", "a", "b", "-"} { // written, equal, written, deleted
				store(t, c, fragment(t, "v:1", viewlet.LSN(lsn+1), body), when.how)
				left := s.raw.Get(t.Context(), "viewlet:@lsn:{viewlet:v:1}").Val()
				want := ""
				if when.want {
					want = fmt.Sprintf("%016X", lsn+1)
				}
				if left != want {
					t.Errorf("after %q the guard is %q, want %q", body, left, want)
				}
			}
			must(c.Keep(t.Context(), keys(t, "v:2"), 7))(t)
			if keeps := s.raw.Exists(t.Context(), "viewlet:@lsn:{viewlet:v:2}").Val() == 1; keeps != (when.want && when.how == held) {
				t.Errorf("Keep leaves a guard: %v", keeps)
			}
		})
	}
}

// What was rendered under a Watch is stored only if all that was written since has
// left guards, and if it is no older than what was written before.
func TestWatchLost(t *testing.T) {
	c, s := setup(t, Config{})
	takeState(t, c)
	other := s.open(t, Config{})
	looks := 0
	ask := func() viewlet.Watch {
		return must(other.Watch(t.Context(), "v", func(context.Context) (viewlet.LSN, error) { looks++; return 4, nil }))(t)
	}
	first := ask()
	if second := ask(); second != first || looks != 1 { // most ask nobody
		t.Fatalf("asked twice: %v, %v and %d looks", first, second, looks)
	}
	wantRefused := func(why string, lsn viewlet.LSN, w viewlet.Watch) {
		t.Helper()
		before := get(t, c, "v:1")
		f := under(w, fragment(t, "v:1", lsn, "old"))
		if stored := must(other.Fill(t.Context(), f, Options{}))(t); stored {
			t.Errorf("%s: filled", why)
		}
		if _, err := other.Store(t.Context(), []viewlet.Fragment{f}, Options{}); !errors.Is(err, ErrUnwatched) {
			t.Errorf("%s: Store gave %v, want ErrUnwatched", why, err)
		}
		held := must(other.Held(t.Context(), keys(t, "v:1")))(t)
		if got := must(other.Mend(t.Context(), held, []viewlet.Fragment{f}, Options{}))(t)[0]; got != Refused {
			t.Errorf("%s: Mend gave %#v", why, got)
		}
		if got := get(t, c, "v:1"); got != before {
			t.Fatalf("%s: it is %q", why, got)
		}
	}
	wantRefused("before the look", 3, first)
	s.raw.Del(t.Context(), "viewlet:@watch:v") // as when Redis is emptied
	store(t, c, fragment(t, "v:1", 9, "new"), Options{Held: true})
	wantRefused("the watch is gone", 5, first)
	// A request that was thought lost may arrive now.
	s.raw.Eval(t.Context(), watchLua, []string{"viewlet:@watch:v"}, first.Token[:26], 100_000)
	wantRefused("another is there", 5, first)
	again := ask()
	if again.Token == first.Token || looks != 2 {
		t.Fatalf("asked anew: %v after %v, and %d looks", again, first, looks)
	}
	if stored := must(other.Fill(t.Context(), under(again, fragment(t, "v:1", 10, "newer")), Options{}))(t); !stored {
		t.Error("a visitor's new fragment was not stored")
	}
	held := must(other.Held(t.Context(), keys(t, "v:1")))(t)
	if got := must(other.Mend(t.Context(), held, []viewlet.Fragment{under(again, fragment(t, "v:1", 11, "mended"))}, Options{}))(t)[0]; got != Written {
		t.Errorf("Mend gave %#v", got)
	}
	// With a Postgres whose LSNs are lower nothing of the one before is good.
	at := func(lsn viewlet.LSN) viewlet.Watch {
		return must(c.Watch(t.Context(), "v", func(context.Context) (viewlet.LSN, error) { return lsn, nil }))(t)
	}
	at(800)
	if err := c.ForgetGuards(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRefused("another Postgres", 900, again)
	if w := at(2); w.From != 2 {
		t.Errorf("with another Postgres it begins at %s", w.From)
	}
}

func under(w viewlet.Watch, f viewlet.Fragment) viewlet.Fragment {
	f.Watch = w
	return f
}

// A watch lives on while somebody asks for it, or writes under it.
func TestWatchLives(t *testing.T) {
	c, s := setup(t, Config{})
	const key = "viewlet:@watch:v"
	short := func() { s.raw.PExpire(t.Context(), key, time.Minute) }
	long := func(after string) {
		t.Helper()
		if ttl := s.raw.PTTL(t.Context(), key).Val(); ttl < 19*time.Minute || ttl > 20*time.Minute {
			t.Errorf("after %s it lives for %v, want 20 minutes", after, ttl)
		}
	}
	w := watched(t, c, "v")
	long("the first")
	short()
	if other := watched(t, s.open(t, Config{}), "v"); other.Token != w.Token {
		t.Errorf("the second is %v, want %v", other, w)
	}
	long("the second")
	short()
	must(c.Store(t.Context(), []viewlet.Fragment{under(w, fragment(t, "v:1", 5, "x"))}, Options{}))(t)
	long("a write")
}

// Who cannot have a watch is not kept, and neither are those who come after.
func TestWatchInVain(t *testing.T) {
	c, _ := setup(t, Config{})
	broken := errors.New("no look")
	looks := 0
	look := func(context.Context) (viewlet.LSN, error) { looks++; return 0, broken }
	for range 3 {
		if w, err := c.Watch(t.Context(), "v", look); w != (viewlet.Watch{}) || !errors.Is(err, broken) {
			t.Errorf("got %v, %v", w, err)
		}
	}
	if looks != 1 {
		t.Errorf("%d looks, want one in a second", looks)
	}
	// While somebody looks, others wait no longer than they want, and writes do not.
	looking, done := make(chan struct{}), make(chan struct{})
	slow := func(context.Context) (viewlet.LSN, error) { close(looking); <-done; return 7, nil }
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := c.Watch(ctx, "w", slow); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the time is over", err)
		}
	}
	<-looking
	if stored := must(c.Fill(t.Context(), under(viewlet.Watch{Token: "another"}, fragment(t, "w:1", 5, "x")), Options{}))(t); stored {
		t.Error("stored under a watch that is not there")
	}
	close(done)
	// Who had no time has asked for those who have.
	if w, err := c.Watch(t.Context(), "w", look); err != nil || w.From != 7 {
		t.Errorf("got %+v, %v", w, err)
	}
}

// What could not be written was not announced.
func TestUnwrittenIsNotAnnounced(t *testing.T) {
	c, s := setup(t, Config{})
	takeState(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	news := must(c.Subscribe(ctx))(t)
	s.raw.ConfigSet(t.Context(), "maxmemory", "1")
	for range 2 {
		if _, err := c.Store(t.Context(), []viewlet.Fragment{fragment(t, "v:1", 3, "unwritten")}, Options{Held: true}); err == nil {
			t.Fatal("it was stored in a Redis that is full")
		}
	}
	s.raw.ConfigSet(t.Context(), "maxmemory", "0")
	store(t, c, fragment(t, "v:1", 4, "written"), Options{Held: true})
	for a := range news {
		if a.LSN != 4 {
			t.Errorf("announced %+v first", a)
		}
		return
	}
}

// A write that was thought lost may arrive after the next one, also where for long
// no connection could be made.
func TestWriteThatArrivesLate(t *testing.T) {
	for _, outage := range []bool{false, true} {
		t.Run(fmt.Sprintf("outage=%v", outage), func(t *testing.T) {
			s := startServer(t)
			r := newRelay(t, s.sock)
			const life = 500 * time.Millisecond
			c := s.open(t, Config{URL: "unix://" + r.sock + "?max_retries=-1&pool_size=200", Timeout: 300 * time.Millisecond, GuardTTL: life})
			takeState(t, c)
			held := Options{Held: true}
			store(t, c, fragment(t, "v:1", 1, "first"), held)
			release := r.hold()
			if _, err := c.Store(t.Context(), []viewlet.Fragment{fragment(t, "v:1", 2, "late")}, held); err == nil {
				t.Fatal("what is held came through")
			}
			if outage {
				lost := []viewlet.Fragment{fragment(t, "v:1", 3, "lost")}
				must(0, os.Rename(r.sock, r.sock+".away"))(t)
				tries := time.NewTicker(life / 10) // fewer than the pool's size, at which it dials once more
				defer tries.Stop()
				for range 20 {
					<-tries.C
					if _, err := c.Store(t.Context(), lost, held); err == nil {
						t.Fatal("stored in a Redis that is away")
					}
				}
				must(0, os.Rename(r.sock+".away", r.sock))(t)
			}
			next := []viewlet.Fragment{fragment(t, "v:1", 4, "new")}
			if stored := func() bool { _, err := c.Store(t.Context(), next, held); return err == nil }; !eventually(t, stored) {
				t.Fatal("not stored")
			}
			before := storeCalls(t, s)
			release()
			if arrived := func() bool { return storeCalls(t, s) > before }; !eventually(t, arrived) {
				t.Fatal("the late one did not arrive")
			}
			if got := get(t, c, "v:1"); got != "new" {
				t.Errorf("it is %q, want what was written last", got)
			}
		})
	}
}

// Every connection to a Redis behind Sentinels is one of ours, too.
func TestDoubtWithSentinels(t *testing.T) {
	p := must(parseURL("redis+sentinel://127.0.0.1:1/mymaster"))(t)
	p.Dialer = func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }
	if p.failoverOptions().Dialer == nil {
		t.Error("the client dials by itself")
	}
}

func storeCalls(t testing.TB, s *server) int {
	t.Helper()
	calls := 0
	for line := range strings.Lines(s.raw.Info(t.Context(), "commandstats").Val()) {
		if rest, is := strings.CutPrefix(line, "cmdstat_hget:calls="); is { // one in each of Store's
			calls, _ = strconv.Atoi(rest[:strings.IndexByte(rest, ',')])
		}
	}
	return calls
}

// relay passes on what comes over a socket.
type relay struct {
	sock string
	mu   sync.Mutex
	open []*held
}

// held keeps back what comes over one connection, until it is let go.
type held struct {
	mu   sync.Mutex
	gate chan struct{}
}

func (h *held) wait() {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func newRelay(t testing.TB, target string) *relay {
	t.Helper()
	r := &relay{sock: filepath.Join(filepath.Dir(target), "relay.sock")}
	l := must(net.Listen("unix", r.sock))(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			h := &held{}
			r.mu.Lock()
			r.open = append(r.open, h)
			r.mu.Unlock()
			go func() { _, _ = io.Copy(client, server) }()
			go r.forward(server, client, h)
		}
	}()
	return r
}

func (r *relay) forward(server, client net.Conn, h *held) {
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if n > 0 {
			h.wait()
			_, _ = server.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// hold keeps back what comes over the connections that there are, even when they
// are closed, until release.
func (r *relay) hold() (release func()) {
	gate := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.open {
		h.mu.Lock()
		h.gate = gate
		h.mu.Unlock()
	}
	return func() { close(gate) }
}

// One who has the State renders and writes in order, others render when they like
// and write later; Redis forgets watches, as it may. No fragment ever becomes
// older than what was written last by who has the State.
func TestLatecomers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := startServer(t)
	daemon := s.open(t, Config{})
	takeState(t, daemon)
	others := []*Cache{s.open(t, Config{}), s.open(t, Config{}), daemon}
	type render struct {
		by *Cache
		f  viewlet.Fragment
	}
	const names = 4
	var pending []render // rendered, and not written yet
	now := viewlet.LSN(1)
	least := make([]viewlet.LSN, names) // what is at least to be there
	body := func(lsn viewlet.LSN) string { return strconv.FormatUint(uint64(lsn), 10) }
	rendered := func(i int) viewlet.Fragment { return fragment(t, fmt.Sprintf("v:%d", i), now, body(now)) }
	filled, refused := 0, 0
	for step := range 4000 {
		i := random.IntN(names)
		switch random.IntN(10) {
		case 0, 1, 2:
			now++
			must(daemon.Store(t.Context(), []viewlet.Fragment{rendered(i)}, Options{Held: true, Remember: random.IntN(9) == 0}))(t)
			least[i] = now
		case 3, 4, 5:
			by := others[random.IntN(len(others))]
			w := must(by.Watch(t.Context(), "v", func(context.Context) (viewlet.LSN, error) { return now, nil }))(t)
			f := rendered(i)
			if late := viewlet.LSN(random.IntN(3)); late < now { // from a standby, some of them before the look
				f = fragment(t, f.Key.String(), now-late, body(now-late))
			}
			pending = append(pending, render{by, under(w, f)})
		case 6, 7, 8:
			if len(pending) == 0 {
				continue
			}
			at := len(pending) - 1
			if random.IntN(2) == 0 {
				at = random.IntN(len(pending))
			}
			one := pending[at]
			pending = slices.Delete(pending, at, at+1)
			if must(one.by.Fill(t.Context(), one.f, Options{}))(t) {
				filled++
			} else {
				refused++
			}
		case 9:
			if random.IntN(4) == 0 {
				s.raw.Del(t.Context(), "viewlet:@watch:v")
			}
		}
		for k, lsn := range least {
			text := s.raw.Get(t.Context(), fmt.Sprintf("viewlet:v:%d", k)).Val()
			if there, _ := strconv.ParseUint(text, 10, 64); viewlet.LSN(there) < lsn {
				t.Fatalf("step %d: v:%d is of %d, and was written at %d; seed %d", step, k, there, uint64(lsn), seed)
			}
		}
	}
	if filled < 100 || refused < 100 {
		t.Errorf("%d late fragments were stored and %d refused: neither is tried; seed %d", filled, refused, seed)
	}
}
