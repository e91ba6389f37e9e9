package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// Servers that are set oddly, and tables that are made oddly.

const typesSchema = `
	CREATE TABLE odd (id int PRIMARY KEY, at timestamptz, local timestamp, day date, took interval, bytes bytea, x float8, y real, price numeric, word text, flag boolean, tags text[]);
	ALTER TABLE odd REPLICA IDENTITY FULL;
	INSERT INTO odd SELECT i, '2024-02-29 23:30:00+00'::timestamptz + i * interval '1 day', '2024-12-01 13:00:00'::timestamp + i * interval '1 hour', '2025-03-04'::date + i,
		make_interval(months => i, days => -i, secs => i * 1.5), decode('00ff5c', 'hex'), i / 3.0, i / 7.0, i + 0.50, 'Bl' || chr(229) || 'b' || chr(228) || 'r ' || i, i % 2 = 0, ARRAY[chr(233), 'x,y', NULL]
	FROM generate_series(1, 20) i`

const typesRules = `
viewlet "row" {
  params = ["id"]
  query  = "SELECT * FROM odd WHERE id = @id"
  all    = "SELECT id FROM odd"
}
viewlet "html" {
  params = ["id"]
  query  = "SELECT * FROM odd WHERE id = @id"
  all    = "SELECT id FROM odd"
  body   = "{{.at}} {{.local}} {{.day}} {{.took}} {{.bytes}} {{.x}} {{.y}} {{.price}} {{.word}} {{.flag}} {{.tags}}"
}
viewlet "at" {
  params = ["at"]
  query  = "SELECT id FROM odd WHERE at = @at"
  all    = "SELECT at FROM odd"
}
viewlet "day" {
  params = ["day", "local", "took"]
  query  = "SELECT id FROM odd WHERE day = @day AND local = @local AND took = @took"
  all    = "SELECT day, local, took FROM odd"
}
viewlet "x" {
  params = ["x", "word", "bytes"]
  query  = "SELECT id FROM odd WHERE x = @x AND word = @word AND bytes = @bytes"
  all    = "SELECT x, word, bytes FROM odd"
}
table "odd" {
  refresh = [row(id), html(id), at(at), day(day, local, took), x(x, word, bytes)]
}`

// Encodings and settings of how values are written, of the server, the database
// and the role: keys and fragments are the same as without them.
func TestOddSettingsChangeNothing(t *testing.T) {
	t.Parallel()
	plain := startPostgres(t)
	odd := startOwnPostgres(t, sandbox.PostgresConfig{
		InitArgs: []string{"--encoding=LATIN1"},
		Settings: map[string]string{"DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601", "extra_float_digits": "-5", "standard_conforming_strings": "on"},
	})
	psql(t, odd, fmt.Sprintf(`ALTER DATABASE %[1]s SET TimeZone = 'Asia/Kolkata'; ALTER DATABASE %[1]s SET bytea_output = 'escape';
		ALTER DATABASE %[1]s SET xmlbinary = 'hex'; ALTER DATABASE %[1]s SET quote_all_identifiers = on;
		ALTER ROLE postgres SET client_encoding = 'LATIN1'; ALTER ROLE postgres SET DateStyle = 'German'; ALTER ROLE postgres SET lc_monetary = 'C'`, odd.slot))
	odd.pool.Reset() // so that the writer has them too
	if got := ask[string](t, odd, "SELECT current_setting('DateStyle') || current_setting('bytea_output') || current_setting('server_encoding')"); got != "German, DMYescapeLATIN1" {
		t.Fatalf("the settings are %s", got)
	}
	want, got := filledWithTypes(t, plain), filledWithTypes(t, odd)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Errorf("%s is\n%s\nwhere the settings are odd, and else\n%s", key, got[key], want[key])
		}
	}
	if len(want) < 90 || len(got) != len(want) {
		t.Errorf("%d fragments where the settings are odd, and %d else", len(got), len(want))
	}
}

// filledWithTypes gives what the daemon has put in Redis after some changes.
func filledWithTypes(t *testing.T, db *database) map[string]string {
	s := newSite(t, db, typesSchema, map[string]string{"rules/rules.hcl": typesRules})
	p := s.run(t)
	for _, sql := range []string{
		"UPDATE odd SET at = at + interval '90 min', local = '2024-01-02 03:04:05.678', took = took + interval '1 year', bytes = decode('deadbeef', 'hex') WHERE id <= 5",
		"UPDATE odd SET x = x / 9, word = chr(198) || 'r' || chr(248), day = '2025-01-02' WHERE id BETWEEN 4 AND 9",
		"DELETE FROM odd WHERE id = 20",
	} {
		psql(t, db, sql)
	}
	quiet(t, db)
	p.stop(t)
	return fragments(t, s.redis)
}

// The ids of transactions have 32 bits in the stream, and wrap around: what
// was committed before and after is rendered when it is visible, and not a
// moment earlier.
func TestTransactionIDsWrapAround(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	setForward(t, s.db, 2_000_000_000, 4_000_000_000, 1<<32-150)
	p := s.run(t, "--http", "127.0.0.1:0")
	xids := func() int64 { return ask[int64](t, s.db, "SELECT pg_current_xact_id()::text::bigint") }
	for first := xids(); xids() < 1<<32+100; {
		psql(t, s.db, "UPDATE t SET n = 'x' || pg_current_xact_id() WHERE id = 1 + pg_current_xact_id()::text::bigint % 500")
		if first >= 1<<32 {
			t.Fatalf("transaction %d is beyond the end before it begins", first)
		}
	}
	waitsForHeldCommit(t, s, urlOf(t, p))
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// setForward sets the next transaction's id forward, by less than 2^31 at a
// time, and freezes what there is in between.
//
// https://www.postgresql.org/docs/current/app-pgresetwal.html
func setForward(t *testing.T, db *database, xids ...uint32) {
	t.Helper()
	administer(t, db.Postgres, "UPDATE pg_database SET datallowconn = true")
	for _, xid := range xids {
		freeze(t, db)
		if err := db.Stop(t.Context(), sandbox.Fast); err != nil {
			t.Fatal(err)
		}
		addTransactionStatus(t, db, xid)
		if err := db.Run(t.Context(), "pg_resetwal", "-x", fmt.Sprint(xid)); errors.Is(err, fs.ErrNotExist) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		if err := db.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pool connects again", func() bool { return db.pool.Ping(t.Context()) == nil })
	}
}

// freeze lets no row of any database depend on an old transaction.
func freeze(t *testing.T, db *database) {
	t.Helper()
	for _, name := range ask[[]string](t, db, "SELECT array_agg(datname::text) FROM pg_database") {
		conn, err := pgx.Connect(t.Context(), withDatabase(t, db.SocketURL(), name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "VACUUM (FREEZE)"); err != nil {
			t.Fatal(err)
		}
		conn.Close(t.Context())
	}
}

// addTransactionStatus adds the file in which Postgres keeps the state of the
// transactions about xid: it makes that itself only when it comes to its first.
func addTransactionStatus(t *testing.T, db *database, xid uint32) {
	t.Helper()
	const perFile, size = 32 * 8192 * 4, 32 * 8192 // two bits for each
	folder := filepath.Join(db.Dir(), "data", "pg_xact")
	path := filepath.Join(folder, fmt.Sprintf("%04X", xid/perFile))
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(folder)
	if err != nil {
		t.Fatal(err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// Generated, identity and dropped columns, in tables whose names need quotes,
// in a schema that is not on the search path.
func TestQuotedGeneratedAndDropped(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), `
		CREATE SCHEMA "The ""Shop"".2";
		CREATE TABLE "The ""Shop"".2"."select" (
			gone1 text DEFAULT 'gone', "Order" int GENERATED ALWAYS AS IDENTITY, gone2 int DEFAULT 7, "naïve name" text,
			"UPPER" text GENERATED ALWAYS AS (upper("naïve name")) STORED, gone3 int DEFAULT 9, "per-cent%" int DEFAULT 0, PRIMARY KEY ("Order"));
		ALTER TABLE "The ""Shop"".2"."select" DROP COLUMN gone1, DROP COLUMN gone2, DROP COLUMN gone3;
		ALTER TABLE "The ""Shop"".2"."select" REPLICA IDENTITY FULL;
		CREATE TABLE "select" ("Order" int PRIMARY KEY, "naïve name" text);
		INSERT INTO "select" SELECT i, 'of another' FROM generate_series(1, 30) i;
		INSERT INTO "The ""Shop"".2"."select" ("naïve name") SELECT 'n' || i FROM generate_series(1, 30) i`,
		map[string]string{"rules/rules.hcl": `
			viewlet "row" {
			  params = ["ord"]
			  query  = "SELECT \"naïve name\", \"UPPER\" FROM \"The \"\"Shop\"\".2\".\"select\" WHERE \"Order\" = @ord"
			  all    = "SELECT \"Order\" FROM \"The \"\"Shop\"\".2\".\"select\""
			}
			viewlet "name" {
			  params = ["name"]
			  query  = "SELECT array_agg(\"Order\" ORDER BY 1) AS orders, max(\"UPPER\") AS up FROM \"The \"\"Shop\"\".2\".\"select\" WHERE \"naïve name\" = @name HAVING count(*) > 0"
			  all    = "SELECT DISTINCT \"naïve name\" FROM \"The \"\"Shop\"\".2\".\"select\""
			}
			table "\"The \"\"Shop\"\".2\".\"select\"" {
			  refresh = [row(Order), name(new["naïve name"]), name(old["naïve name"])]
			}`})
	p := s.run(t)
	o := newOracle(t, s.db, s.rules())
	const table = `"The ""Shop"".2"."select"`
	for _, sql := range []string{
		"UPDATE " + table + ` SET "naïve name" = 'x' WHERE "Order" IN (1, 2)`,
		"UPDATE " + table + ` SET "per-cent%" = 5 WHERE "Order" = 3`,
		"INSERT INTO " + table + ` ("naïve name") VALUES ('new'), (NULL)`,
		"DELETE FROM " + table + ` WHERE "Order" = 4`,
		"ALTER TABLE " + table + ` DROP COLUMN "per-cent%"; UPDATE ` + table + ` SET "naïve name" = 'y' WHERE "Order" IN (2, 5)`,
		`UPDATE "select" SET "naïve name" = 'nobody asks'`,
	} {
		psql(t, s.db, sql)
		quiet(t, s.db)
		o.agree(t, s.redis)
	}
	s.want(t, "name:y", `{"orders":[2,5],"up":"Y"}`)
	p.stop(t)
}
