package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/cdc-viewlet/cdc-viewlet/cache"
	"github.com/cdc-viewlet/cdc-viewlet/rules"
	"github.com/cdc-viewlet/cdc-viewlet/verify"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// account tells of what verify finds, repairs it where that is asked for, and
// sums up.
type account struct {
	app    *app
	set    *rules.Set
	redis  *cache.Cache
	repair bool

	mu sync.Mutex
	of map[string]*tally // by viewlet; of no viewlet: empty
}

type tally struct {
	checked, repaired, findings int
	kinds                       map[verify.Kind]int
}

func (ac *account) tally(name string) *tally {
	t := ac.of[name]
	if t == nil {
		t = &tally{kinds: map[verify.Kind]int{}}
		ac.of[name] = t
	}
	return t
}

func (ac *account) compared(name string, n int) {
	ac.mu.Lock()
	defer ac.mu.Unlock()
	ac.tally(name).checked += n
}

// found is told of findings of one viewlet.
func (ac *account) found(ctx context.Context, findings []verify.Finding) error {
	var repaired map[string]bool
	if ac.repair {
		var err error
		if repaired, err = mend(ctx, ac.redis, ac.set, findings); err != nil {
			return err
		}
	}
	ac.mu.Lock()
	defer ac.mu.Unlock()
	if ac.app.terminal() {
		fmt.Fprint(ac.app.stderr, "\r\x1b[K") // the bar; it is drawn again below
	}
	for _, f := range findings {
		line := f.Name() + " " + string(f.Kind)
		if f.Err != nil {
			line += ": " + strings.Join(strings.Fields(f.Err.Error()), " ")
		}
		t := ac.tally(f.Viewlet)
		t.findings++
		t.kinds[f.Kind]++
		if repaired[f.Name()] {
			t.repaired++
			line += ", repaired"
		}
		if _, err := fmt.Fprintln(ac.app.stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// mend puts into Redis what is to be there, and tells what it did. Whatever was
// written there since the findings were made stays.
func mend(ctx context.Context, redis *cache.Cache, set *rules.Set, findings []verify.Finding) (mended map[string]bool, err error) {
	var held, fresh []viewlet.Fragment
	for _, f := range findings {
		if !f.Whole && f.Fresh.Err == nil {
			held, fresh = append(held, f.Held), append(fresh, f.Fresh)
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	var o cache.Options
	if v := set.Viewlet(findings[0].Viewlet); v != nil {
		o.TTL = v.Timeout
	}
	outcomes, err := redis.Mend(ctx, held, fresh, o)
	if err != nil {
		return nil, err
	}
	mended = map[string]bool{}
	for i, f := range fresh {
		mended[f.Key.String()] = outcomes[i] != cache.Refused
	}
	return mended, nil
}

// close sums up. What differs and was not repaired is errReported.
func (ac *account) close(asked string, unsettled int) error {
	ac.mu.Lock()
	defer ac.mu.Unlock()
	if unsettled > 0 {
		ac.app.say("%s changed too fast to be compared", count(unsettled, "fragment"))
	}
	w := tabwriter.NewWriter(ac.app.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "viewlet\tchecked\tmissing\tdifferent\torphaned\tfailed")
	if ac.repair {
		fmt.Fprint(w, "\trepaired")
	}
	fmt.Fprintln(w)
	left := 0
	row := func(label string, t *tally) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d", label, t.checked,
			t.kinds[verify.Missing], t.kinds[verify.Different], t.kinds[verify.Orphaned], t.kinds[verify.Failed])
		if ac.repair {
			fmt.Fprintf(w, "\t%d", t.repaired)
		}
		fmt.Fprintln(w)
		left += t.findings - t.repaired
	}
	for _, v := range ac.set.Viewlets {
		if asked == "" || asked == v.Name {
			row(v.Name, ac.tally(v.Name))
		}
	}
	if t := ac.of[""]; t != nil && t.findings > 0 {
		row("(of no viewlet)", t)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if left > 0 {
		return errReported
	}
	return nil
}
