package integration

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// refused tries what is wrong with a server: each verb says so in a line.
func refused(t *testing.T, d *desk, verbs []string, mistakes []mistake) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, verb := range verbs {
				m.types(t, d, strings.Fields(verb)...).saysInALine(t, m.says...)
			}
		})
	}
	t.Cleanup(func() { d.untouched(t) })
}

// postgresURL tries URLs that lead to no session.
func postgresURL(t *testing.T, d *desk) {
	with := func(change func(*url.URL)) []string {
		return []string{"DATABASE_URL=" + changed(t, d.postgres, change)}
	}
	is := func(u string) []string { return []string{"DATABASE_URL=" + u} }
	const wrongPassword = "; correct the user or the password in the Postgres URL"
	mistakes := []mistake{
		{name: "none", env: is(""), code: 2, says: []string{"no Postgres is named: set DATABASE_URL, such as postgres://user:password@localhost/shop"}},
		{name: "scheme", env: with(func(u *url.URL) { u.Scheme = "mysql" }), says: []string{"parse Postgres URL: its scheme is mysql: write postgres://"}},
		{name: "no scheme", env: is("app:" + telltale + "@localhost/shop"), says: []string{"parse Postgres URL: "}},
		{name: "a password that is not encoded", env: is("postgres://app:" + secret + "@localhost/shop"), says: []string{"parse Postgres URL: the user or the password has an @ or a /: write %40 or %2F instead"}},
		{name: "a password with a percent sign", env: is("postgres://app:" + telltale + "%zz@localhost/shop"), says: []string{"parse Postgres URL: "}},
		{name: "port", env: with(func(u *url.URL) { u.RawQuery = "port=99999" }), says: []string{"parse Postgres URL: invalid port"}},
		{name: "sslmode", env: with(func(u *url.URL) { u.RawQuery = "sslmode=requir" }), says: []string{"parse Postgres URL: ", "sslmode is invalid"}},
		{name: "host", env: with(func(u *url.URL) { u.Host = "postgres.invalid:5432" }), says: []string{"connect to Postgres: ", "no such host; correct the host in the Postgres URL"}},
		{name: "nobody listens", env: with(func(u *url.URL) { u.Host = "127.0.0.1:1" }), says: []string{"connection refused; start Postgres there, or correct the host and the port in the Postgres URL"}},
		{name: "no socket", env: is("postgres:///shop?host=/nonexistent"), says: []string{"there is no such socket"}},
		{name: "no TLS there", env: with(func(u *url.URL) { u.RawQuery = "sslmode=require" }), says: []string{"server refused TLS", "?sslmode=disable"}},
		{name: "password", env: with(func(u *url.URL) { u.User = url.UserPassword(d.role, telltale+"?") }), says: []string{"password authentication failed", wrongPassword}},
		{name: "no password", env: with(func(u *url.URL) { u.User = url.User(d.role) }), says: []string{"password authentication failed", wrongPassword}},
		{name: "role", env: with(func(u *url.URL) { u.User = url.UserPassword("nobody", secret) }), says: []string{`password authentication failed for user "nobody"`, wrongPassword}},
		{name: "database", env: with(func(u *url.URL) { u.Path = "/shopp" }), says: []string{`database "shopp" does not exist`, "; correct the database in the Postgres URL"}},
	}
	refused(t, d, []string{"check", "run"}, mistakes)
	t.Run("every verb", func(t *testing.T) {
		t.Parallel()
		for _, verb := range []string{"render teaser 42", "refresh teaser", "setup", "setup --print", "teardown", "teardown --fragments", "status"} {
			for _, m := range mistakes {
				if m.name == "none" || m.name == "password" {
					m.types(t, d, strings.Fields(verb)...).saysInALine(t, m.says...)
				}
			}
		}
	})
	t.Run("flag over environment", func(t *testing.T) {
		t.Parallel()
		m := mistake{args: []string{"--postgres", "host=127.0.0.1 port=1 user=x password=" + telltale}, says: []string{"connection refused"}}
		m.types(t, d, "check").saysInALine(t, m.says...)
	})
	t.Run("check tells of --offline", func(t *testing.T) {
		t.Parallel()
		mistake{env: is(""), code: 2}.types(t, d, "check").says(t, "or check --offline")
	})
}

// roles tries roles that may not do all that is needed.
func roles(t *testing.T, d *desk) {
	plain, plainURL := d.addRole(t, "plain", "")
	blind, blindURL := d.addRole(t, "blind", "REPLICATION")
	d.asOwner(t, fmt.Sprintf("GRANT SELECT ON products TO %s; GRANT SELECT ON categories TO %s", plain, blind))
	mayPublish := []string{
		fmt.Sprintf(`may not set up the publication "%s"`, d.db.publication), "does not own public.products; to mend it:",
		fmt.Sprintf(`CREATE PUBLICATION "%s" FOR TABLE`, d.db.publication), `ONLY "public"."products"`,
	}

	t.Run("no REPLICATION", func(t *testing.T) {
		m := mistake{env: []string{"DATABASE_URL=" + plainURL}}
		for _, verb := range []string{"check", "run", "setup"} {
			m.types(t, d, verb).saysInALine(t, append(mayPublish,
				fmt.Sprintf(`the role "%s" may not stream: `, plain), // in the words of the server's version
				fmt.Sprintf(`; to mend it: ALTER ROLE "%s" REPLICATION;`, plain))...)
		}
	})
	t.Run("no right to read a table", func(t *testing.T) {
		m := mistake{
			rules: strings.Replace(deskRules, "SELECT id FROM products", "SELECT id FROM categories", 1), // all may be read
			env:   []string{"DATABASE_URL=" + blindURL},
		}
		for _, verb := range []string{"check", "run", "setup"} {
			m.types(t, d, verb).says(t, "Error: The role may not run this query", "rules.hcl line 3", "permission denied for table products", fmt.Sprintf(`GRANT SELECT ON products TO "%s";`, blind))
		}
		m.types(t, d, "render", "teaser", "42").saysInALine(t, "permission denied for table products", "; let the role of the Postgres URL do it: GRANT SELECT ON products TO ROLE;")
	})
	t.Run("no right to read what names every instance, or a lookup's table", func(t *testing.T) {
		rules := strings.Replace(deskRules, "SELECT name, price FROM products WHERE id = @id", "SELECT name, 1 AS price FROM categories WHERE id = @id", 1)
		m := mistake{rules: rules + lookup("SELECT id FROM products WHERE category_id = @c"), env: []string{"DATABASE_URL=" + blindURL}}
		m.types(t, d, "check").says(t, "rules.hcl line 5, in viewlet", "rules.hcl line 12, in lookup", "permission denied for table products")
	})
	t.Run("no right to use the schema", func(t *testing.T) {
		d.asOwner(t, "CREATE SCHEMA hidden; CREATE TABLE hidden.secrets (id int PRIMARY KEY)")
		m := mistake{rules: query("SELECT id FROM hidden.secrets WHERE id = @id"), env: []string{"DATABASE_URL=" + plainURL}}
		m.types(t, d, "check").says(t, "permission denied for schema hidden")
	})
	for _, c := range []struct{ alter, says, remedy string }{
		{"CONNECTION LIMIT 0", "too many connections for role", "; raise its CONNECTION LIMIT"},
		{"NOLOGIN", "not permitted to log in", "; let it: ALTER ROLE ROLE LOGIN;"},
	} {
		t.Run(c.alter, func(t *testing.T) {
			psql(t, d.db, fmt.Sprintf("ALTER ROLE %s %s", plain, c.alter))
			mistake{env: []string{"DATABASE_URL=" + plainURL}}.types(t, d, "run").saysInALine(t, c.says, c.remedy)
		})
	}
	d.untouched(t)
}

// TestCLISlotsAndPublications finds the names taken by something else.
func TestCLISlotsAndPublications(t *testing.T) {
	t.Parallel()
	d, other := startDesk(t), startPostgres(t)
	name := d.db.slot
	psql(t, d.db, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s_plugin', 'test_decoding')", name))
	psql(t, other, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s_elsewhere', 'pgoutput')", name))
	psql(t, d.db, "CREATE PUBLICATION theirs FOR TABLE categories")
	psql(t, d.db, "CREATE PUBLICATION everything FOR ALL TABLES")
	names := func(slot, publication string) string {
		return deskRules + fmt.Sprintf("postgres {\n  slot        = %q\n  publication = %q\n}\n", slot, publication)
	}
	for slot, says := range map[string]string{name + "_plugin": "belongs to the plugin test_decoding", name + "_elsewhere": "belongs to the database"} {
		status := mistake{rules: names(slot, name)}.types(t, d, "status")
		status.ends(t, 1)
		if !strings.Contains(status.stdout, says) || !strings.Contains(status.stdout, "give this daemon another slot") {
			t.Errorf("status gives %q", status.stdout)
		}
	}
	refused(t, d, []string{"check", "run", "setup"}, []mistake{
		{name: "a slot of another plugin", rules: names(name+"_plugin", name), says: []string{
			"belongs to the plugin test_decoding, not to pgoutput", fmt.Sprintf("give this daemon another slot, or, if nobody needs that one: SELECT pg_drop_replication_slot('%s_plugin');", name),
		}},
		{name: "a slot of another database", rules: names(name+"_elsewhere", name), says: []string{fmt.Sprintf("belongs to the database %q, not to %q", other.slot, name), "give this daemon another slot"}},
		{name: "a publication of another role", rules: names(name, "theirs"), says: []string{
			`may not set up the publication "theirs"`, "does not own it; to mend it:", `ALTER PUBLICATION "theirs" SET TABLE`, `ONLY "public"."products"`,
		}},
		{name: "a publication of all tables", rules: names(name, "everything"), says: []string{`"everything" is FOR ALL TABLES`, "give this daemon another publication"}},
	})
}

// TestCLIPostgresSettings runs into a server that was not set up for logical
// replication.
func TestCLIPostgresSettings(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(t testing.TB) *database {
		return startOwnPostgres(t, sandbox.PostgresConfig{Settings: map[string]string{"wal_level": "replica", "max_replication_slots": "1"}})
	})
	administer(t, d.db.Postgres, "SELECT pg_create_physical_replication_slot('barman')")
	refused(t, d, []string{"check", "run", "setup"}, []mistake{{name: "wal_level and slots", says: []string{
		"wal_level is replica, not logical; to mend it: ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres",
		"all 1 of max_replication_slots are taken; to mend it: ALTER SYSTEM SET max_replication_slots = 6; then restart Postgres; or drop one that nobody needs (unused now: barman)",
	}}})
}
