package cache

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

//go:embed fail.lua
var failLua string

// Failure is why a fragment, or a whole viewlet, could not be rendered. What
// is in Redis of it may be stale.
type Failure struct {
	Error string      `json:"error"`
	LSN   viewlet.LSN `json:"lsn"` // of the render; zero: unknown
	At    time.Time   `json:"at"`  // of the last try
	// Since is the time of the first try that failed, with none between that
	// did not.
	Since time.Time `json:"since"`
}

// longestError is how much of an error is noted, in bytes.
const longestError = 1000

// encode gives the note in the two pieces that fail.lua takes.
func (f Failure) encode() (note []byte, since string) {
	if len(f.Error) > longestError {
		f.Error = strings.ToValidUTF8(f.Error[:longestError], "") + "..."
	}
	f.At = f.At.UTC().Truncate(time.Millisecond)
	text, err := json.Marshal(struct {
		Error string      `json:"error"`
		LSN   viewlet.LSN `json:"lsn"`
		At    time.Time   `json:"at"`
	}{f.Error, f.LSN, f.At})
	if err != nil {
		text = []byte(`{"error":"unknown"}`) // a year beyond 9999
	}
	return bytes.TrimSuffix(text, []byte("}")), f.At.Format(time.RFC3339Nano)
}

// decodeFailure takes what it cannot read for the error itself.
func decodeFailure(text string) Failure {
	var f Failure
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		f = Failure{Error: text}
	}
	if f.Since.IsZero() {
		f.Since = f.At
	}
	return f
}

// wholeName is how a viewlet that is broken as a whole is noted.
func wholeName(name string) string { return name + ":" + viewlet.Whole }

// noting says which failures are noted; the words are fail.lua's.
type noting string

const (
	note  noting = "note"
	again noting = "again" // only what is noted already
)

// failCalls makes the script calls that note the fragments with an Err.
func (c *Cache) failCalls(fragments []viewlet.Fragment, how noting) []*call {
	var calls []*call
	for i := range fragments {
		f := &fragments[i]
		if f.Err == nil {
			continue
		}
		if n := len(calls); n == 0 || calls[n-1].viewlet != f.Key.Viewlet || len(calls[n-1].at) == c.perCall {
			calls = append(calls, &call{
				script: c.scripts.fail, viewlet: f.Key.Viewlet, keys: []string{c.names.failed()}, args: []any{string(how)},
			})
		}
		into := calls[len(calls)-1]
		text, since := Failure{Error: f.Err.Error(), LSN: f.LSN, At: time.Now()}.encode()
		into.at, into.args = append(into.at, i), append(into.args, f.Key.String(), text, since)
	}
	return calls
}

// noteFailed remembers what failCalls are about to note.
func (c *Cache) noteFailed(calls []*call, fragments []viewlet.Fragment) {
	for _, call := range calls {
		for _, i := range call.at {
			c.failed.add(fragments[i].Key.String())
		}
	}
}

// countFailed counts what was new of it.
func (c *Cache) countFailed(calls []*call) {
	for _, call := range calls {
		added, _ := call.reply.Int() // no error, or the pipeline had it
		c.failed.count(call.viewlet, added)
	}
}

// FailedCounts tells for each viewlet how many of its fragments are failed, as
// far as this process knows, without asking Redis.
func (c *Cache) FailedCounts() map[string]int { return c.failed.all() }

// Fail notes that a viewlet, as a whole, cannot be rendered. Store notes it of
// a Fragment with an Err.
func (c *Cache) Fail(ctx context.Context, name string, cause error) error {
	text, since := Failure{Error: cause.Error(), At: time.Now()}.encode()
	one := &call{
		script: c.scripts.fail, keys: []string{c.names.failed()},
		args: []any{string(note), wholeName(name), text, since},
	}
	if err := c.pipeline(ctx, []*call{one}); err != nil {
		return fmt.Errorf("note failure of %s: %w", wholeName(name), err)
	}
	return nil
}

// FailAgain notes that fragments, each with an Err, were tried again, as far
// as they are still noted as failed.
func (c *Cache) FailAgain(ctx context.Context, fragments []viewlet.Fragment) error {
	if err := c.pipeline(ctx, c.failCalls(fragments, again)); err != nil {
		return fmt.Errorf("note failure of %s: %w", span(fragments), err)
	}
	return nil
}

// Unfail removes the note of Fail.
func (c *Cache) Unfail(ctx context.Context, name string) error {
	err := c.exchange(ctx, func(ctx context.Context) error {
		return c.rdb.HDel(ctx, c.names.failed(), wholeName(name)).Err()
	})
	if err != nil {
		return fmt.Errorf("remove failure of %s: %w", wholeName(name), err)
	}
	return nil
}

// Forgive removes the failures of fragments that are nobody's any more.
func (c *Cache) Forgive(ctx context.Context, keys []viewlet.Key) error {
	byViewlet := make(map[string][]string)
	for _, k := range keys {
		byViewlet[k.Viewlet] = append(byViewlet[k.Viewlet], k.String())
	}
	for of, names := range byViewlet {
		var gone int64
		err := c.exchange(ctx, func(ctx context.Context) (err error) {
			gone, err = c.rdb.HDel(ctx, c.names.failed(), names...).Result()
			return err
		})
		if err != nil {
			return fmt.Errorf("remove failure of %s and %d more: %w", names[0], len(names)-1, err)
		}
		c.failed.remove(names)
		c.failed.count(of, -int(gone))
	}
	return nil
}

// mended removes the failures of the fragments that succeeded. A refused one
// tells nothing of the newer.
func (c *Cache) mended(ctx context.Context, fragments []viewlet.Fragment, outcomes []Outcome) error {
	if c.failed.empty() {
		return nil
	}
	var keys []viewlet.Key
	for i, f := range fragments {
		if outcomes[i] != Failed && outcomes[i] != Refused && c.failed.may(f.Key.String()) {
			keys = append(keys, f.Key)
		}
	}
	return c.Forgive(ctx, keys)
}

// Failed yields what could not be rendered and why, some at a time, until
// there is no more or yield gives an error: by the fragment's name,
// product_teaser:42, or the viewlet's, product_teaser:*.
func (c *Cache) Failed(ctx context.Context, yield func(map[string]Failure) error) error {
	err := c.scanFailed(ctx, "", func(pairs []string) error {
		some := make(map[string]Failure, len(pairs)/2)
		for i := 0; i+1 < len(pairs); i += 2 {
			some[pairs[i]] = decodeFailure(pairs[i+1])
		}
		return yield(some)
	})
	if err != nil {
		return fmt.Errorf("read failures: %w", err)
	}
	return nil
}

// scanFailed yields the hash's fields and values, those that begin with a
// viewlet's name if it is given.
func (c *Cache) scanFailed(ctx context.Context, name string, yield func(pairs []string) error) error {
	for cursor := uint64(0); ; {
		var pairs []string
		err := c.exchange(ctx, func(ctx context.Context) (err error) {
			pairs, cursor, err = c.rdb.HScan(ctx, c.names.failed(), cursor, escapeGlob(name)+"*", scanCount).Result()
			return err
		})
		if err == nil && len(pairs) > 0 {
			err = yield(pairs)
		}
		if err != nil || cursor == 0 {
			return err
		}
	}
}
