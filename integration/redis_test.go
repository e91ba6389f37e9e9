package integration

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// redisServer is a test's own Redis, and a client of it.
type redisServer struct {
	*sandbox.Redis
	client *redis.Client
}

// startRedis starts a Redis that ends with the test.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	r, err := sandbox.StartRedis(context.Background(), sandbox.RedisConfig{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return dialRedis(t, r)
}

func dialRedis(t testing.TB, r *sandbox.Redis) *redisServer {
	t.Helper()
	opts, err := redis.ParseURL(r.SocketURL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return &redisServer{Redis: r, client: client}
}

// startRedisGroup starts several that belong together, and end with the test.
func startRedisGroup(t testing.TB, start func(context.Context) (*sandbox.RedisGroup, error)) (url string, servers []*redisServer) {
	t.Helper()
	g, err := start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, r := range g.Servers {
		servers = append(servers, dialRedis(t, r))
	}
	return g.URL(), servers
}

// redisGet gives what an app reads, and whether there is anything.
func redisGet(t testing.TB, r *redisServer, key string) (body string, ok bool) {
	t.Helper()
	body, err := r.client.Get(t.Context(), key).Result()
	if errors.Is(err, redis.Nil) {
		return "", false
	}
	if err != nil {
		t.Fatalf("GET %s: %v", key, err)
	}
	return body, true
}
