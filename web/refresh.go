package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Door is where the pipeline takes refreshes that no change asked for.
type Door interface {
	// Refresh puts r in its viewlet's lane. It waits for room until ctx ends;
	// what has been taken does not end with ctx.
	// done gets one value, nobody needing to receive it: nil when what r names
	// is in the cache, else why it is not. An error means that r was not taken.
	Refresh(ctx context.Context, r viewlet.Refresh) (done <-chan error, err error)
}

// serveRefresh answers POST /refresh/NAME/ARGS...
func (s *Server) serveRefresh(w http.ResponseWriter, r *http.Request, path string) {
	if !allow(w, r, http.MethodPost) {
		return
	}
	wait, err := askedToWait(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.renderTimeout)
	defer cancel()
	refresh, err := s.refresh(ctx, path)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	done, err := s.door.Refresh(ctx, refresh)
	if err != nil {
		s.refuse(w, r, fmt.Errorf("refresh %s: %w", refresh, err))
		return
	}
	if !wait {
		taken(w, r, refresh, false)
		return
	}
	s.await(w, r, refresh, done)
}

// refresh says what NAME/ARGS... asks for. A viewlet with params, named without
// arguments, is all of it.
func (s *Server) refresh(ctx context.Context, path string) (viewlet.Refresh, error) {
	t, err := resolve(s.rules, path)
	if err != nil {
		return viewlet.Refresh{}, err
	}
	if t.Params > 0 && len(t.args) == 0 {
		return viewlet.Refresh{Key: viewlet.Key{Viewlet: t.name}, Via: viewlet.Whole}, nil
	}
	if err := t.count(); err != nil {
		return viewlet.Refresh{}, err
	}
	key, err := s.rules.Validate(ctx, t.name, t.args)
	if err != nil {
		return viewlet.Refresh{}, fmt.Errorf("validate arguments of %s: %w", t.name, err)
	}
	return viewlet.Refresh{Key: key}, nil
}

// await answers 200 when the refresh is done, 202 when it still is not after
// the WaitTimeout, or when the daemon stops.
func (s *Server) await(w http.ResponseWriter, r *http.Request, refresh viewlet.Refresh, done <-chan error) {
	timeout := time.NewTimer(s.waitTimeout)
	defer timeout.Stop()
	select {
	case err := <-done:
		if err != nil {
			s.unrefreshed.log(s.log, slog.LevelWarn, "refresh asked for over HTTP came to nothing", "refresh", refresh, "err", err)
			fail(w, r, http.StatusInternalServerError, refresh.String()+" could not be refreshed; the log tells why")
			return
		}
		taken(w, r, refresh, true)
	case <-timeout.C:
		taken(w, r, refresh, false)
	case <-s.stopping:
		taken(w, r, refresh, false)
	case <-r.Context().Done():
		w.WriteHeader(statusClientGone)
	}
}

func taken(w http.ResponseWriter, r *http.Request, refresh viewlet.Refresh, done bool) {
	status := http.StatusAccepted
	if done {
		status = http.StatusOK
	}
	answer(w, r, status, refresh.String(), struct {
		Key  string `json:"key"`
		Done bool   `json:"done"`
	}{refresh.String(), done})
}

func askedToWait(r *http.Request) (bool, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return false, nil
	}
	wait, err := strconv.ParseBool(text)
	if err != nil {
		return false, ArgumentError{fmt.Sprintf("wait=%q: write wait=1 to wait until the refresh is done", text)}
	}
	return wait, nil
}
