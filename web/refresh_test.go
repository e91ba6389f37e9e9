package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func (b *bundle) post(t testing.TB, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return b.do(t.Context(), http.MethodPost, target, headers...)
}

func TestRefreshGoesThroughTheDoor(t *testing.T) {
	for path, want := range map[string]viewlet.Refresh{
		"/refresh/product_teaser/042": {Key: viewlet.NewKey("product_teaser", "42")},
		"/refresh/note/a%2Fb:%22":     {Key: viewlet.NewKey("note", `a/b:"`)},
		"/refresh/note/":              {Key: viewlet.NewKey("note", "")},
		"/refresh/menu":               {Key: viewlet.NewKey("menu")},
		"/refresh/product_teaser":     {Key: viewlet.NewKey("product_teaser"), Via: viewlet.Whole},
	} {
		b := setup(t)
		w := b.post(t, path)
		if w.Code != http.StatusAccepted || w.Body.String() != want.String()+"\n" {
			t.Errorf("POST %s: %d %q", path, w.Code, w.Body)
		}
		if !slices.Equal(b.door.came, []viewlet.Refresh{want}) {
			t.Errorf("POST %s: %v came in, want %v", path, b.door.came, want)
		}
		if n := b.renderer.calls.Load(); n != 0 {
			t.Errorf("POST %s rendered outside the pipeline", path)
		}
	}
}

func TestRefreshRefused(t *testing.T) {
	b := setup(t)
	for path, want := range map[string]string{
		"/refresh/nix":                   `404 no viewlet "nix"; did you mean note?`,
		"/refresh/product_teaser/1/2":    "400 product_teaser takes 1 argument, not 2",
		"/refresh/product_teaser/x":      `400 id of product_teaser: "x" is not an integer`,
		"/refresh/menu/1":                "400 menu takes 0 arguments, not 1",
		"/refresh/menu?wait=long":        `400 wait="long": write wait=1 to wait until the refresh is done`,
		"/refresh/product_teaser/?wait=": `400 id of product_teaser: "" is not an integer`,
	} {
		w := b.post(t, path)
		if got := fmt.Sprintf("%d %s", w.Code, strings.TrimSuffix(w.Body.String(), "\n")); got != want {
			t.Errorf("POST %s: %s\nwant %s", path, got, want)
		}
	}
	if len(b.door.came) != 0 {
		t.Errorf("%v came in", b.door.came)
	}
	b.door.err = errDown
	if w := b.post(t, "/refresh/menu"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("door shut: %d %q", w.Code, w.Body)
	}
}

func TestRefreshWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.door.done = make(chan error, 1)
		answer := make(chan *httptest.ResponseRecorder, 1)
		go func() { answer <- b.post(t, "/refresh/product_teaser/42?wait=1", "Accept", "application/json") }()
		synctest.Wait()
		if len(answer) != 0 {
			t.Fatal("answered before the refresh was done")
		}
		b.door.done <- nil
		if w := <-answer; w.Code != http.StatusOK || w.Body.String() != `{"key":"product_teaser:42","done":true}`+"\n" {
			t.Errorf("done: %d %q", w.Code, w.Body)
		}

		b.door.done <- errors.New("divide by secret")
		if w := b.post(t, "/refresh/menu?wait=1"); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("came to nothing: %d %q", w.Code, w.Body)
		}

		start := time.Now()
		w := b.post(t, "/refresh/menu?wait=1", "Accept", "application/json")
		if w.Code != http.StatusAccepted || w.Body.String() != `{"key":"menu","done":false}`+"\n" || time.Since(start) != time.Minute {
			t.Errorf("not done: %d %q after %s", w.Code, w.Body, time.Since(start))
		}
	})
}

func TestRefreshFromAnotherSite(t *testing.T) {
	b := setup(t)
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
	} {
		w := b.post(t, "/refresh/menu", headers...)
		if w.Code != http.StatusForbidden || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%v: %d %q", headers, w.Code, w.Body)
		}
	}
	if len(b.door.came) != 0 {
		t.Errorf("%v came in", b.door.came)
	}
	if w := b.post(t, "/refresh/menu", "Sec-Fetch-Site", "same-origin"); w.Code != http.StatusAccepted {
		t.Errorf("same origin: %d %q", w.Code, w.Body)
	}
	if w := b.get(t, "/viewlet/menu", "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusOK {
		t.Errorf("reading from another site: %d %q", w.Code, w.Body)
	}
}
