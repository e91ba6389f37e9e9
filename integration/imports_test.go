package integration

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/cdc-viewlet/cdc-viewlet"

// room is what a package may import besides the standard library.
type room struct {
	siblings []string // our packages, by folder
	tech     []string // others' packages, or the folders above them
	never    []string // of the standard library, with all below it
}

var (
	noDatabase = []string{"database/sql"}
	noNetwork  = []string{"net", "crypto/tls"}
)

// rooms is the import table of docs/design.md. A package that is not here, or
// that imports what its room does not name, is a decision to be made there. A
// folder below a room's is part of the room, and nobody else's to import.
var rooms = map[string]room{
	".":               {never: slices.Concat(noDatabase, noNetwork)}, // the sample shop's files
	"viewlet":         {tech: []string{"golang.org/x/sync"}, never: slices.Concat(noDatabase, noNetwork)},
	"replication":     {siblings: []string{"viewlet"}, tech: []string{"github.com/jackc/pgx/v5/pgconn", "github.com/jackc/pgx/v5/pgproto3", "github.com/jackc/pglogrepl", "golang.org/x/sync", "golang.org/x/sys/unix"}},
	"rules":           {siblings: []string{"viewlet"}, tech: []string{"github.com/hashicorp/hcl/v2", "github.com/zclconf/go-cty", "github.com/agext/levenshtein"}, never: slices.Concat(noDatabase, noNetwork)},
	"derive":          {siblings: []string{"viewlet"}, never: slices.Concat(noDatabase, noNetwork)},
	"render":          {siblings: []string{"viewlet", "rules", "derive"}, tech: []string{"github.com/jackc/pgx/v5", "golang.org/x/sync"}, never: []string{"database/sql", "net/http"}},
	"cache":           {siblings: []string{"viewlet"}, tech: []string{"github.com/redis/go-redis/v9", "golang.org/x/sync"}, never: []string{"database/sql", "net/http"}},
	"web":             {siblings: []string{"viewlet"}, tech: []string{"github.com/prometheus", "golang.org/x/sync"}, never: noDatabase},
	"verify":          {siblings: []string{"viewlet"}, tech: []string{"golang.org/x/sync"}, never: slices.Concat(noDatabase, noNetwork)},
	"sandbox":         {},
	"demo":            {siblings: []string{".", "viewlet", "sandbox"}, tech: []string{"github.com/jackc/pgx/v5", "golang.org/x/sync"}, never: noDatabase},
	"bench":           {siblings: []string{"sandbox"}, tech: []string{"github.com/jackc/pgx/v5", "github.com/redis/go-redis/v9", "golang.org/x/sync"}},
	"integration":     {},
	"cmd/cdc-viewlet": {siblings: everyRoom, tech: []string{""}},
}

// everyRoom leaves out cmd, bench and integration, which nobody imports.
var everyRoom = []string{".", "viewlet", "replication", "rules", "derive", "render", "cache", "verify", "web", "sandbox", "demo"}

// Tests may use any technology, the throw-away servers and the sample shop;
// those of the whole may use the whole, and those of derive what lets Postgres
// analyse a query.
var testRooms = map[string][]string{"integration": everyRoom, "derive": {"rules", "render"}}

func siblingsInTests(name string) []string {
	return slices.Concat(rooms[name].siblings, testRooms[name], []string{".", "sandbox"})
}

// roomOf gives the room that the folder is, or is in.
func roomOf(folder string) (name string, known bool) {
	for name = folder; name != "." || folder == "."; name = path.Dir(name) {
		if _, known := rooms[name]; known {
			return name, true
		}
	}
	return "", false
}

// fault says what is wrong with an import by a file of the folder; "" when
// nothing is.
func fault(folder, imported string, inTest bool) string {
	name, known := roomOf(folder)
	if !known {
		return "has no room in the import table"
	}
	r := rooms[name]
	if sibling, ours := sibling(imported); ours {
		its, _ := roomOf(sibling)
		switch {
		case its == name, slices.Contains(r.siblings, sibling):
			return ""
		case inTest && slices.Contains(siblingsInTests(name), sibling):
			return ""
		}
		return "must not import the sibling " + sibling
	}
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case inTest:
		return ""
	case strings.Contains(first, ".") && !within(imported, r.tech):
		return "must not know " + imported
	case within(imported, r.never):
		return "must not know " + imported + " of the standard library"
	}
	return ""
}

// sibling gives the folder of one of our own packages.
func sibling(imported string) (folder string, ours bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// within reports whether the package is one of these or below one; "" is above
// all. net/url and net/netip parse, and are no network.
func within(imported string, above []string) bool {
	if imported == "net/url" || imported == "net/netip" {
		return false
	}
	return slices.ContainsFunc(above, func(a string) bool {
		return a == "" || imported == a || strings.HasPrefix(imported, a+"/")
	})
}

func TestImportTable(t *testing.T) {
	folders := goFiles(t)
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		for _, file := range folders[folder] {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, spec := range parsed.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if f := fault(folder, imported, strings.HasSuffix(file, "_test.go")); f != "" {
					t.Errorf("%s: %s %s", file, folder, f)
				}
			}
		}
	}
}

// The table is tried itself: a rule that forbids nothing would pass unseen.
func TestImportTableForbids(t *testing.T) {
	for _, c := range []struct {
		folder, imported string
		inTest, allowed  bool
	}{
		{"viewlet", "golang.org/x/sync/errgroup", false, true},
		{"viewlet", "net/url", false, true},
		{"viewlet", "net/http", false, false},
		{"viewlet", module + "/rules", false, false},
		{"viewlet", module + "/rules", true, false},
		{"viewlet", module + "/sandbox", true, true},
		{"viewlet", "github.com/jackc/pgx/v5", true, true},
		{"rules", module + "/viewlet", false, true},
		{"rules", "github.com/hashicorp/hcl/v2/hclsyntax", false, true},
		{"rules", "github.com/jackc/pgx/v5/pgconn", false, false},
		{"rules", "net", false, false},
		{"replication", "github.com/jackc/pgx/v5/pgconn", false, true},
		{"replication", "github.com/jackc/pgx/v5/pgxpool", false, false},
		{"replication", module + "/render", false, false},
		{"replication", module + "/replication/pgoutput", false, true},
		{"replication/pgoutput", module + "/viewlet", false, true},
		{"replication/pgoutput", module + "/rules", false, false},
		{"replication/pgoutput", "github.com/redis/go-redis/v9", false, false},
		{"cmd/cdc-viewlet", module + "/replication/pgoutput", false, false},
		{"render", module + "/rules", false, true},
		{"render", "github.com/jackc/pglogrepl", false, false},
		{"render", "github.com/redis/go-redis/v9", false, false},
		{"cache", "github.com/redis/go-redis/v9", false, true},
		{"cache", module + "/render", false, false},
		{"web", "github.com/prometheus/client_golang/prometheus", false, true},
		{"web", module + "/cache", false, false},
		{"cache", "github.com/prometheus/client_golang/prometheus", false, false},
		{"sandbox", "golang.org/x/sync/errgroup", false, false},
		{"demo", module, false, true},
		{"demo", module + "/cache", false, false},
		{"cmd/cdc-viewlet", "github.com/spf13/cobra", false, true},
		{"cmd/cdc-viewlet", module + "/web", false, true},
		{"integration", module + "/cmd/cdc-viewlet", true, false},
		{"util", "strings", false, false},
	} {
		if f := fault(c.folder, c.imported, c.inTest); (f == "") != c.allowed {
			t.Errorf("%s imports %s, in a test %t: allowed %t, got %q", c.folder, c.imported, c.inTest, c.allowed, f)
		}
	}
}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	folders := goFiles(t)
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		comments, name := packageComments(t, folders[folder])
		if len(comments) != 1 {
			t.Errorf("%s has %d doc comments, want one", folder, len(comments))
			continue
		}
		said := strings.Join(strings.Fields(comments[0]), " ")
		begin := "Package " + name + " "
		if name == "main" {
			begin = "Command " + path.Base(folder) + " "
		}
		if !strings.HasPrefix(said, begin) {
			t.Errorf("%s: the doc comment does not begin with %q: %s", folder, begin, said)
		}
		if said != new(doc.Package).Synopsis(said) || !strings.HasSuffix(said, ".") {
			t.Errorf("%s: the doc comment is not one sentence: %s", folder, said)
		}
	}
}

// packageComments gives the doc comments of a package, and its name. Tests may
// have them only where there is nothing but tests.
func packageComments(t testing.TB, files []string) (comments []string, name string) {
	t.Helper()
	isTest := func(file string) bool { return strings.HasSuffix(file, "_test.go") }
	if slices.ContainsFunc(files, func(file string) bool { return !isTest(file) }) {
		files = slices.DeleteFunc(slices.Clone(files), isTest)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		name = parsed.Name.Name
		if said := docText(parsed); said != "" {
			comments = append(comments, said)
		}
	}
	return comments, name
}

func docText(file *ast.File) string {
	if file.Doc == nil {
		return ""
	}
	return file.Doc.Text()
}

// goFiles gives the repository's Go files by the folder they are in.
func goFiles(t testing.TB) map[string][]string {
	t.Helper()
	root, folders := repository(t), map[string][]string{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && file != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
			return fs.SkipDir
		}
		if entry.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		folder = filepath.ToSlash(folder)
		folders[folder] = append(folders[folder], file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return folders
}
