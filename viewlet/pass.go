package viewlet

import "time"

// Pass is what one pass of a lane did.
type Pass struct {
	Viewlet   string
	Refreshes int   // served, lookups and Whole counted as one each
	Keys      int   // rendered
	Written   int   // fragments whose bytes changed
	Equal     int   // fragments whose bytes were the same
	Deleted   int   // fragments removed
	Absent    int   // nothing to show, and nothing to remove
	Refused   int   // older than what the cache holds
	Skipped   int   // not kept: nobody has requested them
	Failed    int   // fragments with an Err of their own
	FailedKey Key   // the first of them
	FailedErr error // and why
	Whole     bool
	Oldest    time.Time // commit time of the oldest change served; zero: none
	Took      time.Duration
}

// Add counts what another did, a chunk of it or a pass before, to what this one did.
func (p *Pass) Add(chunk *Pass) {
	p.Keys += chunk.Keys
	p.Written += chunk.Written
	p.Equal += chunk.Equal
	p.Deleted += chunk.Deleted
	p.Absent += chunk.Absent
	p.Refused += chunk.Refused
	p.Skipped += chunk.Skipped
	p.Failed += chunk.Failed
	if p.FailedErr == nil {
		p.FailedKey, p.FailedErr = chunk.FailedKey, chunk.FailedErr
	}
}
