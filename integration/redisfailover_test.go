package integration

import (
	"context"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// offset is how much of the stream of writes a server has.
func offset(t testing.TB, r *redisServer) string {
	t.Helper()
	_, after, _ := strings.Cut(r.client.Info(t.Context(), "replication").Val(), "master_repl_offset:")
	n, _, _ := strings.Cut(after, "\r")
	return n
}

func promoted(t testing.TB, r *redisServer) {
	t.Helper()
	eventually(t, "the replica is promoted", func() bool {
		return strings.Contains(r.client.Info(t.Context(), "replication").Val(), "role:master")
	})
}

// A Sentinel promotes a replica that has everything: the daemon goes on there.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	url, servers := startRedisGroup(t, sandbox.StartRedisSentinel)
	primary, replica := servers[0], servers[1]
	p := s.run(t, "--redis", url)
	quiet(t, s.db)
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "UPDATE t SET n = 'meanwhile' WHERE id <= 300")
	promoted(t, replica)
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, replica)
	p.stop(t)
	status := daemon(t, s.dir, environment(s.db, s.redis), "status", "-c", "rules", "--redis", url)
	if code := status.wait(t); code != 0 || !strings.Contains(status.stdout.String(), "mymaster of 127.0.0.1:") {
		t.Errorf("status ends with %d: %s", code, status.stdout.String())
	}
}

// It promotes one that lacks what was confirmed: that is noticed, and rendered.
func TestSentinelFailoverLosesWrites(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	url, servers := startRedisGroup(t, sandbox.StartRedisSentinel)
	primary, replica := servers[0], servers[1]
	p := s.run(t, "--redis", url)
	quiet(t, s.db)
	eventually(t, "the replica has it all", func() bool { return offset(t, primary) == offset(t, replica) })
	// What is on its way to a replica that is only paused would still arrive.
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := primary.client.ClientKillByFilter(t.Context(), "TYPE", "replica").Err(); err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "UPDATE t SET n = 'lost' WHERE id <= 300")
	quiet(t, s.db)
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := replica.Resume(); err != nil {
		t.Fatal(err)
	}
	promoted(t, replica)
	p.says(t, `reason=redis_behind why="redis failed over`)
	s.redis = replica
	s.awaits(t, "v:300", "one lost")
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, replica)
	p.stop(t)
}

// wait_replicas: what a replica has not got is not confirmed.
func TestWaitReplicas(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	writeFiles(t, s.dir, map[string]string{"rules/redis.hcl": "redis { wait_replicas = 1 }"})
	url, servers := startRedisGroup(t, sandbox.StartRedisSentinel)
	primary, replica := servers[0], servers[1]
	p := s.run(t, "--redis", url)
	quiet(t, s.db)
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id = 1")
	written := mark(t, s.db)
	s.redis = primary
	s.awaits(t, "v:1", "one x")
	p.says(t, "0 of 1 replicas have what was written")
	if now := confirmed(t, s.db); now >= written {
		t.Errorf("%v is confirmed, and no replica has it", now)
	}
	if err := replica.Resume(); err != nil {
		t.Fatal(err)
	}
	quiet(t, s.db)
	p.stop(t)
}

// A primary of a cluster comes back without its data.
func TestClusterLosesAPrimary(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	url, servers := startRedisGroup(t, func(ctx context.Context) (*sandbox.RedisGroup, error) {
		return sandbox.StartRedisCluster(ctx, 3)
	})
	p := s.run(t, "--redis", url)
	psql(t, s.db, "UPDATE t SET n = 'x' WHERE id <= 300; DELETE FROM t WHERE id > 400")
	quiet(t, s.db)
	truth := newOracle(t, s.db, s.rules())
	truth.agree(t, servers...)
	for _, r := range servers {
		if r.client.Exists(t.Context(), "viewlet:@state").Err() == nil {
			continue // the state would be gone, too
		}
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		psql(t, s.db, "UPDATE t SET n = 'meanwhile' WHERE id <= 200")
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		break
	}
	p.says(t, "reason=redis_failover")
	quiet(t, s.db)
	p.stop(t)
	p = s.run(t, "--redis", url)
	quiet(t, s.db)
	truth.agree(t, servers...)
	if said := p.stderr.String(); strings.Contains(said, "rendered afresh") {
		t.Error("a restart of the daemon renders everything afresh")
	}
	// Beside the daemon, verify finds one that was written by hand, and no other.
	for _, r := range servers {
		_ = r.client.Set(t.Context(), "viewlet:v:7", "by hand", 0).Err() // one of them has its slot
	}
	verify := daemon(t, s.dir, environment(s.db, s.redis), "verify", "-c", "rules", "--redis", url, "--repair")
	if code := verify.wait(t); code != 0 || strings.Count(verify.stdout.String(), ", repaired") != 1 {
		t.Errorf("verify ends with %d: %s", code, verify.stdout.String())
	}
	truth.agree(t, servers...)
	p.stop(t)
	teardown := daemon(t, s.dir, environment(s.db, s.redis), "teardown", "-c", "rules", "--redis", url, "--fragments")
	if code := teardown.wait(t); code != 0 {
		t.Errorf("teardown ends with %d", code)
	}
	for _, r := range servers {
		if n := r.client.DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("%d keys are left", n)
		}
	}
}
