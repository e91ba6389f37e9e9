package viewlet

import "testing"

func TestServed(t *testing.T) {
	snap := &Snapshot{Xmin: 100, Xmax: 110, Xip: []uint64{105}, LSN: 1000}
	a, b := Refresh{Key: Key{Viewlet: "v", Args: ":1"}}, Refresh{Key: Key{Viewlet: "v", Args: ":2"}}
	for name, c := range map[string]struct {
		refresh Refresh
		from    origin
		want    bool
	}{
		"seen":                 {a, origin{xid: 104, commit: 900}, true},
		"not served":           {b, origin{xid: 104, commit: 900}, false},
		"by a lookup":          {Refresh{Key: a.Key, Via: "l"}, origin{xid: 104, commit: 900}, false},
		"was in progress":      {a, origin{xid: 105, commit: 900}, false},
		"began later":          {a, origin{xid: 110, commit: 900}, false},
		"seen but not flushed": {a, origin{xid: 104, commit: 1000}, false},
		"of no transaction":    {a, origin{commit: 900}, false},
	} {
		var s served
		s.note([]Refresh{a}, snap)
		if got := s.has(c.refresh, c.from); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestServedForgets(t *testing.T) {
	var s served
	s.note([]Refresh{{Key: Key{Viewlet: "v"}}}, &Snapshot{Xmax: 10, Xmin: 10, LSN: 50})
	if s.has(Refresh{}, origin{xid: 20, commit: 60}); s.by != nil {
		t.Error("it remembers what the stream has passed")
	}
	for i := range 3 * servedMax {
		s.note([]Refresh{{Key: Key{Viewlet: "v", Args: string(rune(i))}}}, &Snapshot{LSN: 50})
	}
	if len(s.by) > servedMax {
		t.Errorf("it remembers %d", len(s.by))
	}
}
