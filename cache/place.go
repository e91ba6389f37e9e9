package cache

import (
	"strings"

	"github.com/redis/go-redis/v9"
)

// String is where Redis is, for people, and without secrets.
func (p *place) String() string {
	switch p.kind {
	case sentinel:
		return p.master + " of " + strings.Join(p.hosts, ",")
	case cluster:
		return strings.Join(p.hosts, ",")
	}
	return p.Addr
}

// client makes a client, which connects by and by.
func (p *place) client() redis.UniversalClient {
	switch p.kind {
	case sentinel:
		return redis.NewFailoverClient(p.failoverOptions())
	case cluster:
		return redis.NewClusterClient(p.clusterOptions())
	}
	return redis.NewClient(p.Options)
}

func (p *place) failoverOptions() *redis.FailoverOptions {
	o := p.Options
	return &redis.FailoverOptions{
		MasterName: p.master, SentinelAddrs: p.hosts,
		SentinelUsername: p.sentinelUser, SentinelPassword: p.sentinelPassword,

		ClientName: o.ClientName, Protocol: o.Protocol, Username: o.Username, Password: o.Password, DB: o.DB,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		Dialer: o.Dialer, DialTimeout: o.DialTimeout, DialerRetries: o.DialerRetries, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, TLSConfig: o.TLSConfig, DisableIdentity: o.DisableIdentity,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, MinIdleConns: o.MinIdleConns,
		MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
		PipelinePoolSize: -1, // pipelines share the connections
	}
}

func (p *place) clusterOptions() *redis.ClusterOptions {
	o := p.Options
	return &redis.ClusterOptions{
		Addrs: p.hosts, // not the Dialer: in a Cluster every write leaves a guard

		ClientName: o.ClientName, Protocol: o.Protocol, Username: o.Username, Password: o.Password,
		MaxRedirects: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, DialerRetries: o.DialerRetries, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, TLSConfig: o.TLSConfig, DisableIdentity: o.DisableIdentity,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
		PoolFIFO:                 o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, MinIdleConns: o.MinIdleConns,
		MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
	}
}
