package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func TestHitAsksNobodyElse(t *testing.T) {
	b := setup(t)
	b.cache.bodies[viewlet.NewKey("product_teaser", "42")] = []byte("<b>Oak</b>")
	w := b.get(t, "/viewlet/product_teaser/42")
	if w.Code != http.StatusOK || w.Body.String() != "<b>Oak</b>" {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
	for name, want := range map[string]string{
		"Content-Type":           "text/html; charset=utf-8",
		"Cache-Control":          "no-cache",
		"X-Content-Type-Options": "nosniff",
		"Content-Length":         "10",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if n := b.renderer.calls.Load() + b.rules.validated.Load(); n != 0 {
		t.Errorf("a hit rendered or validated %d times", n)
	}
	wantMetric(t, b, `cdc_viewlet_http_reads_total{outcome="hit",viewlet="product_teaser"} 1`)
}

func TestMissRendersAndFills(t *testing.T) {
	b := setup(t)
	for range 2 {
		if w := b.get(t, "/viewlet/teaser/42/sv"); w.Code != http.StatusOK || w.Body.String() != `["42" "sv"]` {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
	}
	if n := b.renderer.calls.Load(); n != 1 {
		t.Errorf("rendered %d times, want once", n)
	}
	if got := string(b.cache.bodies[viewlet.NewKey("teaser", "42", "sv")]); got != `["42" "sv"]` {
		t.Errorf("cache holds %q", got)
	}
	wantMetric(t, b, `cdc_viewlet_http_reads_total{outcome="miss",viewlet="teaser"} 1`)
	wantMetric(t, b, `cdc_viewlet_http_renders_total{viewlet="teaser"} 1`)
}

func TestOneFragmentHasOneKey(t *testing.T) {
	b := setup(t)
	for _, id := range []string{"042", "+42", "42", "0042"} {
		if w := b.get(t, "/viewlet/product_teaser/"+id); w.Body.String() != `["42"]` {
			t.Errorf("%s: %d %q", id, w.Code, w.Body)
		}
	}
	if n := b.renderer.calls.Load(); n != 1 || b.cache.len() != 1 {
		t.Errorf("rendered %d times into %d keys, want one of each", n, b.cache.len())
	}
}

func TestContentTypes(t *testing.T) {
	b := setup(t)
	for path, want := range map[string]string{
		"/viewlet/menu":      "text/html; charset=utf-8",
		"/viewlet/note/x":    "text/plain; charset=utf-8",
		"/viewlet/feed":      "application/json",
		"/viewlet/teaser/1/": "text/html; charset=utf-8",
	} {
		if w := b.get(t, path); w.Code != http.StatusOK || w.Header().Get("Content-Type") != want {
			t.Errorf("%s: %d %q, want %q", path, w.Code, w.Header().Get("Content-Type"), want)
		}
	}
}

func TestArgumentsSurviveThePath(t *testing.T) {
	b := setup(t)
	site := httptest.NewServer(b.Handler())
	defer site.Close()
	for path, want := range map[string]string{
		"/viewlet/note/":               "",
		"/viewlet/note/a%2Fb":          "a/b",
		"/viewlet/note/100%25":         "100%",
		"/viewlet/note/%252F":          "%2F",
		"/viewlet/note/a:b%3Ac":        "a:b:c",
		"/viewlet/note/it's%22%60":     "it's\"`",
		"/viewlet/note/%F0%9F%8C%B3":   "🌳",
		"/viewlet/note/a%0Ab%0D":       "a\nb\r",
		"/viewlet/note/a+b%20c":        "a+b c",
		"/viewlet/note/..":             "..",
		"/viewlet/note/.":              ".",
		"/viewlet/note/%7B%7D%3Fx%23y": "{}?x#y",
		"/viewlet/note/@state":         "@state",
		// Sent by clients that do not encode all that they should:
		`/viewlet/note/a%2Fb"c`:     `a/b"c`,
		"/viewlet/note/a%2Fb{å|^}":  "a/b{å|^}",
		"/viewlet/n%6Fte/%2F%2f?q=": "//",
	} {
		status, body := raw(t, site.Listener.Addr(), path)
		if want := fmt.Sprintf("%q", []string{want}); status != http.StatusOK || body != want {
			t.Errorf("GET %s: %d %s, want %s", path, status, body, want)
		}
	}
	if status, body := raw(t, site.Listener.Addr(), "/viewlet/teaser/7/"); body != `["7" ""]` {
		t.Errorf("empty last argument: %d %s", status, body)
	}
}

// raw asks without a client that would mend the path.
func raw(t *testing.T, addr net.Addr, path string) (int, string) {
	t.Helper()
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestETagRoundTrip(t *testing.T) {
	b := setup(t)
	key := viewlet.NewKey("product_teaser", "42")
	b.cache.bodies[key] = []byte("Oak")
	first := b.get(t, "/viewlet/product_teaser/42")
	tag := first.Header().Get("ETag")
	if !strings.HasPrefix(tag, `"`) || len(tag) < 18 {
		t.Fatalf("ETag %q is not a strong one", tag)
	}
	for _, sent := range []string{tag, `"x", ` + tag, "W/" + tag, "*"} {
		w := b.get(t, "/viewlet/product_teaser/42", "If-None-Match", sent)
		if w.Code != http.StatusNotModified || w.Body.Len() != 0 || w.Header().Get("ETag") != tag {
			t.Errorf("If-None-Match: %s: %d %q %v", sent, w.Code, w.Body, w.Header())
		}
	}
	b.cache.bodies[key] = []byte("Ash")
	w := b.get(t, "/viewlet/product_teaser/42", "If-None-Match", tag)
	if w.Code != http.StatusOK || w.Body.String() != "Ash" || w.Header().Get("ETag") == tag {
		t.Errorf("changed: %d %q %v", w.Code, w.Body, w.Header())
	}
}

func TestEmptyFragmentIsAFragment(t *testing.T) {
	b := setup(t)
	b.cache.bodies[viewlet.NewKey("menu")] = nil
	if w := b.get(t, "/viewlet/menu"); w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestHead(t *testing.T) {
	b := setup(t)
	for _, path := range []string{"/viewlet/product_teaser/42", "/viewlet/nix", "/healthz", "/readyz", "/metrics"} {
		get, head := b.get(t, path), b.do(t.Context(), http.MethodHead, path)
		if head.Code != get.Code {
			t.Errorf("%s: %d, want %d as GET", path, head.Code, get.Code)
		}
		if path != "/metrics" && (head.Body.Len() != 0 || head.Header().Get("Content-Length") != fmt.Sprint(get.Body.Len())) {
			t.Errorf("%s: body %q, headers %v", path, head.Body, head.Header())
		}
	}
}

func TestAbsentInstance(t *testing.T) {
	b := setup(t)
	b.renderer.render = func(_ context.Context, key viewlet.Key) (viewlet.Fragment, error) {
		return viewlet.Fragment{Key: key}, nil
	}
	w := b.get(t, "/viewlet/product_teaser/404")
	if w.Code != http.StatusNotFound || w.Body.String() != "product_teaser:404 does not exist\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if b.cache.len() != 0 {
		t.Error("an instance that does not exist is in the cache")
	}
}

func TestBadRequests(t *testing.T) {
	b := setup(t)
	for path, want := range map[string]string{
		"/viewlet/nix":                  `404 no viewlet "nix"; did you mean note?`,
		"/viewlet/":                     `404 no viewlet ""; did you mean note?`,
		"/viewlet/@state":               `404 no viewlet "@state"; did you mean note?`,
		"/viewlet/product_teaser":       "400 product_teaser takes 1 argument, not 0",
		"/viewlet/product_teaser/1/2":   "400 product_teaser takes 1 argument, not 2",
		"/viewlet/teaser/1":             "400 teaser takes 2 arguments, not 1",
		"/viewlet/menu/":                "400 menu takes 0 arguments, not 1",
		"/viewlet/product_teaser/x%0Ay": `400 id of product_teaser: "x\ny" is not an integer`,
		"/viewlet":                      "404 no such page; there are /viewlet/NAME/ARGS, /refresh/NAME/ARGS, /healthz, /readyz and /metrics",
		"/":                             "404 no such page; there are /viewlet/NAME/ARGS, /refresh/NAME/ARGS, /healthz, /readyz and /metrics",
		"/metrics/x":                    "404 no such page; there are /viewlet/NAME/ARGS, /refresh/NAME/ARGS, /healthz, /readyz and /metrics",
	} {
		w := b.get(t, path)
		if got := fmt.Sprintf("%d %s", w.Code, strings.TrimSuffix(w.Body.String(), "\n")); got != want {
			t.Errorf("GET %s: %s\nwant %s", path, got, want)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: headers %v", path, w.Header())
		}
	}
	if n := b.renderer.calls.Load(); n != 0 {
		t.Errorf("a bad request rendered %d times", n)
	}
	w := b.get(t, "/viewlet/nix", "Accept", "text/html, application/json;q=0.9")
	if got, want := w.Body.String(), `{"error":"no viewlet \"nix\"; did you mean note?"}`+"\n"; got != want || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("as JSON: got %s want %s", got, want)
	}
}

func TestMethods(t *testing.T) {
	b := setup(t)
	for path, allow := range map[string]string{
		"/viewlet/product_teaser/42": "GET, HEAD",
		"/healthz":                   "GET, HEAD",
		"/readyz":                    "GET, HEAD",
		"/metrics":                   "GET, HEAD",
		"/refresh/product_teaser/42": "POST",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
			w := b.do(t.Context(), method, path)
			allowed := strings.Contains(allow, method)
			if (w.Code == http.StatusMethodNotAllowed) == allowed {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
			if !allowed && w.Header().Get("Allow") != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, path, w.Header().Get("Allow"), allow)
			}
		}
	}
	if len(b.door.came) != 1 {
		t.Errorf("%d refreshes came in, want the one POST", len(b.door.came))
	}
}

func TestPostgresDown(t *testing.T) {
	for what, broken := range map[string]func(*bundle){
		"render": func(b *bundle) {
			b.renderer.render = func(context.Context, viewlet.Key) (viewlet.Fragment, error) {
				return viewlet.Fragment{}, errDown
			}
		},
		"validate": func(b *bundle) { b.rules.err = errDown },
	} {
		b := setup(t)
		broken(b)
		for range 3 {
			w := b.get(t, "/viewlet/product_teaser/42")
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "refused") {
				t.Errorf("%s: %d %q %v", what, w.Code, w.Body, w.Header())
			}
		}
		if got := b.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "connection refused") {
			t.Errorf("%s: three visitors in an outage are not one line of log:\n%s", what, got)
		}
		if b.cache.len() != 0 {
			t.Errorf("%s: something is in the cache", what)
		}
	}
}

func TestBrokenFragment(t *testing.T) {
	for what, render := range map[string]func(context.Context, viewlet.Key) (viewlet.Fragment, error){
		"its own fault": func(_ context.Context, key viewlet.Key) (viewlet.Fragment, error) {
			return viewlet.Fragment{Key: key, Body: []byte("half"), Err: errors.New("divide by secret")}, nil
		},
		"panic": func(context.Context, viewlet.Key) (viewlet.Fragment, error) { panic("divide by secret") },
	} {
		b := setup(t)
		b.renderer.render = render
		w := b.get(t, "/viewlet/product_teaser/42")
		if w.Code != http.StatusInternalServerError || w.Body.String() != "product_teaser:42 could not be rendered; the log tells why\n" {
			t.Errorf("%s: %d %q", what, w.Code, w.Body)
		}
		if got := b.log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "product_teaser:42") || !strings.Contains(got, "divide by secret") {
			t.Errorf("%s: the log does not tell:\n%s", what, got)
		}
		if b.cache.len() != 0 {
			t.Errorf("%s: something is in the cache", what)
		}
	}
}

func TestRedisDown(t *testing.T) {
	b := setup(t)
	b.cache.fail(errDown)
	for range 3 {
		if w := b.get(t, "/viewlet/product_teaser/42"); w.Code != http.StatusOK || w.Body.String() != `["42"]` {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
	}
	if got := b.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") {
		t.Errorf("three visitors in an outage are not one line of log:\n%s", got)
	}
	if b.cache.calls != 3 {
		t.Errorf("a cache that is down was asked %d times by three visitors", b.cache.calls)
	}
	b.cache.fail(nil)
	b.get(t, "/viewlet/product_teaser/42")
	if b.cache.len() != 1 {
		t.Error("the cache is not filled after the outage")
	}
}
