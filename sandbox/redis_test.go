package sandbox

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func startRedis(t testing.TB, cfg RedisConfig) *Redis {
	t.Helper()
	r, err := StartRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func dialRedis(t testing.TB, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	opts.MaxRetries = -1
	opts.ContextTimeoutEnabled = true
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

func TestRedisLives(t *testing.T) {
	tmp := tempFolder(t)
	t.Setenv("TMPDIR", tmp)
	r := startRedis(t, RedisConfig{Args: []string{"--maxmemory", "64mb"}})
	tcp, socket := dialRedis(t, r.URL()), dialRedis(t, r.SocketURL())
	if err := tcp.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := socket.Get(t.Context(), "key").Result(); got != "value" || err != nil {
		t.Errorf("the socket gives %q, %v", got, err)
	}
	if got := tcp.ConfigGet(t.Context(), "maxmemory").Val()["maxmemory"]; got != "67108864" {
		t.Errorf("maxmemory is %s", got)
	}
	pid := r.PID()
	if !alive(pid) {
		t.Fatalf("PID is %d, which does not run", pid)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) || r.PID() != 0 {
		t.Errorf("process %d runs after Close; PID is %d", pid, r.PID())
	}
	wantEmpty(t, tmp)
	wantError(t, r.Start(t.Context()), "start Redis: it is closed")
}

func TestRedisStrangersNeedThePassword(t *testing.T) {
	r := startRedis(t, RedisConfig{})
	stranger := redis.NewClient(&redis.Options{Addr: r.address()})
	defer stranger.Close()
	wantError(t, stranger.Ping(t.Context()).Err(), "NOAUTH")
}

func TestRedisComesBack(t *testing.T) {
	r := startRedis(t, RedisConfig{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	client := dialRedis(t, r.URL())
	if err := client.Set(t.Context(), "kept", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	url, pid := r.URL(), r.PID()
	wantError(t, r.Start(t.Context()), "start Redis: it is running")
	for name, stop := range map[string]func() error{
		"Stop":             func() error { return r.Stop(t.Context()) },
		"Kill":             r.Kill,
		"Stop when paused": func() error { return errors.Join(r.Pause(), r.Stop(t.Context())) },
	} {
		if err := stop(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if alive(pid) || r.PID() != 0 {
			t.Fatalf("after %s process %d runs; PID is %d", name, pid, r.PID())
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
		if got := dialRedis(t, url).Get(t.Context(), "kept").Val(); got != "1" || r.PID() == pid {
			t.Errorf("after %s it came back as another: %q", name, got)
		}
		pid = r.PID()
	}
}

func TestRedisForgetsByDefault(t *testing.T) {
	r := startRedis(t, RedisConfig{})
	if err := dialRedis(t, r.URL()).Set(t.Context(), "key", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := dialRedis(t, r.URL()).Get(t.Context(), "key").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("after a restart the key gives %v, want none", err)
	}
}

func TestRedisHangsWhilePaused(t *testing.T) {
	r := startRedis(t, RedisConfig{})
	client := dialRedis(t, r.URL())
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.Ping(soon).Err(); err == nil {
		t.Error("it answers while it is paused")
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("resumed: %v", err)
	}
	pid := r.PID()
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil || alive(pid) {
		t.Errorf("closed while paused: %v; alive: %t", err, alive(pid))
	}
	if err := errors.Join(r.Pause(), r.Resume(), r.Stop(t.Context()), r.Kill(), r.Close()); err != nil {
		t.Errorf("when it is closed: %v", err)
	}
}

func TestRedisEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := StartRedis(ctx, RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	pid := r.PID()
	cancel()
	eventually(t, "the folder is removed", func() bool { _, err := os.Stat(r.Dir()); return errors.Is(err, os.ErrNotExist) })
	if alive(pid) {
		t.Errorf("process %d runs and has no folder", pid)
	}
}

func TestRedisFailsCleanly(t *testing.T) {
	tmp := tempFolder(t)
	t.Setenv("TMPDIR", tmp)
	_, err := StartRedis(t.Context(), RedisConfig{Args: []string{"--no-such-setting", "1"}})
	wantError(t, err, "start Redis: it ended before it was ready: exit status 1", "its log ends with:", "no-such-setting")
	wantEmpty(t, tmp)
	_, err = StartRedis(t.Context(), RedisConfig{Bin: tmp})
	wantError(t, err, "find Redis: "+tmp+" is not a program")
}
