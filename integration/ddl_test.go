package integration

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// allRules show every column of t, so that one taken for another is seen.
const allRules = `
viewlet "w" {
  params = ["id"]
  query  = "SELECT t.* FROM t WHERE id = @id"
  all    = "SELECT id FROM t"
}
table "t" {
  refresh = w(id)
}`

// settles waits until Redis has what a fresh render gives, while nobody writes.
func (s *site) settles(t testing.TB, after string) {
	t.Helper()
	quiet(t, s.db)
	oracle := newOracle(t, s.db, s.rules())
	eventually(t, "Redis is right again after "+after, func() bool {
		return maps.Equal(oracle.truth(t), fragments(t, s.redis))
	})
}

// busy writes to t all the while, once it has begun to, whatever becomes of it.
func (s *site) busy(t testing.TB, write string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var written atomic.Int64
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := s.db.pool.Exec(ctx, fmt.Sprintf(write, i), pgx.QueryExecModeSimpleProtocol); err == nil {
				written.Add(1)
			}
		}
	}()
	eventually(t, "something is written", func() bool { return written.Load() > 0 })
	return func() { cancel(); <-done }
}

// The tables change under load. What follows from no change in the stream is
// noticed all the same, and what was written to the table before is not taken
// for what it has now.
func TestTablesAltered(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	writeFiles(t, s.dir, map[string]string{"rules/w.hcl": allRules})
	p := s.run(t)
	for _, sql := range []string{
		"ALTER TABLE t ADD c int NOT NULL DEFAULT 5",
		"ALTER TABLE t ALTER c TYPE text USING 'c' || c",
		"ALTER TABLE t ALTER n TYPE text USING upper(n) || '!'",
		"ALTER TABLE t RENAME n TO m; ALTER TABLE t RENAME c TO n; ALTER TABLE t ALTER n DROP NOT NULL",
		"ALTER TABLE t DROP m",
		"ALTER TABLE t ADD r float DEFAULT random()",
	} {
		stop := s.busy(t, "UPDATE t SET n = 'w%[1]d' WHERE id %% 100 = %[1]d %% 100; DELETE FROM t WHERE id = 600; INSERT INTO t (id, n) VALUES (600, 'i%[1]d')")
		psql(t, s.db, sql)
		stop()
		s.settles(t, sql)
	}
	for _, sql := range []string{
		// As a dump and a restore with other columns in front.
		"BEGIN; ALTER TABLE t RENAME TO was; CREATE TABLE t (r float, n text, id int PRIMARY KEY); INSERT INTO t SELECT r, n, id FROM was; DROP TABLE was; COMMIT",
		"ALTER PUBLICATION " + s.db.publication + " ADD TABLE other",
	} {
		if strings.Contains(sql, "other") {
			psql(t, s.db, "CREATE TABLE other (n text, id int PRIMARY KEY)")
		}
		stop := s.busy(t, "UPDATE t SET n = 'w%[1]d' WHERE id %% 100 = %[1]d %% 100")
		psql(t, s.db, sql)
		stop()
		s.settles(t, sql)
	}
	p.stop(t)
}

// A table that is renamed away breaks what reads it, and nothing else; under
// its name again it is followed again.
func TestTableRenamedAway(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": `
		viewlet "u" {
		  params = ["id"]
		  query  = "SELECT n FROM u WHERE id = @id"
		  all    = "SELECT id FROM u"
		}
		table "u" {
		  refresh = u(id)
		}`})
	psql(t, s.db, "CREATE TABLE u (id int PRIMARY KEY, n text); INSERT INTO u VALUES (1, 'u1')")
	p := s.run(t)
	psql(t, s.db, "ALTER TABLE t RENAME TO away; UPDATE away SET n = 'meanwhile' WHERE id = 1")
	p.says(t, "viewlet is broken")
	psql(t, s.db, "UPDATE u SET n = 'goes on'")
	s.awaits(t, "u:1", `{"n":"goes on"}`)
	psql(t, s.db, "ALTER TABLE away RENAME TO t; UPDATE t SET n = 'back' WHERE id = 2")
	s.awaits(t, "v:1", "one meanwhile")
	s.awaits(t, "v:2", "one back")
	s.settles(t, "the table is back")
	p.stop(t)
}

// A daemon that is started again while a table is away goes on for the others,
// as it would have had it run. Rules that were not in force are refused.
func TestStartedWhileTableIsAway(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	others := `
		viewlet "u" {
		  params = ["id"]
		  query  = "SELECT n FROM u WHERE id = @id"
		  all    = "SELECT id FROM u"
		}
		viewlet "derived" {
		  params = ["id"]
		  query  = "SELECT n FROM t WHERE id = @id"
		  all    = "SELECT id FROM t"
		}`
	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": others})
	psql(t, s.db, "CREATE TABLE u (id int PRIMARY KEY, n text); INSERT INTO u VALUES (1, 'u1')")
	p := s.run(t)
	psql(t, s.db, "ALTER TABLE t RENAME TO away")
	p.kill()
	psql(t, s.db, "UPDATE u SET n = 'goes on'")
	p = s.run(t)
	p.says(t, `but_not_of="v derived"`)
	s.awaits(t, "u:1", `{"n":"goes on"}`)
	psql(t, s.db, "ALTER TABLE away RENAME TO t; UPDATE t SET n = 'back' WHERE id = 2")
	s.awaits(t, "v:2", "one back")
	s.awaits(t, "derived:2", `{"n":"back"}`)
	s.settles(t, "the table is back")
	psql(t, s.db, "UPDATE t SET n = 'again' WHERE id = 2")
	s.awaits(t, "derived:2", `{"n":"again"}`)
	p.stop(t)

	psql(t, s.db, "ALTER TABLE t RENAME TO away")
	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": strings.Replace(others, "SELECT n FROM u", "SELECT n, id FROM u", 1)})
	if code := s.start(t).wait(t); code != 1 {
		t.Errorf("exit code %d for new rules that do not fit, want 1", code)
	}
}

const parted = `CREATE TABLE t (id int PRIMARY KEY, n text) PARTITION BY RANGE (id);
	CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (0) TO (100);
	CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (100) TO (200);
	CREATE TABLE t_2 (id int PRIMARY KEY, n text);
	INSERT INTO t SELECT i, 'n' || i FROM generate_series(0, 199) i;
	INSERT INTO t_2 SELECT i, 'n' || i FROM generate_series(200, 299) i`

// Rows come and go with a partition, and none of them is in the stream.
func TestPartitionsComeAndGo(t *testing.T) {
	t.Parallel()
	s := newSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}), parted, map[string]string{"rules/rules.hcl": smallRules, "rules/v.txt": "one {{.n}}"})
	p := s.run(t)
	for _, sql := range []string{
		"ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (200) TO (300)",
		"ALTER TABLE t DETACH PARTITION t_1",
		"TRUNCATE t_0",
	} {
		stop := s.busy(t, "UPDATE t SET n = 'w%[1]d' WHERE id %% 50 = %[1]d %% 50")
		psql(t, s.db, sql)
		stop()
		s.settles(t, sql)
	}
	p.stop(t)
	// The same while nobody looks.
	psql(t, s.db, "ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES FROM (100) TO (200); ALTER TABLE t DETACH PARTITION t_2; INSERT INTO t VALUES (1, 'one')")
	p = s.run(t)
	s.settles(t, "the daemon was down")
	p.stop(t)
	if p = s.run(t); !strings.Contains(p.stderr.String(), "to_render_whole=0") {
		t.Error("all is rendered once more though nothing has changed")
	}
	p.stop(t)
}

// A rewritten table while the daemon is down.
func TestTableRewrittenWhileDown(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}))
	p := s.run(t)
	p.stop(t)
	psql(t, s.db, "ALTER TABLE t ALTER n TYPE text USING upper(n)")
	p = s.run(t)
	s.want(t, "v:1", "one N1")
	p.stop(t)
	if p = s.run(t); !strings.Contains(p.stderr.String(), "to_render_whole=0") {
		t.Error("all is rendered once more though nothing has changed")
	}
	p.stop(t)
}
