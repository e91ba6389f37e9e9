package main

import (
	"math"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/replication"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func TestWALRate(t *testing.T) {
	var r walRate
	now := time.Now()
	want := func(what string, bytes int64, least, most time.Duration) {
		t.Helper()
		if got := r.lasts(bytes); got < least || got > most {
			t.Errorf("%s: %d bytes last %s, want %s to %s", what, bytes, got, least, most)
		}
	}
	write := func(lsn viewlet.LSN, took time.Duration) { now = now.Add(took); r.note(lsn, now) }
	const ever = time.Duration(math.MaxInt64)
	want("before anything is known", 100, ever, ever)
	write(1000, 0)
	want("after one look", 100, ever, ever)
	write(1000, 5*time.Second)
	want("while nothing is written", 0, ever, ever)
	write(1000, 0)
	write(2000, 5*time.Second)
	want("soon after the first writes", 1000, 5*time.Second, ever)
	for lsn := viewlet.LSN(3000); lsn < 1_000_000; lsn += 1000 {
		write(lsn, 5*time.Second)
	}
	want("at 200 bytes a second", 10_000, 49*time.Second, 51*time.Second)
	want("at the limit", 0, 0, 0)
	want("beyond it", -5, 0, 0)
	write(10, 5*time.Second)
	want("of another server", 100, ever, ever)
}

func TestDanger(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		slot replication.Slot
		want int
	}{
		{replication.Slot{Retained: 1000 * mib}, 0},
		{replication.Slot{Limited: true, Retained: 0, SafeWALSize: 64 * mib}, 0},
		{replication.Slot{Limited: true, Retained: 31 * mib, SafeWALSize: 33 * mib}, 0},
		{replication.Slot{Limited: true, Retained: 33 * mib, SafeWALSize: 31 * mib}, 1},
		{replication.Slot{Limited: true, Retained: 49 * mib, SafeWALSize: 15 * mib}, 2},
		{replication.Slot{Limited: true, Retained: 64 * mib, SafeWALSize: 1}, 10},
		{replication.Slot{Limited: true, Retained: 70 * mib, SafeWALSize: -mib, WALStatus: "unreserved"}, 10},
		{replication.Slot{Limited: true, WALStatus: "lost"}, 0},
	} {
		if got := dangerOf(c.slot); got != c.want {
			t.Errorf("%+v: %d, want %d", c.slot, got, c.want)
		}
	}
}
