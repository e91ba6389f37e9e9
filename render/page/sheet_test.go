package page

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
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
		{Name: "day", OID: pgtype.DateOID},
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

// whole, real, word and yes are arguments of mostly that type.
func (a author) whole(deep int) string {
	if deep <= 0 || a.IntN(2) == 0 {
		return a.of(".id", "$.id", "7", "0", "-12", "0x1E", "'e'", "-3", "$n")
	}
	return a.of("(len "+a.value(deep-1)+")", "(index .tags 1).id", "(or "+a.whole(deep-1)+" "+a.whole(deep-1)+")", "("+a.whole(deep-1)+")")
}

func (a author) real(deep int) string {
	if deep <= 0 || a.IntN(2) == 0 {
		return a.of(".weight", ".rate", "$.weight", "1.5", "1e20", "-0.0", "0x1p-2", "-0x1e", "(number .price)", "(.price | number)")
	}
	return a.of("(number "+a.value(deep-1)+")", "(and "+a.real(deep-1)+" "+a.real(deep-1)+")")
}

func (a author) word(deep int) string {
	if deep <= 0 || a.IntN(2) == 0 {
		return a.of(".name", ".price", ".url", ".lang", ".meta.colour", `"Oak"`, `"red"`, "`<`", `""`, `"9.90"`, "$w")
	}
	v := a.value(deep - 1)
	return "(" + a.of("print "+v, "printf `%v|%T` "+v+" "+a.value(deep-1), "printf `%d %T` "+a.whole(deep-1)+" "+a.whole(deep-1), v+" | printf `%5.1f`", "join `, ` .tags", "date `2 Jan` .day",
		".day | date `15:04`", "html "+v, "printf "+v, "urlquery "+v, "println "+v+" "+v, "index .meta `colour`", "js "+v) + ")"
}

func (a author) yes(deep int) string {
	if deep <= 0 {
		return a.of(".on", "true", "false", "$.on")
	}
	which := a.of("eq", "ne", "lt", "le", "gt", "ge")
	d := deep - 1
	switch a.IntN(8) {
	case 0:
		return fmt.Sprintf("(%s %s %s)", which, a.whole(d), a.whole(d))
	case 1:
		return fmt.Sprintf("(%s %s %s)", which, a.real(d), a.real(d))
	case 2:
		return fmt.Sprintf("(%s %s %s)", which, a.word(d), a.word(d))
	case 3:
		return fmt.Sprintf("(%s %s %s)", a.of("eq", "ne"), a.of(a.value(d), a.yes(d)), a.of("nil", ".nowhere", a.value(d), a.yes(d)))
	case 4:
		return fmt.Sprintf("(eq %s %s %s)", a.word(d), a.word(d), a.value(d))
	case 5:
		return fmt.Sprintf("(%s | %s %s)", a.whole(d), which, a.whole(d))
	case 6:
		return fmt.Sprintf("(not %s)", a.value(d))
	}
	return fmt.Sprintf("(%s %s %s)", a.of("and", "or"), a.yes(d), a.value(d))
}

// value is an argument of any type.
func (a author) value(deep int) string {
	d := deep - 1
	switch n := a.IntN(10); {
	case deep <= 0 || n == 0:
		return a.of(a.field(), "nil", "true", "3")
	case n < 3:
		return a.whole(d)
	case n < 4:
		return a.real(d)
	case n < 6:
		return a.word(d)
	case n < 8:
		return a.yes(d)
	case n < 9:
		return fmt.Sprintf("(%s %s %s)", a.of("and", "or"), a.value(d), a.value(d))
	}
	return a.of("(index .tags "+a.of("0", "1", "9", ".id")+")", "(index .rows "+a.of("0", "1")+").name", "(index . `name`)", "(not (index $ (print `ro` `ws`)))", "(dict `a` "+a.value(d)+" `rows` .)",
		"(index .meta `deep` `er`)", "(date `2006` .day)", "(index .tags 1)", "(dict `a` "+a.value(d)+").a")
}

// pipeline is what stands between braces.
func (a author) pipeline(deep int) string {
	v := a.value(deep)
	switch a.IntN(6) {
	case 0:
		return v + " | " + a.of("print", "printf `%q`", "printf `%v %d` .id", "not", "len", "and .id", "or .id", "eq .id", "number", "date `2006`", "html", "urlquery")
	case 1:
		if strings.HasPrefix(v, "(") && strings.HasSuffix(v, ")") && strings.Count(v, "(") == 1 {
			return v[1 : len(v)-1]
		}
	}
	return v
}

// usual is a piece as shops have it, of functions and what goes with them.
func (a author) usual(deep int) string {
	t := func() string { return a.text(deep - 1) }
	switch a.IntN(12) {
	case 0:
		return fmt.Sprintf("{{if %s}}%s{{else if %s}}%s{{else}}%s{{end}}", a.pipeline(2), t(), a.pipeline(2), t(), t())
	case 1:
		return fmt.Sprintf("{{range %s}}%s{{if %s}}%s{{%s}}{{end}}%s{{.}}{{else}}%s{{end}}", a.of(".rows", ".tags", ".meta", "3", ".id", "2"),
			t(), a.pipeline(2), t(), a.of("break", "continue"), t(), t())
	case 2:
		return fmt.Sprintf("{{$n = %s}}{{$w = %s}}%s{{$n}}{{$w}}", a.whole(2), a.word(2), t())
	case 3:
		return fmt.Sprintf("{{range %s}}{{$n = .}}{{if %s}}{{break}}{{end}}{{$w = .id}}%s{{end}}[{{$n}}{{$w}}]", a.of("3", ".rows", ".tags"), a.yes(1), t())
	case 4:
		return fmt.Sprintf("{{range %s = %s}}%s{{else}}{{%s}}{{end}}{{$n}}|{{$w}}", a.of("$n", "$n, $w", "$w, $w"), a.of(".tags", ".meta", "3", ".nowhere", ".id"), t(), a.pipeline(1))
	case 5:
		return fmt.Sprintf("{{%s $n = %s}}%s{{$n}}{{else}}%s{{end}}{{$n}}", a.of("if", "with"), a.pipeline(2), t(), t())
	case 6:
		return fmt.Sprintf("{{template `card.html` dict `of` %s `n` %s `more` (dict `x` .)}}", a.of(".", "$", ".meta", "(index .rows 0)", a.value(1)), a.value(2))
	case 7:
		return fmt.Sprintf(`<a href="/p?q={{%s}}" title='{{%s}}'>`, a.pipeline(2), a.pipeline(2))
	case 8:
		return fmt.Sprintf("{{with $v := %s}}%s{{$v}}{{.}}{{else}}%s{{end}}", a.pipeline(2), t(), t())
	case 9:
		return fmt.Sprintf("{{range .rows}}{{template `card.html` dict `of` . `n` %s `more` (dict `x` .)}}%s{{end}}", a.value(1), t())
	case 10:
		return fmt.Sprintf("{{range %s}}{{printf `%%v %%T` . .}}%s{{end}}", a.whole(1), t())
	}
	return fmt.Sprintf("%s{{%s}}%s", t(), a.pipeline(3), t())
}

// text is a piece of a template: seldom a piece that only the engine can do.
func (a author) text(deep int) string {
	if deep == 0 {
		return a.of("a", " <b>x</b> ", `<i class="c">`, "é")
	}
	if a.IntN(3) == 0 {
		return a.usual(deep)
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
		{"2024-01-02", "infinity", "2024-01-02 15:04:05+00"},
	} {
		if a.IntN(6) > 0 {
			row[i] = []byte(choices[a.IntN(len(choices))])
		}
	}
	return row
}

var randomPages = flag.Int("pages", 2000, "how many random pages are made both ways")

// TestDirectIsTheEngine: whatever the template and the rows, what a program
// makes is what the engine makes.
func TestDirectIsTheEngine(t *testing.T) {
	tries := *randomPages
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	a := author{rand.New(rand.NewPCG(seed, 0))}
	pages, made := 0, 0
	for range tries {
		name := a.of("page.html", "page.html", "page.txt")
		source := "{{$n := 3}}{{$w := `Oak`}}" + a.text(1+a.IntN(4))
		p, err := pageOf(name, source, map[string]string{
			"part.html": `({{.id}}{{$.colour}}{{if .id}}+{{end}})`,
			"card.html": `{{.of.name}}{{.n}}{{if gt (len .) 2}}{{.more.x.id}}{{range $k, $v := .more}}{{$k}}{{end}}{{end}}{{index . "n"}}`,
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

// FuzzDirect tries templates that no author has thought of.
func FuzzDirect(f *testing.F) {
	for _, source := range []string{
		"{{if and (gt .id 0) (eq .name `Oak`)}}{{number .price}}{{end}}",
		"{{$x := 1}}{{range $i, $x = .tags}}{{if $i}}{{break}}{{end}}{{end}}{{$x | printf `%q`}}",
		"{{index .meta `colour`}}{{(index .rows 0).name}}{{with dict `a` .}}{{.a.url | urlquery}}{{end}}{{date `2006` .day}}",
		"<a href='{{.url}}' title={{.name}}>{{template `part.html` .}}{{len .tags}}</a>",
	} {
		f.Add(true, source, "Oak", "9.90", `{"colour": "red"}`, int64(7))
	}
	long := regexp.MustCompile(`\d\w{3}`) // {{range 1000000000}} takes the engine long, too
	f.Fuzz(func(t *testing.T, html bool, source, name, price, meta string, id int64) {
		file := map[bool]string{true: "page.html", false: "page.txt"}[html]
		p, err := pageOf(file, source, map[string]string{"part.html": "({{.name}})"})
		if err != nil || !json.Valid([]byte(meta)) || long.MatchString(source) {
			return
		}
		row := [][]byte{fmt.Append(nil, id%1000), []byte(name), []byte(price), []byte("1.5"), []byte("t"), []byte(meta), []byte(`["a", null]`), []byte("/a?b=c"), []byte("2024-01-02")}
		direct, ok, engine, err := both(p.Form(shopParams, shopColumns), 1<<12, []string{"7", "sv", "1e3"}, [][][]byte{row, row})
		if ok && (err != nil || direct != engine) {
			t.Fatalf("%s %q of %q gives %q\nand by the engine %q, %v", file, source, row, direct, engine, err)
		}
	})
}

// TestWhatIsDirect: what most templates have is not left to the engine.
func TestWhatIsDirect(t *testing.T) {
	row := [][]byte{[]byte("7"), []byte("Oak & co"), []byte("9.90"), []byte("1.5"), []byte("t"), []byte(`{"colour":"red"}`), []byte(`["a","b"]`), []byte("https://x.org/a?b=c&d"), []byte("2024-01-02")}
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
		`{{if eq .lang "sv" "no"}}a{{end}}{{if ne .id 7}}b{{end}}{{if gt .id 0}}c{{else if le .weight 1.0}}d{{end}}`:  `ac`,
		`{{if and .on (gt (number .price) 9.5) (not .nowhere)}}{{or .nowhere "none"}}{{end}}`:                         `none`,
		`{{eq .name nil}}{{.nowhere | eq nil}}{{eq .price "9.90"}}`:                                                   `falsetruetrue`,
		`{{printf "%.2f" .weight}} {{.lang | printf "%q"}} {{print .id "/" .on}} {{number .price}}`:                   `1.50 &#34;sv&#34; 7/true 9.9`,
		`{{date "2 Jan 2006" .day}} {{.day | date "Mon"}} {{join ", " .tags}}`:                                        `2 Jan 2024 Tue a, b`,
		`{{len .rows}}{{len .tags}}{{len .name}} {{index .tags 1}}{{index .meta "colour"}}{{(index .rows 0).lang}}`:   `228 bred`,
		`{{range .tags}}{{if eq . "a"}}{{continue}}{{end}}{{.}}{{end}}{{range .rows}}{{.id}}{{break}}{{.}}{{end}}`:    `b7`,
		`{{range $i, $t := .tags}}{{if $i}}, {{end}}{{$t}}{{end}}{{range 3}}{{.}}{{end}}`:                             `a, b012`,
		`{{$x := "none"}}{{range .tags}}{{$x = .}}{{end}}{{$x}}{{range $x = .tags}}{{end}}{{$x}}`:                     `bb`,
		`{{template "money.html" dict "amount" .price "currency" "SEK" "of" .}}`:                                      `9.90 SEK for Oak &amp; co`,
		`<a href="/{{printf "%03d" .id}}?lang={{.lang | urlquery}}" title="{{.name | html}}">{{.name | html}}</a>`:    `<a href="/007?lang=sv" title="Oak &amp; co">Oak &amp; co</a>`,
	} {
		p, err := pageOf("page.html", source, map[string]string{
			"part.html":  `[{{.id}}]`,
			"money.html": `{{.amount}} {{.currency}} for {{.of.name}}`,
		})
		if err != nil {
			t.Fatal(err)
		}
		got, ok, engine, err := both(p.Form(shopParams, shopColumns), 1000, []string{"7", "sv", "1"}, [][][]byte{row, row})
		if !ok || got != want || engine != want || err != nil {
			t.Errorf("%s: got %q, %v; by the engine %q, %v; want %q", source, got, ok, engine, err, want)
		}
	}
}

// TestVariablesOutlive: the engine keeps what a {{template}} and parentheses
// declare, and a second $.
func TestVariablesOutlive(t *testing.T) {
	for source, want := range map[string]string{
		`{{$y := .id}}{{template "part.html" $y := .lang}}{{$y}}`:      `()sv`,
		`{{$y := .id}}{{if eq ($y := .lang) "sv"}}{{$y}}{{end}}{{$y}}`: `sv7`,
		`{{$ := .id}}{{$}}`: `7`,
		`{{$ = .id}}{{$}}`:  `7`,
	} {
		p, err := pageOf("page.txt", source, map[string]string{"part.html": `()`})
		if err != nil {
			t.Fatal(err)
		}
		direct, ok, engine, err := both(p.Form(shopParams, nil), 1000, []string{"7", "sv", "1"}, nil)
		if err != nil || engine != want || ok && direct != want {
			t.Errorf("%s: got %q, %v; by the engine %q, %v; want %q", source, direct, ok, engine, err, want)
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
	var all value.Rows
	rows := []int{all.Add([][]byte{[]byte("7"), []byte("Oak & co"), []byte("9.90"), []byte("1.5"), []byte("t"), nil, nil, nil, []byte("2024-01-02")})}
	args := []string{"7", "sv", "1"}
	for name, source := range map[string]string{
		"plain":     `<article><a href="/p/{{.id}}">{{.name}}</a> <b>{{.price}}</b> {{if .on}}<i>{{.lang}}</i>{{end}}</article>`,
		"functions": `<article>{{.name}} {{if gt .id 0}}<b>{{number .price}}</b>{{end}} {{if eq .lang "sv"}}<i>{{date "2 Jan 2006" .day}}</i>{{end}}</article>`,
	} {
		p, err := pageOf("teaser.html", source, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, engine := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/engine=%v", name, engine), func(b *testing.B) {
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
}
