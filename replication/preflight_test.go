package replication

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// poor is a server that lacks everything: its one slot is taken, and its one
// walsender is busy.
func poor(t *testing.T) *server {
	s := newServer(t, "", "wal_level=replica", "max_replication_slots=1", "max_wal_senders=1")
	admin := dial(t, s.url("postgres"))
	admin.exec("SELECT pg_create_physical_replication_slot('taken')")
	busy, err := connectReplication(t.Context(), Config{URL: s.url("postgres")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangUp(t.Context(), busy.PgConn) })
	admin.exec(`
		CREATE TABLE products (id int PRIMARY KEY); CREATE TABLE bare (id int); CREATE TABLE nothing (id int PRIMARY KEY);
		ALTER TABLE nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
		CREATE VIEW seen AS SELECT * FROM products; CREATE MATERIALIZED VIEW kept AS SELECT * FROM products;
		CREATE UNLOGGED TABLE fast (id int PRIMARY KEY); CREATE SEQUENCE numbers;
		CREATE FOREIGN DATA WRAPPER none; CREATE SERVER far FOREIGN DATA WRAPPER none; CREATE FOREIGN TABLE away (id int) SERVER far;
		CREATE ROLE shop LOGIN`)
	return s
}

// TestPreflight: everything that is lacking is said at once, each with its cure.
func TestPreflight(t *testing.T) {
	s := poor(t)
	admin := dial(t, s.url("postgres"))
	admin.exec("CREATE TEMP TABLE mine (id int PRIMARY KEY)")
	db := &database{server: s, name: "postgres", sql: admin}
	tables := db.tables(t, "products", "bare", "nothing", "parts", "seen", "kept", "fast", "mine", "numbers", "away", "pg_class")
	// From here on every commit of the server would wait for a standby.
	admin.exec("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (east, \"CDC-viewlet\")'")
	admin.exec("SELECT pg_reload_conf()")
	admin.eventually("SELECT current_setting('synchronous_standby_names') <> ''")
	cfg := Config{URL: strings.Replace(s.url("postgres"), "postgres@", "shop@", 1)}
	err := Preflight(t.Context(), cfg, tables)
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("Preflight = %v, want Problems", err)
	}
	wants := []Problem{
		{"wal_level is replica, not logical", "ALTER SYSTEM SET wal_level = 'logical'; then restart"},
		{"takes the daemon (cdc-viewlet) for a synchronous standby", "synchronous_standby_names to the names"},
		{"max_wal_senders", "ALTER SYSTEM SET max_wal_senders"},
		{`the role "shop" may not stream`, `ALTER ROLE "shop" REPLICATION;`},
		{`no slot is free for "cdc_viewlet": all 1 of max_replication_slots are taken`, "ALTER SYSTEM SET max_replication_slots = 6; then restart Postgres; or drop one that nobody needs (unused now: taken)"},
		{
			`lacks CREATE on the database "postgres"; the role "shop" does not own public.products, public.bare, public.nothing, public.parts`,
			"-- as the owner of the tables, or as a superuser:\nCREATE PUBLICATION \"cdc_viewlet\" FOR TABLE\n    ONLY \"public\".\"products\",\n    ONLY \"public\".\"bare\"",
		},
		{"public.bare has no replica identity", `ALTER TABLE "public"."bare" REPLICA IDENTITY FULL;`},
		{"public.nothing has no replica identity", `ALTER TABLE "public"."nothing" REPLICA IDENTITY FULL;`},
		{"public.parts has no replica identity", "pg_partition_tree"},
		{"public.seen is a view", "tables that it is made from"},
		{"public.kept is a materialized view", "tables that it is made from"},
		{"public.fast is unlogged", `ALTER TABLE "public"."fast" SET LOGGED;`},
		{"mine is a temporary table", "a table that stays"},
		{"public.numbers is a sequence", "the table that uses it"},
		{"public.away is a foreign table", "other tables"},
		{"pg_catalog.pg_class is a system table", "a table of yours"},
	}
	for i, p := range problems {
		if i < len(wants) && (!strings.Contains(p.What, wants[i].What) || !strings.Contains(p.Cure, wants[i].Cure)) {
			t.Errorf("problem %d is\n%s\nwant\n%s", i, p, wants[i])
		}
		if strings.Contains(p.What, "\n") {
			t.Errorf("%q is not one line", p.What)
		}
	}
	if len(problems) != len(wants) {
		t.Errorf("%d problems, want %d:\n%s", len(problems), len(wants), problems)
	}
}

// TestPublishedWithoutIdentity: that Preflight refuses such a table is not
// pedantry.
func TestPublishedWithoutIdentity(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE bare (id int); INSERT INTO bare VALUES (1)")
	cfg := db.cfg()
	tables := db.tables(t, "bare")
	checkProblem(t, "Preflight", Preflight(t.Context(), cfg, tables), []string{"no replica identity"})
	db.publish(t, cfg, "bare")
	if _, err := query(t.Context(), db.sql.conn, "UPDATE bare SET id = 2"); err == nil {
		t.Error("an UPDATE went well, so there is nothing to refuse")
	}
	db.sql.exec(unidentified(tables[0]).Cure)
	db.sql.exec("UPDATE bare SET id = 2")
	if err := Preflight(t.Context(), cfg, db.tables(t, "bare")); err != nil {
		t.Error(err)
	}
}

func TestPreflightOfAHealthyServer(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY); CREATE ROLE preflight_owner LOGIN REPLICATION; ALTER TABLE a OWNER TO preflight_owner")
	db.sql.exec("GRANT CREATE ON DATABASE " + quoteIdent(db.name) + " TO preflight_owner")
	defer db.sql.exec("DROP OWNED BY preflight_owner; DROP ROLE preflight_owner")
	tables := db.tables(t, "a")
	cfg := db.cfg()
	cfg.URL = strings.Replace(cfg.URL, "postgres@", "preflight_owner@", 1)
	for range 2 { // before and after Setup
		if err := Preflight(t.Context(), cfg, tables); err != nil {
			t.Error(err)
		}
		if _, err := Setup(t.Context(), cfg, tables); err != nil {
			t.Error(err)
		}
	}
	open(t, cfg, newRecorder())
	if err := Preflight(t.Context(), cfg, tables); err != nil {
		t.Errorf("while the slot is in use: %v", err)
	}
}

// TestPreflightOfAnothersSlot: a slot belongs to one database.
func TestPreflightOfAnothersSlot(t *testing.T) {
	db := shared.database(t)
	cfg := db.cfg()
	db.publish(t, cfg)
	cfg.URL = db.url("postgres")
	want := []string{"belongs to the database", db.name, "another slot"}
	checkProblem(t, "Preflight", Preflight(t.Context(), cfg, nil), want)
	_, err := Open(t.Context(), cfg)
	checkProblem(t, "Open", err, want)
}

func TestPreflightOfAStandby(t *testing.T) {
	if !executable(program("pg_basebackup").Path) {
		t.Skip("beside the server there is no pg_basebackup, and another version's will not do")
	}
	primary := newServer(t, "", "wal_level=logical")
	db := &database{server: primary, name: "postgres", sql: dial(t, primary.url("postgres"))}
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY)")
	tables := db.tables(t, "a")
	standby := newServer(t, primary.url("postgres"), "wal_level=logical", "hot_standby=on")
	want := []string{"made on the primary", "CREATE PUBLICATION"}
	if serverVersion(db.sql.conn) < 16 {
		want = append(want, "has no logical slots", "target_session_attrs=primary")
	}
	checkProblem(t, "Preflight", Preflight(t.Context(), Config{URL: standby.url("postgres")}, tables), want)
	if slot, err := SlotStatus(t.Context(), Config{URL: standby.url("postgres")}); err != nil || slot.CurrentWAL == 0 {
		t.Errorf("SlotStatus = %+v, %v", slot, err)
	}
	// With both hosts in the URL, the one that is a primary is taken.
	both := fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable&target_session_attrs=primary", standby.port, primary.port)
	if err := Preflight(t.Context(), Config{URL: both}, tables); err != nil {
		t.Error(err)
	}
	if _, err := Setup(t.Context(), Config{URL: both}, tables); err != nil {
		t.Error(err)
	}
}

// TestPreflightOfAPooler: one that drops the parameter replication, and one
// that refuses it.
func TestPreflightOfAPooler(t *testing.T) {
	db := shared.database(t)
	target := fmt.Sprintf("127.0.0.1:%d", db.port)
	dropping := func(params map[string]string) string {
		delete(params, "replication")
		return ""
	}
	refusing := func(params map[string]string) string {
		if params["replication"] == "" {
			return ""
		}
		return "unsupported startup parameter: replication"
	}
	for name, pooler := range map[string]func(map[string]string) string{"dropping": dropping, "refusing": refusing} {
		cfg := db.cfg()
		cfg.URL = strings.Replace(cfg.URL, target, newProxy(t, target, disguise{startup: pooler}).addr, 1)
		want := []string{"a connection pooler answers", "connect directly"}
		checkProblem(t, name+": Preflight", Preflight(t.Context(), cfg, nil), want)
		_, err := Setup(t.Context(), cfg, nil)
		checkProblem(t, name+": Setup", err, want)
		_, err = Open(t.Context(), cfg)
		checkProblem(t, name+": Open", err, want)
	}
}

func TestOldServer(t *testing.T) {
	for said, want := range map[string]int{"13.4 (Debian 13.4-1)": 13, "9.6.24": 9, "19beta1": 19, "15.13": 15, "": 0} {
		if got := majorVersion(said); got != want {
			t.Errorf("majorVersion(%q) = %d, want %d", said, got, want)
		}
	}
	// A server that says it is 13.
	target := fmt.Sprintf("127.0.0.1:%d", shared.port)
	old := newProxy(t, target, disguise{version: "13.4"})
	err := Preflight(t.Context(), Config{URL: strings.Replace(shared.url("postgres"), target, old.addr, 1)}, nil)
	checkProblem(t, "Preflight", err, []string{"the server is Postgres 13", "needs Postgres 14 or newer"})
}

func TestSynchronousStandbyNames(t *testing.T) {
	for names, want := range map[string]bool{
		"": false, "east, west": false, "ANY 1 (east)": false, "cdc-viewlet-2": false,
		"*": true, "FIRST 1 (*)": true, `"cdc-viewlet"`: true, "ANY 2 (east, \"CDC-VIEWLET\")": true,
	} {
		if got := (facts{syncStandbys: names, application: applicationName}).synchronous() != nil; got != want {
			t.Errorf("synchronous_standby_names = %s: %v, want %v", names, got, want)
		}
	}
}
