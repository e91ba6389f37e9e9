package page

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/render/value"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
)

// pageOf parses a template with partials as rules give them.
func pageOf(name, source string, partials map[string]string) (*Page, error) {
	return Parse(&rules.Template{Name: name, HTML: strings.HasSuffix(name, ".html"), Source: source, Partials: partials})
}

func TestPages(t *testing.T) {
	data := map[string]any{
		"name": `<b>"Tom" & 'Co'</b>`, "null": nil, "n": int64(7), "price": value.Decimal("9.90"), "weight": value.Double(1.5),
		"url": "javascript:alert(1)", "q": "a b&c", "yes": true,
		"tags": []any{"x", nil, int64(3)}, "meta": map[string]any{"price": value.Decimal("1.50"), "big": int64(9007199254740993)},
		"tree": map[string]any{"label": "root", "children": []any{
			map[string]any{"label": "a", "children": []any{map[string]any{"label": "a1"}}}, map[string]any{"label": "b"},
		}},
		"rows": []map[string]any{{"id": int64(1)}, {"id": int64(2)}, {"id": int64(3)}},
	}
	partials := map[string]string{
		"tree.html":   `<li>{{.label}}{{range .children}}{{template "tree.html" .}}{{end}}</li>`,
		"price.html":  `{{.amount}} {{.currency}}`,
		"outer.html":  `({{template "inner.html" .}})`,
		"inner.html":  `[{{.name}}]`,
		"layout.html": `<h1>{{block "title" .}}no title{{end}}</h1>{{block "main" .}}nothing{{end}}`,
		"parts.html":  `{{define "badge"}}<i>{{.}}</i>{{end}}`,
		"empty.html":  ``,
	}
	for _, c := range []struct{ name, source, want string }{
		{"text.html", `{{.name}}`, `&lt;b&gt;&#34;Tom&#34; &amp; &#39;Co&#39;&lt;/b&gt;`},
		{"attr.html", `<p title="{{.name}}" class={{.q}}>`, `<p title="&lt;b&gt;&#34;Tom&#34; &amp; &#39;Co&#39;&lt;/b&gt;" class=a&#32;b&amp;c>`},
		{"url.html", `<a href="{{.url}}">{{.n}}</a><a href="/s?q={{.q}}&p={{.price}}">`, `<a href="#ZgotmplZ">7</a><a href="/s?q=a%20b%26c&p=9.90">`},
		{"js.html", `<script>f({{.name}}, {{.n}}, {{.price}}, {{.weight}}, {{.meta}}, {{.null}})</script>`, `<script>f("\u003cb\u003e\"Tom\" \u0026 'Co'\u003c/b\u003e",  7 ,  9.90 ,  1.5 , {"big":9007199254740993,"price":1.50},  null )</script>`},
		{"css.html", `<p style="width: {{.n}}px; color: {{.url}}">`, `<p style="width: 7px; color: ZgotmplZ">`},
		{"plain.txt", `{{.name}} {{.price}} {{.weight}}`, `<b>"Tom" & 'Co'</b> 9.90 1.5`},
		{"null.html", `[{{.null}}|{{.missing}}|{{.meta.missing}}|{{print .null .n}}|{{printf "%s!" .null}}|{{.null | urlquery}}|{{js .null}}|{{index .tags 1}}]`, `[|||7|!|||]`},
		{"null.txt", `[{{.null}}|{{.missing}}|{{.meta.missing}}|{{print .null .n}}|{{printf "%s!" .null}}|{{.null | urlquery}}|{{html .null}}|{{js .null}}|{{index .tags 1}}]`, `[|||7|!||||]`},
		{"null_inside.txt", `{{if .yes}}[{{.null}}]{{end}}{{range .tags}}({{.}}){{end}}{{with .meta}}<{{.missing}}>{{else}}{{end}}{{$x := .null}}{{$x}}`, `[](x)()(3)<>`},
		{"builtins.txt", `{{.name | html}} {{.q | urlquery}} {{println .n}}{{printf "%03d" .n}}`, "&lt;b&gt;&#34;Tom&#34; &amp; &#39;Co&#39;&lt;/b&gt; a+b%26c 7\n007"},
		{"builtins.html", `{{.name | html}} {{.q | urlquery}} {{len .tags}} {{slice .q 0 1}} {{not .yes}} {{and .yes .n}} {{or .null .n}}`, "&lt;b&gt;&#34;Tom&#34; &amp; &#39;Co&#39;&lt;/b&gt; a&#43;b%26c 3 a false 7 7"},
		{"break.html", `{{range .rows}}{{if eq .id 2}}{{continue}}{{end}}{{.id}}{{end}} {{range .rows}}{{.id}}{{break}}{{end}}`, `13 1`},
		{"break.txt", `{{range .rows}}{{if eq .id 2}}{{continue}}{{end}}{{.id}}{{end}} {{range .rows}}{{.id}}{{break}}{{end}}`, `13 1`},
		{"else.txt", `{{with .null}}a{{else with .n}}{{.}}{{end}}{{if .null}}a{{else if .n}}b{{end}}{{range $i, $t := .tags}}{{$i}}{{end}}{{range 3}}.{{end}}`, `7b012...`},
		{"functions.txt", `{{join "-" .tags}} {{join "-" .null}} {{number .price}} {{number "2.5"}} {{number .null}} {{if lt (number .price) 10.0}}cheap{{end}} {{date "2006" "2024-01-02"}}`, `x--3  9.9 2.5 0 cheap 2024`},
		{"recursion.html", `<ul>{{template "tree.html" .tree}}</ul>`, `<ul><li>root<li>a<li>a1</li></li><li>b</li></li></ul>`},
		{"dict.html", `{{template "price.html" dict "amount" .price "currency" "SEK"}}`, `9.90 SEK`},
		{"partials.html", `{{template "outer.html" .}}{{template "empty.html"}}`, `([&lt;b&gt;&#34;Tom&#34; &amp; &#39;Co&#39;&lt;/b&gt;])`},
		{"define.html", `{{define "own"}}<b>{{.}}</b>{{end}}{{template "own" .n}}`, `<b>7</b>`},
		{"block.html", `{{block "own" .n}}<b>{{.}}</b>{{end}}`, `<b>7</b>`},
		{"layout_use.html", `{{define "main"}}{{.n}}{{end}}{{template "layout.html" .}}`, `<h1>no title</h1>7`},
		{"defined_elsewhere.html", `{{template "badge" .n}}`, `<i>7</i>`},
		{"empty.html", ``, ``},
		{"empty.txt", ``, ``},
		{"space.txt", " \n", " \n"},
		{"trim.txt", "a {{- .n -}} b {{/* nothing */}}", "a7b "},
	} {
		p, err := pageOf(c.name, c.source, partials)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for range 2 {
			var got bytes.Buffer
			if err := p.Execute(&got, data); err != nil || got.String() != c.want {
				t.Errorf("%s: got %s, %v\nwant %s", c.name, &got, err, c.want)
			}
		}
	}
}

// TestPageFaults: each with the file, the line and what to do.
func TestPageFaults(t *testing.T) {
	partials := map[string]string{
		"open.html":  "one\n{{if .x}}",
		"self.html":  `{{template "self.html" .}}`,
		"ping.html":  `{{template "pong.html" .}}`,
		"pong.html":  `{{template "ping.html" .}}`,
		"wants.html": "\n\n{{template \"nowhere.html\" .}}",
	}
	for _, c := range []struct {
		name, source string
		partials     []string
		want         []string
	}{
		{"a.html", "one\ntwo {{if}}", nil, []string{"a.html:2", "missing value for if"}},
		{"a.html", "one\n{{.x", nil, []string{"a.html:2", "unclosed action"}},
		{"a.txt", "\n{{range .x}}", nil, []string{"a.txt:2", "unexpected EOF"}},
		{"a.html", "\n\n{{shout .x}}", nil, []string{"a.html:3", `function "shout" not defined`}},
		{"a.html", `{{template "open.html" .}}`, []string{"open.html"}, []string{"open.html:2"}},
		{"a.html", "x\n {{template \"nope.html\" .}}", nil, []string{"a.html:2", `no partial "nope.html"`, "file beside a.html"}},
		{"a.html", `{{template "wants.html" .}}`, []string{"wants.html"}, []string{"wants.html:3", `no partial "nowhere.html"`}},
		{"a.html", `{{template "self.html" .}}`, []string{"self.html"}, []string{"without end", "self.html -> self.html"}},
		{"a.html", `{{template "a.html" .}}`, nil, []string{"without end", "a.html -> a.html"}},
		{"a.html", `{{template "ping.html" .}}`, []string{"ping.html", "pong.html"}, []string{"without end", "ping.html -> pong.html -> ping.html"}},
		{"a.html", "<p>\n<a href='{{if .x}}/{{else}}\"{{end}}{{.y}}>", nil, []string{"a.html:", "context"}},
		{"a.html", "<p>\n<script>\nvar x = '{{if .x}}'{{end}}</script>", nil, []string{"a.html:3", "different context"}},
		{"a.html", "x\n<p {{.x | html | printf `%s`}}>", nil, []string{"a.html:2", "html"}},
	} {
		with := map[string]string{}
		for _, name := range c.partials {
			with[name] = partials[name]
		}
		_, err := pageOf(c.name, c.source, with)
		if err == nil {
			t.Errorf("%q: no error, want %q", c.source, c.want)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got %v, want it to tell %q", c.source, err, want)
			}
		}
	}
}

// TestEndlessRecursion: recursion that goes on for its data alone ends with an
// error, and soon.
func TestEndlessRecursion(t *testing.T) {
	p, err := pageOf("a.txt", `{{if .on}}{{template "a.txt" .}}{{end}}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Execute(io.Discard, map[string]any{"on": true}); err == nil || !strings.Contains(err.Error(), "depth") {
		t.Errorf("got %v", err)
	}
}

func TestFunctionFaults(t *testing.T) {
	for source, want := range map[string]string{
		`{{dict "a"}}`:             "a value for each key",
		`{{dict 1 2}}`:             "a string as key",
		`{{join "," "text"}}`:      "wants an array",
		`{{number "x1"}}`:          "invalid syntax",
		`{{number .}}`:             "wants a number",
		`{{date "2006" "29 Feb"}}`: "no date",
		`{{index .a 1}}`:           "index of untyped nil",
		`{{template "x" .}}{{define "x"}}{{len .a}}{{end}}`: "len of",
	} {
		p, err := pageOf("f.txt", source, nil)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		var out bytes.Buffer
		if err := p.Execute(&out, map[string]any{"a": nil}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "f.txt:1") {
			t.Errorf("%s: got %v, want %q at f.txt:1", source, err, want)
		}
	}
}

func TestUnknownFields(t *testing.T) {
	partials := map[string]string{
		"card.html": "<b>\n{{.name}}{{.wrong_card}}{{$.wrong_dollar}}</b>",
		"list.html": `{{range .}}{{.name}}{{.wrong_list}}{{end}}`,
		"any.html":  `{{.amount}} {{.whatever.deep}}`,
	}
	for source, want := range map[string][]string{
		`{{.name}} {{.id}} {{.meta.deep.er}} {{(index .rows 0).what}} {{.meta.wrong}}`: nil,
		`{{.nme}}`:      {`"nme"`},
		"\n\n{{$.nme}}": {"a.html:3"},
		`{{if .nme}}{{.x1}}{{else}}{{.x2}}{{end}}`:                                    {`"nme"`, `"x1"`, `"x2"`},
		`{{if eq .nme .id}}{{end}}`:                                                   {`"nme"`},
		`{{.nme | printf "%s"}}`:                                                      {`"nme"`},
		`{{(printf "%s" .nme) | html}}`:                                               {`"nme"`},
		`{{range .rows}}{{.name}}{{.x1}}{{$.name}}{{$.x2}}{{end}}`:                    {`"x1"`, `"x2"`},
		`{{range .rows}}{{.id}}{{.rows}}{{end}}`:                                      {`"id"`, `"rows"`},
		`{{range $i, $r := .rows}}{{$i}}{{$r.name}}{{$r.x1}}{{end}}`:                  {`"x1"`},
		`{{range $r := .rows}}{{$r.x1}}{{end}}`:                                       {`"x1"`},
		`{{range .rows}}{{else}}{{.x1}}{{end}}`:                                       {`"x1"`},
		`{{range .meta}}{{.anything}}{{end}}{{range $k, $v := .meta}}{{$v.x}}{{end}}`: nil,
		`{{with .meta}}{{.anything}}{{$.x1}}{{else}}{{.x2}}{{end}}`:                   {`"x1"`, `"x2"`},
		`{{with .name}}{{else with .meta}}{{.anything}}{{else}}{{.x1}}{{end}}`:        {`"x1"`},
		`{{with $x := .meta}}{{$x.any}}{{end}}{{with $d := .}}{{$d.x1}}{{end}}`:       {`"x1"`},
		`{{$d := .}}{{$d.name}}{{$d.x1}}`:                                             {`"x1"`},
		`{{$d := .}}{{if .id}}{{$d = .meta}}{{end}}{{$d.color}}`:                      nil,
		`{{$all := .rows}}{{range $all}}{{.x1}}{{end}}`:                               {`"x1"`},
		`{{template "card.html" .}}`:                                                  {"card.html:2", `"wrong_card"`, `"wrong_dollar"`},
		`{{range .rows}}{{template "card.html" .}}{{end}}`:                            {`"wrong_card"`, `"wrong_dollar"`},
		`{{template "card.html" $}}`:                                                  {`"wrong_card"`, `"wrong_dollar"`},
		`{{template "list.html" .rows}}`:                                              {`"wrong_list"`},
		`{{template "any.html" dict "amount" .name}}{{template "any.html" .meta}}`:    nil,
		`{{template "any.html" dict "amount" .x1}}`:                                   {`"x1"`},
		`{{block "b" .}}{{.x1}}{{end}}`:                                               {`"x1"`},
		`{{define "unused"}}{{.x1}}{{end}}`:                                           nil,
		`{{(.name).x}}{{(.).x1}}`:                                                     {`"x1"`},
		`{{len .rows}}{{index .rows 0}}{{.name.Method}}`:                              nil,
		`{{range $i, $e := .rows}}{{$e.name}}{{end}}{{range 5}}{{.}}{{end}}`:          nil,
	} {
		p, err := pageOf("a.html", source, partials)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got := p.UnknownFields([]string{"id"}, []string{"name", "meta"})
		for i, err := range got {
			if !strings.Contains(err.Error(), "html:") {
				t.Errorf("%s: %v does not tell where", source, err)
			}
			if len(want) == 1 && !strings.Contains(err.Error(), want[0]) {
				t.Errorf("%s: error %d is %v, want %s", source, i, err, want[0])
			}
		}
		all := ""
		for _, err := range got {
			all += err.Error() + "\n"
		}
		wrong := 0
		for _, w := range want {
			if !strings.Contains(all, w) {
				t.Errorf("%s: got %s, want %s", source, all, w)
			}
			if w[0] == '"' {
				wrong++
			}
		}
		if len(got) != max(wrong, min(1, len(want))) {
			t.Errorf("%s: got %d errors, want %v:\n%s", source, len(got), want, all)
		}
	}
}

// TestColumnCalledRows: then rows is the column, and no list of rows.
func TestColumnCalledRows(t *testing.T) {
	p, err := pageOf("a.html", `{{range .rows}}{{.anything}}{{end}}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.UnknownFields(nil, []string{"rows"}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
