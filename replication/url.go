package replication

import (
	"errors"
	"fmt"
	neturl "net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
)

// parseURL is pgconn.ParseConfig with errors that cannot show a password, and
// with an error for the URLs that it would take apart in the wrong place: then
// a piece of the password would be a host's name, and be shown.
func parseURL(url string) (*pgconn.Config, error) {
	rest, isURL := cutScheme(url)
	if scheme, _, found := strings.Cut(url, "://"); found && !isURL && isScheme(scheme) {
		return nil, fmt.Errorf("parse Postgres URL: its scheme is %s: write postgres://user@host/database", scheme)
	}
	authority, _, _ := strings.Cut(rest, "?")
	if isURL && (strings.Count(authority, "@") > 1 || strings.LastIndex(authority, "@") > strings.Index(authority+"/", "/")) {
		return nil, errors.New("parse Postgres URL: the user or the password has an @ or a /: write %40 or %2F instead")
	}
	config, err := pgconn.ParseConfig(url)
	if err == nil {
		return config, nil
	}
	reason := "not a connection string that Postgres knows; characters like @ : / ? # % in a password are percent-encoded"
	if said := saidOf(err); said != "" && !tells(said, secretPart(url)) {
		reason = said
	}
	return nil, errors.New("parse Postgres URL: " + reason)
}

// CheckURL says what is wrong with a connection string, and shows nothing that
// may be a password; nil: nothing.
func CheckURL(url string) error {
	_, err := parseURL(url)
	return err
}

func cutScheme(url string) (rest string, isURL bool) {
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, found := strings.CutPrefix(url, scheme); found {
			return rest, true
		}
	}
	return url, false
}

func isScheme(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+") == ""
}

// saidOf is what pgconn says is wrong, without the connection string itself.
func saidOf(err error) string {
	var parseErr *pgconn.ParseConfigError
	if !errors.As(err, &parseErr) {
		return ""
	}
	text := err.Error()
	i := strings.LastIndex(text, "`: ")
	if i < 0 {
		return ""
	}
	return text[i+len("`: "):]
}

// secretPart is where in the connection string a password may stand: in a URL
// before the last @, or anywhere when it has none, and after each password=.
func secretPart(url string) string {
	rest, isURL := cutScheme(url)
	secret := rest
	if at := strings.LastIndex(rest, "@"); isURL && at >= 0 {
		secret = rest[:at]
		if i := strings.Index(strings.ToLower(rest[at:]), "password"); i >= 0 {
			secret += " " + rest[at+i:]
		}
	}
	if decoded, err := neturl.PathUnescape(secret); err == nil {
		secret += " " + decoded
	}
	return secret
}

// common are words that any sentence has: they tell nothing of a password.
var common = []string{"a", "as", "in", "invalid", "is", "not", "of", "to"}

// tells reports whether a word of the text stands in the secret. Another word
// that pgconn has by itself is told by mistake; then a sentence is lost, and no more.
func tells(text, secret string) bool {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if !slices.Contains(common, word) && strings.Contains(secret, word) {
			return true
		}
	}
	return false
}
