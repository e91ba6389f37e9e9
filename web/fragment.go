package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// serveFragment answers GET /viewlet/NAME/ARGS...
func (s *Server) serveFragment(w http.ResponseWriter, r *http.Request, path string) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	t, err := resolve(s.rules, path)
	if err == nil {
		err = t.count()
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	f, err := s.reader.read(r.Context(), t)
	switch {
	case err != nil:
		s.refuse(w, r, err)
	case f.Err != nil:
		fail(w, r, http.StatusInternalServerError, f.Key.String()+" could not be rendered; the log tells why")
	case f.Body == nil:
		fail(w, r, http.StatusNotFound, f.Key.String()+" does not exist")
	default:
		writeFragment(w, r, t.ContentType, f)
	}
}

// writeFragment leaves conditions, ranges and HEAD to http.ServeContent.
func writeFragment(w http.ResponseWriter, r *http.Request, contentType string, f viewlet.Fragment) {
	sum := sha256.Sum256(f.Body)
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.Body))
}
