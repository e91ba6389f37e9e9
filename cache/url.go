package cache

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const urlForms = "redis://user:password@host:6379/0, rediss://... for TLS, or unix:///run/redis/redis.sock?db=0"

// parseURL reads a Redis URL. Its errors quote nothing that may be a piece of
// a password: where one is not percent-encoded, it ends up in the host, the
// path or the query.
func parseURL(raw string) (*redis.Options, error) {
	if raw == "" {
		return nil, errors.New("no Redis URL: set REDIS_URL, or url in the redis block, to " + urlForms)
	}
	u, err := url.Parse(raw)
	if err == nil {
		err = checkURL(raw, u)
	} else {
		err = errors.New("it is malformed; a special character in the password is written percent-encoded, # as %23")
	}
	if err != nil {
		return nil, fmt.Errorf("read the Redis URL: %w; it should be %s", err, urlForms)
	}
	opts, err := redis.ParseURL(raw)
	if err != nil {
		return nil, fmt.Errorf("read the Redis URL: %s", strings.TrimPrefix(err.Error(), "redis: "))
	}
	opts.ContextTimeoutEnabled = true
	opts.DialerRetries = 1 // MaxRetries is about dialing, too
	// Both need rights that a narrow ACL user has no other use for.
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return opts, nil
}

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
		return errors.New("a special character in the password is written percent-encoded: / as %2F, ? as %3F, # as %23, @ as %40")
	}
	if db := strings.Trim(u.Path, "/"); u.Scheme != "unix" && db != "" {
		if n, err := strconv.Atoi(db); err != nil || n < 0 {
			return errors.New("the path is not the number of a database")
		}
	}
	return nil
}
