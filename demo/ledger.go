package demo

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

const (
	remembered = 30               // acts
	shown      = 6                // fragments of one act; the others are only counted
	creditable = 15 * time.Second // how long an act is held to have changed a fragment

	// slowTelling is how much later than the announcement of its fragments an
	// act may be told.
	slowTelling = 300 * time.Millisecond
)

// counts is what the page counts.
type counts struct {
	Rows      int `json:"rows"`      // that the writer wrote to Postgres
	Rewritten int `json:"rewritten"` // fragments that changed in Redis
	Served    int `json:"served"`    // pages, none of which asked Postgres
}

// told is an act as the page shows it, and what came of it.
type told struct {
	ID         int      `json:"id"`
	Sentence   string   `json:"sentence"`
	RolledBack bool     `json:"rolledBack"`
	First      []credit `json:"-"` // the first few fragments
	More       int      `json:"-"` // how many more
	act        Act
	elsewhere  bool // not an act of the writer's
}

// credit is a fragment that changed, and the act that it is owed to.
type credit struct {
	Act     int    `json:"act"` // told.ID
	Key     string `json:"key"`
	Deleted bool   `json:"deleted"`
	After   *int64 `json:"ms"` // since the commit, in milliseconds; nil: unknown
}

// ledger credits acts with fragments. Announcements do not say whose they are;
// the newest act that touched the fragment's product, category or brand is it.
type ledger struct {
	mu   sync.Mutex
	last int // told.ID
	told []told
	sums counts
}

func newLedger() *ledger { return &ledger{} }

func (l *ledger) tell(a Act) told {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sums.Rows += a.Rows
	return *l.append(told{Sentence: a.Sentence, RolledBack: a.RolledBack, act: a})
}

// credit gives the fragment to the act that changed it before now, or reports
// that none is known.
func (l *ledger) credit(k viewlet.Key, deleted bool, now time.Time) (credit, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.find(k, now)
	if t == nil {
		return credit{}, false
	}
	ms := max(0, now.Sub(t.act.At).Milliseconds())
	return l.give(t, credit{Key: k.String(), Deleted: deleted, After: &ms}), true
}

// creditElsewhere gives the fragment to whoever writes to Postgres beside the
// Traffic: an act that is made up, and fresh when it was made up just now.
func (l *ledger) creditElsewhere(k viewlet.Key, deleted bool, now time.Time) (c credit, t told, fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to := l.elsewhere(now)
	if to == nil {
		fresh = true
		to = l.append(told{Sentence: "Somebody else wrote to Postgres, or everything was rendered anew.", elsewhere: true, act: Act{At: now}})
	}
	t = *to
	return l.give(to, credit{Key: k.String(), Deleted: deleted}), t, fresh
}

func (l *ledger) give(t *told, c credit) credit {
	l.sums.Rewritten++
	c.Act = t.ID
	if len(t.First) < shown {
		t.First = append(slices.Clip(t.First), c) // clones of t share what is there
	} else {
		t.More++
	}
	return c
}

// find gives the newest committed act that the fragment may show.
func (l *ledger) find(k viewlet.Key, now time.Time) *told {
	for i := len(l.told) - 1; i >= 0; i-- {
		t := &l.told[i]
		if t.elsewhere || t.RolledBack {
			continue
		}
		if now.Sub(t.act.At) > creditable {
			return nil
		}
		if t.act.touches(k) {
			return t
		}
	}
	return nil
}

// elsewhere is the made-up act that was told just before now; nil: there is none.
func (l *ledger) elsewhere(now time.Time) *told {
	for i := len(l.told) - 1; i >= 0; i-- {
		if t := &l.told[i]; t.elsewhere && now.Sub(t.act.At) < 2*time.Second {
			return t
		}
	}
	return nil
}

func (l *ledger) append(t told) *told {
	l.last++
	t.ID = l.last
	if len(l.told) == remembered {
		l.told = slices.Delete(l.told, 0, 1)
	}
	l.told = append(l.told, t)
	return &l.told[len(l.told)-1]
}

// latest is what was told, the newest first.
func (l *ledger) latest() []told {
	l.mu.Lock()
	defer l.mu.Unlock()
	latest := slices.Clone(l.told)
	slices.Reverse(latest)
	return latest
}

func (l *ledger) served() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sums.Served++
}

func (l *ledger) counts() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sums
}

// touches reports whether the fragment may show the act. A fragment of the whole
// shop may show any.
func (a Act) touches(k viewlet.Key) bool {
	var touched []int64
	switch k.Viewlet {
	case "product_teaser", "product_page", "product_json", "latest_reviews":
		touched = a.Products
	case "category_list":
		touched = a.Categories
	case "brand_badge":
		touched = a.Brands
	default:
		return k.Args == ""
	}
	args, err := k.Split(nil)
	if err != nil || len(args) != 1 {
		return false
	}
	id, err := strconv.ParseInt(args[0], 10, 64)
	return err == nil && slices.Contains(touched, id)
}
