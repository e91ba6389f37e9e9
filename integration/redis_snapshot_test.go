package integration

import "testing"

// Redis is restarted from a snapshot file while a viewlet is rendered whole.
func TestRedisRestartsFromSnapshotDuringWarmUp(t *testing.T) {
	t.Parallel()
	s := bigSite(t, 60_000)
	r := startRedis(t, "--dbfilename", "dump.rdb")
	s.redis = r
	p := s.start(t)
	size := func() int64 { return s.redis.client.DBSize(t.Context()).Val() }
	eventually(t, "some is rendered", func() bool { return size() > 10_000 })
	if err := r.client.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	saved := size()
	eventually(t, "more is rendered", func() bool { return size() > saved+10_000 })
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.says(t, "ready: every fragment is in Redis")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	p.stop(t)
}
