package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	listenersMax = 200              // pages open at once
	unread       = 512              // events that a listener may be behind
	patience     = 10 * time.Second // for a browser to take one write
)

// hub hands each event to every listener. One that has too many unread is cut
// off: its browser connects again, and takes the page as it is then.
type hub struct {
	mu        sync.Mutex
	listeners map[chan []byte]struct{}
}

func newHub() *hub { return &hub{listeners: map[chan []byte]struct{}{}} }

// join gives a listener's events, until leave is called or the channel is
// closed on it. It is nil when too many listen already.
func (h *hub) join() (events chan []byte, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.listeners) >= listenersMax {
		return nil, nil
	}
	events = make(chan []byte, unread)
	h.listeners[events] = struct{}{}
	return events, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, events)
	}
}

// send never blocks.
func (h *hub) send(name string, data any) {
	event := format(name, data)
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		select {
		case l <- event:
		default:
			delete(h.listeners, l)
			close(l)
		}
	}
}

// fragmentEvent tells a page to fetch a fragment again.
type fragmentEvent struct {
	Key     string `json:"key"`
	Deleted bool   `json:"deleted"`
}

// format writes a server-sent event.
//
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
func format(name string, data any) []byte {
	text, err := json.Marshal(data)
	if err != nil {
		panic("demo: " + err.Error()) // our own structs of strings and numbers
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, text)
}

// events streams what happens, and each second the counts.
func (s *Storefront) events(w http.ResponseWriter, r *http.Request) {
	events, leave := s.hub.join()
	if events == nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many are watching", http.StatusServiceUnavailable)
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	stream := http.NewResponseController(w)
	write := func(event []byte) bool {
		_ = stream.SetWriteDeadline(time.Now().Add(patience)) // not every connection has one
		_, err := w.Write(event)
		return err == nil && stream.Flush() == nil
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	event := append([]byte("retry: 1000\n"), format("counts", s.ledger.counts())...)
	for write(event) {
		open := true
		select {
		case <-r.Context().Done():
			return
		case event, open = <-events:
		case <-second.C:
			event = format("counts", s.ledger.counts())
		}
		if !open {
			return
		}
	}
}
