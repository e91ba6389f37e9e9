package rules_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

var update = flag.Bool("update", false, "write the diagnostics that come out into testdata/diagnostics")

// typeOIDs are pg_type's, as the stream sends them.
var typeOIDs = map[string]uint32{
	"bool": 16, "int8": 20, "int4": 23, "text": 25, "float8": 701, "numeric": 1700, "uuid": 2950, "jsonb": 3802,
}

// catalog is the tables file of a script:
//
//	table public.products identity=d pk=id
//	  id int4 key
//	  name text toast
type catalog struct {
	tables map[viewlet.TableName]*viewlet.Table
	rels   map[string]*viewlet.Relation
}

func parseCatalog(tb testing.TB, text string) catalog {
	tb.Helper()
	c := catalog{map[viewlet.TableName]*viewlet.Table{}, map[string]*viewlet.Relation{}}
	var t *viewlet.Table
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "table":
			t = parseTable(tb, words[1:])
			t.OID = uint32(16384 + len(c.rels))
			c.tables[viewlet.TableName{Schema: t.Schema, Name: t.Name}] = t
			if t.Schema == "public" {
				c.tables[viewlet.TableName{Name: t.Name}] = t
			}
			c.rels[t.Schema+"."+t.Name] = &viewlet.Relation{ID: t.OID, Schema: t.Schema, Name: t.Name, Identity: t.Identity}
		default:
			col := viewlet.TableColumn{
				Name: words[0], Type: words[1], TypeOID: typeOIDs[words[1]],
				Identity: slices.Contains(words, "key"), Toastable: slices.Contains(words, "toast"), Generated: slices.Contains(words, "generated") || slices.Contains(words, "virtual"), Virtual: slices.Contains(words, "virtual"),
			}
			if col.TypeOID == 0 {
				tb.Fatalf("unknown type in %q", line)
			}
			t.Columns = append(t.Columns, col)
			if rel := c.rels[t.Schema+"."+t.Name]; !col.Generated {
				rel.Columns = append(rel.Columns, viewlet.Column{Name: col.Name, Type: col.TypeOID, Key: col.Identity || t.Identity == viewlet.IdentityFull})
			}
		}
	}
	return c
}

func parseTable(tb testing.TB, words []string) *viewlet.Table {
	tb.Helper()
	schema, name, ok := strings.Cut(words[0], ".")
	if !ok {
		tb.Fatalf("table %q has no schema", words[0])
	}
	t := &viewlet.Table{Schema: schema, Name: name, Kind: 'r', Persistence: 'p', Identity: viewlet.IdentityDefault}
	for _, word := range words[1:] {
		k, v, _ := strings.Cut(word, "=")
		switch k {
		case "identity":
			t.Identity = viewlet.ReplicaIdentity(v[0])
		case "pk":
			t.PrimaryKey = strings.Split(v, ",")
		case "kind":
			t.Kind = v[0]
		case "persistence":
			t.Persistence = v[0]
		case "root":
			t.Root = v
		default:
			tb.Fatalf("unknown word %q", word)
		}
	}
	return t
}

// change reads update public.products old id=1 new id=1 name='a b' body=~,
// where ~ is an unchanged TOAST value, NULL is null, and what is not listed is
// not sent.
func (c catalog) change(tb testing.TB, line string) *viewlet.Change {
	tb.Helper()
	words := split(line)
	op := slices.Index([]string{"", "insert", "update", "delete", "truncate"}, words[0])
	rel := c.rels[words[1]]
	if op < 0 || rel == nil {
		tb.Fatalf("unknown operation or table in %q", line)
	}
	ch := &viewlet.Change{Op: viewlet.Op(op), Rel: rel}
	var tuple *viewlet.Tuple
	for _, word := range words[2:] {
		switch word {
		case "old":
			tuple = &ch.Old
			*tuple = make(viewlet.Tuple, len(rel.Columns))
			continue
		case "new":
			tuple = &ch.New
			*tuple = make(viewlet.Tuple, len(rel.Columns))
			continue
		}
		name, text, _ := strings.Cut(word, "=")
		i := slices.IndexFunc(rel.Columns, func(c viewlet.Column) bool { return c.Name == name })
		if i < 0 {
			tb.Fatalf("unknown column %q in %q", name, line)
		}
		switch text {
		case "NULL":
			(*tuple)[i] = viewlet.Value{Kind: viewlet.Null}
		case "~":
			(*tuple)[i] = viewlet.Value{Kind: viewlet.Unchanged}
		default:
			(*tuple)[i] = viewlet.Value{Kind: viewlet.Text, Text: []byte(text)}
		}
	}
	return ch
}

// split cuts a line at spaces that are not in single quotes.
func split(line string) []string {
	var words []string
	var word strings.Builder
	quoted, begun := false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}

// extract writes a script's files into a folder, which becomes the working
// directory so that diagnostics name them alike everywhere.
func extract(t *testing.T, script string) map[string]string {
	t.Helper()
	a, err := txtar.ParseFile(script)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	files := map[string]string{}
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func scripts(t *testing.T, folder string, run func(t *testing.T, path string)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts in %s: %v", folder, err)
	}
	for _, path := range paths {
		absolute, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { run(t, absolute) })
	}
}

func rulesFile(files map[string]string) string {
	for _, name := range []string{"rules.hcl", "rules.hcl.json", "rules"} {
		if _, ok := files[name]; ok {
			return name
		}
	}
	return "rules" // a folder
}

func text(t *testing.T, s *rules.Set, diags rules.Diagnostics) string {
	t.Helper()
	var b strings.Builder
	if err := s.WriteDiagnostics(&b, diags, 0, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestMatch runs the scripts of testdata/match: rules, tables, and changes with
// the refreshes and errors that they must give.
func TestMatch(t *testing.T) {
	scripts(t, "match", func(t *testing.T, path string) {
		files := extract(t, path)
		set, diags := rules.Load(rulesFile(files))
		if diags.HasErrors() {
			t.Fatal(text(t, set, diags))
		}
		c := parseCatalog(t, files["tables"])
		if strings.Contains(files["options"], "bind") {
			if diags := set.Bind(c.tables, nil); diags.HasErrors() {
				t.Fatal(text(t, set, diags))
			}
		}
		var line string
		var got []string
		for next := range strings.Lines(files["changes"]) {
			next = strings.TrimSpace(next)
			verb, rest, _ := strings.Cut(next, " ")
			switch verb {
			case "", "#":
			case "want":
				if len(got) == 0 {
					t.Errorf("%s\nwant %s, got nothing more", line, rest)
					continue
				}
				if got[0] != rest {
					t.Errorf("%s\nwant %s\n got %s", line, rest, got[0])
				}
				got = got[1:]
			default:
				if len(got) > 0 {
					t.Errorf("%s\nnot wanted: %q", line, got)
				}
				line, got = next, follow(t, set, c, next)
			}
		}
		if line == "" {
			t.Fatal("no changes")
		}
		if len(got) > 0 {
			t.Errorf("%s\nnot wanted: %q", line, got)
		}
	})
}

// follow gives the refreshes of a change or message, then the errors.
func follow(t *testing.T, set *rules.Set, c catalog, line string) []string {
	t.Helper()
	var refreshes []viewlet.Refresh
	var err error
	if message, ok := strings.CutPrefix(line, "message "); ok {
		refreshes, err = set.ParseMessage(nil, []byte(strings.ReplaceAll(message, `\n`, "\n")))
	} else {
		refreshes, err = set.Match(nil, c.change(t, line))
	}
	var got []string
	for _, r := range refreshes {
		got = append(got, r.String())
		if r.Via != "" && r.Via != viewlet.Whole {
			checkExpansion(t, set, r)
		}
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			got = append(got, "error "+strings.TrimSpace(line))
		}
	}
	return got
}

// checkExpansion checks that a Refresh's expansion fits it.
func checkExpansion(t *testing.T, set *rules.Set, r viewlet.Refresh) {
	t.Helper()
	x := set.Expansion(r.Via)
	if x == nil {
		t.Fatalf("%s: there is no expansion %q", r, r.Via)
	}
	args, err := r.Split(nil)
	if err != nil || x.Viewlet != r.Viewlet || len(args) != x.Inputs {
		t.Fatalf("%s: expansion of %s takes %d inputs", r, x.Viewlet, x.Inputs)
	}
	for i, step := range x.Steps {
		for _, ref := range step.Args {
			if ref.Step >= i || ref.Step < 0 && ref.Column >= x.Inputs {
				t.Fatalf("%s: step %d reads %v", r, i, ref)
			}
		}
	}
}

// TestDiagnostics runs the scripts of testdata/diagnostics: rules, perhaps
// tables and columns of lookups to bind them to, and the diagnostics that must
// come out. With -update it writes what comes out.
func TestDiagnostics(t *testing.T) {
	scripts(t, "diagnostics", func(t *testing.T, path string) {
		files := extract(t, path)
		set, diags := rules.Load(rulesFile(files))
		if tables, ok := files["tables"]; ok && !diags.HasErrors() {
			columns := map[string][]string{}
			for line := range strings.Lines(files["columns"]) {
				words := strings.Fields(line)
				columns[words[0]] = words[1:]
			}
			diags = append(diags, set.Bind(parseCatalog(t, tables).tables, columns)...)
		}
		if !diags.HasErrors() {
			diags = append(diags, set.Check()...)
		}
		got := text(t, set, diags)
		if *update {
			golden(t, path, got)
			return
		}
		if want, ok := files["want"]; !ok || want != got {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
	a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(path, txtar.Format(a), 0o600); err != nil {
		t.Fatal(err)
	}
}

func ExampleLoad() {
	set, diags := rules.Load("testdata/no-such-rules.hcl")
	_ = set.WriteDiagnostics(os.Stdout, diags, 60, false)
	fmt.Println(diags.HasErrors())
	// Output:
	// Error: No rules
	//
	// There is no testdata/no-such-rules.hcl. Write the rules
	// there, or name the file or folder that has them with -c.
	//
	// true
}
