package sandbox

import (
	"strings"
	"testing"
)

func TestRedisSentinelPromotes(t *testing.T) {
	tmp := tempFolder(t)
	t.Setenv("TMPDIR", tmp)
	g, err := StartRedisSentinel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	primary, replica := g.Servers[0], g.Servers[1]
	if _, err := primary.Do(t.Context(), "SET", "a", "1"); err != nil {
		t.Error(err)
	}
	if err := replica.until(t.Context(), "1", "GET", "a"); err != nil {
		t.Error(err)
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := replica.until(t.Context(), "role:master", "INFO", "replication"); err != nil {
		t.Error(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	wantEmpty(t, tmp)
}

func TestRedisCluster(t *testing.T) {
	tmp := tempFolder(t)
	t.Setenv("TMPDIR", tmp)
	g, err := StartRedisCluster(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	moved, served := 0, 0
	for _, r := range g.Servers {
		switch _, err := r.Do(t.Context(), "SET", "a", "1"); {
		case err == nil:
			served++
		case strings.Contains(err.Error(), "MOVED"):
			moved++
		default:
			t.Error(err)
		}
	}
	if served != 1 || moved != 2 {
		t.Errorf("%d serve the key, and %d send elsewhere", served, moved)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	wantEmpty(t, tmp)
}
