package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestEveryKindOfChange runs SQL and compares what the sink is told.
func TestEveryKindOfChange(t *testing.T) {
	db := shared.database(t)
	db.sql.exec(`
		CREATE TABLE products (id int PRIMARY KEY, name text, price numeric);
		CREATE TABLE whole (id int PRIMARY KEY, name text, body text);
		ALTER TABLE whole REPLICA IDENTITY FULL;
		ALTER TABLE whole ALTER body SET STORAGE EXTERNAL;
		CREATE TABLE pages (id int PRIMARY KEY, title text, body text);
		ALTER TABLE pages ALTER body SET STORAGE EXTERNAL;
		CREATE TABLE sales (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE sales_old PARTITION OF sales FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
		CREATE TABLE sales_new (day date NOT NULL, extra int, note text, id int NOT NULL, PRIMARY KEY (id, day));
		ALTER TABLE sales_new DROP extra;
		ALTER TABLE sales ATTACH PARTITION sales_new FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
		CREATE TABLE unpublished (id int)`)
	cfg := db.cfg()
	db.publish(t, cfg, "products", "whole", "pages", "sales")
	s := open(t, cfg, newRecorder())
	for _, c := range []struct{ name, sql, want string }{
		{
			"insert",
			`INSERT INTO products VALUES (1, 'Oak', 9.50), (2, NULL, NULL), (3, '', 0)`,
			`begin; insert public.products new id=1 name=Oak price=9.50;
			insert public.products new id=2 name=NULL price=NULL; insert public.products new id=3 name= price=0; commit`,
		},
		{
			"update without the old row",
			`UPDATE products SET name = 'Ash' WHERE id = 1`,
			`begin; update public.products new id=1 name=Ash price=9.50; commit`,
		},
		{
			"update of the key",
			`UPDATE products SET id = 4 WHERE id = 2`,
			`begin; update public.products old id=2 new id=4 name=NULL price=NULL; commit`,
		},
		{
			"delete tells the key alone",
			`DELETE FROM products WHERE id = 4`,
			`begin; delete public.products old id=4; commit`,
		},
		{
			"update and delete with the old row",
			`INSERT INTO whole VALUES (1, NULL, 'x'); UPDATE whole SET name = 'b'; DELETE FROM whole`,
			`begin; insert public.whole new id=1 name=NULL body=x;
			update public.whole old id=1 name=NULL body=x new id=1 name=b body=x;
			delete public.whole old id=1 name=b body=x; commit`,
		},
		{
			"truncate of several tables",
			`TRUNCATE products, whole`,
			`begin; truncate public.products; truncate public.whole; commit`,
		},
		{
			"partitions, told by their root in its order of columns",
			`INSERT INTO sales VALUES (1, '2019-05-01', 'a'), (2, '2021-05-01', 'b');
			UPDATE sales SET note = 'c' WHERE id = 2; UPDATE sales SET day = '2022-01-01' WHERE id = 1; DELETE FROM sales WHERE id = 2`,
			`begin; insert public.sales new id=1 day=2019-05-01 note=a; insert public.sales new id=2 day=2021-05-01 note=b;
			update public.sales new id=2 day=2021-05-01 note=c;
			delete public.sales old id=1 day=2019-05-01; insert public.sales new id=1 day=2022-01-01 note=a;
			delete public.sales old id=2 day=2021-05-01; commit`,
		},
		{
			"truncate of a partitioned table",
			`TRUNCATE sales`,
			`begin; truncate public.sales; commit`,
		},
		{
			"transactional message, rolled back and committed",
			`BEGIN; SELECT pg_logical_emit_message(true, 'cdc-viewlet', 'gone'); ROLLBACK;
			SELECT pg_logical_emit_message(true, 'cdc-viewlet', 'product_teaser:42')`,
			`begin; message cdc-viewlet product_teaser:42; commit`,
		},
		{
			"message at once, even of a transaction that is rolled back",
			`BEGIN; SELECT pg_logical_emit_message(false, 'p', 'now'); ROLLBACK; SELECT pg_logical_emit_message(false, 'p', '')`,
			`message p now; message p `,
		},
		{
			"savepoint rolled back",
			`BEGIN; INSERT INTO products VALUES (7); SAVEPOINT s; INSERT INTO products VALUES (8); ROLLBACK TO s; INSERT INTO products VALUES (9); COMMIT;
			BEGIN; INSERT INTO products VALUES (10); ROLLBACK; INSERT INTO unpublished VALUES (1)`,
			`begin; insert public.products new id=7 name=NULL price=NULL; insert public.products new id=9 name=NULL price=NULL; commit`,
		},
	} {
		db.sql.exec(c.sql)
		var lines []string
		for line := range strings.SplitSeq(c.want, ";") {
			lines = append(lines, strings.TrimLeft(line, "\n\t "))
		}
		lines[len(lines)-1] = strings.TrimLeft(lines[len(lines)-1], "\t\n")
		t.Log(c.name)
		s.want(t, lines...)
	}

	t.Log("an unchanged TOAST value beside a changed key, and one that the old row has")
	long := strings.Repeat("x", 9000)
	db.sql.exec("INSERT INTO pages VALUES (1, 'a', '" + long + "'); INSERT INTO whole VALUES (1, 'a', '" + long + "')")
	s.want(t, "begin", "insert public.pages new id=1 title=a body="+long, "insert public.whole new id=1 name=a body="+long, "commit")
	db.sql.exec("UPDATE pages SET id = 2; UPDATE whole SET name = 'b'")
	s.want(t, "begin", "update public.pages old id=1 new id=2 title=a body=unchanged",
		"update public.whole old id=1 name=a body="+long+" new id=1 name=b body="+long, "commit")
}

// TestTextForms: what a database sets for its sessions does not show in values.
func TestTextForms(t *testing.T) {
	db := shared.database(t)
	db.sql.exec(`
		CREATE TABLE v (id int PRIMARY KEY, d date, ts timestamptz, i interval, b bytea, f float8);
		ALTER DATABASE ` + quoteIdent(db.name) + ` SET datestyle = 'German';
		ALTER DATABASE ` + quoteIdent(db.name) + ` SET timezone = 'Asia/Tokyo';
		ALTER DATABASE ` + quoteIdent(db.name) + ` SET intervalstyle = 'iso_8601';
		ALTER DATABASE ` + quoteIdent(db.name) + ` SET bytea_output = 'escape';
		ALTER DATABASE ` + quoteIdent(db.name) + ` SET extra_float_digits = -5`)
	cfg := db.cfg("datestyle", "SQL", "timezone", "PST8PDT") // those of the URL neither
	db.publish(t, cfg, "v")
	s := open(t, cfg, newRecorder())
	db.sql.exec(`INSERT INTO v VALUES (1, '2024-02-03', '2024-02-03 04:05:06+00', '1 day 2 hours', '\x00ff', 0.1::float8 + 0.2)`)
	s.want(t, "begin", `insert public.v new id=1 d=2024-02-03 ts=2024-02-03 04:05:06+00 i=1 day 02:00:00 b=\x00ff f=0.30000000000000004`, "commit")
}

// TestHugeTransaction also has rows that are larger than the read buffer.
func TestHugeTransaction(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY, body text)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	s := open(t, cfg, newRecorder())
	const rows = 100_000
	db.sql.exec(fmt.Sprintf(`BEGIN; INSERT INTO v SELECT i, CASE WHEN i %% 20000 = 0 THEN repeat('x', 1000000) ELSE 'b' END FROM generate_series(1, %d) i; COMMIT`, rows))
	s.want(t, "begin")
	large := strings.Repeat("x", 1000000)
	for i := 1; i <= rows; i++ {
		body := "b"
		if i%20000 == 0 {
			body = large
		}
		s.want(t, fmt.Sprintf("insert public.v new id=%d body=%s", i, body))
	}
	s.want(t, "commit")
}

func TestChangedTableIsANewRelation(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY, name text)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	s := open(t, cfg, newRecorder())
	db.sql.exec("BEGIN; INSERT INTO v VALUES (1, 'a'), (2, 'b'); ALTER TABLE v ADD extra int DEFAULT 5; UPDATE v SET name = 'c' WHERE id = 1; ALTER TABLE v DROP name; COMMIT")
	db.sql.exec("ALTER TABLE v RENAME TO w; ALTER TABLE w REPLICA IDENTITY FULL; DELETE FROM w WHERE id = 2")
	s.want(t, "begin", "insert public.v new id=1 name=a", "insert public.v new id=2 name=b",
		"update public.v new id=1 name=c extra=5", "commit", "begin", "delete public.w old id=2 extra=5", "commit")
	s.stop(t)
	first, third, last := s.rels[0], s.rels[2], s.rels[3]
	if first != s.rels[1] || first == third || third == last || first.ID != last.ID {
		t.Errorf("relations are %p %p %p %p: a new one for each change of the table, and only then", first, s.rels[1], third, last)
	}
	if len(first.Columns) != 2 || first.Columns[1].Name != "name" || first.Identity != viewlet.IdentityDefault {
		t.Errorf("the first relation was altered: %+v", first)
	}
	if !first.Columns[0].Key || first.Columns[1].Key || !last.Columns[1].Key || last.Identity != viewlet.IdentityFull {
		t.Errorf("key columns are wrong: %+v and %+v", first, last)
	}
}

// TestConfirm: the slot moves to what is confirmed, and to nothing else.
func TestConfirm(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg("wal_sender_timeout", "300ms") // a status update every 100 ms, and keepalives
	state := db.publish(t, cfg, "v")
	s := open(t, cfg, newRecorder())
	if s.Start != state.Confirmed || s.SystemID == "" || s.Timeline == 0 {
		t.Errorf("Stream = %s %s %d, want it to start at %s", s.Start, s.SystemID, s.Timeline, state.Confirmed)
	}
	db.sql.exec("INSERT INTO v VALUES (1)")
	first := s.commit(t)
	db.sql.exec("INSERT INTO v VALUES (2)")
	second := s.commit(t)
	db.sql.exec("SELECT pg_sleep(1)") // several status updates, by the server's clock
	if got := db.confirmed(t, cfg); got != s.Start {
		t.Fatalf("confirmed_flush_lsn = %s, want %s: nothing was confirmed", got, s.Start)
	}
	db.sql.exec("CREATE TEMP TABLE since AS SELECT clock_timestamp() AS t")
	s.Confirm(first)
	db.sql.eventually(fmt.Sprintf("SELECT confirmed_flush_lsn = '%s' FROM pg_replication_slots WHERE slot_name = '%s'", first, cfg.Slot))
	s.Confirm(second)
	s.Confirm(first)
	db.sql.eventually(fmt.Sprintf("SELECT confirmed_flush_lsn = '%s' FROM pg_replication_slots WHERE slot_name = '%s'", second, cfg.Slot))
	db.sql.exec("SELECT pg_sleep(0.5)")
	if got := db.confirmed(t, cfg); got != second {
		t.Fatalf("confirmed_flush_lsn = %s, want %s", got, second)
	}
	r := db.sql.rows("SELECT write_lsn, flush_lsn, replay_lsn FROM pg_stat_replication WHERE pid = " +
		db.sql.string("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '"+cfg.Slot+"'"))[0]
	if r.lsn(0) != second || r.lsn(1) != second || r.lsn(2) != second {
		t.Errorf("write, flush, apply = %s %s %s, want all %s", r.lsn(0), r.lsn(1), r.lsn(2), second)
	}
}

func (db *database) confirmed(t testing.TB, cfg Config) viewlet.LSN {
	t.Helper()
	slot, err := SlotStatus(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return slot.ConfirmedFlush
}

// TestNotConfirmedComesAgain: what was delivered and not confirmed is sent by
// the next stream, and what was confirmed is not.
func TestNotConfirmedComesAgain(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	s := open(t, cfg, newRecorder())
	db.sql.exec("INSERT INTO v VALUES (1)")
	s.Confirm(s.commit(t))
	db.sql.exec("INSERT INTO v VALUES (2)")
	s.commit(t)
	s.stop(t)
	s = open(t, cfg, newRecorder())
	s.want(t, "begin", "insert public.v new id=2", "commit")
}

// TestIdleSlotMoves: WAL that has nothing of ours does not stay.
func TestIdleSlotMoves(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY); CREATE TABLE unpublished (id int)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	openIdle(t, cfg)
	db.sql.exec("INSERT INTO unpublished SELECT generate_series(1, 10000)")
	end := db.sql.string("SELECT pg_current_wal_lsn()")
	db.sql.eventually(fmt.Sprintf("SELECT confirmed_flush_lsn >= '%s' FROM pg_replication_slots WHERE slot_name = '%s'", end, cfg.Slot))
}

// TestStopIsConfirmed: what was confirmed just before ctx ended is confirmed,
// even while a large transaction is on its way to us.
func TestStopIsConfirmed(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY, body text)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	for _, backlog := range []string{"", "INSERT INTO v SELECT i, repeat('x', 1000) FROM generate_series(1000, 60000) i"} {
		s := open(t, cfg, newRecorder())
		db.sql.exec("INSERT INTO v VALUES (1)")
		end := s.commit(t)
		if backlog != "" {
			unblock := s.block()
			defer unblock()
			db.sql.exec(backlog)
			db.sql.eventually("SELECT sent_lsn < pg_current_wal_lsn() FROM pg_stat_replication WHERE pid = " +
				db.sql.string("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '"+cfg.Slot+"'"))
		}
		s.Confirm(end)
		s.stop(t)
		db.sql.eventually("SELECT NOT active FROM pg_replication_slots WHERE slot_name = '" + cfg.Slot + "'")
		if got := db.confirmed(t, cfg); got != end {
			t.Errorf("confirmed_flush_lsn = %s, want %s", got, end)
		}
		db.sql.exec("DELETE FROM v")
	}
}

// TestBlockedSink: five seconds without room, with a full socket, do not cost
// the connection, though the server gives up after one.
func TestBlockedSink(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY, body text)")
	cfg := db.cfg("wal_sender_timeout", "1s")
	db.publish(t, cfg, "v")
	s := open(t, cfg, newRecorder())
	unblock := s.block()
	const rows = 40_000
	db.sql.exec(fmt.Sprintf("INSERT INTO v SELECT i, repeat('x', 1000) FROM generate_series(1, %d) i", rows))
	slot := "FROM pg_replication_slots WHERE slot_name = '" + cfg.Slot + "'"
	pid := db.sql.string("SELECT active_pid " + slot)
	db.sql.exec("SELECT pg_sleep(5)")
	if got := db.sql.string("SELECT active_pid " + slot); got != pid {
		t.Fatalf("the slot's walsender is %q, want %s as before", got, pid)
	}
	select {
	case line := <-s.lines:
		t.Fatalf("the sink has no room and got %s", line)
	default:
	}
	unblock()
	s.want(t, "begin")
	body := strings.Repeat("x", 1000)
	for i := 1; i <= rows; i++ {
		s.want(t, fmt.Sprintf("insert public.v new id=%d body=%s", i, body))
	}
	s.want(t, "commit")
}

// TestStandby: a second stream waits, says so once, and takes over.
func TestStandby(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	first := open(t, cfg, newRecorder())
	pid := db.sql.string("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '" + cfg.Slot + "'")
	said := make(chan int, 10)
	log := newLog()
	second := cfg
	second.OnStandby, second.Log = func(pid int) { said <- pid }, log.logger()
	opened := make(chan error, 1)
	var s *Stream
	go func() {
		var err error
		s, err = Open(t.Context(), second)
		opened <- err
	}()
	if got := fmt.Sprint(<-said); got != pid {
		t.Errorf("OnStandby(%s), want %s", got, pid)
	}
	db.sql.exec("SELECT pg_sleep(2.5)") // more than two polls
	select {
	case err := <-opened:
		t.Fatalf("Open = %v while the slot is in use", err)
	default:
	}
	first.stop(t)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	s.Close()
	if n := log.count("waiting as standby"); n != 1 || len(said) != 0 {
		t.Errorf("said %d times in the log and %d times more by OnStandby, want once", n, len(said))
	}
}

func TestStandbyEndsWithContext(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	open(t, cfg, newRecorder())
	ctx, cancel := context.WithCancel(t.Context())
	cfg.OnStandby = func(int) { cancel() }
	if _, err := Open(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("Open = %v, want context.Canceled", err)
	}
}

func TestTerminatedWalsender(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	s := open(t, cfg, newRecorder())
	db.sql.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '" + cfg.Slot + "'")
	if err := s.ended(t); sqlState(err) != "57P01" {
		t.Errorf("Run = %v, want admin_shutdown", err)
	}
}

// TestServerShutdown: a server that is stopped waits until all is confirmed,
// and then ends the stream.
func TestServerShutdown(t *testing.T) {
	server := newServer(t, "", "wal_level=logical")
	db := &database{server: server, name: "postgres", sql: dial(t, server.url("postgres"))}
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	s := openIdle(t, cfg)
	db.sql.exec("INSERT INTO v VALUES (1)")
	s.Confirm(s.commit(t))
	db.sql.close()
	server.shutDown()
	if err := s.ended(t); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want the server's end", err)
	}
}

func TestOpenWithoutSlot(t *testing.T) {
	db := shared.database(t)
	if _, err := Open(t.Context(), db.cfg()); !errors.Is(err, ErrNoSlot) {
		t.Errorf("Open = %v, want ErrNoSlot", err)
	}
}

// lose has Postgres remove the WAL that a slot needs, and waits until it says so.
func (db *database) lose(t testing.TB, cfg Config) {
	t.Helper()
	for range 4 {
		db.sql.exec("INSERT INTO v SELECT coalesce(max(id), 0) + 1 FROM v")
		db.sql.exec("SELECT pg_switch_wal()")
	}
	db.sql.exec("CHECKPOINT")
	db.sql.eventually("SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '" + cfg.Slot + "'")
}

// newForgetful is a server that keeps little WAL for slots.
func newForgetful(t testing.TB) *server {
	return newServer(t, "", "wal_level=logical", "max_slot_wal_keep_size=1MB", "max_wal_size=32MB", "min_wal_size=32MB")
}

// TestLostSlot: a slot that can only be dropped is not streamed, and Setup makes
// another and says why.
func TestLostSlot(t *testing.T) {
	db := newForgetful(t).database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	db.lose(t, cfg)
	const why = "max_slot_wal_keep_size, which is 1MB"
	if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrSlotLost) || !strings.Contains(fmt.Sprint(err), why) {
		t.Errorf("Open = %v, want ErrSlotLost for %s", err, why)
	}
	if err := Preflight(t.Context(), cfg, nil); err != nil {
		t.Errorf("Preflight = %v, though Setup mends it", err)
	}
	if slot, err := SlotStatus(t.Context(), cfg); err != nil || slot.WALStatus != "lost" {
		t.Errorf("SlotStatus = %+v, %v", slot, err)
	}
	if state := db.publish(t, cfg, "v"); !state.SlotCreated || !strings.Contains(state.Lost, why) {
		t.Errorf("Setup = %+v, want a new slot for %s", state, why)
	}
	s := open(t, cfg, newRecorder())
	db.sql.exec("INSERT INTO v VALUES (0)")
	s.want(t, "begin", "insert public.v new id=0", "commit")
	s.stop(t)
	if state := db.publish(t, cfg, "v"); state.SlotCreated || state.Lost != "" {
		t.Errorf("Setup = %+v, want nothing done", state)
	}
	cfg.Renew = "it is old"
	if state := db.publish(t, cfg, "v"); !state.SlotCreated || state.Lost != cfg.Renew {
		t.Errorf("Setup = %+v, want a new slot", state)
	}
}

// TestSlotLostWhileStreamed: Postgres ends the walsender of a slot that keeps too
// much.
func TestSlotLostWhileStreamed(t *testing.T) {
	db := newForgetful(t).database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	s := open(t, cfg, newRecorder()) // confirms nothing
	db.lose(t, cfg)
	if err := s.ended(t); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want the server's end of it", err)
	}
	if state := db.publish(t, cfg, "v"); !state.SlotCreated || state.Lost == "" {
		t.Errorf("Setup = %+v, want a new slot", state)
	}
}

// TestLostReasons: each of Postgres's words has a remedy.
func TestLostReasons(t *testing.T) {
	for word, want := range map[string]string{
		"": "max_slot_wal_keep_size, which is 5GB", "wal_removed": "max_slot_wal_keep_size, which is 5GB",
		"rows_removed": "hot_standby_feedback", "wal_level_insufficient": "wal_level", "idle_timeout": "idle_replication_slot_timeout",
	} {
		slot := Slot{Exists: true, WALStatus: "lost", Invalidation: word, Limit: "5GB"}
		if got := slot.Lost(); !strings.Contains(got, want) {
			t.Errorf("%q: %q, want it to name %s", word, got, want)
		}
		slot.WALStatus = "unreserved" // it may yet be caught up with
		if got := slot.Lost(); got != "" {
			t.Errorf("%q: %q for a slot that is not lost", word, got)
		}
	}
}

// TestDuring: however long it takes until a stream is Run, the server does not
// lose patience; and when the connection breaks, what is done meanwhile ends.
func TestDuring(t *testing.T) {
	db := newServer(t, "", "wal_level=logical", "wal_sender_timeout=1s").database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	db.sql.exec("INSERT INTO v VALUES (1)")
	fault := errors.New("no")
	err = s.During(t.Context(), func(context.Context) error {
		db.sql.eventually("SELECT now() > backend_start + interval '4 s' FROM pg_stat_replication WHERE application_name = 'cdc-viewlet'")
		return fault
	})
	if !errors.Is(err, fault) {
		t.Fatalf("During = %v, want %v", err, fault)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	sink := newRecorder()
	go func() { ran <- s.Run(ctx, sink) }()
	sink.want(t, "begin", "insert public.v new id=1", "commit")
	cancel()
	if err := <-ran; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.During(t.Context(), func(ctx context.Context) error {
		db.sql.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
		<-ctx.Done()
		return ctx.Err()
	})
	if err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("During = %v, want what broke the connection", err)
	}
}

// TestUnpublished: changes from a time without the publication stop the slot for
// good. Since Postgres 18 they are left out.
func TestUnpublished(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	db.sql.exec("DROP PUBLICATION " + quoteIdent(cfg.Publication))
	db.sql.exec("INSERT INTO v VALUES (1)")
	db.publish(t, cfg, "v")
	db.sql.exec("INSERT INTO v VALUES (2)")
	if serverVersion(db.sql.conn) >= 18 {
		open(t, cfg, newRecorder()).want(t, "begin", "insert public.v new id=2", "commit")
		return
	}
	if err := open(t, cfg, newRecorder()).ended(t); !errors.Is(err, ErrUnpublished) {
		t.Errorf("Run = %v, want ErrUnpublished", err)
	}
}

// TestPatience: a daemon that is cut off does not keep its slot for long, unless
// the URL says so.
func TestPatience(t *testing.T) {
	server := newServer(t, "", "wal_level=logical", "wal_sender_timeout=0")
	db := server.database(t)
	cfg := db.cfg()
	db.publish(t, cfg)
	for url, want := range map[string]time.Duration{
		db.url(db.name): 2 * patientTimeout, db.url(db.name, "wal_sender_timeout", "40s"): 80 * time.Second,
	} {
		cfg.URL = url
		s, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if s.silence != want || s.interval > want/6 {
			t.Errorf("%s: a status each %s, and patience for %s, want %s", url, s.interval, s.silence, want)
		}
		s.Close()
	}
}

// TestSinkErrorEndsTheStream: a fault of the pipeline is not the stream's to mend.
func TestSinkErrorEndsTheStream(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg()
	db.publish(t, cfg, "v")
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	db.sql.exec("INSERT INTO v VALUES (1)")
	fault := errors.New("no")
	if err := s.Run(t.Context(), failing{newRecorder(), fault}); !errors.Is(err, fault) {
		t.Errorf("Run = %v, want %v", err, fault)
	}
}

type failing struct {
	*recorder
	err error
}

func (f failing) Change(*viewlet.Change) error { return f.err }

// TestBlackHole: a connection that has died without a word is noticed.
func TestBlackHole(t *testing.T) {
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY)")
	cfg := db.cfg("wal_sender_timeout", "500ms")
	db.publish(t, cfg, "v")
	hole := newProxy(t, fmt.Sprintf("127.0.0.1:%d", db.port), disguise{})
	cfg.URL = strings.Replace(cfg.URL, fmt.Sprintf("127.0.0.1:%d", db.port), hole.addr, 1)
	s := openIdle(t, cfg) // all is confirmed, so that the server has nothing to say
	db.sql.exec("INSERT INTO v VALUES (1)")
	s.want(t, "begin", "insert public.v new id=1", "commit")
	s.Confirm(s.commit(t))
	db.sql.exec("SELECT pg_sleep(2)") // silence that is none: the server is asked, and answers
	select {
	case <-s.done:
		t.Fatalf("Run = %v on an idle connection", s.err)
	default:
	}
	hole.swallow()
	start := time.Now()
	if err := s.ended(t); err == nil || !strings.Contains(err.Error(), "no word from the server") {
		t.Errorf("Run = %v, want silence", err)
	}
	if took := time.Since(start); took < 300*time.Millisecond || took > 20*time.Second {
		t.Errorf("noticed after %s, want about a second", took)
	}
}

// piped is a Stream whose server is the test, at the other end of a pipe that
// holds nothing.
func piped(t testing.TB) (*Stream, *pgproto3.Backend, net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = there.Close() })
	config, err := pgconn.ParseConfig("")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.Construct(&pgconn.HijackedConn{Conn: here, Frontend: pgproto3.NewFrontend(here, here), Config: config})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Config{}.resolved()
	if err != nil {
		t.Fatal(err)
	}
	wire := newWire(here)
	return &Stream{cfg: cfg, conn: conn, wire: wire, in: newFrames(wire), interval: time.Hour, silence: time.Minute}, pgproto3.NewBackend(there, there), there
}

// TestKeepalive: one within a transaction says nothing of how far all has been
// delivered, and one that asks for a reply gets it at once.
func TestKeepalive(t *testing.T) {
	s, there, _ := piped(t)
	sink := newRecorder()
	s.Confirm(42)
	status := make(chan pgproto3.FrontendMessage, 1)
	go func() {
		msg, _ := there.Receive()
		status <- msg
	}()
	keepalive := append([]byte{'k', 0, 0, 0, 0, 0, 0, 0, 99}, make([]byte, 9)...)
	begin := append(append([]byte{'w'}, make([]byte, 24)...), append([]byte{'B'}, make([]byte, 20)...)...)
	if err := s.message('d', keepalive, sink); err != nil || sink.idle.Load() != 99 {
		t.Errorf("idle at %d, %v, want 99", sink.idle.Load(), err)
	}
	keepalive[8], keepalive[17] = 100, 1
	for _, body := range [][]byte{begin, keepalive} {
		if err := s.message('d', body, sink); err != nil {
			t.Fatal(err)
		}
	}
	if sink.idle.Load() != 99 {
		t.Error("a keepalive within a transaction is taken for an idle server's")
	}
	select {
	case msg := <-status:
		data, ok := msg.(*pgproto3.CopyData)
		if !ok || len(data.Data) != 34 || data.Data[0] != 'r' || data.Data[8] != 42 || data.Data[16] != 42 || data.Data[24] != 42 {
			t.Errorf("the reply is %v, want a status with 42 three times", msg)
		}
	case <-time.After(patience):
		t.Error("waited in vain for a reply")
	}
}

// TestLeave: the last status comes before the end, and what the server still
// sends is read until it has ended the stream itself.
func TestLeave(t *testing.T) {
	s, there, pipe := piped(t)
	s.Confirm(42)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, newRecorder()) }()
	for _, want := range []string{"*pgproto3.CopyData", "*pgproto3.CopyDone"} {
		msg, err := there.Receive()
		if err != nil || fmt.Sprintf("%T", msg) != want {
			t.Fatalf("received %T, %v, want %s", msg, err, want)
		}
		if data, ok := msg.(*pgproto3.CopyData); ok && data.Data[16] != 42 {
			t.Errorf("the last status has flushed %d, want 42", data.Data[16])
		}
	}
	if err := pipe.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if msg, err := there.Receive(); !isTimeout(err) {
		t.Fatalf("received %T, %v before the server has ended the stream", msg, err)
	}
	if err := pipe.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, msg := range []pgproto3.BackendMessage{
		&pgproto3.CopyData{Data: make([]byte, 3*frameBuffer)},
		&pgproto3.CopyDone{},
		&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	} {
		there.Send(msg)
		if err := there.Flush(); err != nil {
			t.Fatalf("send %T: %v", msg, err)
		}
	}
	if msg, err := there.Receive(); err != nil {
		t.Errorf("received %T, %v, want Terminate", msg, err)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want context.Canceled", err)
	}
}

// TestRefusedStart: a slot that is in use is refused, and the connection that
// asked for it can ask again.
func TestRefusedStart(t *testing.T) {
	db := shared.database(t)
	cfg := db.cfg()
	db.publish(t, cfg)
	first := open(t, cfg, newRecorder())
	w, err := connectReplication(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := startHere(t.Context(), cfg, w, Slot{}); sqlState(err) != objectInUse {
			t.Fatalf("startHere = %v, want object_in_use", err)
		}
	}
	first.stop(t)
	db.sql.eventually("SELECT NOT active FROM pg_replication_slots WHERE slot_name = '" + cfg.Slot + "'")
	s, err := startHere(t.Context(), cfg, w, Slot{})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// TestUnexpectedMessages: what the protocol does not have here ends the stream.
func TestUnexpectedMessages(t *testing.T) {
	for _, c := range []struct {
		kind byte
		body string
		want string
	}{
		{'D', "", "unexpected message"},
		{'A', "", "unexpected message"},
		{'d', "", "unexpected CopyData"},
		{'d', "w123", "unexpected CopyData"},
		{'d', "x", "unexpected CopyData"},
		{'d', "k123", "decode keepalive"},
		{'d', "w" + strings.Repeat("\x00", 24) + "?", "unknown type"},
		{'E', "SERROR\x00C57P01\x00Mgo away\x00\x00", "go away"},
		{'c', "", "has ended the stream"},
		{'C', "COPY 0\x00", "has ended the stream"},
	} {
		if err := (&Stream{}).message(c.kind, []byte(c.body), newRecorder()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q gives %v, want %q", c.kind, c.body, err, c.want)
		}
	}
	log := newLog()
	s := &Stream{cfg: Config{Log: log.logger()}}
	if err := s.message('N', []byte("SWARNING\x00Mbeware\x00\x00"), newRecorder()); err != nil || log.count("beware") != 1 {
		t.Errorf("a notice gives %v and is logged %d times", err, log.count("beware"))
	}
	if err := s.message('S', []byte("a\x00b\x00"), newRecorder()); err != nil {
		t.Error(err)
	}
}

// counting is a Sink that only counts, and tells when a transaction is over.
type counting struct {
	*recorder
	n    int
	done chan struct{}
}

func (c *counting) Begin(viewlet.Tx)              {}
func (c *counting) Change(*viewlet.Change) error  { c.n++; return nil }
func (c *counting) Commit(viewlet.LSN) error      { close(c.done); return nil }
func (c *counting) Message(viewlet.Message) error { return nil }

// BenchmarkStream drains the same transaction again and again: what the
// walsender, the socket and the decoder do together.
func BenchmarkStream(b *testing.B) {
	db := shared.database(b)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY, n int, name text)")
	db.sql.exec("INSERT INTO v SELECT i, i, 'a name of some length' FROM generate_series(1, 200000) i")
	cfg := db.cfg()
	db.publish(b, cfg, "v")
	db.sql.exec("UPDATE v SET n = n + 1")
	rows := 0
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithCancel(context.Background())
		s, err := Open(ctx, cfg)
		if err != nil {
			b.Fatal(err)
		}
		sink := &counting{recorder: newRecorder(), done: make(chan struct{})}
		go func() {
			<-sink.done
			cancel()
		}()
		if err := s.Run(ctx, sink); !errors.Is(err, context.Canceled) {
			b.Fatal(err)
		}
		rows += sink.n
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
