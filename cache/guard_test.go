package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
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
		"a visitor":                   {func(_ *Cache, s *server) { guard(t, s.open(t, Config{}), "v") }, held, true},
		"a visitor of another":        {func(_ *Cache, s *server) { guard(t, s.open(t, Config{}), "w") }, held, false},
		"a visitor long ago": {func(_ *Cache, s *server) {
			guard(t, s.open(t, Config{}), "v")
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
				if want := strings.Repeat(fmt.Sprintf("%016X", lsn+1), map[bool]int{true: 1}[when.want]); left != want {
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

// What was rendered under a Guard is stored only if all that was written since
// has left guards.
func TestGuardLost(t *testing.T) {
	c, s := setup(t, Config{})
	takeState(t, c)
	other := s.open(t, Config{})
	looks := 0
	ask := func() string {
		return must(other.Guard(t.Context(), "v", func(context.Context) error { looks++; return nil }))(t)
	}
	late := func(lsn viewlet.LSN, body, token string) viewlet.Fragment {
		f := fragment(t, "v:1", lsn, body)
		f.Guard = token
		return f
	}
	first := ask()
	if second := ask(); second != first || looks != 1 {
		t.Fatalf("asked twice: %q, %q and %d looks", first, second, looks)
	}
	s.raw.Del(t.Context(), "viewlet:@watch:v") // as when Redis is emptied
	store(t, c, fragment(t, "v:1", 9, "new"), Options{Held: true})
	if stored := must(other.Fill(t.Context(), late(5, "old", first), Options{}))(t); stored {
		t.Error("a visitor's old fragment was stored")
	}
	if _, err := other.Store(t.Context(), []viewlet.Fragment{late(5, "old", first)}, Options{}); !errors.Is(err, ErrUnguarded) {
		t.Errorf("Store gave %v, want ErrUnguarded", err)
	}
	mend := func(lsn viewlet.LSN, token string) Outcome {
		held := must(other.Held(t.Context(), keys(t, "v:1")))(t)
		return must(other.Mend(t.Context(), held, []viewlet.Fragment{late(lsn, "mended", token)}, Options{}))(t)[0]
	}
	if got := mend(10, first); got != Refused {
		t.Errorf("Mend gave %#v", got)
	}
	if got := get(t, c, "v:1"); got != "new" {
		t.Fatalf("it is %q", got)
	}
	again := ask()
	if again == first || looks != 2 {
		t.Fatalf("asked anew: %q after %q, and %d looks", again, first, looks)
	}
	if stored := must(other.Fill(t.Context(), late(10, "newer", again), Options{}))(t); !stored {
		t.Error("a visitor's new fragment was not stored")
	}
	if got := mend(11, again); got != Written {
		t.Errorf("Mend gave %#v", got)
	}
	// A look that fails leaves nothing that one could begin with.
	s.raw.FlushAll(t.Context())
	_, _ = other.Store(t.Context(), []viewlet.Fragment{late(12, "x", again)}, Options{})
	broken := errors.New("no look")
	for range 2 {
		if token, err := other.Guard(t.Context(), "v", func(context.Context) error { return broken }); token != "" || !errors.Is(err, broken) {
			t.Errorf("got %q, %v", token, err)
		}
	}
}

// A write that was thought lost may arrive after the next one.
func TestWriteThatArrivesLate(t *testing.T) {
	s := startServer(t)
	r := newRelay(t, s.sock)
	c := s.open(t, Config{URL: "unix://" + r.sock + "?max_retries=-1&pool_size=1", Timeout: 300 * time.Millisecond})
	takeState(t, c)
	held := Options{Held: true}
	store(t, c, fragment(t, "v:1", 1, "first"), held)
	release := r.hold()
	if _, err := c.Store(t.Context(), []viewlet.Fragment{fragment(t, "v:1", 2, "late")}, held); err == nil {
		t.Fatal("what is held came through")
	}
	store(t, c, fragment(t, "v:1", 3, "new"), held)
	release()
	if calls := func() bool { return scriptCalls(t, s) >= 3 }; !eventually(t, calls) {
		t.Fatalf("%d calls of the script arrived, want 3", scriptCalls(t, s))
	}
	if got := get(t, c, "v:1"); got != "new" {
		t.Errorf("it is %q, want what was written last", got)
	}
}

func scriptCalls(t testing.TB, s *server) int {
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
			token := guard(t, by, "v")
			f := rendered(i)
			f.Guard = token
			pending = append(pending, render{by, f})
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
