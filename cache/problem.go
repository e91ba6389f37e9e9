package cache

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
)

// Problem is an error of Redis or of the way to it, with what helps.
type Problem struct {
	Addr   string // host:port, or the path of a socket
	Err    error  // what Redis, or the client, said
	Remedy string // a sentence without its full stop; empty: unknown
}

// Error gives one line with everything.
func (p *Problem) Error() string {
	// Of an error in a script Redis also tells the line, which helps nobody.
	said, _, _ := strings.Cut(p.Err.Error(), " script: ")
	text := "redis " + p.Addr + ": " + strings.TrimRight(said, ".")
	if p.Remedy != "" {
		text += "; " + p.Remedy
	}
	return text
}

// Unwrap gives Err.
func (p *Problem) Unwrap() error { return p.Err }

func (c *Cache) problem(err error) error {
	return &Problem{c.addr, err, c.remedy(err)}
}

func (c *Cache) remedy(err error) string {
	said := err.Error()
	if strings.Contains(said, "all sentinels specified") {
		return sentinelRemedy(said)
	}
	for _, r := range c.remedies() {
		for _, sign := range r.signs {
			if strings.Contains(said, sign) {
				return r.remedy
			}
		}
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var dns *net.DNSError
	switch {
	case errors.As(err, &unknown):
		return "name the file of its authority in SSL_CERT_FILE, or add ?skip_verify=true to the URL to trust anybody"
	case errors.As(err, &name):
		return "use the host name that its certificate has, or add ?skip_verify=true to the URL to trust anybody"
	case errors.As(err, &dns):
		return "correct the host in the Redis URL"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start Redis there, or correct the Redis URL"
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket: start Redis with this unixsocket, or correct the Redis URL"
	case errors.Is(err, fs.ErrPermission):
		return "let this user write to the socket: unixsocketperm in redis.conf"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		text := fmt.Sprintf("it did not answer within %s: see whether it is up, overloaded, or behind a firewall", c.timeout)
		if c.tls {
			text += ", and whether it speaks TLS at that port"
		}
		return text
	}
	return ""
}

// sentinelRemedy is for when no Sentinel tells where the primary is.
func sentinelRemedy(said string) string {
	switch {
	case strings.Contains(said, "NOAUTH"), strings.Contains(said, "WRONGPASS"), strings.Contains(said, "without any password"):
		return "give the password of the Sentinels themselves in the URL, ?sentinel_password=..., and ?sentinel_username=... if they have users"
	case strings.Contains(said, "redis: nil"):
		return "correct the name of the master in the Redis URL: SENTINEL MASTERS lists those that they know"
	}
	return "start a Sentinel there, or correct the Redis URL"
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

type remedy struct {
	remedy string
	signs  []string // any of these is in the error
}

// remedies are for what Redis itself says. Within a script an error has more
// words around it, which differ between versions.
//
// https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
func (c *Cache) remedies() []remedy {
	return []remedy{
		{"give a password in the URL: redis://user:password@host, or redis://:password@host for the default user", []string{"NOAUTH"}},
		{"correct the user or the password in the Redis URL; special characters are percent-encoded there", []string{"WRONGPASS", "invalid password", "AUTH failed", "AUTH <password> called without any password"}},
		{"grant what is missing: " + c.grant(), []string{"NOPERM", "ACL failure", "The user executing the script"}},
		{"this is a replica: give the URL of the primary", []string{"READONLY"}},
		{"raise maxmemory, or make room; keep maxmemory-policy at noeviction, else fragments vanish", []string{"OOM "}},
		{"it is reading its data from disk: wait", []string{"LOADING"}},
		{"it cannot save to disk and so refuses writes: see its log, and its disk", []string{"MISCONF"}},
		{"a script runs for too long, not one of these: SCRIPT KILL ends it", []string{"BUSY"}},
		{"start its replicas, or lower min-replicas-to-write", []string{"NOREPLICAS"}},
		{"start its replicas, or lower wait_replicas in the redis block", []string{errReplicas}},
		{"see whether its primary is up", []string{"MASTERDOWN"}},
		{"repair the cluster: CLUSTER INFO tells which slots are missing", []string{"CLUSTERDOWN"}},
		{"this is a node of a Redis Cluster: write redis+cluster:// instead of redis://", []string{"MOVED ", "CROSSSLOT"}},
		{"this is no node of a Redis Cluster: write redis:// instead of redis+cluster://", []string{"cluster support disabled"}},
		{"raise maxclients, or find who holds the connections: CLIENT LIST", []string{"max number of clients"}},
		{"give it a password, or let it listen on loopback: it is in protected mode", []string{"DENIED"}},
		{"give a number below its databases setting, after the host in the URL", []string{"DB index is out of range"}},
		{"something else has this key: delete it, or choose another prefix", []string{"WRONGTYPE"}},
		{"it must be Redis 6.2 or newer, or Valkey, with no command disabled", []string{"unknown command", "nknown subcommand"}},
		{"it does not speak TLS here: write redis:// instead of rediss://", []string{"does not look like a TLS handshake"}},
		{"see whether it wants TLS: rediss://", []string{"EOF", "connection reset"}},
	}
}

// grant is the command that gives an ACL user what the daemon needs.
func (c *Cache) grant() string {
	p := escapeGlob(c.names.prefix)
	more := ""
	if c.cluster {
		more = clusterRights
	}
	return fmt.Sprintf("ACL SETUSER cdc-viewlet on >PASSWORD ~%s* &%s* %s", p, p, rights+more)
}

// clusterRights are for finding out which node has what.
const clusterRights = " +cluster|slots +command"

// rights are all commands that this package uses, in scripts too.
const rights = "+eval +evalsha +get +mget +set +mset +del +unlink +exists +pexpire +persist +publish +scan " +
	"+time +hget +hset +hdel +hgetall +hscan +hexists +multi +exec +ping +echo +info +wait +subscribe +unsubscribe +select"
