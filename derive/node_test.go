package derive

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseTree(t *testing.T) {
	v, err := parseTree(`({A :alias {ALIAS :aliasname *SELECT*\ 1 :colnames ("we\ ird\ \\\ \(x" "")} :colon :b :empty <> ` +
		`:flag true :constvalue 4 [ -1 0 0 0 ] :oids (o 20 4294967295) :bits (b)} <>)`)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.items) != 2 || v.items[1].kind != isNull {
		t.Fatalf("got %+v, want a node and a NULL", v)
	}
	a := v.items[0].node
	if !a.is("B", "A") || a.is("B") {
		t.Errorf("label is %q", a.label)
	}
	alias := a.child("alias")
	if got := alias.text("aliasname"); got != "*SELECT* 1" {
		t.Errorf("aliasname is %q", got)
	}
	if names := alias.list("colnames"); len(names) != 2 || names[0].word != `we ird \ (x` || names[1].word != "" {
		t.Errorf("colnames is %+v", names)
	}
	if got := a.text("colon"); got != ":b" {
		t.Errorf("a value that begins with a colon is %q", got)
	}
	if !a.flag("flag") || a.flag("empty") || a.flag("absent") || a.int("constvalue") != 4 {
		t.Errorf("fields are read wrong: %+v", a.fields)
	}
	oids := a.list("oids")
	if len(oids) != 2 || oids[1].oid() != 4294967295 || a.get("oids").word != "o" {
		t.Errorf("oids is %+v", a.get("oids"))
	}
	if bits := a.get("bits"); bits.kind != isList || bits.word != "b" || len(bits.items) != 0 {
		t.Errorf("bits is %+v", bits)
	}
	var nobody *node
	if nobody.text("x") != "" || nobody.child("x") != nil || nobody.is("A") {
		t.Error("a nil node has something")
	}
}

func TestParseTreeErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "ends within",
		"{A :b":                           "ends within",
		"{A":                              "ends within a node",
		"{A b}":                           "field's name",
		"{A :b }":                         `"}" without`,
		")":                               "without its beginning",
		"({A}":                            "ends within",
		"{A} {B}":                         "behind its end",
		strings.Repeat("(", maxDepth*2):   "too deeply",
		"{A :b " + strings.Repeat("{", 3): "field's name",
	} {
		if _, err := parseTree(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want an error with %q", text, err, want)
		}
	}
}

// FuzzParseTree feeds what Postgres never wrote: an error at worst, also for
// all that goes over the tree.
func FuzzParseTree(f *testing.F) {
	f.Add(`({QUERY :commandType 1 :rtable ({RANGETBLENTRY :rtekind 0 :relid 16384}) :jointree {FROMEXPR :fromlist ({RANGETBLREF :rtindex 1}) :quals <>} :targetList ({TARGETENTRY :expr {VAR :varno 1 :varattno 2 :varlevelsup 0} :resno 1})})`)
	seeds, _ := filepath.Glob("testdata/trees/*.tree")
	for _, name := range seeds {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parseTree(text)
		if err != nil {
			return
		}
		nodes := 0
		v.walk(func(*node) bool { nodes++; return true })
		if nodes > len(text) {
			t.Fatalf("%d nodes in %d bytes", nodes, len(text))
		}
	})
}
