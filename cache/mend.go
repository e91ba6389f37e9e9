package cache

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

//go:embed mend.lua
var mendLua string

// Mend writes each fresh fragment, or with a nil Body deletes it, if Redis still
// holds what Held gave: whatever was stored since is at least as new. So the
// fragment must have been rendered after that, and after its Watch was given. It
// announces what it changes.
//
// The outcomes, in the fragments' order, are Written, Deleted, Absent or
// Refused. No fragment has an Err; o.Requested means nothing here.
func (c *Cache) Mend(ctx context.Context, held, fresh []viewlet.Fragment, o Options) ([]Outcome, error) {
	outcomes := make([]Outcome, len(fresh))
	for start, end := 0, 0; start < len(fresh); start = end {
		end = pipelineEnd(fresh, start)
		var calls []*call
		for i := start; i < end; i++ {
			if outcomes[i] = Refused; fresh[i].LSN < fresh[i].Watch.From {
				continue
			}
			call, err := c.mendCall(i, held[i], &fresh[i], o.TTL)
			if err != nil {
				return nil, err
			}
			calls = append(calls, call)
		}
		err := c.pipeline(ctx, calls)
		if err == nil {
			err = deal(calls, func(i int, letter byte) { outcomes[i] = Outcome(letter) })
		}
		if err != nil {
			return nil, fmt.Errorf("mend %s: %w", span(fresh[start:end]), err)
		}
	}
	return outcomes, c.mended(ctx, fresh, outcomes)
}

func (c *Cache) mendCall(i int, held viewlet.Fragment, f *viewlet.Fragment, ttl time.Duration) (*call, error) {
	key, guard := c.names.fragment(f.Key), c.names.guard(f.Key)
	news, err := appendAnnouncement(nil, f, key)
	if err != nil {
		return nil, err
	}
	seen, verb := []byte{}, "set"
	if held.LSN > 0 {
		seen = comparable16(held.LSN)
	}
	if f.Body == nil {
		verb = "del"
	}
	keys, token := []string{key, guard}, ""
	if !c.cluster && f.Watch.Token != "" {
		keys, token = append(keys, c.names.watch(f.Key.Viewlet)), f.Watch.Token
	}
	return &call{script: c.scripts.mend, at: []int{i}, keys: keys, args: []any{
		c.guardTTL.Milliseconds(), wholeMilliseconds(ttl), c.names.channel(), seen, sumOf(held), token,
		comparable16(f.LSN), verb, f.Body, news,
	}}, nil
}

// sumOf is how mend.lua knows a fragment again.
func sumOf(held viewlet.Fragment) string {
	switch {
	case held.Err != nil:
		return "other"
	case held.Body == nil:
		return "none"
	}
	sum := sha1.Sum(held.Body)
	return hex.EncodeToString(sum[:])
}
