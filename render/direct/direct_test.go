package direct

import (
	"testing"
	"text/template/parse"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

// A function that panics leaves the fragment to the engine, and the run fit for
// the next one.
func TestPanicIsTheEngines(t *testing.T) {
	functions := map[string]any{"number": func(v any) (value.Double, error) {
		if v == "" {
			panic("nothing")
		}
		return 7, nil
	}}
	trees, err := parse.Parse("t", "{{if true}}{{number .s}}{{end}}", "", "", functions)
	if err != nil {
		t.Fatal(err)
	}
	program := Compile("t", trees, functions, []value.Field{{Name: "s", OID: pgtype.TextOID}}, nil)
	if program == nil {
		t.Fatal("it is not compiled")
	}
	run := program.Run()
	for _, c := range []struct {
		arg, want string
		ok        bool
	}{{"x", "7", true}, {"", "", false}, {"y", "7", true}} {
		out, ok := run.Append(nil, 100, []string{c.arg}, &value.Rows{}, nil)
		if ok != c.ok || ok && string(out) != c.want {
			t.Errorf("of %q it makes %q, %v", c.arg, out, ok)
		}
	}
}
