package integration

import (
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A transaction that wrote to a table before it was published commits after
// all was rendered: it is not in the stream.
func TestOpenTransactionWhileTableIsPublished(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	p := s.run(t)
	psql(t, s.db, "CREATE TABLE u (id int PRIMARY KEY, n text); INSERT INTO u VALUES (7, 'old')")
	conn, err := pgx.Connect(t.Context(), s.db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "BEGIN; UPDATE u SET n = 'new' WHERE id = 7", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, s.dir, map[string]string{"rules/u.hcl": uRules})
	p.signal(t, syscall.SIGHUP)
	eventually(t, "u is published", func() bool {
		return ask[int](t, s.db, "SELECT count(*)::int FROM pg_publication_tables WHERE pubname = $1", s.db.publication) == 2
	})
	p.says(t, "rules in force\" viewlets=2")
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	s.awaits(t, "u:7", `{"n":"new"}`)
	p.stop(t)
}
