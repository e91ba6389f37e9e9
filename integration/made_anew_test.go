package integration

import "testing"

// A table is dropped and made anew while the daemon runs: the publication has
// lost it.
func TestTableMadeAnew(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	psql(t, s.db, "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t VALUES (1, 'anew')")
	quiet(t, s.db)
	psql(t, s.db, "UPDATE t SET n = 'later' WHERE id = 1")
	s.awaits(t, "v:1", "one later")
	psql(t, s.db, "UPDATE t SET n = 'last' WHERE id = 1")
	s.awaits(t, "v:1", "one last")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}
