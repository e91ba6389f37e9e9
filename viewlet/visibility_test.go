package viewlet

import "testing"

// A commit that does not wait for the disk is seen before it is flushed; until
// then a standby may lack it that has replayed all that was. One that the source
// does not deliver was flushed before, and Postgres may be idle since.
func TestSeenBeforeFlushed(t *testing.T) {
	p := New(Config{Start: 100})
	p.Expect([]uint32{7})
	p.visible.expect(awaited{xid: 8, commit: 200, flushed: 201})
	if p.visible.want(200) != 200 {
		t.Fatal("nothing is waited for")
	}
	for _, look := range []struct {
		at    LSN
		all   bool
		until LSN // it and all before it are visible
	}{{100, false, 199}, {200, false, 199}, {201, true, 200}} {
		all := p.visible.settle(Snapshot{Xmin: 9, Xmax: 9, LSN: look.at})
		if until := p.visible.seen.get(); all != look.all || until != look.until {
			t.Errorf("with %v flushed, visible until %v, all: %t; want %v, %t", look.at, until, all, look.until, look.all)
		}
	}
}
