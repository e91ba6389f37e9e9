package web_test

import (
	"net/http"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/web"
)

func TestHealthWhateverTheState(t *testing.T) {
	b := setup(t)
	for _, state := range []web.State{"", web.Standby, web.Stopping} {
		b.daemon.now.Store(&web.Status{State: state})
		if w := b.get(t, "/healthz"); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
			t.Errorf("%q: %d %q", state, w.Code, w.Body)
		}
	}
	if w := b.get(t, "/healthz", "Accept", "application/json"); w.Body.String() != `{"ok":true}`+"\n" {
		t.Errorf("as JSON: %q", w.Body)
	}
}

func TestReadiness(t *testing.T) {
	b := setup(t)
	for _, step := range []struct {
		status     web.Status
		code       int
		text, json string
	}{
		{web.Status{}, 503, "starting", `{"ready":false,"state":"starting"}`},
		{
			web.Status{State: web.Starting, Reason: "connect to db:\nrefused"},
			503,
			"starting: connect to db: refused", `{"ready":false,"state":"starting","reason":"connect to db: refused"}`,
		},
		{web.Status{State: web.Standby}, 503, "standby", `{"ready":false,"state":"standby"}`},
		{
			web.Status{State: web.Warming, Reason: "3 of 12 viewlets are rendered"},
			503,
			"warming: 3 of 12 viewlets are rendered", `{"ready":false,"state":"warming","reason":"3 of 12 viewlets are rendered"}`,
		},
		{web.Status{State: web.Streaming}, 200, "ready", `{"ready":true,"state":"streaming"}`},
		{
			web.Status{State: web.Streaming, Lanes: []web.Lane{
				{Viewlet: "menu", Broken: true},
				{Viewlet: "price", Failed: 2},
				{Viewlet: "stars", Broken: true, Failed: 1},
				{Viewlet: "stock"},
			}},
			200,
			"ready; broken: menu, stars; failed fragments: 3", `{"ready":true,"state":"streaming","broken":["menu","stars"],"failed":3}`,
		},
		{web.Status{State: web.Stopping}, 503, "stopping", `{"ready":false,"state":"stopping"}`},
	} {
		b.daemon.now.Store(&step.status)
		w := b.get(t, "/readyz")
		if w.Code != step.code || w.Body.String() != step.text+"\n" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%+v: %d %q", step.status, w.Code, w.Body)
		}
		w = b.get(t, "/readyz", "Accept", "application/json")
		if w.Code != step.code || w.Body.String() != step.json+"\n" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%+v as JSON: %d %q", step.status, w.Code, w.Body)
		}
	}
}

func TestAccept(t *testing.T) {
	b := setup(t)
	for accept, json := range map[string]bool{
		"":                                    false,
		"*/*":                                 false,
		"text/html,*/*;q=0.8":                 false,
		"application/json":                    true,
		"Application/JSON; charset=utf-8":     true,
		"text/plain;q=0.5, application/json":  true,
		"application/json;q=0, */*":           false,
		"application/jsonx":                   false,
		";;;, application/json;q=0.1":         true,
		"application/vnd.api+json, text/html": false,
	} {
		w := b.get(t, "/healthz", "Accept", accept)
		if got := w.Header().Get("Content-Type") == "application/json"; got != json {
			t.Errorf("Accept: %s: %s", accept, w.Header().Get("Content-Type"))
		}
	}
}
