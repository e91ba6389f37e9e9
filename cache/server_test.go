package cache

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// server is a redis-server of the test's own, stopped at its end.
type server struct {
	sock string
	raw  *redis.Client // sees what Redis really holds
}

// startServer starts redis-server on a socket in a folder of its own.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("these tests need redis-server (Debian: apt-get install redis-server): %v", err)
	}
	// t.TempDir would make a path too long for a socket.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{sock: filepath.Join(dir, "redis.sock")}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(bin, append([]string{"--port", "0", "--unixsocket", s.sock, "--dir", dir, "--save", ""}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.raw = redis.NewClient(&redis.Options{Network: "unix", Addr: s.sock, DisableIdentity: true, DialerRetries: 1, MaxRetries: -1})
	t.Cleanup(func() { _ = s.raw.Close() })
	answers := func() bool { return s.raw.Ping(t.Context()).Err() == nil }
	if !eventually(t, answers) {
		said, _ := os.ReadFile(log.Name())
		t.Fatalf("redis-server %v does not answer: %s", args, said)
	}
	return s
}

func (s *server) url() string { return "unix://" + s.sock }

// processor is how much processor time the server has taken.
func (s *server) processor(t testing.TB) (took time.Duration) {
	t.Helper()
	info, err := s.raw.InfoMap(t.Context(), "cpu").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"used_cpu_user", "used_cpu_sys"} {
		seconds, err := strconv.ParseFloat(info["CPU"][part], 64)
		if err != nil {
			t.Fatal(err)
		}
		took += time.Duration(seconds * float64(time.Second))
	}
	return took
}

// open opens a Cache there.
func (s *server) open(t testing.TB, cfg Config) *Cache {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = s.url()
	}
	c, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// setup gives a Cache in a Redis of its own.
func setup(t testing.TB, cfg Config) (*Cache, *server) {
	t.Helper()
	s := startServer(t)
	return s.open(t, cfg), s
}

// eventually looks until it is so, for ten seconds at most.
func eventually(t testing.TB, so func() bool) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// freePort gives a TCP port on loopback where nobody listens.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func key(t testing.TB, s string) viewlet.Key {
	t.Helper()
	k, err := viewlet.ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keys(t testing.TB, names ...string) []viewlet.Key {
	t.Helper()
	var ks []viewlet.Key
	for _, s := range names {
		ks = append(ks, key(t, s))
	}
	return ks
}

// fragment is one with a body; "-" stands for none.
func fragment(t testing.TB, name string, lsn viewlet.LSN, body string) viewlet.Fragment {
	t.Helper()
	f := viewlet.Fragment{Key: key(t, name), LSN: lsn, Body: []byte(body)}
	if body == "-" {
		f.Body = nil
	}
	return f
}

// store stores one fragment.
func store(t testing.TB, c *Cache, f viewlet.Fragment, o Options) Outcome {
	t.Helper()
	outcomes, err := c.Store(t.Context(), []viewlet.Fragment{f}, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(outcomes) != 1 {
		t.Fatalf("got %d outcomes of one fragment", len(outcomes))
	}
	return outcomes[0]
}

func fill(t testing.TB, c *Cache, f viewlet.Fragment) bool {
	t.Helper()
	f.Watch = watched(t, c, f.Key.Viewlet)
	stored, err := c.Fill(t.Context(), f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// watched gives a Watch for renders of any LSN.
func watched(t testing.TB, c *Cache, name string) viewlet.Watch {
	t.Helper()
	return must(c.Watch(t.Context(), name, func(context.Context) (viewlet.LSN, error) { return 0, nil }))(t)
}

// get gives the fragment's body, "-" for none.
func get(t testing.TB, c *Cache, name string) string {
	t.Helper()
	body, found, err := c.Get(t.Context(), key(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return "-"
	}
	return string(body)
}

// must gives v, or ends the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (o Outcome) GoString() string { return fmt.Sprintf("%c", byte(o)) }
