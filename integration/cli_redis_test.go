package integration

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// redisURL tries URLs that lead to no Redis that serves.
func redisURL(t *testing.T, d *desk) {
	with := func(change func(*url.URL)) []string { return []string{"REDIS_URL=" + changed(t, d.cache, change)} }
	is := func(u string) []string { return []string{"REDIS_URL=" + u} }
	const forms = "it should be redis://user:password@host:6379/0"
	mistakes := []mistake{
		{name: "none", env: is(""), code: 2, says: []string{"no Redis is named: set REDIS_URL, such as redis://localhost:6379"}},
		{name: "scheme", env: with(func(u *url.URL) { u.Scheme = "http" }), says: []string{`"http" is not a scheme`, forms}},
		{name: "no scheme", env: is("app:" + telltale + "@localhost:6379"), says: []string{forms}},
		{name: "a password that is not encoded", env: is("redis://app:" + secret + "@localhost:6379"), says: []string{"percent-encoded", forms}},
		{name: "a database that is no number", env: with(func(u *url.URL) { u.Path = "/shop" }), says: []string{"the path is not the number of a database", forms}},
		{name: "host", env: with(func(u *url.URL) { u.Host = "redis.invalid:6379" }), says: []string{"no such host; correct the host in the Redis URL"}},
		{name: "nobody listens", env: with(func(u *url.URL) { u.Host = "127.0.0.1:1" }), says: []string{"connection refused; start Redis there, or correct the Redis URL"}},
		{name: "no socket", env: is("unix:///nonexistent/redis.sock"), says: []string{"there is no such socket"}},
		{name: "no password", env: with(func(u *url.URL) { u.User = nil }), says: []string{"NOAUTH", "give a password in the URL: redis://user:password@host"}},
		{name: "password", env: with(func(u *url.URL) { u.User = url.UserPassword("app", telltale+"?") }), says: []string{"WRONGPASS", "correct the user or the password in the Redis URL"}},
		{name: "a database that there is not", env: with(func(u *url.URL) { u.Path = "/99" }), says: []string{"DB index is out of range; give a number below its databases setting"}},
		{name: "Postgres", env: with(func(u *url.URL) { u.Host = d.host(t) }), says: []string{"EOF"}},
	}
	refused(t, d, []string{"run", "refresh teaser 42", "status"}, mistakes)
	t.Run("teardown drops nothing then", func(t *testing.T) {
		other := startDesk(t)
		other.types(t, other.folder(t, deskRules, nil), nil, "setup").ends(t, 0)
		for _, m := range mistakes {
			if m.name == "none" || m.name == "nobody listens" {
				m.types(t, other, "teardown", "--fragments").saysInALine(t, m.says...)
			}
		}
		if n := ask[int](t, other.db, "SELECT count(*) FROM pg_replication_slots JOIN pg_publication ON pubname = slot_name WHERE slot_name = $1", other.db.slot); n != 1 {
			t.Error("the slot or the publication is gone")
		}
	})
}

// host is Postgres's host:port.
func (d *desk) host(t testing.TB) string {
	t.Helper()
	u, err := url.Parse(d.postgres)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// redisRefuses tries a Redis that answers and takes no writes.
func redisRefuses(t *testing.T, d *desk) {
	full := startRedis(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
	is := func(u string) []string { return []string{"REDIS_URL=" + u} }
	const grant = "grant what is missing: ACL SETUSER cdc-viewlet on >PASSWORD ~viewlet:*"
	refused(t, d, []string{"run", "refresh teaser 42", "teardown --fragments"}, []mistake{
		{name: "full", env: is(addRedisUser(t, full, "app", "~*", "&*", "+@all")), says: []string{"OOM command not allowed", "raise maxmemory, or make room"}},
		{name: "a replica", env: is(addRedisUser(t, replicaOf(t, d.redis), "app", "~*", "&*", "+@all")), says: []string{"READONLY", "this is a replica: give the URL of the primary"}},
		{name: "a user of other keys", env: is(d.redisUser(t, "other", "~other:*", "&*", "+@all")), says: []string{"NOPERM", grant}},
		{name: "a user who only reads", env: is(d.redisUser(t, "reader", "~viewlet:*", "&*", "+@read", "+@connection")), says: []string{"NOPERM", grant}},
	})
}

// redisLoads tries one that has just been started.
func redisLoads(t *testing.T, d *desk) {
	r := loading(t)
	m := mistake{env: []string{"REDIS_URL=" + addRedisUser(t, r, "app", "~*", "&*", "+@all")}}
	for _, verb := range []string{"run", "status", "refresh teaser 42", "teardown --fragments"} {
		m.types(t, d, strings.Fields(verb)...).saysInALine(t, "LOADING", "; it is reading its data from disk: wait")
	}
	d.untouched(t)
}

// TestCLIRedisGrant wants the rights that are told to be granted to be enough.
func TestCLIRedisGrant(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	narrow := d.redisUser(t, "narrow", "~other:*", "+ping")
	dir := d.folder(t, deskRules, nil)
	told := d.types(t, dir, []string{"REDIS_URL=" + narrow}, "run")
	_, rights, found := strings.Cut(unwrapped(told.stderr), ">PASSWORD ")
	if !found {
		t.Fatalf("it says %q", told.stderr)
	}
	var granted []any
	for _, right := range strings.Fields(rights) {
		granted = append(granted, right)
	}
	env := []string{"REDIS_URL=" + d.redisUser(t, "granted", granted...)}
	p := d.starts(t, dir, env, "run")
	p.says(t, "ready: every fragment is in Redis")
	d.asOwner(t, "DELETE FROM products WHERE id = 44")
	quiet(t, d.db)
	p.stop(t)
	for _, line := range []string{"refresh teaser", "refresh teaser 42", "status", "teardown --fragments"} {
		d.types(t, dir, env, strings.Fields(line)...).ends(t, 0)
	}
	answerOf(t, p)
}

// replicaOf starts a replica that is in sync.
func replicaOf(t testing.TB, primary *redisServer) *redisServer {
	t.Helper()
	u, err := url.Parse(primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	replica := startRedis(t, "--replicaof", u.Hostname()+" "+u.Port(), "--masterauth", password)
	eventually(t, "the replica is in sync", func() bool {
		return strings.Contains(replica.client.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	return replica
}

// loading starts a Redis that reads its data for far longer than a test takes,
// and meanwhile answers that it does: it waits behind each key.
func loading(t testing.TB) *redisServer {
	t.Helper()
	r := startRedis(t, "--enable-debug-command", "yes", "--rdbcompression", "no", "--loading-process-events-interval-bytes", "1024")
	const keys, pause = 1500, 50000 // of microseconds behind each key
	pipe := r.client.Pipeline()
	for i := range keys {
		pipe.Set(t.Context(), fmt.Sprint("ballast:", i), strings.Repeat("x", 2048), 0)
	}
	pipe.ConfigSet(t.Context(), "key-load-delay", fmt.Sprint(pause))
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	go r.client.Do(context.WithoutCancel(t.Context()), "DEBUG", "RELOAD") // fails when the server is closed
	eventually(t, "Redis is loading", func() bool {
		err := r.client.Get(t.Context(), "ballast:0").Err()
		return err != nil && strings.Contains(err.Error(), "LOADING")
	})
	return r
}
