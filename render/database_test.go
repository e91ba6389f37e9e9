package render

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// TestConnectFaults: none tells the password.
func TestConnectFaults(t *testing.T) {
	_, address, _ := strings.Cut(cluster.URL(), "@")
	address, _, _ = strings.Cut(address, "/")
	for _, url := range []string{
		"postgres://postgres:s3cret-pw@" + address + "/postgres?sslmode=disable",
		"postgres://postgres:s3cret-pw@" + address + "/nowhere?sslmode=disable",
		"postgres://postgres:s3cret-pw@127.0.0.1:1/postgres",
		"postgres://postgres:s3cret-pw@127.0.0.1:port/postgres",
		"postgres://postgres:s3cret-pw@127.0.0.1/postgres?sslmode=perhaps",
		"postgres://postgres:s3cret-pw@127.0.0.1/postgres?pool_max_conns=x",
		"postgres://postgres:s3cret-pw@[::1/postgres",
		"postgres://postgres:s3cret-pw%zz@127.0.0.1/postgres",
		"postgres://postgres:s3cret-pw@127.0.0.1/a\x7fb",
		"host=127.0.0.1 port=x password=s3cret-pw",
		"mysql://root:s3cret-pw@127.0.0.1/x",
	} {
		db, err := Connect(t.Context(), Config{URL: url})
		if err == nil {
			db.Close()
			t.Errorf("%s connects", url)
		} else if strings.Contains(err.Error(), "s3cret-pw") {
			t.Errorf("the password is in %v", err)
		}
	}
}

// A URL may name several servers, and ask for the one that takes writes.
func TestConnectReadWrite(t *testing.T) {
	for _, attrs := range []string{"read-write", "primary", "any"} {
		db, err := Connect(t.Context(), Config{URL: cluster.URL() + "&target_session_attrs=" + attrs})
		if err != nil {
			t.Errorf("%s: %v", attrs, err)
			continue
		}
		if _, err := db.pool.Exec(t.Context(), "CREATE TABLE never ()"); err == nil {
			t.Errorf("%s: a session that writes", attrs)
		}
		db.Close()
	}
}

// TestSettings: whatever is set for the database and the role, keys and bytes
// are the same, and a statement sees what was committed before it.
func TestSettings(t *testing.T) {
	s := newSite(t, `CREATE TABLE t (id timestamptz, b bytea, f float8, i interval, d date, s text);
		INSERT INTO t VALUES ('2024-02-29 12:00Z', '\x00ff', 0.1, '1 day 02:03', '2024-02-03', 'it\s');
		CREATE SCHEMA other; CREATE TABLE other.found AS SELECT 'other' AS s`)
	role := fmt.Sprintf("odd_%d", databases.Load())
	s.exec(strings.ReplaceAll(`CREATE ROLE odd LOGIN; GRANT SELECT ON t TO odd; GRANT USAGE ON SCHEMA other TO odd; GRANT SELECT ON other.found TO odd;
		ALTER ROLE odd SET DateStyle = 'SQL, DMY'; ALTER ROLE odd SET TimeZone = 'Asia/Kathmandu';
		ALTER ROLE odd SET IntervalStyle = 'iso_8601'; ALTER ROLE odd SET bytea_output = 'escape';
		ALTER ROLE odd SET extra_float_digits = -10; ALTER ROLE odd SET default_transaction_isolation = 'serializable';
		ALTER ROLE odd SET default_transaction_read_only = off; ALTER ROLE odd SET default_transaction_deferrable = on;
		ALTER ROLE odd SET standard_conforming_strings = off; ALTER ROLE odd SET client_encoding = 'LATIN1';
		ALTER ROLE odd SET statement_timeout = 1; ALTER ROLE odd SET lock_timeout = 1; ALTER ROLE odd SET array_nulls = off;
		ALTER ROLE odd SET search_path = other, public; ALTER ROLE odd SET cursor_tuple_fraction = 0.01`, "odd", role))
	archive := `
viewlet "v" {
  params = ["id"]
  query  = "SELECT t.*, 'it\\s' = t.s AS same, 'å€' AS letters, found.s AS path, pg_sleep(0.02)::text = '' AS slept FROM t, found WHERE id = @id"
  all    = "SELECT id FROM t"
}
viewlet "page" {
  params = ["id"]
  query  = "SELECT t.* FROM t, found WHERE id = @id"
  body   = "{{.id}} {{.b}} {{.f}} {{.i}} {{.d}}"
}`
	const key = "2024-02-29 12:00:00+00"
	for _, url := range []string{s.url + "&search_path=other,public", s.as(role)} {
		s.connect(Config{URL: url})
		s.loadSound(archive)
		want := `{"id":"2024-02-29T12:00:00+00:00","b":"\\x00ff","f":0.1,"i":"1 day 02:03:00","d":"2024-02-03","s":"it\\s","same":true,"letters":"å€","path":"other","slept":true}`
		if got := s.body("v", key); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got, want := s.body("page", key), key+` \x00ff 0.1 1 day 02:03:00 2024-02-03`; strings.ReplaceAll(got, "&#43;", "+") != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := s.expanded("v", viewlet.Whole); !slices.Equal(got, []string{viewlet.NewKey("v", key).String()}) {
			t.Errorf("all gives %v", got)
		}
		if got, err := s.r.Canonical(t.Context(), "v", []string{"Feb 29, 2024 13:00+01"}); err != nil || got != viewlet.NewKey("v", key) {
			t.Errorf("canonical is %v, %v", got, err)
		}
	}
	isolation := ""
	err := s.db.run(t.Context(), &statement{name: "isolation", sql: "SHOW transaction_isolation"}, nil, func(row [][]byte) error {
		isolation = string(row[0])
		return nil
	})
	if err != nil || isolation != "read committed" {
		t.Errorf("isolation is %s, %v", isolation, err)
	}
}

// TestLSNBeforeSnapshot: a commit that comes while the query runs, and that it
// does not see, is behind the fragment's LSN, and not in what it has Seen.
func TestLSNBeforeSnapshot(t *testing.T) {
	s := newSite(t, `CREATE TABLE t AS SELECT 1 AS id, 0 AS v`)
	s.loadSound(`viewlet "v" {
  params = ["id"]
  query  = "SELECT v, pg_advisory_xact_lock_shared(1)::text AS locked FROM t WHERE id = @id"
  body   = "{{.v}}"
}`)
	for i := range 5 {
		s.exec("SELECT pg_advisory_lock(1)")
		done := make(chan viewlet.Fragment, 1)
		go func() {
			fragments, err := s.r.Render(t.Context(), "v", keysOf("v", "1"))
			if err != nil {
				t.Error(err)
				fragments = make([]viewlet.Fragment, 1)
			}
			done <- fragments[0]
		}()
		eventually(t, func() error {
			if s.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") != "1" {
				return errors.New("the render does not wait for the lock")
			}
			return nil
		})
		before, err := viewlet.ParseLSN(s.one("SELECT pg_current_wal_insert_lsn()"))
		if err != nil {
			t.Fatal(err)
		}
		xid := s.update(i + 1)
		s.exec("SELECT pg_advisory_unlock(1)")
		f := <-done
		if f.Seen == nil || f.Seen.Sees(xid) {
			t.Errorf("round %d: it has seen %+v, and the commit that is not in it is %d", i, f.Seen, xid)
		}
		if string(f.Body) != strconv.Itoa(i) {
			t.Errorf("round %d: got %q, want the value of before the commit", i, f.Body)
		}
		if f.LSN > before || f.LSN == 0 {
			t.Errorf("round %d: the LSN is %v, and the commit that is not in it came after %v", i, f.LSN, before)
		}
	}
}

// TestLSNReachesCommits: every commit that was over before the render began is
// before its LSN, in its body and in what it has Seen.
func TestLSNReachesCommits(t *testing.T) {
	s := newSite(t, `CREATE TABLE t AS SELECT 1 AS id, 0 AS v`)
	s.loadSound(`viewlet "v" {
  params = ["id"]
  query  = "SELECT v FROM t WHERE id = @id"
  body   = "{{.v}}"
}`)
	for i := range 50 {
		xid := s.update(i)
		after, err := viewlet.ParseLSN(s.one("SELECT pg_current_wal_insert_lsn()"))
		if err != nil {
			t.Fatal(err)
		}
		f := s.render("v", keysOf("v", "1")...)[0]
		if f.LSN < after || string(f.Body) != strconv.Itoa(i) {
			t.Fatalf("commit %d: got %s at %v, want it at %v or later", i, f.Body, f.LSN, after)
		}
		if f.Seen == nil || !f.Seen.Sees(xid) {
			t.Fatalf("commit %d: it has seen %+v, want %d in it", i, f.Seen, xid)
		}
	}
}

// update commits a value of t, and gives the transaction.
func (s *site) update(v int) uint32 {
	s.Helper()
	text := s.one(fmt.Sprintf("WITH u AS (UPDATE t SET v = %d RETURNING v) SELECT pg_current_xact_id() FROM u", v))
	xid, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.Fatal(err)
	}
	return uint32(xid)
}

// TestVisible: a commit that is visible before its WAL is flushed is waited for.
func TestVisible(t *testing.T) {
	s := newSite(t, "CREATE TABLE t AS SELECT 0 AS v; SET synchronous_commit = off")
	s.connect(Config{})
	for i := range 5 {
		before, err := viewlet.ParseLSN(s.one(fmt.Sprintf("WITH u AS (UPDATE t SET v = %d RETURNING v) SELECT pg_current_wal_insert_lsn() FROM u", i)))
		if err != nil {
			t.Fatal(err)
		}
		lsn, err := s.db.Visible(t.Context())
		if err != nil || lsn <= before {
			t.Errorf("commit %d: got %v, %v, and it was committed after %v", i, lsn, err, before)
		}
	}
}

func TestSnapshot(t *testing.T) {
	s := newSite(t, "CREATE TABLE t (i int)")
	s.connect(Config{})
	xid := func(text string) uint32 {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	s.exec("BEGIN; INSERT INTO t VALUES (1)")
	open := xid(s.one("SELECT pg_current_xact_id()"))
	snap, err := s.db.Snapshot(t.Context())
	if err != nil || snap.Sees(open) || snap.LSN == 0 {
		t.Errorf("got %+v, %v; want one that does not see %d", snap, err, open)
	}
	s.exec("COMMIT")
	if snap, err = s.db.Snapshot(t.Context()); err != nil || !snap.Sees(open) {
		t.Errorf("got %+v, %v; want one that sees %d", snap, err, open)
	}
}

func TestParseSnapshot(t *testing.T) {
	snap, err := viewlet.ParseSnapshot("4294967300:4294967310:4294967301,4294967305")
	if err != nil {
		t.Fatal(err)
	}
	for xid, want := range map[uint32]bool{3: true, 4: true, 5: false, 6: true, 9: false, 10: true, 14: false, 15: false, 4294967295: true} {
		if snap.Sees(xid) != want {
			t.Errorf("sees %d: %v", xid, !want)
		}
	}
	for _, s := range []string{"", "1", "1:2", "1:2:3:4", "a:2:", "1:b:", "1:2:x", "-1:2:"} {
		if snap, err := viewlet.ParseSnapshot(s); err == nil {
			t.Errorf("%q gives %v", s, snap)
		}
	}
}

// TestCommitting: a transaction that waits for a synchronous standby is named,
// prepared before or not, one that is merely open or prepared is not, and a role
// that may not look is told too much rather than too little.
func TestCommitting(t *testing.T) {
	t.Parallel()
	p, err := sandbox.StartPostgres(t.Context(), sandbox.PostgresConfig{Settings: map[string]string{"synchronous_standby_names": "ghost", "synchronous_commit": "local", "max_prepared_transactions": "5"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	s := &site{TB: t, url: p.URL()}
	s.admin = s.dial(p.URL())
	s.exec("CREATE TABLE t AS SELECT 1 AS id; CREATE ROLE plain LOGIN; CREATE ROLE seer LOGIN; GRANT pg_read_all_stats TO seer")
	open, waits, ends := &site{TB: t, admin: s.dial(p.URL())}, &site{TB: t, admin: s.dial(p.URL())}, &site{TB: t, admin: s.dial(p.URL())}
	xid := func(s *site) uint32 {
		n, err := strconv.ParseUint(s.one("SELECT pg_current_xact_id()"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	open.exec("BEGIN; CREATE TABLE open (i int)")
	opened := xid(open)
	waits.exec("SET synchronous_commit = on; BEGIN; UPDATE t SET id = 2")
	waiting := xid(waits)
	var prepared []uint32
	for _, name := range []string{"idle", "it''s"} {
		ends.exec("BEGIN; SELECT pg_current_xact_id()")
		prepared = append(prepared, xid(ends))
		ends.exec("PREPARE TRANSACTION '" + name + "'")
	}
	ends.exec("SET synchronous_commit = on")
	ctx, cancel := context.WithCancel(t.Context())
	hangs := make(chan error, 2)
	for s, commit := range map[*site]string{waits: "COMMIT", ends: "COMMIT PREPARED 'it''s'"} {
		go func() {
			_, err := s.admin.Exec(ctx, commit)
			hangs <- err
		}()
	}
	eventually(t, func() error {
		if s.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != "2" {
			return errors.New("the two do not wait for the standby")
		}
		return nil
	})
	for role, want := range map[string][]uint32{"postgres": {waiting, prepared[1]}, "seer": {waiting, prepared[1]}, "plain": {opened, waiting}} {
		s.connect(Config{URL: strings.Replace(p.SocketURL(), "postgres@", role+"@", 1)})
		got, err := s.db.Committing(t.Context())
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("as %s: got %v, %v; want %v", role, got, err, want)
		}
		snap, err := s.db.Snapshot(t.Context())
		if err != nil || snap.Sees(waiting) {
			t.Errorf("as %s: the snapshot sees what waits, %v", role, err)
		}
		got, err = s.db.Unpublished(t.Context(), "none")
		if hidden := role == "plain"; err != nil || (len(got) == 2) != hidden || hidden && !slices.Contains(got, prepared[1]) {
			t.Errorf("as %s: unpublished are %v, %v", role, got, err)
		}
	}
	cancel()
	<-hangs
	<-hangs
	open.exec("ROLLBACK")
	s.exec("ROLLBACK PREPARED 'idle'")
	eventually(t, func() error {
		got, err := s.db.Committing(t.Context())
		if len(got) > 0 || err != nil {
			return fmt.Errorf("with nothing open: got %v, %v", got, err)
		}
		return nil
	})
}

// TestFollow: queries do not go on to a server that changes do not come from.
func TestFollow(t *testing.T) {
	t.Parallel()
	p, err := sandbox.StartPostgres(t.Context(), sandbox.PostgresConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	s := &site{TB: t, url: p.URL()}
	s.admin = s.dial(p.URL())
	s.exec("CREATE ROLE plain LOGIN")
	s.connect(Config{URL: strings.Replace(p.SocketURL(), "postgres@", "plain@", 1)})
	system := s.one("SELECT system_identifier FROM pg_control_system()")
	before, err := s.db.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.db.Follow(system, 1)
	if _, err := s.db.Snapshot(t.Context()); err != nil {
		t.Errorf("of the right server: %v", err)
	}
	before.Release()
	for _, other := range []origin{{"1", 1}, {system, 2}} {
		s.db.Follow(other.system, other.timeline)
		if _, err := s.db.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "changes come from") {
			t.Errorf("of another server: %v", err)
		}
	}
	s.db.Follow(system, 0)
	if _, err := s.db.Snapshot(t.Context()); err != nil {
		t.Errorf("of the right server, on any timeline: %v", err)
	}
}

// TestRestart: a server that goes is the world's fault, and over when it is back.
func TestRestart(t *testing.T) {
	t.Parallel()
	p, err := sandbox.StartPostgres(t.Context(), sandbox.PostgresConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	s := &site{TB: t, url: p.URL()}
	s.connect(Config{})
	s.loadSound(`
viewlet "v" {
  params = ["id"]
  query  = "SELECT @id::int AS id"
}
viewlet "slow" {
  params = ["id"]
  query  = "SELECT pg_sleep(@id)::text AS slept"
}`)
	for name, stop := range map[string]func() error{
		"fast":      func() error { return p.Stop(t.Context(), sandbox.Fast) },
		"immediate": func() error { return p.Stop(t.Context(), sandbox.Immediate) },
		"kill":      p.Kill,
	} {
		s.body("v", "1")
		under := make(chan error, 1)
		go func() {
			_, err := s.r.Render(t.Context(), "slow", keysOf("slow", "50", "50"))
			under <- err
		}()
		watch := s.dial(p.URL())
		eventually(t, func() error {
			var n int
			err := watch.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").Scan(&n)
			if err == nil && n == 0 {
				err = errors.New("nobody sleeps")
			}
			return err
		})
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		var broken *viewlet.Broken
		if err := <-under; err == nil || errors.As(err, &broken) {
			t.Errorf("%s under way: got %v, want the world's error", name, err)
		}
		if _, err := s.r.Render(t.Context(), "v", keysOf("v", "1")); err == nil || errors.As(err, &broken) {
			t.Errorf("%s, stopped: got %v, want the world's error", name, err)
		}
		if err := s.r.Expand(t.Context(), "v", viewlet.Whole, nil, nil); errors.As(err, &broken) {
			t.Errorf("%s, stopped: expand gives %v", name, err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			fragments, err := s.r.Render(t.Context(), "v", keysOf("v", "1"))
			if err == nil && string(fragments[0].Body) != `{"id":1}` {
				err = fmt.Errorf("got %s, %v", fragments[0].Body, fragments[0].Err)
			}
			return err
		})
	}
}

// TestCancelled: who stops waiting gets ctx's error, and no Err of a fragment.
func TestCancelled(t *testing.T) {
	s := newSite(t, "")
	s.loadSound(`viewlet "slow" {
  params = ["id"]
  query  = "SELECT pg_sleep(@id)::text AS slept"
}`)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := s.r.Render(ctx, "slow", keysOf("slow", "30")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestFaultOf(t *testing.T) {
	for code, want := range map[string]fault{
		"22012": faultOfData, "P0001": faultOfData, "57014": faultOfData, "21000": faultOfData, "53400": faultOfData,
		"42P01": faultOfQuery, "42501": faultOfQuery, "25006": faultOfQuery, "3F000": faultOfQuery, "55000": faultOfQuery,
		"57P01": faultOfWorld, "53300": faultOfWorld, "08006": faultOfWorld, "40001": faultOfWorld, "55P03": faultOfWorld,
		"58030": faultOfWorld, "28P01": faultOfWorld, "": faultOfWorld, "53200": faultOfWorld,
	} {
		err := fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})
		if got := faultOf(err); got != want {
			t.Errorf("%s: got %d, want %d", code, got, want)
		}
	}
	if faultOf(nil) != faultOfWorld || faultOf(errors.New("x")) != faultOfWorld {
		t.Error("an error that is not Postgres's is not the world's")
	}
}

// hole stands between the client and the server, and may swallow what they say.
type hole struct {
	addr string
	mute atomic.Bool
}

func newHole(t testing.TB, target string) *hole {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{addr: l.Addr().String()}
	over := make(chan struct{})
	t.Cleanup(func() { close(over); _ = l.Close() })
	pass := func(to, from net.Conn, buf []byte) {
		for {
			n, err := from.Read(buf)
			if h.mute.Load() {
				if err != nil {
					<-over // so is the end
				}
				n = 0
			}
			if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
				_ = to.Close()
				return
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			go pass(server, client, make([]byte, 1<<16))
			go pass(client, server, make([]byte, 1<<16))
		}
	}()
	return h
}

// Connections that lead nowhere any more are noticed, whether they are idle or a
// query is under way, and one that waits for it costs no more than the others.
func TestBlackHole(t *testing.T) {
	s := newSite(t, "CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t VALUES (1, 'one')")
	h := newHole(t, fmt.Sprintf("127.0.0.1:%d", cluster.Port()))
	s.connect(Config{URL: strings.Replace(s.url, fmt.Sprintf("127.0.0.1:%d", cluster.Port()), h.addr, 1), StatementTimeout: time.Second})
	s.loadSound(whereRules)
	s.render("v", keysOf("v", "1")...)

	h.mute.Store(true)
	began := time.Now()
	if _, err := s.r.Render(t.Context(), "v", keysOf("v", "1")); err == nil || faultOf(err) != faultOfWorld {
		t.Errorf("Render through a black hole: %v, want the world's fault", err)
	}
	t.Logf("noticed after %v", time.Since(began))
	h.mute.Store(false)
	again := func() bool {
		_, err := s.r.Render(t.Context(), "v", keysOf("v", "1"))
		return err == nil
	}
	for deadline := time.Now().Add(patience); !again(); {
		if time.Now().After(deadline) {
			t.Fatal("it does not come back")
		}
	}
}
