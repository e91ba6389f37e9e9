package derive

import (
	"strings"
	"testing"
)

func TestHCLWritesOddColumns(t *testing.T) {
	got := HCL([]Rule{{
		Viewlet: "page", Every: true, Args: []Arg{{Column: "id"}, {Column: "new"}, {Column: `sk"u ${x}`}, {}},
		Lookup: &Lookup{Name: "shelves", Params: []string{"K", "column2"}, Columns: []string{"K", "größe"}, SQL: "SELECT"},
	}})
	want := `page(id, row["new"], row["sk\"u $${x}"], shelves(K, row["größe"]))`
	if !strings.Contains(got, "  refresh = "+want+"\n") {
		t.Errorf("got\n%s\nwant the refresh %s", got, want)
	}
}
