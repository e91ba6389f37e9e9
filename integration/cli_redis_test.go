package integration

import (
	"net/url"
	"testing"
)

func TestCLIRedis(t *testing.T) {
	d := startDesk(t)
	url_ := func(change func(*url.URL)) []string { return []string{"REDIS_URL=" + changed(t, d.cache, change)} }
	full := startRedis(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
	f := &desk{redis: full}
	f.addRedisUser(t, "app", "~*", "&*", "+@all")
	u, _ := url.Parse(d.redis.URL())
	pw, _ := u.User.Password()
	replica := startRedis(t, "--replicaof", "127.0.0.1 "+u.Port(), "--masterauth", pw)
	re := &desk{redis: replica}
	_ = re
	eventually(t, "sync", func() bool { return replica.client.Info(t.Context(), "replication").Val() != "" })
	re.addRedisUser(t, "app", "~*", "&*", "+@all")
	d.addRedisUser(t, "narrow", "~other:*", "+get")
	d.addRedisUser(t, "reader", "~viewlet:*", "&*", "+@read", "+@connection")
	d.addRedisUser(t, "granted", "~viewlet:*", "&viewlet:*", "+eval", "+evalsha", "+get", "+set", "+del", "+unlink", "+exists", "+pexpire", "+persist", "+publish", "+scan", "+hget", "+hset", "+hdel", "+hlen", "+hkeys", "+hgetall", "+hscan", "+hexists", "+multi", "+exec", "+ping", "+subscribe", "+unsubscribe", "+select")
	for _, verb := range []string{"run", "status", "refresh teaser", "teardown --fragments"} {
		for _, m := range []mistake{
			{name: "none", env: []string{"REDIS_URL="}, code: 2},
			{name: "wrong scheme", env: url_(func(u *url.URL) { u.Scheme = "http" })},
			{name: "no scheme", env: []string{"REDIS_URL=localhost:6379"}},
			{name: "no scheme2", env: []string{"REDIS_URL=app:" + telltale + "@localhost:6379"}},
			{name: "unencoded", env: []string{"REDIS_URL=redis://app:" + secret + "@localhost:6379"}},
			{name: "host", env: url_(func(u *url.URL) { u.Host = "redis.invalid:6379" })},
			{name: "port", env: url_(func(u *url.URL) { u.Host = "127.0.0.1:1" })},
			{name: "no password", env: url_(func(u *url.URL) { u.User = nil })},
			{name: "password", env: url_(func(u *url.URL) { u.User = url.UserPassword("app", telltale+"x") })},
			{name: "db", env: url_(func(u *url.URL) { u.Path = "/99" })},
			{name: "dbname", env: url_(func(u *url.URL) { u.Path = "/shop" })},
			{name: "socket", env: []string{"REDIS_URL=unix:///nonexistent/redis.sock"}},
			{name: "tls", env: url_(func(u *url.URL) { u.Scheme = "rediss" })},
			{name: "postgres", env: url_(func(u *url.URL) { p, _ := url.Parse(d.postgres); u.Host = p.Host })},
			{name: "full", env: []string{"REDIS_URL=" + withUser(t, full.URL(), "app")}},
			{name: "replica", env: []string{"REDIS_URL=" + withUser(t, replica.URL(), "app")}},
			{name: "narrow", env: url_(func(u *url.URL) { u.User = url.UserPassword("narrow", secret) })},
			{name: "reader", env: url_(func(u *url.URL) { u.User = url.UserPassword("reader", secret) })},
		} {
			m.args = splitArgs(verb)
			t.Run(verb+"/"+m.name, func(t *testing.T) {
				m.typed(t, d)
			})
		}
	}
}
