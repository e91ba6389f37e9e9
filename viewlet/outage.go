package viewlet

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// outage is a time in which the world, Postgres or the store, fails those who
// work with it. However many they are and however often they try, each cause is
// told once, and so is that it is over. The zero outage is none.
type outage struct {
	mu      sync.Mutex
	since   time.Time
	failing map[string]struct{} // who
	told    map[string]struct{} // causes
}

// mostTold is how many causes of one outage are told.
const mostTold = 10

// fails notes that who cannot do its work, and will retry. It reports whether
// that is to be told.
func (o *outage) fails(who string, err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.failing) == 0 {
		o.since, o.failing, o.told = time.Now(), map[string]struct{}{}, map[string]struct{}{}
	}
	o.failing[who] = struct{}{}
	why := cause(err)
	if _, told := o.told[why]; told || len(o.told) == mostTold {
		return false
	}
	o.told[why] = struct{}{}
	return true
}

// works notes that who has done its work, or has none any more. It tells the
// end of the outage.
func (o *outage) works(log *slog.Logger, who string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, failed := o.failing[who]; !failed {
		return
	}
	if delete(o.failing, who); len(o.failing) == 0 {
		log.Info("refreshing works again", "after", time.Since(o.since).Round(time.Millisecond))
	}
}

// cause is the innermost error's text: what is around it names the fragments.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
