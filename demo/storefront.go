package demo

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

//go:embed page.html style.css live.js
var assets embed.FS

// Fragments reads what is in Redis.
type Fragments interface {
	Get(ctx context.Context, k viewlet.Key) (body []byte, ok bool, err error)
}

// Storefront serves the sample shop, every page of it put together from
// fragments and nothing else, and the changes as they happen. Tell it of acts
// and of refreshed fragments; it stores nothing beyond the last few.
//
// Its event streams end with their request's context: an http.Server that is to
// shut down gives a BaseContext that ends.
type Storefront struct {
	fragments Fragments
	log       *slog.Logger
	page      *template.Template
	mux       *http.ServeMux
	ledger    *ledger
	hub       *hub
}

// NewStorefront needs no connection yet. A nil log is nobody listening.
func NewStorefront(fragments Fragments, log *slog.Logger) *Storefront {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Storefront{
		fragments: fragments,
		log:       log,
		page:      template.Must(template.ParseFS(assets, "page.html")),
		mux:       http.NewServeMux(),
		ledger:    newLedger(),
		hub:       newHub(),
	}
	s.mux.HandleFunc("GET /{$}", s.home)
	s.mux.HandleFunc("GET /c/{id}", s.category)
	s.mux.HandleFunc("GET /p/{id}", s.product)
	s.mux.HandleFunc("GET /fragment/", s.fragment)
	s.mux.HandleFunc("GET /events", s.events)
	s.mux.Handle("GET /style.css", http.FileServerFS(assets))
	s.mux.Handle("GET /live.js", http.FileServerFS(assets))
	return s
}

// ServeHTTP answers a visitor. It reads Redis, never Postgres.
func (s *Storefront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	s.mux.ServeHTTP(w, r)
}

// Tell takes an act of the Traffic, to be shown and to be credited with the
// fragments that it changes. It does not block.
func (s *Storefront) Tell(a Act) {
	s.hub.send("act", s.ledger.tell(a))
}

// Refreshed takes the announcement of a fragment that was rewritten or deleted.
// It does not block: a fragment that no act is known for waits a moment for its
// credit, since Redis may be quicker to announce than the writer is to tell.
func (s *Storefront) Refreshed(k viewlet.Key, deleted bool) {
	now := time.Now()
	s.hub.send("fragment", fragmentEvent{Key: k.String(), Deleted: deleted})
	if c, ok := s.ledger.credit(k, deleted, now); ok {
		s.hub.send("credit", c)
		return
	}
	time.AfterFunc(slowTelling, func() {
		c, ok := s.ledger.credit(k, deleted, now)
		if !ok {
			var t told
			var fresh bool
			if c, t, fresh = s.ledger.creditElsewhere(k, deleted, now); fresh {
				s.hub.send("act", t)
			}
		}
		s.hub.send("credit", c)
	})
}

func (s *Storefront) home(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, "Best sellers",
		viewlet.NewKey("bestsellers"), viewlet.NewKey("new_arrivals"), viewlet.NewKey("stock_txt"))
}

func (s *Storefront) category(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, "", viewlet.NewKey("category_list", r.PathValue("id")))
}

func (s *Storefront) product(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	keys := []viewlet.Key{viewlet.NewKey("product_page", id)}
	data := viewlet.NewKey("product_json", id)
	if brand, ok := s.brandIn(r.Context(), data); ok {
		keys = append(keys, viewlet.NewKey("brand_badge", brand))
	}
	s.serve(w, r, "", append(keys, viewlet.NewKey("latest_reviews", id), data)...)
}

// view is what page.html sees.
type view struct {
	Heading string
	Menu    slot
	Slots   []slot
	Counts  counts
	Told    []told
}

// serve answers with a page of these fragments. The page is always whole; where
// its first fragment does not exist, the status says so.
func (s *Storefront) serve(w http.ResponseWriter, r *http.Request, heading string, keys ...viewlet.Key) {
	v := view{Heading: heading, Menu: s.fill(r.Context(), viewlet.NewKey("category_menu"))}
	for _, k := range keys {
		v.Slots = append(v.Slots, s.fill(r.Context(), k))
	}
	if r.Header.Get("X-Resync") == "" { // the page's own script, not a visitor
		s.ledger.served()
	}
	v.Counts, v.Told = s.ledger.counts(), s.ledger.latest()
	var page bytes.Buffer
	if err := s.page.ExecuteTemplate(&page, "page.html", v); err != nil {
		s.log.Error("storefront's page does not render", "err", err)
		http.Error(w, "the page does not render", http.StatusInternalServerError)
		return
	}
	respond(w, v.Slots[0].status, page.Bytes())
}

// fragment answers with what belongs inside one slot, for the page's script.
func (s *Storefront) fragment(w http.ResponseWriter, r *http.Request) {
	k, err := viewlet.ParseKey(strings.TrimPrefix(r.URL.EscapedPath(), "/fragment/"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	filled := s.fill(r.Context(), k)
	var inside bytes.Buffer
	if err := s.page.ExecuteTemplate(&inside, "inside", filled); err != nil {
		s.log.Error("storefront's fragment does not render", "key", k, "err", err)
		http.Error(w, "the fragment does not render", http.StatusInternalServerError)
		return
	}
	respond(w, filled.status, inside.Bytes())
}

func respond(w http.ResponseWriter, status int, html []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(html) // a visitor who has left
}
