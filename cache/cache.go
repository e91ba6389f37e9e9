package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Config says where the fragments are kept. Only URL must be given.
type Config struct {
	// URL is redis://, rediss://, unix://, redis+sentinel://, redis+cluster://
	// or one of the latter two for TLS, with the options that go-redis reads
	// from its query.
	URL string
	// Prefix begins every key and the channel. Default: "viewlet:".
	Prefix string
	// WaitReplicas is how many replicas, of each primary, must have all that
	// was written before SaveLSN returns. Default: none.
	WaitReplicas int
	// GuardTTL is how long a guard outlives the write that it guards: longer
	// than any render may take. Default: 10 minutes.
	GuardTTL time.Duration
	// Timeout is the longest that one exchange with Redis may take, a new
	// connection and retries included, before it is an error. Default: 10
	// seconds.
	Timeout time.Duration
	// Log takes what the Redis client says of its connections, at debug level:
	// what matters of it is in the errors. Default: nothing.
	Log *slog.Logger
}

// Cache is the fragments in one Redis, or Redis Cluster. All its methods may be called from
// many goroutines, block for no longer than Config.Timeout for each exchange
// with Redis, and may be called again after an error. An error of Redis or of
// the way to it is, or wraps, a *Problem.
type Cache struct {
	rdb      redis.UniversalClient
	addr     string // for messages
	names    names
	tls      bool
	cluster  bool // a script's keys must share a slot
	guardTTL time.Duration
	timeout  time.Duration
	replicas int // that must have what SaveLSN notes
	perCall  int // the most fragments in one script call
	failed   failedSet
	watches  watches
	doubt    *doubt
	sweeps   sweeps
	holder   atomic.Pointer[holder] // as which we took the State; nil: we did not
	scripts  struct{ store, keep, mend, watch, state, fail *redis.Script }
}

// Open connects to Redis and reads which fragments are failed. It writes
// nothing; Ping tells whether Redis takes writes. The log of the Redis client,
// which is one for the process, goes to cfg.Log from then on. Close it.
func Open(ctx context.Context, cfg Config) (*Cache, error) {
	at, err := parseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	timeout := cmp.Or(cfg.Timeout, 10*time.Second)
	// The deadline of an exchange bounds them all.
	at.DialTimeout = cmp.Or(at.DialTimeout, timeout)
	at.ReadTimeout = cmp.Or(at.ReadTimeout, timeout)
	at.WriteTimeout = cmp.Or(at.WriteTimeout, timeout)
	redis.SetLogger(debugLog{cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))})
	cfg.GuardTTL = cmp.Or(cfg.GuardTTL, 10*time.Minute)
	d := newDoubt(cfg.GuardTTL)
	at.Dialer = d.over(redis.NewDialer(at.Options))
	return connect(ctx, at.client(), at.String(), d, cfg)
}

// connect makes a Cache of any kind of client, which it closes on error.
func connect(ctx context.Context, rdb redis.UniversalClient, addr string, d *doubt, cfg Config) (*Cache, error) {
	_, cluster := rdb.(*redis.ClusterClient)
	c := &Cache{
		rdb:     rdb,
		addr:    addr,
		names:   names{cmp.Or(cfg.Prefix, "viewlet:")},
		tls:     strings.HasPrefix(cfg.URL, "rediss"),
		cluster: cluster,
		doubt:   d,
		timeout: cmp.Or(cfg.Timeout, 10*time.Second),
		perCall: 100,

		guardTTL: cfg.GuardTTL,

		replicas: cfg.WaitReplicas,
	}
	c.scripts.store = redis.NewScript(storeLua)
	c.scripts.keep = redis.NewScript(keepLua)
	c.scripts.mend = redis.NewScript(mendLua)
	c.scripts.watch = redis.NewScript(watchLua)
	c.scripts.state = redis.NewScript(stateLua)
	c.scripts.fail = redis.NewScript(failLua)
	err := c.names.check(cluster)
	if err == nil {
		err = c.recount(ctx)
	}
	if err != nil {
		_ = rdb.Close() // nothing is under way
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return c, nil
}

// Close closes the connections. What is under way fails.
func (c *Cache) Close() error { return c.rdb.Close() }

// Addr is where Redis is, for people: host:port, the path of a socket, or the
// hosts of a URL that has several.
func (c *Cache) Addr() string { return c.addr }

// RedisKey is the key that holds a fragment: viewlet:product_teaser:42.
func (c *Cache) RedisKey(k viewlet.Key) string { return c.names.fragment(k) }

// Get reads a fragment; false when there is none.
func (c *Cache) Get(ctx context.Context, k viewlet.Key) ([]byte, bool, error) {
	var body []byte
	found := true
	err := c.exchange(ctx, func(ctx context.Context) (err error) {
		body, err = c.rdb.Get(ctx, c.names.fragment(k)).Bytes()
		if errors.Is(err, redis.Nil) {
			found, err = false, nil
		}
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("get %s: %w", k, err)
	}
	return body, found, nil
}

// Ping tells whether Redis answers, is no replica, has room and lets us run
// scripts: it deletes a fragment that does not exist.
func (c *Cache) Ping(ctx context.Context) error {
	probe := []viewlet.Fragment{{Key: viewlet.Key{Viewlet: "@probe"}}}
	err := c.write(ctx, probe, make([]Outcome, 1), older, Options{})
	if err == nil {
		err = c.unlink(ctx, []string{c.names.guard(probe[0].Key)})
	}
	if err != nil {
		return fmt.Errorf("ping cache: %w", err)
	}
	return nil
}

// exchange runs fn within the timeout and explains its error.
func (c *Cache) exchange(ctx context.Context, fn func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := fn(bounded)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // the caller's wish, not Redis's fault
	}
	return c.problem(err)
}

// debugLog lets the Redis client write to a slog.Logger.
type debugLog struct{ log *slog.Logger }

func (d debugLog) Printf(ctx context.Context, format string, args ...any) {
	if d.log.Enabled(ctx, slog.LevelDebug) {
		d.log.DebugContext(ctx, "redis client", "says", fmt.Sprintf(format, args...))
	}
}
