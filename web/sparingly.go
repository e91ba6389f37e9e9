package web

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sparinglyEvery is how often one kind of line is logged at most, however many
// visitors meet its cause.
const sparinglyEvery = 10 * time.Second

// sparingly logs one kind of line. The zero value is ready.
type sparingly struct {
	mu   sync.Mutex
	next time.Time
	left int // lines left out since the last one
}

// log logs the line, unless one was logged a short while ago. The next that is
// logged tells how many were left out.
func (s *sparingly) log(log *slog.Logger, level slog.Level, msg string, attrs ...any) {
	left, ok := s.turn(time.Now())
	if !ok {
		return
	}
	if left > 0 {
		attrs = append(attrs, "more", left)
	}
	log.Log(context.Background(), level, msg, attrs...)
}

func (s *sparingly) turn(now time.Time) (left int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.next) {
		s.left++
		return 0, false
	}
	left, s.left = s.left, 0
	s.next = now.Add(sparinglyEvery)
	return left, true
}
