package cache

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

//go:embed store.lua
var storeLua string

// Outcome is what became of a fragment that was to be stored.
type Outcome byte

// The outcomes.
const (
	Written Outcome = 'w' // its bytes changed
	Equal   Outcome = 'e' // its bytes were the same
	Deleted Outcome = 'd' // it was removed
	Absent  Outcome = 'a' // there was nothing to remove
	Refused Outcome = 'r' // it is older than what the cache holds
	Skipped Outcome = 's' // nobody has requested it
	Failed  Outcome = 'f' // it had an Err, which is noted
)

// Count adds the outcome to what a pass did.
func (o Outcome) Count(p *viewlet.Pass) {
	switch o {
	case Written:
		p.Written++
	case Equal:
		p.Equal++
	case Deleted:
		p.Deleted++
	case Absent:
		p.Absent++
	case Refused:
		p.Refused++
	case Skipped:
		p.Skipped++
	case Failed:
		p.Failed++
	}
}

// Options are a viewlet's.
type Options struct {
	// TTL is how long its fragments live; zero: for ever. It is rounded up to
	// a millisecond.
	TTL time.Duration
	// Requested writes only fragments that are in Redis already.
	Requested bool
	// DeleteFailed deletes a fragment with an Err, instead of leaving what is
	// in Redis of it.
	DeleteFailed bool
	// Held writes only as long as we have the State that we took: ErrTaken or
	// ErrEmpty, and nothing is written, if not. A guard lets in whoever hung for
	// longer than its life; this does not. In a Cluster it means nothing: the
	// State is in another slot. Fragments without it need a Watch, unless nobody
	// else writes them.
	Held bool
	// Remember leaves guards in any case: Stale counts by them.
	Remember bool
}

// rule says when a fragment is written; the words are store.lua's.
type rule string

const (
	older     rule = "older"     // unless it is older
	requested rule = "requested" // and only if it is there
	newer     rule = "newer"     // and not when it is just as old
)

// guarding says when a write leaves guards: one of these, or when the watch has
// this token, without which nothing is written.
type guarding string

const (
	always guarding = "always"
	asked  guarding = "asked" // when there is a watch
)

// Store writes each fragment, or with a nil Body deletes it, unless a guard says
// that a newer one was stored, and announces those that changed. The outcomes are
// in the fragments' order. Each key comes once. Who has the State writes a key's
// fragments in the order in which they were rendered, and each when the one before
// is answered. ErrUnwatched: a Watch does not hold any more, or a fragment is older.
//
// On an error some of the fragments may be stored: render and store them all
// again. What is stored already comes out Equal then, or Absent.
func (c *Cache) Store(ctx context.Context, fragments []viewlet.Fragment, o Options) ([]Outcome, error) {
	outcomes := make([]Outcome, len(fragments))
	how := older
	if o.Requested {
		how = requested
	}
	for start, end := 0, 0; start < len(fragments); start = end {
		end = pipelineEnd(fragments, start)
		if err := c.write(ctx, fragments[start:end], outcomes[start:end], how, o); err != nil {
			return nil, fmt.Errorf("store %s: %w", span(fragments[start:end]), err)
		}
		if err := c.mended(ctx, fragments[start:end], outcomes[start:end]); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// Fill stores what a reader missed, and tells whether it did: not if the cache
// has met anything as new, for the reader's snapshot may be the older one.
// A fragment without a Body, or with an Err, leaves no trace: readers can ask
// for any number of those. One without a Watch, or whose Watch does not hold any
// more, is not stored either; and what is noted as failed stays so, for it may be
// newer. o.Requested means nothing here.
func (c *Cache) Fill(ctx context.Context, f viewlet.Fragment, o Options) (stored bool, err error) {
	if f.Body == nil || f.Err != nil || f.Watch.Token == "" {
		return false, nil
	}
	one, outcomes := []viewlet.Fragment{f}, make([]Outcome, 1)
	if err := c.write(ctx, one, outcomes, newer, o); errors.Is(err, ErrUnwatched) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("fill %s: %w", f.Key, err)
	}
	return outcomes[0] != Refused, nil
}

// One pipeline holds so much: it fits the timeout on a slow network.
const (
	pipelineFragments = 2000
	pipelineBytes     = 8 << 20
)

// pipelineEnd tells how far a pipeline goes that begins at start.
func pipelineEnd(fragments []viewlet.Fragment, start int) int {
	size := 0
	for end := start; end < len(fragments); end++ {
		size += len(fragments[end].Body)
		if end-start == pipelineFragments || size > pipelineBytes && end > start {
			return end
		}
	}
	return len(fragments)
}

// write runs the script on fragments and notes those with an Err, in one pipeline.
func (c *Cache) write(ctx context.Context, fragments []viewlet.Fragment, outcomes []Outcome, how rule, o Options) error {
	var stored []int
	for i, f := range fragments {
		if f.Err == nil || o.DeleteFailed && f.LSN >= f.Watch.From {
			stored = append(stored, i)
		}
	}
	stores, err := c.storeCalls(fragments, stored, how, o)
	if err != nil {
		return err
	}
	fails := c.failCalls(fragments, note)
	c.noteFailed(fails, fragments)
	if err := c.pipeline(ctx, append(stores, fails...)); err != nil {
		return c.refusal(err, stores)
	}
	c.countFailed(fails)
	if err := deal(stores, func(i int, letter byte) { outcomes[i] = Outcome(letter) }); err != nil {
		return err
	}
	for i, f := range fragments {
		if f.Err != nil {
			outcomes[i] = Failed
		}
	}
	return nil
}

// storeCalls makes the script calls for the fragments that at indexes.
func (c *Cache) storeCalls(fragments []viewlet.Fragment, at []int, how rule, o Options) ([]*call, error) {
	held := c.holder.Load()
	calls := c.group(at, func(i int) (viewlet.Key, viewlet.Watch, int) {
		return fragments[i].Key, fragments[i].Watch, len(fragments[i].Body)
	})
	for _, call := range calls {
		call.script = c.scripts.store
		call.keys = make([]string, 0, 2+2*len(call.at))
		session, leave := "", always
		switch {
		case c.cluster:
		case o.Held && held != nil:
			if session = held.session; !o.Remember && !c.doubt.is() {
				leave = asked
			}
		case call.watch.Token != "":
			leave = guarding(call.watch.Token)
		}
		call.args = append(make([]any, 0, 6+4*len(call.at)), c.guardTTL.Milliseconds(), wholeMilliseconds(o.TTL), string(how), c.names.channel(), session, string(leave))
		news := make([]byte, 0, 128*len(call.at)) // of all, one behind the other
		var lsn any                               // most often that of all
		var of viewlet.LSN
		for _, i := range call.at {
			f := fragments[i]
			if f.LSN < f.Watch.From {
				return nil, ErrUnwatched
			}
			if f.Err != nil {
				f.Body = nil
			}
			key, guard := c.names.pair(f.Key)
			verb := "set"
			if f.Body == nil {
				verb = "del"
			}
			if lsn == nil || f.LSN != of {
				lsn, of = comparable16(f.LSN), f.LSN
			}
			before := len(news)
			var err error
			if news, err = appendAnnouncement(news, &f, key); err != nil {
				return nil, err
			}
			call.keys = append(call.keys, key, guard)
			call.args = append(call.args, lsn, verb, f.Body, news[before:])
		}
		if session != "" {
			call.keys = append(call.keys, c.names.state())
		}
		if leave != always {
			call.keys = append(call.keys, c.names.watch(call.viewlet))
		}
	}
	return calls, nil
}

// refusal makes what store.lua says of a State that is not ours, or of a watch
// that is gone, our own error.
func (c *Cache) refusal(err error, stores []*call) error {
	var said redis.Error
	switch errors.As(err, &said); {
	case said == nil:
		return err
	case strings.HasPrefix(said.Error(), "TAKEN "):
		return ErrTaken
	case strings.HasPrefix(said.Error(), "GONE "):
		return ErrEmpty
	case strings.HasPrefix(said.Error(), "UNWATCHED "):
		for _, call := range stores {
			c.watches.get(call.viewlet).lost(call.watch.Token)
		}
		return ErrUnwatched
	}
	return err
}

// wholeMilliseconds rounds up: less than a millisecond is not for ever.
func wholeMilliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// comparable16 gives an LSN as 16 hex digits, which sort as LSNs do.
func comparable16(l viewlet.LSN) []byte {
	const hex = "0123456789ABCDEF"
	buf := make([]byte, 16)
	for i := range buf {
		buf[i] = hex[l>>(60-4*i)&15]
	}
	return buf
}

// span names fragments for a message: product_teaser:42, or with "and 199 more".
func span(fragments []viewlet.Fragment) string {
	if n := len(fragments) - 1; n > 0 {
		return fmt.Sprintf("%s and %d more", fragments[0].Key, n)
	}
	return fragments[0].Key.String()
}
