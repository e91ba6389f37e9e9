package derive

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var view, _ = ParseTree("({QUERY :commandType 1 :rtable ({RTE :rtekind 0 :relid 0}) :jointree {FROMEXPR :fromlist ({RANGETBLREF :rtindex 1})} " +
	":targetList ({TARGETENTRY :expr {VAR :varno 1 :varattno 1} :resno 1} {TARGETENTRY :expr {VAR :varno 1 :varattno 2} :resno 2})})")

// anything is a catalog that knows whatever it is asked for.
func anything(tree Tree) *Catalog {
	c := &Catalog{
		Relations: map[uint32]*Relation{}, Functions: map[uint32]*Function{}, Operators: map[uint32]*Operator{},
		Bases: map[uint32]uint32{}, Types: map[uint32]string{}, Elements: map[uint32]uint32{}, Enums: map[uint32]bool{}, Loose: map[uint32]bool{},
	}
	oids := References(tree)
	for _, oid := range oids.Types {
		c.Types[oid], c.Elements[oid] = "integer", oid/2
	}
	for _, oid := range oids.Functions {
		c.Functions[oid] = &Function{Schema: "pg_catalog", Name: "f", SQL: "f", Volatility: 'i', Strict: oid%2 == 0}
	}
	for _, oid := range append(oids.Relations, 0) {
		r := &Relation{Kind: "rvmp"[oid%4], Persistence: 'p', View: view, SQL: "public.t"}
		r.Schema, r.Name = "public", "t"
		for _, name := range []string{"a", "b", "c", "d"} {
			r.Columns = append(r.Columns, Column{Name: name, SQL: name, Type: "integer"})
		}
		c.Relations[oid] = r
	}
	for _, oid := range oids.Operators {
		c.Operators[oid] = &Operator{Schema: "pg_catalog", Name: "=", Left: int4Type, Right: int4Type, Equality: true}
	}
	return c
}

// FuzzDerive derives rules from trees that Postgres never wrote.
func FuzzDerive(f *testing.F) {
	seeds, err := filepath.Glob("testdata/trees/*.tree")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no trees to start from: %v", err)
	}
	for _, name := range seeds {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		tree, err := ParseTree(text)
		if err != nil {
			return
		}
		r, err := Derive(Query{Viewlet: "v", Params: []string{"p1", "p2", "p3"}, Tree: tree}, anything(tree))
		if (r == nil) == (err == nil) {
			t.Fatalf("got %v and %v", r, err)
		}
		if err == nil {
			_ = HCL(r.Rules)
		}
	})
}

func TestDeriveErrors(t *testing.T) {
	for text, want := range map[string]string{
		"(({QUERY :commandType 2}))": "not a SELECT",
		"<>":                         "not a SELECT",
		"({QUERY :commandType 1 :rtable ({RTE :rtekind 0 :relid 1 :eref {ALIAS :aliasname t}}) :jointree {FROMEXPR :fromlist ({RANGETBLREF :rtindex 1})}})": "the relation t, of which",
		"({QUERY :commandType 1 :jointree {FROMEXPR :fromlist ({RANGETBLREF :rtindex 1})}})":                                                                "range table entry 1, of 0",
		"({QUERY :commandType 1 :jointree {FROMEXPR :fromlist ({NEWJOIN :rtindex 1})}})":                                                                    `"NEWJOIN"`,
	} {
		tree, err := ParseTree(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Derive(Query{Viewlet: "v", Tree: tree}, &Catalog{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "derive rules of v: ") {
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
}
