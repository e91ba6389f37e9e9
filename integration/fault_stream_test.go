package integration

import (
	"fmt"
	"strings"
	"testing"
)

// What is in the stream, and what is not.

// rendered is how many fragments of a viewlet passes have rendered.
func rendered(t testing.TB, url, name string) float64 {
	t.Helper()
	return metric(t, url+"/metrics", fmt.Sprintf("cdc_viewlet_renders_total{viewlet=%q}", name))
}

// Transactions and savepoints that are rolled back have never been.
func TestRolledBackIsNotRendered(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	quiet(t, s.db)
	before := rendered(t, url, "v")
	psql(t, s.db, "BEGIN; UPDATE t SET n = 'never'; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (501, 'never'); ROLLBACK")
	psql(t, s.db, "BEGIN; TRUNCATE t; ROLLBACK")
	psql(t, s.db, "BEGIN; SAVEPOINT a; UPDATE t SET n = 'never' WHERE id > 2; SAVEPOINT b; DELETE FROM t; ROLLBACK TO a; UPDATE t SET n = 'x' WHERE id = 2; COMMIT")
	psql(t, s.db, "DO $$ BEGIN BEGIN UPDATE t SET n = 'never'; RAISE 'no'; EXCEPTION WHEN OTHERS THEN END; END $$")
	quiet(t, s.db)
	if got := rendered(t, url, "v") - before; got != 1 {
		t.Errorf("%v fragments were rendered, and one row was changed", got)
	}
	s.want(t, "v:2", "one x")
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}

// What is changed while no daemon runs comes by the stream, and nothing is
// rendered that was not changed.
func TestChangesWhileDaemonIsDown(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	s.run(t).stop(t)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 2; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (501, 'new'); UPDATE t SET id = 502 WHERE id = 4")
	p := s.run(t, "--http", "127.0.0.1:0")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	if got := rendered(t, urlOf(t, p), "v"); got != 5 || !strings.Contains(p.stderr.String(), "to_render_whole=0") {
		t.Errorf("%v fragments were rendered, and 5 were stale", got)
	}
	p.stop(t)
}

// A child that moves from one parent to another refreshes both, and so do the
// changes that foreign keys make by themselves.
func TestChildMovesBetweenParents(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), `
		CREATE TABLE parents (id int PRIMARY KEY);
		CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON UPDATE CASCADE ON DELETE SET NULL, name text);
		ALTER TABLE children REPLICA IDENTITY FULL;
		INSERT INTO parents SELECT generate_series(1, 9);
		INSERT INTO children SELECT i, 1 + i % 9, 'child ' || i FROM generate_series(1, 27) i`,
		map[string]string{"rules/rules.hcl": `
			viewlet "children" {
			  params = ["parent"]
			  query  = "SELECT p.id, array_agg(c.name ORDER BY c.id) AS names FROM parents p LEFT JOIN children c ON c.parent = p.id WHERE p.id = @parent GROUP BY p.id"
			  all    = "SELECT id FROM parents"
			}
			table "parents" {
			  refresh = children(id)
			}
			table "children" {
			  refresh = children(parent)
			}`})
	p := s.run(t)
	o := newOracle(t, s.db, s.rules())
	for _, sql := range []string{
		"UPDATE children SET parent = 2 WHERE id = 9",                // from 1
		"UPDATE children SET parent = NULL WHERE id = 18",            // from 1 to nobody
		"UPDATE children SET parent = 3 WHERE id = 18",               // and from nobody
		"UPDATE children SET id = 100, parent = 5 WHERE id = 1",      // under another key
		"UPDATE children SET parent = parent % 9 + 1 WHERE id < 100", // all of them
		"UPDATE parents SET id = 10 WHERE id = 4",                    // its children follow
		"DELETE FROM parents WHERE id = 6",                           // its children stay behind
		"BEGIN; UPDATE children SET parent = 7 WHERE id = 2; UPDATE children SET parent = 8 WHERE id = 2; COMMIT",
	} {
		psql(t, s.db, sql)
		quiet(t, s.db)
		o.agree(t, s.redis)
	}
	p.stop(t)
}

// Under the default identity the old row of an update that changes the key
// holds the key alone, and an unchanged TOAST value is not sent. Neither is
// NULL.
func TestKeyChangesBesideUnchangedTOAST(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), `
		CREATE TABLE blobs (id int PRIMARY KEY, big text, n int);
		ALTER TABLE blobs ALTER big SET STORAGE EXTERNAL;
		INSERT INTO blobs SELECT i, repeat(md5(i::text), 200), i FROM generate_series(1, 9) i`,
		map[string]string{"rules/rules.hcl": `
			viewlet "blob" {
			  params = ["id"]
			  query  = "SELECT md5(big) AS sum, n FROM blobs WHERE id = @id"
			  all    = "SELECT id FROM blobs"
			}
			viewlet "content" {
			  params = ["big"]
			  query  = "SELECT id, n FROM blobs WHERE big = @big"
			  all    = "SELECT big FROM blobs"
			}
			table "blobs" {
			  when    = new.big != null
			  refresh = [blob(id), content(new.big)]
			}
			table "blobs" {
			  on      = ["delete"]
			  refresh = blob(id)
			}`})
	p := s.run(t)
	o := newOracle(t, s.db, s.rules())
	for _, sql := range []string{
		"UPDATE blobs SET id = 101 WHERE id = 1",
		"UPDATE blobs SET id = 102, n = 0 WHERE id = 2",
		"UPDATE blobs SET n = -1 WHERE id = 3",
		"BEGIN; UPDATE blobs SET id = 104 WHERE id = 4; UPDATE blobs SET id = 105 WHERE id = 104; COMMIT",
		"BEGIN; UPDATE blobs SET id = -5 WHERE id = 5; UPDATE blobs SET id = 5 WHERE id = 6; UPDATE blobs SET id = 6 WHERE id = -5; COMMIT",
	} {
		psql(t, s.db, sql)
		quiet(t, s.db)
		o.agree(t, s.redis)
	}
	p.stop(t)
}

// TRUNCATE, in all its forms, is a change of every row.
func TestTruncate(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), `
		CREATE TABLE a (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, n text);
		CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
		CREATE TABLE c (id int PRIMARY KEY)`,
		map[string]string{"rules/rules.hcl": `
			viewlet "a" {
			  params = ["id"]
			  query  = "SELECT n, (SELECT count(*) FROM b WHERE b.a = a.id) AS bs FROM a WHERE id = @id"
			  all    = "SELECT id FROM a"
			}
			viewlet "totals" {
			  query = "SELECT (SELECT count(*) FROM a) AS a, (SELECT count(*) FROM b) AS b, (SELECT count(*) FROM c) AS c"
			}
			table "a" {
			  refresh = [a(id), totals()]
			}
			table "b" {
			  refresh = [a(new.a), totals()]
			}
			table "c" {
			  refresh = totals()
			}`})
	p := s.run(t)
	o := newOracle(t, s.db, s.rules())
	const fill = `INSERT INTO a (n) SELECT 'n' || i FROM generate_series(1, 20) i;
		INSERT INTO b SELECT row_number() OVER (), id FROM a; INSERT INTO c SELECT generate_series(1, 5)`
	for _, sql := range []string{
		"TRUNCATE c",
		"TRUNCATE b",
		"TRUNCATE a, b, c",
		"TRUNCATE a CASCADE",
		"TRUNCATE a RESTART IDENTITY CASCADE",
		"BEGIN; TRUNCATE b, a RESTART IDENTITY; INSERT INTO a (n) VALUES ('again'); COMMIT",
		"BEGIN; UPDATE a SET n = 'lost'; TRUNCATE a CASCADE; ROLLBACK",
	} {
		psql(t, s.db, "TRUNCATE a, b, c; "+fill)
		quiet(t, s.db)
		o.agree(t, s.redis)
		psql(t, s.db, sql)
		quiet(t, s.db)
		o.agree(t, s.redis)
	}
	p.stop(t)
}

// The table changes its columns between two changes of one transaction. No
// column is ever taken for another.
func TestDDLWithinTransaction(t *testing.T) {
	t.Parallel()
	s := newSite(t, startPostgres(t), `
		CREATE TABLE t (junk int, id int PRIMARY KEY, class int, n text);
		INSERT INTO t SELECT 1000 + i, i, 2000 + i, 'n' || i FROM generate_series(1, 20) i;
		ALTER TABLE t REPLICA IDENTITY FULL`,
		map[string]string{"rules/rules.hcl": `
			viewlet "v" {
			  params = ["id"]
			  query  = "SELECT n FROM t WHERE id = @id"
			  all    = "SELECT id FROM t"
			}
			viewlet "class" {
			  params = ["class"]
			  query  = "SELECT array_agg(id ORDER BY id) AS ids FROM t WHERE class = @class HAVING count(*) > 0"
			  all    = "SELECT DISTINCT class FROM t"
			}
			table "t" {
			  when    = changed("id", "n", "class")
			  refresh = [v(id), class(class)]
			}`})
	p := s.run(t)
	o := newOracle(t, s.db, s.rules())
	psql(t, s.db, `BEGIN;
		UPDATE t SET n = 'before' WHERE id = 1;
		ALTER TABLE t DROP COLUMN junk;
		UPDATE t SET class = 7 WHERE id IN (1, 2);
		ALTER TABLE t ADD COLUMN first text DEFAULT 'x';
		UPDATE t SET n = 'after', class = class + 1 WHERE id IN (2, 3);
		ALTER TABLE t RENAME COLUMN first TO last;
		UPDATE t SET id = id + 100 WHERE id IN (3, 4);
		DELETE FROM t WHERE id = 5;
		COMMIT`)
	quiet(t, s.db)
	o.agree(t, s.redis)
	psql(t, s.db, `BEGIN;
		UPDATE t SET n = 'again' WHERE id = 7;
		ALTER TABLE t DROP COLUMN class;
		ALTER TABLE t ADD COLUMN class int NOT NULL DEFAULT 8;
		UPDATE t SET class = 9 WHERE id > 9;
		COMMIT`)
	quiet(t, s.db)
	p.says(t, "ready: every fragment is in Redis")
	for _, id := range []int{7, 10, 20} {
		s.want(t, fmt.Sprintf("v:%d", id), fmt.Sprintf(`{"n":%q}`, ask[string](t, s.db, "SELECT n FROM t WHERE id = $1", id)))
	}
	s.awaits(t, "class:9", fmt.Sprintf(`{"ids":[%s]}`, ask[string](t, s.db, "SELECT string_agg(id::text, ',' ORDER BY id) FROM t WHERE class = 9")))
	p.stop(t)
}
