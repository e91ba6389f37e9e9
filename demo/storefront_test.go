package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// inMemory is Fragments by their names; an error in the place of a body is the
// answer of a Redis in trouble.
type inMemory map[string]any

func (m inMemory) Get(_ context.Context, k viewlet.Key) ([]byte, bool, error) {
	switch body := m[k.String()].(type) {
	case string:
		return []byte(body), true, nil
	case error:
		return nil, false, body
	}
	return nil, false, nil
}

func stocked() inMemory {
	return inMemory{
		"category_menu":     `<ul class="menu"><li>Chairs</li></ul>`,
		"bestsellers":       `[{"id":42},{"id":7}]`,
		"product_teaser:42": `<article class="teaser">Oak &amp; Ash</article>`,
		"new_arrivals":      `<section class="arrivals">new</section>`,
		"stock_txt":         "2 left  12\" Skillet <b>\n",
		"product_page:42":   `<article class="product"><h1>Oak</h1></article>`,
		"product_json:42":   `{"id":42,"name":"</pre><script>","brand_id":5}`,
		"brand_badge:5":     `<aside class="badge">Ekström</aside>`,
		"latest_reviews:42": `<section class="reviews">none</section>`,
		"category_list:11":  `<section class="list">Chairs</section>`,
		"category_list:12":  errors.New("connection refused"),
		"page:a%2Fb%20%3C":  "odd <name>",
	}
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// slotsOf gives the names of the slots of a page, which is parsed for it.
func slotsOf(t *testing.T, html string) []string {
	t.Helper()
	var keys []string
	for _, e := range parse(t, html) {
		if key := attribute(e, "data-fragment"); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestPages(t *testing.T) {
	front := NewStorefront(stocked(), nil)
	for path, want := range map[string]struct {
		status int
		slots  []string
		says   string
	}{
		"/":     {200, []string{"category_menu", "bestsellers", "product_teaser:42", "product_teaser:7", "new_arrivals", "stock_txt"}, "Oak &amp; Ash"},
		"/p/42": {200, []string{"category_menu", "product_page:42", "brand_badge:5", "latest_reviews:42", "product_json:42"}, "Ekström"},
		"/p/7":  {404, []string{"category_menu", "product_page:7", "latest_reviews:7", "product_json:7"}, "Not in Redis"},
		"/p/%22%3E%3Cscript%3E": {404, []string{
			"category_menu", "product_page:%22%3E%3Cscript%3E", "latest_reviews:%22%3E%3Cscript%3E", "product_json:%22%3E%3Cscript%3E",
		}, "Not in Redis"},
		"/c/11": {200, []string{"category_menu", "category_list:11"}, "Chairs"},
		"/c/12": {503, []string{"category_menu", "category_list:12"}, "Redis does not answer"},
	} {
		w := get(t, front, path)
		body := w.Body.String()
		if w.Code != want.status || !strings.Contains(body, want.says) {
			t.Errorf("%s answered %d, want %d with %q:\n%s", path, w.Code, want.status, want.says, body)
		}
		if got := slotsOf(t, body); !slices.Equal(got, want.slots) {
			t.Errorf("%s has the slots %q, want %q", path, got, want.slots)
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("%s has the policy %q", path, policy)
		}
		for _, e := range parse(t, body) {
			if src := attribute(e, "src") + attribute(e, "href"); strings.Contains(src, "//") {
				t.Errorf("%s asks the internet for %s", path, src)
			}
			if e.Name.Local == "script" && attribute(e, "src") != "/live.js" {
				t.Errorf("%s has a script of its data", path)
			}
		}
	}
	if w := get(t, front, "/nowhere"); w.Code != http.StatusNotFound {
		t.Errorf("/nowhere answered %d", w.Code)
	}
	for _, asset := range []string{"/style.css", "/live.js"} {
		if w := get(t, front, asset); w.Code != http.StatusOK || w.Body.Len() == 0 {
			t.Errorf("%s answered %d with %d bytes", asset, w.Code, w.Body.Len())
		}
	}
}

func TestPagesAreCountedAndResyncsAreNot(t *testing.T) {
	front := NewStorefront(stocked(), nil)
	get(t, front, "/")
	get(t, front, "/c/11")
	get(t, front, "/fragment/category_list:11")
	again := httptest.NewRequest(http.MethodGet, "/", nil)
	again.Header.Set("X-Resync", "1")
	front.ServeHTTP(httptest.NewRecorder(), again)
	if n := front.ledger.counts().Served; n != 2 {
		t.Errorf("%d pages served, want 2", n)
	}
}

func TestFragmentIsTheInsideOfItsSlot(t *testing.T) {
	front := NewStorefront(stocked(), nil)
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"category_list:11":   {200, `<section class="list">Chairs</section>`},
		"page:a%2Fb%20%3C":   {200, "<pre>odd &lt;name&gt;</pre>"},
		"product_json:42":    {200, "&lt;/pre&gt;&lt;script&gt;"},
		"bestsellers":        {200, `<div class="slot of-product_teaser" data-fragment="product_teaser:42"><article`},
		"stock_txt":          {200, `12&#34; Skillet &lt;b&gt;`},
		"product_teaser:999": {404, "<code>product_teaser:999</code> Not in Redis"},
		"category_list:12":   {503, "Redis does not answer"},
		"page:%61":           {400, "write it as page:a"},
		"":                   {400, "parse key"},
	} {
		w := get(t, front, "/fragment/"+path)
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.body) {
			t.Errorf("%q answered %d %q, want %d with %q", path, w.Code, w.Body, want.status, want.body)
		}
	}
}

// stream reads server-sent events.
type stream struct {
	t    *testing.T
	scan *bufio.Scanner
}

func listen(t *testing.T, url string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	if got := answer.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("events come as %q", got)
	}
	return &stream{t, bufio.NewScanner(answer.Body)}
}

// next gives the data of the next event of this name.
func (s *stream) next(name string) map[string]any {
	s.t.Helper()
	for s.scan.Scan() {
		if s.scan.Text() != "event: "+name || !s.scan.Scan() {
			continue
		}
		var data map[string]any
		if err := json.Unmarshal([]byte(strings.TrimPrefix(s.scan.Text(), "data: ")), &data); err != nil {
			s.t.Fatal(err)
		}
		return data
	}
	s.t.Fatalf("no %s event: %v", name, s.scan.Err())
	return nil
}

func TestEventsTellTheStory(t *testing.T) {
	front := NewStorefront(stocked(), nil)
	server := httptest.NewServer(front)
	t.Cleanup(server.Close) // after the stream's
	events := listen(t, server.URL)
	if sums := events.next("counts"); sums["rows"] != 0.0 {
		t.Errorf("it begins with %v", sums)
	}
	front.Tell(Act{Sentence: "Oak <costs> less.", At: time.Now(), Rows: 1, Products: []int64{42}})
	act := events.next("act")
	if act["sentence"] != "Oak <costs> less." || act["rolledBack"] != false {
		t.Errorf("told %v", act)
	}
	front.Refreshed(viewlet.NewKey("product_teaser", "42"), false)
	if f := events.next("fragment"); f["key"] != "product_teaser:42" || f["deleted"] != false {
		t.Errorf("got fragment %v", f)
	}
	credit := events.next("credit")
	if ms, ok := credit["ms"].(float64); !ok || ms < 0 || credit["act"] != act["id"] || credit["key"] != "product_teaser:42" {
		t.Errorf("got credit %v for act %v", credit, act["id"])
	}
	if sums := events.next("counts"); sums["rows"] != 1.0 || sums["rewritten"] != 1.0 {
		t.Errorf("counted %v", sums)
	}
	page := get(t, front, "/").Body.String()
	for _, want := range []string{"Oak &lt;costs&gt; less.", "<code>product_teaser:42</code> <small>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not tell %q", want)
		}
	}
}

func TestAReaderWhoIsSlowIsCutOff(t *testing.T) {
	h := newHub()
	slow, leave := h.join()
	for range unread {
		h.send("fragment", fragmentEvent{Key: "a"})
	}
	quick, leaveQuick := h.join()
	defer leaveQuick()
	h.send("fragment", fragmentEvent{Key: "b"})
	n := 0
	for range slow { // ends: it was closed
		n++
	}
	if n != unread {
		t.Errorf("%d events were kept, want %d", n, unread)
	}
	leave() // a second goodbye is no harm
	if got := string(<-quick); got != "event: fragment\ndata: {\"key\":\"b\",\"deleted\":false}\n\n" {
		t.Errorf("the other got %q", got)
	}
}

func TestOnlySoManyMayListen(t *testing.T) {
	front := NewStorefront(stocked(), nil)
	var last func()
	for range listenersMax {
		_, last = front.hub.join()
	}
	if w := get(t, front, "/events"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("one too many got %d", w.Code)
	}
	last()
	if events, _ := front.hub.join(); events == nil {
		t.Error("no place after one had left")
	}
}

func TestCreditGoesToTheActThatTouchedIt(t *testing.T) {
	l := newLedger()
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	chair := l.tell(Act{Sentence: "chair", At: at(0), Products: []int64{1}, Categories: []int64{11, 1}})
	table := l.tell(Act{Sentence: "table", At: at(10), Products: []int64{2}, Brands: []int64{5}})
	l.tell(Act{Sentence: "cart", At: at(20), Products: []int64{1, 2}, RolledBack: true})
	for name, want := range map[string]int{
		"product_teaser:1": chair.ID, "latest_reviews:2": table.ID, "category_list:1": chair.ID, "brand_badge:5": table.ID,
		"category_menu": table.ID, "product_page:3": 0, "product_page:x": 0, "category_list:2": 0, "teaser:1:sv": 0,
	} {
		k, err := viewlet.ParseKey(name)
		if err != nil {
			t.Fatal(err)
		}
		c, ok := l.credit(k, false, at(25))
		if ok != (want > 0) || c.Act != want {
			t.Errorf("%s is credited to act %d, want %d", name, c.Act, want)
		}
		if ok && *c.After != map[int]int64{chair.ID: 25, table.ID: 15}[want] {
			t.Errorf("%s came after %d ms", name, *c.After)
		}
	}
	if _, ok := l.credit(viewlet.NewKey("product_teaser", "1"), false, start.Add(time.Hour)); ok {
		t.Error("an act was credited an hour later")
	}
}

func TestLedgerForgets(t *testing.T) {
	l := newLedger()
	for range remembered + 5 {
		l.tell(Act{Sentence: "again", At: time.Now(), Rows: 2, Products: []int64{1}})
	}
	for range shown + 3 {
		l.credit(viewlet.NewKey("product_page", "1"), true, time.Now())
	}
	latest := l.latest()
	if len(latest) != remembered || latest[0].ID != remembered+5 || len(latest[0].First) != shown || latest[0].More != 3 {
		t.Errorf("%d told, the first of them %+v", len(latest), latest[0])
	}
	if sums := l.counts(); sums.Rows != 2*(remembered+5) || sums.Rewritten != shown+3 {
		t.Errorf("counted %+v", sums)
	}
}

// Redis may announce a fragment before the writer has told of its act; and some
// fragments are nobody's we know.
func TestCreditWaitsForTheAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		front := NewStorefront(stocked(), nil)
		front.Refreshed(viewlet.NewKey("product_teaser", "42"), false)
		front.Refreshed(viewlet.NewKey("product_teaser", "8"), true)
		front.Refreshed(viewlet.NewKey("product_page", "8"), true)
		front.Tell(Act{Sentence: "Oak costs less.", At: time.Now(), Products: []int64{42}})
		time.Sleep(2 * slowTelling) // in the bubble: no time passes
		synctest.Wait()
		latest := front.ledger.latest()
		if len(latest) != 2 {
			t.Fatalf("told %+v", latest)
		}
		elsewhere, own := latest[0], latest[1]
		if own.Sentence != "Oak costs less." || len(own.First) != 1 || own.First[0].Key != "product_teaser:42" || *own.First[0].After != 0 {
			t.Errorf("credited to the act: %+v", own)
		}
		if len(elsewhere.First) != 2 || elsewhere.First[0].After != nil {
			t.Errorf("credited elsewhere: %+v", elsewhere)
		}
	})
}
