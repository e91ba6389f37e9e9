package demo

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	htmltemplate "html/template"
	"io"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	texttemplate "text/template"

	"github.com/jackc/pgx/v5"

	cdcviewlet "github.com/cdc-viewlet/cdc-viewlet"
	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// shop is a Postgres with the sample shop in it.
type shop struct {
	pg     *sandbox.Postgres
	conn   *pgx.Conn
	url    string
	script string
}

func newShop(t testing.TB) *shop {
	t.Helper()
	pg, err := sandbox.StartPostgres(t.Context(), sandbox.PostgresConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &shop{pg: pg, url: pg.SocketURL(), conn: connect(t, pg.SocketURL()), script: read(t, "shop.sql")}
	if err := Load(t.Context(), s.conn, s.script); err != nil {
		t.Fatal(err)
	}
	return s
}

// another gives a URL to one more database, with the sample shop in it.
func (s *shop) another(t testing.TB, name string) string {
	t.Helper()
	exec(t, s.conn, "CREATE DATABASE "+name)
	to, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	to.Path = "/" + name
	if err := Load(t.Context(), connect(t, to.String()), s.script); err != nil {
		t.Fatal(err)
	}
	return to.String()
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func query[T any](t testing.TB, conn *pgx.Conn, sql string) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := fs.ReadFile(cdcviewlet.Shop, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fingerprint is of every row of the shop.
const fingerprint = `
	SELECT md5(concat(
	  (SELECT string_agg(t::text, e'\n' ORDER BY id) FROM brands t),
	  (SELECT string_agg(t::text, e'\n' ORDER BY id) FROM categories t),
	  (SELECT string_agg(t::text, e'\n' ORDER BY id) FROM products t),
	  (SELECT string_agg(t::text, e'\n' ORDER BY id) FROM reviews t)))`

func TestShopLoadsTheSameRowsEachTime(t *testing.T) {
	s := newShop(t)
	for table, want := range map[string]int{"brands": 24, "categories": 40, "products": 2400, "reviews": 9606} {
		if n := query[int](t, s.conn, "SELECT count(*) FROM "+table); n != want {
			t.Errorf("%d %s, want %d", n, table, want)
		}
	}
	if n := query[int](t, s.conn, "SELECT count(DISTINCT name) FROM products"); n != 2400 {
		t.Errorf("%d names of products, want 2400", n)
	}
	first := query[string](t, s.conn, fingerprint)
	again := connect(t, s.another(t, "again"))
	if second := query[string](t, again, fingerprint); second != first {
		t.Errorf("a second load gave other rows: %s, then %s", first, second)
	}
	err := Load(t.Context(), again, s.script)
	if err == nil || !strings.Contains(err.Error(), `load the sample shop: `) || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("loading over a shop gave %v", err)
	}
}

// nasty is data as a template may meet it: everything wants to be escaped.
func nasty() map[string]any {
	row := map[string]any{
		"id": "4<2", "product_id": 42, "name": `<script>alert("x")</script> & 'Sons'`, "price": "10.50",
		"colour": `moss" onload="x`, "category": "Pots & Pans", "category_id": 32, "department": "<b>", "department_id": 3,
		"brand": `Weber "W"`, "country": "<i>", "products": 3, "rating": "4.3", "stars": "★★★★☆", "reviews": 3,
		"stock": 3, "sold_out": false, "last_few": 3, "score": 5, "votes": 2,
		"attributes": map[string]any{"<k>": "<v>", "n": nil}, "tags": []any{"<t>", `a"b`},
		"author": "<a>", "body": "<b>bold</b> & <3", "written": "1 May 2024",
		"categories": []any{map[string]any{"id": 1, "name": "<c>", "products": 2}},
	}
	data := map[string]any{"rows": []map[string]any{row, row}}
	for k, v := range row {
		data[k] = v
	}
	return data
}

func TestTemplates(t *testing.T) {
	html := htmltemplate.Must(htmltemplate.ParseFS(cdcviewlet.Shop, "templates/*.html"))
	text := texttemplate.Must(texttemplate.ParseFS(cdcviewlet.Shop, "templates/*.txt"))
	used := regexp.MustCompile(`template *= "templates/([^"]+)"`).FindAllStringSubmatch(read(t, "rules.hcl"), -1)
	if len(used) != 8 {
		t.Fatalf("rules.hcl names %d templates, want 8", len(used))
	}
	for _, m := range used {
		t.Run(m[1], func(t *testing.T) {
			var out bytes.Buffer
			if path.Ext(m[1]) == ".txt" {
				if err := text.ExecuteTemplate(&out, m[1], nasty()); err != nil {
					t.Fatal(err)
				}
				if want := "3 left  <script>alert"; !strings.HasPrefix(out.String(), want) {
					t.Errorf("got %q, want it to begin with %q", out.String(), want)
				}
				return
			}
			if err := html.ExecuteTemplate(&out, m[1], nasty()); err != nil {
				t.Fatal(err)
			}
			elements := parse(t, out.String())
			for _, e := range elements {
				if e.Name.Local == "script" || e.Name.Local == "b" || attribute(e, "onload") != "" {
					t.Errorf("data became an element or an attribute: %v", e)
				}
			}
			if len(elements) < 3 {
				t.Errorf("only %d elements in %s", len(elements), out.String())
			}
		})
	}
}

// parse reads well-formed HTML and gives its start tags.
func parse(t testing.TB, html string) []xml.StartElement {
	t.Helper()
	html = strings.TrimPrefix(strings.TrimSpace(html), "<!DOCTYPE html>")
	d := xml.NewDecoder(strings.NewReader(html))
	d.Entity = xml.HTMLEntity
	var elements []xml.StartElement
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, html)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements = append(elements, e.Copy())
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
