package integration

import (
	"fmt"
	"net"
	"net/url"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

func TestCLIPostgres(t *testing.T) {
	d := startDesk(t)
	name := d.db.slot
	role := func(suffix, options string) string {
		t.Helper()
		psql(t, d.db, fmt.Sprintf("CREATE ROLE %s_%s LOGIN %s PASSWORD '%s'", name, suffix, options, secret))
		t.Cleanup(func() {
			administer(t, d.db.Postgres, fmt.Sprintf("DROP ROLE %s_%s", name, suffix))
		})
		return withUser(t, d.db.url, name+"_"+suffix)
	}
	plain := role("plain", "")
	reader := role("reader", "REPLICATION")
	psql(t, d.db, fmt.Sprintf("GRANT SELECT ON products TO %[1]s_plain; CREATE VIEW x AS SELECT 1", name))
	t.Cleanup(func() { d.db.pool.Exec(t.Context(), fmt.Sprintf("DROP OWNED BY %[1]s_plain, %[1]s_reader", name)) })
	url_ := func(change func(*url.URL)) []string { return []string{"DATABASE_URL=" + changed(t, d.postgres, change)} }
	for _, verb := range []string{"check", "run", "setup", "status", "teardown", "render teaser 42", "refresh teaser"} {
		for _, m := range []mistake{
			{name: "none", env: []string{"DATABASE_URL="}},
			{name: "wrong scheme", env: url_(func(u *url.URL) { u.Scheme = "mysql" })},
			{name: "no scheme", env: []string{"DATABASE_URL=" + d.role + ":" + telltale + "@localhost/shop"}},
			{name: "garbage", env: []string{"DATABASE_URL=postgres://" + d.role + ":" + telltale + "%zz@localhost/shop"}},
			{name: "unencoded", env: []string{"DATABASE_URL=postgres://" + d.role + ":" + secret + "@localhost/shop"}},
			{name: "host", env: url_(func(u *url.URL) { u.Host = "postgres.invalid:5432" })},
			{name: "port", env: url_(func(u *url.URL) { u.Host = "127.0.0.1:1" })},
			{name: "badport", env: url_(func(u *url.URL) { u.RawQuery = "port=99999" })},
			{name: "redis port", env: url_(func(u *url.URL) { r, _ := url.Parse(d.cache); u.Host = r.Host })},
			{name: "password", env: url_(func(u *url.URL) { u.User = url.UserPassword(d.role, telltale+"x") })},
			{name: "no password", env: url_(func(u *url.URL) { u.User = url.User(d.role) })},
			{name: "user", env: url_(func(u *url.URL) { u.User = url.UserPassword("nobodyy", secret) })},
			{name: "database", env: url_(func(u *url.URL) { u.Path = "/shopp" })},
			{name: "sslmode", env: url_(func(u *url.URL) { u.RawQuery = "sslmode=require" })},
			{name: "sslmode2", env: url_(func(u *url.URL) { u.RawQuery = "sslmode=requir" })},
			{name: "plain", env: []string{"DATABASE_URL=" + plain}},
			{name: "reader", env: []string{"DATABASE_URL=" + reader}},
		} {
			m.args = splitArgs(verb)
			t.Run(verb+"/"+m.name, func(t *testing.T) {
				m.typed(t, d)
			})
		}
	}
	_ = net.JoinHostPort
	_ = sandbox.Fast
}
