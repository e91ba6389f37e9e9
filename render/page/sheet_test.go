package page

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
)

var (
	shopParams  = []value.Field{{Name: "id", OID: pgtype.Int8OID}, {Name: "lang", OID: pgtype.TextOID}, {Name: "rate", OID: pgtype.Float8OID}}
	shopColumns = []value.Field{
		{Name: "id", OID: pgtype.Int4OID},
		{Name: "name", OID: pgtype.TextOID},
		{Name: "price", OID: pgtype.NumericOID},
		{Name: "weight", OID: pgtype.Float8OID},
		{Name: "on", OID: pgtype.BoolOID},
		{Name: "meta", OID: pgtype.JSONBOID},
		{Name: "tags", OID: pgtype.JSONOID},
		{Name: "url", OID: pgtype.TextOID},
	}
)

// both makes a fragment as the program does, and as the engine does.
func both(f *Form, max int, args []string, rows [][][]byte) (direct string, ok bool, engine string, err error) {
	var all value.Rows
	var firsts []int
	for _, row := range rows {
		firsts = append(firsts, all.Add(row))
	}
	s := f.Sheet(max)
	if s.run != nil {
		var out []byte
		out, ok = s.run.Append([]byte("before "), max, args, &all, firsts)
		direct = strings.TrimPrefix(string(out), "before ")
	}
	s.run = nil
	out, err := s.Append(nil, args, &all, firsts)
	return direct, ok, string(out), err
}

// author writes random templates and rows.
type author struct{ *rand.Rand }

func (a author) of(choices ...string) string { return choices[a.IntN(len(choices))] }

func (a author) field() string {
	if a.IntN(8) == 0 {
		return a.of(".", "$", ".meta", ".tags", ".rows", "$.rows", ".deep")
	}
	return a.of(".id", ".name", ".price", ".weight", ".on", ".meta.colour",
		".url", ".lang", ".rate", ".nowhere", "$.id", "$.name", "$.lang", ".colour")
}

// text is a piece of a template: seldom a piece that only the engine can do.
func (a author) text(deep int) string {
	if deep == 0 {
		return a.of("a", " <b>x</b> ", `<i class="c">`, "é")
	}
	f := a.field()
	switch a.IntN(28) {
	case 0:
		return fmt.Sprintf("{{if %s}}%s{{else}}%s{{end}}", f, a.text(deep-1), a.text(deep-1))
	case 1:
		return fmt.Sprintf("{{with %s}}%s{{else}}%s{{end}}", f, a.text(deep-1), a.text(deep-1))
	case 2:
		return fmt.Sprintf("{{range %s}}%s{{else}}%s{{end}}", a.of(".rows", "$.rows", ".tags", ".meta", f), a.text(deep-1), a.text(deep-1))
	case 3:
		return fmt.Sprintf(`<p title="{{%s}}" class='{{%s}}'>`, f, a.field())
	case 4:
		return fmt.Sprintf(`<a href="/p/{{%s}}?q={{%s}}&x">`, f, a.field())
	case 5:
		return fmt.Sprintf(`<img src="{{%s}}" alt={{%s}}>`, f, a.field())
	case 6:
		return fmt.Sprintf("<textarea>{{%s}}</textarea>", f)
	case 7:
		return fmt.Sprintf(`{{template "part.html" %s}}`, a.of(".", "$", ".meta", f))
	case 8:
		return fmt.Sprintf("{{range %s := %s}}%s{{.}}%s{{else}}%s{{end}}", a.of("$x", "$i, $x"), a.of(".rows", ".tags", ".meta", f), a.text(deep-1), a.of("{{$x}}", "{{$x.id}}", "{{$i}}", ""), a.of("{{$x}}", a.text(deep-1)))
	case 9:
		return fmt.Sprintf("{{%s $x := %s}}%s{{$x}}%s{{end}}", a.of("if", "with"), f, a.text(deep-1), a.of("", "{{else}}none", "{{else}}{{$x}}", "{{else}}{{$x := .id}}{{$x}}"))
	case 10:
		return fmt.Sprintf("{{$x := %s}}%s{{$x}}%s", f, a.text(deep-1), a.of("", "{{$x := .name}}{{$x}}", "{{$x = .id}}{{$x}}"))
	case 11:
		return `{{template "tree.html" .meta}}`
	case 12:
		return a.of(`{{template "part.html"}}`, `{{if .on}}{{if .id}}{{.name}}{{end}}{{end}}`, "{{.name | html}}", "{{$x := .id}}{{$x}}", "{{printf `%v` .price}}")
	}
	return a.text(deep-1) + fmt.Sprintf("{{%s}}", f) + a.text(deep-1)
}

func (a author) row() [][]byte {
	row := make([][]byte, len(shopColumns))
	for i, choices := range [][]string{
		{"0", "7", "-12"},
		{"", "Oak", `<b>"Tom" & 'Co' + é</b>`, "a\x00b", "\xff\xfe", "\uFDD0"},
		{"0", "0.00", "12.50", "NaN"},
		{"0", "-0", "1.5", "1e+20", "Infinity", "NaN", "1e-07"},
		{"t", "f"},
		{`{"colour": "red", "deep": {"er": [1, "x"]}}`, `{}`, `[]`, `[1, 2.50, null, "<"]`, `"text"`, `3`, `0`, `1.50`, `true`, `null`},
		{`["a", {"colour": "blue", "id": 3}, null, 1.0]`, `[]`},
		{"/a/b.png", "https://x.org/?a=1&b=2", "javascript:alert(1)", "HTTP://x", "a b", "ä", "%20%", "mailto:x@y"},
	} {
		if a.IntN(6) > 0 {
			row[i] = []byte(choices[a.IntN(len(choices))])
		}
	}
	return row
}

// TestDirectIsTheEngine: whatever the template and the rows, what a program
// makes is what the engine makes.
func TestDirectIsTheEngine(t *testing.T) {
	const tries = 2000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	a := author{rand.New(rand.NewPCG(seed, 0))}
	pages, made := 0, 0
	for range tries {
		name := a.of("page.html", "page.html", "page.txt")
		source := a.text(1 + a.IntN(4))
		p, err := pageOf(name, source, map[string]string{
			"part.html": `({{.id}}{{$.colour}}{{if .id}}+{{end}})`,
			"tree.html": `{{$own := .}}{{range $name, $v := .}}<i>{{$name}}</i>{{if $name}}{{with $own.deep}}{{template "tree.html" .}}{{end}}{{$name}}{{end}}{{end}}`,
		})
		if err != nil {
			continue // a place that html/template cannot tell
		}
		pages++
		var rows [][][]byte
		for range a.IntN(4) {
			rows = append(rows, a.row())
		}
		args := []string{a.of("7", "042", "-1", "0", a.of("0", " 3", "x")), a.of("", "sv", "<"), a.of("1", "1e3", "0")}
		max := 1 << (6 + a.IntN(10))
		direct, ok, engine, err := both(p.Form(shopParams, shopColumns), max, args, rows)
		if !ok {
			continue
		}
		made++
		if err != nil || direct != engine {
			t.Fatalf("seed %d: %s\n%s\nof %q and %q, at most %d bytes\ngives %q\nand by the engine %q, %v", seed, name, source, args, rows, max, direct, engine, err)
		}
	}
	t.Logf("%d of %d pages were made directly", made, pages)
	if made < tries/10 {
		t.Errorf("only %d of %d pages were made directly: that shows little", made, pages)
	}
}

// TestWhatIsDirect: what most templates have is not left to the engine.
func TestWhatIsDirect(t *testing.T) {
	row := [][]byte{[]byte("7"), []byte("Oak & co"), []byte("9.90"), []byte("1.5"), []byte("t"), []byte(`{"colour":"red"}`), []byte(`["a","b"]`), []byte("https://x.org/a?b=c&d")}
	for source, want := range map[string]string{
		`<a href="/p/{{.id}}">{{.name}}</a>`:                   `<a href="/p/7">Oak &amp; co</a>`,
		`{{.price}} {{.weight}} {{.on}} {{.lang}}`:             `9.90 1.5 true sv`,
		`<img src="{{.url}}" title="{{.name}}">`:               `<img src="https://x.org/a?b=c&amp;d" title="Oak &amp; co">`,
		`<a href="/q?id={{.id}}">`:                             `<a href="/q?id=7">`,
		`{{range .rows}}{{.id}}{{$.lang}} {{else}}none{{end}}`: `7sv 7sv `,
		`{{range .tags}}({{.}}){{end}}`:                        `(a)(b)`,
		`{{with .meta}}{{.colour}}{{end}}{{.meta.colour}}`:     `redred`,
		`{{if .on}}yes{{else if .id}}id{{else}}no{{end}}`:      `yes`,
		`{{template "part.html" .}}{{template "part.html" $}}`: `[7][7]`,
		`{{range $name, $value := .meta}}{{$name}}={{$value}}{{end}}{{range $i, $tag := .tags}}{{$i}}{{$tag}}{{end}}`: `colour=red0a1b`,
		`{{with $n := .name}}{{$n}} {{end}}{{$x := .id}}{{if .on}}{{$x := .lang}}{{$x}}{{end}}{{$x}}`:                 `Oak &amp; co sv7`,
		`{{define "own"}}<b>{{.}}</b>{{end}}{{template "own" .name}}`:                                                 `<b>Oak &amp; co</b>`,
	} {
		p, err := pageOf("page.html", source, map[string]string{"part.html": `[{{.id}}]`})
		if err != nil {
			t.Fatal(err)
		}
		got, ok, engine, err := both(p.Form(shopParams, shopColumns), 1000, []string{"7", "sv", "1"}, [][][]byte{row, row})
		if !ok || got != want || engine != want || err != nil {
			t.Errorf("%s: got %q, %v; by the engine %q, %v; want %q", source, got, ok, engine, err, want)
		}
	}
}

func TestTooLarge(t *testing.T) {
	for source, fits := range map[string]bool{"12345": true, "123456": false, "{{.name}}4": true, "{{.name}}45": false, "{{println .name}}": true, "{{println .name}}5": false} {
		p, err := pageOf("page.txt", source, nil)
		if err != nil {
			t.Fatal(err)
		}
		var all value.Rows
		first := all.Add([][]byte{[]byte("four")})
		dst, err := p.Form(nil, []value.Field{{Name: "name", OID: pgtype.TextOID}}).Sheet(5).Append([]byte("before"), nil, &all, []int{first})
		if fits != (err == nil) || fits && !strings.HasPrefix(string(dst), "before") {
			t.Errorf("%s: got %q, %v", source, dst, err)
		}
	}
}

// BenchmarkAppend makes a teaser, as a program and as the engine does.
func BenchmarkAppend(b *testing.B) {
	p, err := pageOf("teaser.html", `<article><a href="/p/{{.id}}">{{.name}}</a> <b>{{.price}}</b> {{if .on}}<i>{{.lang}}</i>{{end}}</article>`, nil)
	if err != nil {
		b.Fatal(err)
	}
	var all value.Rows
	rows := []int{all.Add([][]byte{[]byte("7"), []byte("Oak & co"), []byte("9.90"), []byte("1.5"), []byte("t"), nil, nil, nil})}
	args := []string{"7", "sv", "1"}
	for _, engine := range []bool{false, true} {
		b.Run(fmt.Sprintf("engine=%v", engine), func(b *testing.B) {
			s := p.Form(shopParams, shopColumns).Sheet(1 << 20)
			if engine {
				s.run = nil
			}
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				if out, err = s.Append(out[:0], args, &all, rows); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
