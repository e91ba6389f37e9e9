package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// published shows the test's publication: its tables and its options.
func (db *database) published(cfg Config) string {
	return db.sql.string(fmt.Sprintf(`
		SELECT concat_ws(' ', (SELECT string_agg(c.relname, ',' ORDER BY c.relname) FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid WHERE r.prpubid = p.oid),
			p.pubinsert::int || '' || p.pubupdate::int || p.pubdelete::int || p.pubtruncate::int || p.pubviaroot::int)
		FROM pg_publication p WHERE pubname = %s`, quoteLiteral(cfg.Publication)))
}

func TestSetup(t *testing.T) {
	db := shared.database(t)
	db.sql.exec(`CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, n int); CREATE TABLE "C "" c" (id int PRIMARY KEY);
		CREATE TABLE child () INHERITS (a)`)
	cfg := db.cfg()
	cfg.Publication = `it's "odd\`
	all := db.tables(t, "a", "b", `C " c`)
	marks := map[uint32]string{}
	for _, step := range []struct {
		name, before string
		tables       []viewlet.Table
		want         State
		published    string
		marked       int // tables with a new mark
	}{
		{"new", "", all[:2], State{SlotCreated: true, PublicationChanged: true}, "a,b 11111", 2},
		{"again", "", all[:2], State{}, "a,b 11111", 0},
		{"named twice", "", []viewlet.Table{all[0], all[1], all[0]}, State{}, "a,b 11111", 0},
		{"a table more", "", all, State{PublicationChanged: true}, `C " c,a,b 11111`, 1},
		{"a table less", "", all[1:], State{PublicationChanged: true}, `C " c,b 11111`, 0},
		{"other options", `ALTER PUBLICATION "it's ""odd\" SET (publish = 'insert', publish_via_partition_root = false)`, all[1:], State{PublicationChanged: true}, `C " c,b 11111`, 2},
		{"options there and back", `ALTER PUBLICATION "it's ""odd\" SET (publish = 'insert'); ALTER PUBLICATION "it's ""odd\" SET (publish = 'insert,update,delete,truncate')`, all[1:], State{}, `C " c,b 11111`, 2},
		{"away and back", `ALTER PUBLICATION "it's ""odd\" DROP TABLE b; ALTER PUBLICATION "it's ""odd\" ADD TABLE ONLY b`, all[1:], State{}, `C " c,b 11111`, 1},
		{"none", "", nil, State{PublicationChanged: true}, "11111", 0},
		{"still none", "", nil, State{}, "11111", 0},
		{"some again", "", all[:1], State{PublicationChanged: true}, "a 11111", 1},
		{"slot gone", "SELECT pg_drop_replication_slot('" + cfg.Slot + "')", all[:1], State{SlotCreated: true}, "a 11111", 0},
		{"publication gone", `DROP PUBLICATION "it's ""odd\"`, all[:1], State{PublicationChanged: true}, "a 11111", 1},
	} {
		if step.before != "" {
			db.sql.exec(step.before)
		}
		state, err := Setup(t.Context(), cfg, step.tables)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if state.Confirmed == 0 || state.Confirmed != db.confirmed(t, cfg) {
			t.Errorf("%s: Confirmed = %s, want %s", step.name, state.Confirmed, db.confirmed(t, cfg))
		}
		state.Confirmed = 0
		if got := db.published(cfg); state != step.want || got != step.published {
			t.Errorf("%s: %+v with %s, want %+v with %s", step.name, state, got, step.want, step.published)
		}
		now, err := Marks(t.Context(), db.sql.conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		marked := 0
		for oid, mark := range now {
			if marks[oid] != mark {
				marked++
			}
		}
		if marks = now; marked != step.marked {
			t.Errorf("%s: %d tables have a new mark, want %d: %v", step.name, marked, step.marked, marks)
		}
	}
	for _, want := range []int{1, 0} { // the second time there is nothing to drop
		said := newLog()
		cfg.Log = said.logger()
		if err := Teardown(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		for _, what := range []string{"slot dropped", "publication dropped"} {
			if got := said.count(what); got != want {
				t.Errorf("it told %d times that %s, want %d", got, what, want)
			}
		}
		slot, err := SlotStatus(t.Context(), cfg)
		if err != nil || slot.Exists || slot.CurrentWAL == 0 || len(db.sql.rows("SELECT FROM pg_publication")) != 0 {
			t.Errorf("after Teardown: %+v, %v", slot, err)
		}
	}
}

// TestSetupMendsFilters: a row filter or a list of columns would lose changes.
func TestSetupMendsFilters(t *testing.T) {
	db := shared.database(t)
	if serverVersion(db.sql.conn) < 15 {
		t.Skip("publications have filters since Postgres 15")
	}
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY, n int)")
	cfg := db.cfg()
	for _, list := range []string{"FOR TABLE a WHERE (id > 5)", "FOR TABLE a (id)", "FOR TABLES IN SCHEMA public"} {
		db.sql.exec("CREATE PUBLICATION " + quoteIdent(cfg.Publication) + " " + list + " WITH (publish_via_partition_root)")
		if state := db.publish(t, cfg, "a"); !state.PublicationChanged {
			t.Errorf("%s was left alone", list)
		}
		if changed, err := Publish(t.Context(), cfg, db.tables(t, "a")); changed || err != nil {
			t.Errorf("Publish after Setup = %v, %v", changed, err)
		}
		if n := db.sql.string("SELECT count(*) FROM pg_publication_rel WHERE prqual IS NULL AND prattrs IS NULL"); n != "1" {
			t.Errorf("%s: %s tables without a filter, want 1", list, n)
		}
		db.sql.exec("DROP PUBLICATION " + quoteIdent(cfg.Publication))
	}
}

// TestSetupLeavesAStreamAlone: the tables of a daemon that streams are not
// taken from it by one that stands by.
func TestSetupLeavesAStreamAlone(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "a")
	s := open(t, cfg, newRecorder())
	if state := db.publish(t, cfg, "b"); !state.PublicationPending || state.PublicationChanged {
		t.Errorf("Setup = %+v, want it pending", state)
	}
	if state := db.publish(t, cfg, "a"); state.PublicationPending {
		t.Errorf("Setup = %+v, though nothing is to be done", state)
	}
	db.sql.exec("INSERT INTO a VALUES (1)")
	s.want(t, "begin", "insert public.a new id=1", "commit")
	if changed, err := Publish(t.Context(), cfg, db.tables(t, "b")); !changed || err != nil {
		t.Errorf("Publish = %v, %v", changed, err)
	}
	db.sql.exec("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)")
	s.want(t, "begin", "insert public.b new id=2", "commit")
}

// TestGeneratedColumns: publishing a table whose replica identity is all of it
// does not stop anybody from writing to it. Postgres 18 would refuse, unless its
// stored generated columns are published too.
func TestGeneratedColumns(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED); ALTER TABLE a REPLICA IDENTITY FULL")
	db.sql.exec("INSERT INTO a VALUES (1, 1)")
	cfg := db.cfg()
	twice := func(n int) string {
		if serverVersion(db.sql.conn) < 18 {
			return ""
		}
		return fmt.Sprintf(" twice=%d", 2*n)
	}
	for i, before := range []string{"", "CREATE PUBLICATION " + quoteIdent(cfg.Publication) + " FOR TABLE a WITH (publish_via_partition_root)"} {
		db.sql.exec("DROP PUBLICATION IF EXISTS " + quoteIdent(cfg.Publication))
		db.sql.exec(before)
		tables := db.tables(t, "a")
		if err := Preflight(t.Context(), cfg, tables); err != nil {
			t.Error(err)
		}
		db.publish(t, cfg, "a")
		if changed, err := Publish(t.Context(), cfg, tables); changed || err != nil {
			t.Errorf("Publish after Setup = %v, %v", changed, err)
		}
		s := open(t, cfg, newRecorder())
		db.sql.exec("UPDATE a SET n = n + 1")
		s.want(t, "begin", fmt.Sprintf("update public.a old id=1 n=%d%s new id=1 n=%d%s", i+1, twice(i+1), i+2, twice(i+2)), "commit")
		s.Confirm(s.commit(t))
		s.stop(t)
	}
}

// TestVirtualColumn: with one, REPLICA IDENTITY FULL stops who writes.
func TestVirtualColumn(t *testing.T) {
	db := shared.database(t)
	if serverVersion(db.sql.conn) < 18 {
		t.Skip("virtual generated columns exist since Postgres 18")
	}
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL); ALTER TABLE a REPLICA IDENTITY FULL")
	db.sql.exec("INSERT INTO a VALUES (1, 1)")
	cfg := db.cfg()
	tables := db.tables(t, "a")
	err := Preflight(t.Context(), cfg, tables)
	checkProblem(t, "Preflight", err, []string{"virtual generated column, twice", "REPLICA IDENTITY DEFAULT"})
	db.publish(t, cfg, "a")
	if _, err := query(t.Context(), db.sql.conn, "UPDATE a SET n = 2"); err == nil {
		t.Error("an UPDATE went well, so there is nothing to refuse")
	}
	db.sql.exec(unwritable(tables[0]).Cure)
	db.sql.exec("UPDATE a SET n = 2")
	if err := Preflight(t.Context(), cfg, db.tables(t, "a")); err != nil {
		t.Error(err)
	}
}

// TestSlowSlot: a slot waits for open transactions, and says so.
func TestSlowSlot(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY)")
	other := dial(t, db.url(db.name))
	other.exec("BEGIN; INSERT INTO a VALUES (1)")
	log := newLog()
	cfg := db.cfg()
	cfg.Log = log.logger()
	tables := db.tables(t, "a")
	done := make(chan error, 1)
	go func() {
		_, err := Setup(t.Context(), cfg, tables)
		done <- err
	}()
	for log.count("waits for transactions") == 0 {
		select {
		case <-log.more:
		case err := <-done:
			t.Fatalf("Setup = %v beside an open transaction", err)
		case <-time.After(patience):
			t.Fatal("waited in vain for the warning")
		}
	}
	other.exec("COMMIT")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSlowSlotEndsWithContext(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY)")
	other := dial(t, db.url(db.name))
	other.exec("BEGIN; INSERT INTO a VALUES (1)")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Setup(ctx, db.cfg(), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Setup = %v, want the deadline", err)
	}
	other.exec("COMMIT")
	db.sql.eventually("SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name = '" + db.cfg().Slot + "'")
}

func TestSetupRefusals(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY); CREATE ROLE setup_other LOGIN REPLICATION; GRANT SELECT ON a TO setup_other")
	defer db.sql.exec("DROP OWNED BY setup_other; DROP ROLE setup_other")
	cfg := db.cfg()
	name, slot := quoteIdent(cfg.Publication), quoteLiteral(cfg.Slot)
	other := cfg
	other.URL = strings.Replace(cfg.URL, "postgres@", "setup_other@", 1)
	for _, c := range []struct {
		name, before, after string
		cfg                 Config
		want                []string
	}{
		{
			"all tables", "CREATE PUBLICATION " + name + " FOR ALL TABLES", "DROP PUBLICATION " + name, cfg,
			[]string{"FOR ALL TABLES", "DROP PUBLICATION IF EXISTS " + name},
		},
		{
			"may not create", "", "", other,
			[]string{"may not set up the publication", "owner", "CREATE PUBLICATION " + name + " FOR TABLE", `ONLY "public"."a"`},
		},
		{
			"may not alter", "CREATE PUBLICATION " + name, "DROP PUBLICATION " + name, other,
			[]string{"may not set up the publication", "ALTER PUBLICATION " + name + " SET TABLE", `ONLY "public"."a"`},
		},
		{
			"physical slot", "SELECT pg_create_physical_replication_slot(" + slot + ")", "SELECT pg_drop_replication_slot(" + slot + ")", cfg,
			[]string{"physical", "another slot", "pg_drop_replication_slot(" + slot},
		},
		{
			"other plugin", "SELECT pg_create_logical_replication_slot(" + slot + ", 'test_decoding')", "SELECT pg_drop_replication_slot(" + slot + ")", cfg,
			[]string{"test_decoding", "another slot"},
		},
	} {
		if c.before != "" {
			db.sql.exec(c.before)
		}
		_, err := Setup(t.Context(), c.cfg, db.tables(t, "a"))
		checkProblem(t, c.name+": Setup", err, c.want)
		err = Preflight(t.Context(), c.cfg, db.tables(t, "a"))
		checkProblem(t, c.name+": Preflight", err, c.want)
		if strings.Contains(c.before, "slot") {
			checkProblem(t, c.name+": Teardown", Teardown(t.Context(), c.cfg), c.want)
		}
		if c.after != "" {
			db.sql.exec(c.after)
		}
	}
	if slot, err := SlotStatus(t.Context(), cfg); err != nil || slot.Exists {
		t.Errorf("a refused Setup made the slot: %+v, %v", slot, err)
	}
}

func checkProblem(t *testing.T, what string, err error, want []string) {
	t.Helper()
	var p Problem
	if !errors.As(err, &p) {
		t.Errorf("%s = %v, want a Problem", what, err)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s = %v\nwant it to say %q", what, err, w)
		}
	}
}

// TestSetupOfAnothersPublication: one that has our tables and more will do.
func TestSetupOfAnothersPublication(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE ROLE setup_guest LOGIN REPLICATION")
	defer db.sql.exec("DROP OWNED BY setup_guest; DROP ROLE setup_guest")
	cfg := db.cfg()
	db.sql.exec("CREATE PUBLICATION " + quoteIdent(cfg.Publication) + " FOR TABLE a, b WITH (publish_via_partition_root)")
	cfg.URL = strings.Replace(cfg.URL, "postgres@", "setup_guest@", 1)
	if err := Preflight(t.Context(), cfg, db.tables(t, "a")); err != nil {
		t.Error(err)
	}
	if state := db.publish(t, cfg, "a"); state.PublicationChanged || !state.SlotCreated {
		t.Errorf("Setup = %+v", state)
	}
	checkProblem(t, "Teardown", Teardown(t.Context(), cfg), []string{"may not drop", "DROP PUBLICATION IF EXISTS"})
}

func TestTeardownOfAStream(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "a")
	open(t, cfg, newRecorder())
	pid := db.sql.string("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '" + cfg.Slot + "'")
	checkProblem(t, "Teardown", Teardown(t.Context(), cfg), []string{"in use", "pg_terminate_backend(" + pid + ")", "stop the daemon"})
	if db.published(cfg) == "" {
		t.Error("a refused Teardown dropped the publication")
	}
}

func TestSlotStatus(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY)")
	cfg := db.cfg()
	state := db.publish(t, cfg, "a")
	db.sql.exec("INSERT INTO a VALUES (1)")
	slot, err := SlotStatus(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !slot.Exists || slot.Active || slot.ActivePID != 0 || slot.Plugin != "pgoutput" || slot.Database != db.name || slot.OurDatabase != db.name ||
		slot.Temporary || slot.TwoPhase || slot.WALStatus != "reserved" || slot.Limited || slot.Lost() != "" || slot.Recovering ||
		slot.Failover != hasFailover(serverVersion(db.sql.conn)) {
		t.Errorf("SlotStatus = %+v", slot)
	}
	if slot.ConfirmedFlush != state.Confirmed || slot.RestartLSN > slot.ConfirmedFlush || slot.CurrentWAL <= slot.ConfirmedFlush ||
		slot.Retained != int64(slot.CurrentWAL-slot.RestartLSN) {
		t.Errorf("SlotStatus = %+v", slot)
	}
	open(t, cfg, newRecorder())
	if slot, err = SlotStatus(t.Context(), cfg); err != nil || !slot.Active || slot.ActivePID == 0 {
		t.Errorf("SlotStatus = %+v, %v while it is streamed", slot, err)
	}
}

// TestSetupSQL runs what is printed, and then nothing is left to set up.
func TestSetupSQL(t *testing.T) {
	db := shared.database(t)
	db.sql.exec(`CREATE TABLE "it's \a" (id int PRIMARY KEY); CREATE TABLE bare (id int); CREATE VIEW v AS SELECT 1;
		CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)`)
	cfg := db.cfg()
	cfg.Publication = `a "b" 'c' \d`
	tables := db.tables(t, `it's \a`, "bare", "v", "parts")
	sql, err := SetupSQL(t.Context(), cfg, tables)
	if err != nil {
		t.Fatal(err)
	}
	db.psql(t, sql)
	tables = db.tables(t, `it's \a`, "bare", "parts")
	if err := Preflight(t.Context(), cfg, tables); err != nil {
		t.Errorf("%s\nleaves: %v", sql, err)
	}
	if state, err := Setup(t.Context(), cfg, tables); err != nil || state.SlotCreated || state.PublicationChanged {
		t.Errorf("%s\nleaves: %+v, %v", sql, state, err)
	}
	if sql, err = TeardownSQL(cfg); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		db.psql(t, sql)
	}
	if slot, err := SlotStatus(t.Context(), cfg); err != nil || slot.Exists || len(db.sql.rows("SELECT FROM pg_publication")) != 0 {
		t.Errorf("%s\nleaves: %+v, %v", sql, slot, err)
	}
}

// psql runs SQL as a DBA does.
func (db *database) psql(t testing.TB, sql string) {
	t.Helper()
	cmd := client(t, "psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", db.url(db.name))
	cmd.Stdin = strings.NewReader(sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s\n%s", err, out, sql)
	}
}

// TestTwoAtOnce: two daemons that set up at the same moment both find it done.
func TestTwoAtOnce(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE a (id int PRIMARY KEY)")
	cfg, tables := db.cfg(), db.tables(t, "a")
	type outcome struct {
		state State
		err   error
	}
	outcomes := make(chan outcome)
	for range 4 {
		go func() {
			state, err := Setup(t.Context(), cfg, tables)
			outcomes <- outcome{state, err}
		}()
	}
	created := 0
	for range 4 {
		o := <-outcomes
		if o.err != nil {
			t.Error(o.err)
		}
		if o.state.SlotCreated {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d say that they made the slot, want 1", created)
	}
}

func TestBadConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Slot: "My-Slot"},
		{Slot: strings.Repeat("x", 64)},
		{Publication: strings.Repeat("x", 64)},
		{Publication: "a\x00b"},
	} {
		cfg.URL = shared.url("postgres")
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "a name is up to 63") {
			t.Errorf("Open with slot %q and publication %q = %v", cfg.Slot, cfg.Publication, err)
		}
		if _, err := SetupSQL(t.Context(), cfg, nil); err == nil {
			t.Errorf("SetupSQL with slot %q and publication %q gives no error", cfg.Slot, cfg.Publication)
		}
	}
}
