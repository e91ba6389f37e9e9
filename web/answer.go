package web

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// statusClientGone is for the counters alone: nobody is left to read it.
const statusClientGone = 499

// retryAfter is in seconds.
const retryAfter = "5"

// refuse answers what err says: the visitor's mistake in its own words, the
// world's fault without them.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		w.WriteHeader(statusClientGone)
		return
	}
	if e, ok := errors.AsType[UnknownViewletError](err); ok {
		fail(w, r, http.StatusNotFound, e.Reason)
		return
	}
	if e, ok := errors.AsType[ArgumentError](err); ok {
		fail(w, r, http.StatusBadRequest, e.Reason)
		return
	}
	s.unserved.log(s.log, slog.LevelWarn, "request cannot be served now", "path", r.URL.Path, "err", err)
	w.Header().Set("Retry-After", retryAfter)
	fail(w, r, http.StatusServiceUnavailable, "this cannot be served right now; try again")
}

// allow answers 405 and reports false unless the request's method is one of those.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	fail(w, r, http.StatusMethodNotAllowed, "only "+strings.Join(methods, " and ")+" here")
	return false
}

func fail(w http.ResponseWriter, r *http.Request, status int, reason string) {
	reason = oneLine(reason)
	answer(w, r, status, reason, struct {
		Error string `json:"error"`
	}{reason})
}

// answer writes one line of text, or the value as JSON when the request's
// Accept names that. Neither may be kept by anyone.
func answer(w http.ResponseWriter, r *http.Request, status int, text string, value any) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	contentType, body := "text/plain; charset=utf-8", text
	if wantsJSON(r) {
		// Only strings and booleans come here, which always encode.
		if b, err := json.Marshal(value); err == nil {
			contentType, body = "application/json", string(b)
		}
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, body+"\n") // an error means that the client has left
	}
}

// wantsJSON is whether the request's Accept names application/json. Whoever
// accepts anything gets text.
func wantsJSON(r *http.Request) bool {
	for _, line := range r.Header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			kind, params, err := mime.ParseMediaType(part)
			if err != nil || kind != "application/json" {
				continue
			}
			q, err := strconv.ParseFloat(params["q"], 64)
			return err != nil || q > 0
		}
	}
	return false
}

// oneLine replaces what would break a line or a terminal.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, s)
}
