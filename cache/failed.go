package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Failure is why a fragment, or a whole viewlet, could not be rendered. What
// is in Redis of it may be stale.
type Failure struct {
	Error string      `json:"error"`
	LSN   viewlet.LSN `json:"lsn"` // of the render; zero: unknown
	At    time.Time   `json:"at"`
}

// longestError is how much of an error is noted, in bytes.
const longestError = 1000

func (f Failure) encode() []byte {
	if len(f.Error) > longestError {
		f.Error = strings.ToValidUTF8(f.Error[:longestError], "") + "..."
	}
	f.At = f.At.UTC().Truncate(time.Millisecond)
	text, err := json.Marshal(f)
	if err != nil {
		return []byte(`{"error":"unknown"}`) // a year beyond 9999
	}
	return text
}

// decodeFailure takes what it cannot read for the error itself.
func decodeFailure(note string) Failure {
	var f Failure
	if err := json.Unmarshal([]byte(note), &f); err != nil {
		return Failure{Error: note}
	}
	return f
}

// Failed gives what could not be rendered and why, by the fragment's name,
// product_teaser:42, or the viewlet's, product_teaser:*.
func (c *Cache) Failed(ctx context.Context) (map[string]Failure, error) {
	failed := make(map[string]Failure)
	for cursor := uint64(0); ; {
		var pairs []string
		err := c.exchange(ctx, func(ctx context.Context) (err error) {
			pairs, cursor, err = c.rdb.HScan(ctx, c.names.failed(), cursor, "", scanCount).Result()
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read failures: %w", err)
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			failed[pairs[i]] = decodeFailure(pairs[i+1])
			c.failed.add(pairs[i])
		}
		if cursor == 0 {
			return failed, nil
		}
	}
}

// Fail notes that what name says, product_teaser:42 or product_teaser:*,
// cannot be rendered. Store does it for a Fragment with an Err.
func (c *Cache) Fail(ctx context.Context, name string, lsn viewlet.LSN, cause error) error {
	c.failed.add(name)
	note := Failure{cause.Error(), lsn, time.Now()}.encode()
	err := c.exchange(ctx, func(ctx context.Context) error {
		return c.rdb.HSet(ctx, c.names.failed(), name, note).Err()
	})
	if err != nil {
		return fmt.Errorf("note failure of %s: %w", name, err)
	}
	return nil
}

// FailedCounts tells for each viewlet how many of its names are failed, as far
// as this process knows, without asking Redis. Beyond 10,000 nothing is known.
func (c *Cache) FailedCounts() map[string]int { return c.failed.counts() }

// Unfail removes the notes of Fail, as Store does for a fragment that succeeds.
func (c *Cache) Unfail(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	err := c.exchange(ctx, func(ctx context.Context) error {
		return c.rdb.HDel(ctx, c.names.failed(), names...).Err()
	})
	if err != nil {
		return fmt.Errorf("remove failure of %s and %d more: %w", names[0], len(names)-1, err)
	}
	c.failed.remove(names)
	return nil
}

// mended removes the failures of the fragments that succeeded. A refused one
// tells nothing of the newer.
func (c *Cache) mended(ctx context.Context, fragments []viewlet.Fragment, outcomes []Outcome) error {
	if c.failed.empty() {
		return nil
	}
	var names []string
	for i, f := range fragments {
		if outcomes[i] == Failed || outcomes[i] == Refused {
			continue
		}
		if name := f.Key.String(); c.failed.may(name) {
			names = append(names, name)
		}
	}
	return c.Unfail(ctx, names...)
}

// loadFailed reads which names are failed, as far as they can be remembered.
func (c *Cache) loadFailed(ctx context.Context) error {
	return c.exchange(ctx, func(ctx context.Context) error {
		n, err := c.rdb.HLen(ctx, c.names.failed()).Result()
		if err != nil || n == 0 {
			return err
		}
		if n > mostFailed {
			c.failed.forget()
			return nil
		}
		names, err := c.rdb.HKeys(ctx, c.names.failed()).Result()
		for _, name := range names {
			c.failed.add(name)
		}
		return err
	})
}

// mostFailed is how many failed names are remembered.
const mostFailed = 10_000

// failedSet remembers names that may be failed: all that are, and perhaps some
// that are no longer. When they are too many, any name may be.
type failedSet struct {
	mu    sync.Mutex
	names map[string]struct{}
	any   bool
}

func (s *failedSet) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names == nil {
		s.names = make(map[string]struct{})
	}
	s.names[name] = struct{}{}
	if len(s.names) > mostFailed {
		s.names, s.any = nil, true
	}
}

func (s *failedSet) remove(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		delete(s.names, name)
	}
}

func (s *failedSet) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names, s.any = nil, true
}

func (s *failedSet) may(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, is := s.names[name]
	return is || s.any
}

func (s *failedSet) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.names) == 0 && !s.any
}

func (s *failedSet) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := make(map[string]int)
	for name := range s.names {
		of, _, _ := strings.Cut(name, ":")
		n[of]++
	}
	return n
}
