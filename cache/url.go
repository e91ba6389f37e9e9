package cache

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const urlForms = "redis://user:password@host:6379/0, rediss://... for TLS, unix:///run/redis/redis.sock?db=0, " +
	"redis+sentinel://user:password@host:26379,host2:26379/mymaster/0, or redis+cluster://user:password@host:6379,host2:6379"

// kind is how Redis is run.
type kind int

const (
	single kind = iota
	sentinel
	cluster
)

// place is what a Redis URL says. The options are those of every server.
type place struct {
	*redis.Options
	kind   kind
	hosts  []string // Sentinels, or nodes of the cluster, with their ports
	master string   // as the Sentinels call it
	// What the Sentinels ask for themselves.
	sentinelUser, sentinelPassword string
}

// parseURL reads a Redis URL. Its errors quote nothing that may be a piece of
// a password: where one is not percent-encoded, it ends up in the host, the
// path or the query.
func parseURL(raw string) (*place, error) {
	if raw == "" {
		return nil, errors.New("no Redis URL: set REDIS_URL, or url in the redis block, to " + urlForms)
	}
	p := &place{}
	plain, err := p.simplify(raw)
	if err == nil {
		p.Options, err = parsePlain(plain)
	}
	if err != nil {
		return nil, fmt.Errorf("read the Redis URL: %w; it should be %s", err, urlForms)
	}
	p.ContextTimeoutEnabled = true
	p.DialerRetries = 1 // MaxRetries is about dialing, too
	// Both need rights that a narrow ACL user has no other use for.
	p.DisableIdentity = true
	p.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if p.kind != single && p.TLSConfig != nil {
		p.TLSConfig.ServerName = "" // each server's own
	}
	return p, nil
}

func parsePlain(raw string) (*redis.Options, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("it is malformed; a special character in the password is written percent-encoded, # as %23")
	}
	if err := checkURL(raw, u); err != nil {
		return nil, err
	}
	opts, err := redis.ParseURL(raw)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "redis: "))
	}
	return opts, nil
}

// simplify takes out of a URL what only Sentinel and Cluster have, and gives
// what is left of it: the URL of its first host.
func (p *place) simplify(raw string) (string, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	base, how, _ := strings.Cut(scheme, "+")
	port := "6379"
	switch {
	case base != "redis" && base != "rediss":
		return raw, nil
	case how == "sentinel":
		p.kind, port = sentinel, "26379"
	case how == "cluster":
		p.kind = cluster
	default:
		return raw, nil
	}
	if strings.Contains(rest, "#") {
		return raw, errEncode
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	user := ""
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, authority = authority[:at+1], authority[at+1:]
	}
	if strings.Contains(path+query, "@") {
		return raw, errEncode
	}
	if err := p.addHosts(authority, port); err != nil {
		return raw, err
	}
	var err error
	switch {
	case p.kind == sentinel:
		path, err = p.takeMaster(path)
	case path != "" && path != "0":
		err = errors.New("a Redis Cluster has only database 0, and no path is to be written")
	}
	if err == nil {
		query, err = p.takeSentinelUser(query)
	}
	return base + "://" + user + p.hosts[0] + "/" + path + "?" + query, err
}

func (p *place) addHosts(list, port string) error {
	for one := range strings.SplitSeq(list, ",") {
		u, err := url.Parse("redis://" + one)
		if err != nil || u.Hostname() == "" || u.Host != one {
			return errors.New("the hosts are not of the form host:port,host:port")
		}
		p.hosts = append(p.hosts, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)))
	}
	return nil
}

// takeMaster takes the master's name out of the path, and leaves the database.
func (p *place) takeMaster(path string) (db string, err error) {
	name, db, _ := strings.Cut(path, "/")
	if p.master, err = url.PathUnescape(name); err != nil || name == "" {
		return db, errors.New("the name that the Sentinels have for the master follows the hosts, such as /mymaster")
	}
	return db, nil
}

func (p *place) takeSentinelUser(query string) (rest string, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return query, errEncode
	}
	if p.kind == sentinel {
		p.sentinelUser, p.sentinelPassword = values.Get("sentinel_username"), values.Get("sentinel_password")
		values.Del("sentinel_username")
		values.Del("sentinel_password")
	}
	return values.Encode(), nil
}

var errEncode = errors.New("a special character in the password is written percent-encoded: / as %2F, ? as %3F, # as %23, @ as %40")

func checkURL(raw string, u *url.URL) error {
	elsewhere := u.RawQuery + u.Fragment
	switch u.Scheme {
	case "redis", "rediss":
		elsewhere += u.Path
		if u.Host == "" {
			return errors.New("there is no host in it")
		}
	case "unix":
		if u.Host != "" && u.User == nil {
			return errors.New("an absolute path follows unix://, so that there are three slashes")
		}
		if u.Path == "" {
			return errors.New("there is no path of a socket in it")
		}
	default:
		if strings.Contains(raw, "://") {
			return fmt.Errorf("%q is not a scheme that is known here", u.Scheme)
		}
		return errors.New("there is no scheme in it")
	}
	if strings.Contains(elsewhere, "@") || strings.Contains(raw, "#") {
		return errEncode
	}
	if db := strings.Trim(u.Path, "/"); u.Scheme != "unix" && db != "" {
		if n, err := strconv.Atoi(db); err != nil || n < 0 {
			return errors.New("the path is not the number of a database")
		}
	}
	return nil
}
