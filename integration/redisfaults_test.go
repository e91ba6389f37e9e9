package integration

import (
	"fmt"
	"strings"
	"testing"
)

// Whatever befalls Redis: what was committed meanwhile is not confirmed before
// it is there, and in the end all of it is.
func TestRedisFaults(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	r := startRedis(t, "--dbfilename", "dump.rdb", "--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024")
	s.redis = r
	p := s.run(t)
	truth := newOracle(t, s.db, s.rules())
	ctx := t.Context()
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	change := func() {
		t.Helper()
		n++
		psql(t, s.db, "UPDATE t SET n = $1 || id WHERE id % 3 = $2", fmt.Sprint("change ", n, " "), n%3)
	}
	// The daemon has met it, and said so.
	met := func(sign string) {
		t.Helper()
		p.says(t, sign)
	}
	for _, fault := range []struct {
		name          string
		begin, during func()
		end           func()
	}{
		{
			name:   "stopped",
			begin:  func() { try(r.Stop(ctx)) },
			during: func() { met("connection refused") },
			end:    func() { try(r.Start(ctx)) },
		},
		{
			name:   "a replica",
			begin:  func() { try(r.client.ReplicaOf(ctx, "127.0.0.1", "1").Err()) },
			during: func() { met("READONLY") },
			end:    func() { try(r.client.ReplicaOf(ctx, "NO", "ONE").Err()) },
		},
		{
			name:   "full",
			begin:  func() { try(r.client.ConfigSet(ctx, "maxmemory", "1").Err()) },
			during: func() { met("OOM") },
			end:    func() { try(r.client.ConfigSet(ctx, "maxmemory", "0").Err()) },
		},
		{
			name:  "hung",
			begin: func() { try(r.Pause()) },
			end:   func() { try(r.Resume()) },
		},
		{
			name:   "loading",
			begin:  func() { try(r.client.Save(ctx).Err()); try(r.Kill()) },
			during: func() { go func() { _ = r.Start(ctx) }(); met("LOADING") },
			end:    func() { eventually(t, "it is up", func() bool { return r.client.Ping(ctx).Err() == nil }) },
		},
	} {
		quiet(t, s.db)
		fault.begin()
		change()
		written := mark(t, s.db)
		if fault.during != nil {
			fault.during()
		}
		if now := confirmed(t, s.db); now >= written && fault.name != "loading" { // that may be over
			t.Errorf("%s: %v is confirmed, of %v", fault.name, now, written)
		}
		fault.end()
		quiet(t, s.db)
		eventually(t, fault.name+": all is there", func() bool { return len(fragments(t, r)) == 500 })
		quiet(t, s.db)
		truth.agree(t, r)
	}
	for _, fault := range []struct {
		name  string
		again func()
	}{
		{"connections cut", func() { try(r.client.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err()) }},
		{"scripts flushed", func() { try(r.client.ScriptFlush(ctx).Err()) }},
		{"emptied", func() { try(r.client.FlushAll(ctx).Err()) }},
	} {
		for range 30 {
			change()
			fault.again()
		}
		eventually(t, fault.name+": all is there", func() bool { return len(fragments(t, r)) == 500 })
		quiet(t, s.db)
		truth.agree(t, r)
	}
	if said := p.stderr.String(); strings.Contains(said, "panic") || p.hasEnded() {
		t.Error("the daemon has ended")
	}
	p.stop(t)
}
