package render

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/derive"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

func TestAnalyse(t *testing.T) {
	s := newSite(t, `CREATE TABLE t (id int, dropped int, "odd col" varchar(5));
		ALTER TABLE t DROP COLUMN dropped;
		CREATE VIEW v AS SELECT id, "odd col" FROM t`)
	s.connect(Config{})
	good := &rules.Query{SQL: "SELECT * FROM v WHERE id = @id", Params: []string{"unused", "id"}}
	bad := &rules.Query{SQL: "SELECT id,\n nothing FROM v"}
	analysed, catalog, err := s.db.Analyse(t.Context(), good, bad)
	if err != nil {
		t.Fatal(err)
	}
	if analysed[0].Err != nil {
		t.Fatal(analysed[0].Err)
	}
	derived, err := derive.Derive(derive.Query{Viewlet: "good", Params: good.Params, Tree: analysed[0].Tree}, catalog)
	if err != nil || len(derived.Limits) == 0 || !slices.Equal(derived.Limits[0].Params, []string{"@unused"}) {
		t.Errorf("got %+v and %v, want @id to be $2 of the tree", derived, err)
	}
	var wrong *QueryError
	if !errors.As(analysed[1].Err, &wrong) || wrong.Offset != strings.Index(bad.SQL, "nothing") {
		t.Errorf("the bad query gives %#v", analysed[1].Err)
	}
	kinds := ""
	for _, r := range catalog.Relations {
		if kinds += string(r.Kind); r.Kind == 'r' && (len(r.Columns) != 3 || r.Columns[1].Name != "" || r.Columns[2].SQL != `"odd col"` || r.Columns[2].Type != "character varying") {
			t.Errorf("columns are %+v", r.Columns)
		}
	}
	if kinds != "rv" && kinds != "vr" {
		t.Errorf("relations are of kinds %s, want the view and its table", kinds)
	}
	var left int
	if err := s.admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_proc WHERE proname = 'viewlet_query'").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d functions are left: %v", left, err)
	}
}

// TestAnalyseWithoutTemp asks as a role that may not create what it needs.
func TestAnalyseWithoutTemp(t *testing.T) {
	s := newSite(t, `CREATE TABLE t (id int); CREATE ROLE plain LOGIN PASSWORD 'secret word'; GRANT SELECT ON t TO plain`)
	s.exec("REVOKE TEMP ON DATABASE " + s.admin.Config().Database + " FROM PUBLIC")
	as, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	as.User = url.UserPassword("plain", "secret word")
	s.connect(Config{URL: as.String()})
	_, _, err = s.db.Analyse(t.Context(), &rules.Query{SQL: "SELECT id FROM t"})
	if !errors.Is(err, ErrNoTemp) || !strings.Contains(err.Error(), "GRANT TEMP") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want what to grant", err)
	}
}
