package cache

import (
	"fmt"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// names makes the keys of Redis. No viewlet's name begins with an @.
type names struct{ prefix string }

func (n names) state() string   { return n.prefix + "@state" }
func (n names) failed() string  { return n.prefix + "@failed" }
func (n names) channel() string { return n.prefix + "@refreshed" }

func (n names) fragment(k viewlet.Key) string { return n.prefix + k.Viewlet + k.Args }

// guard has the fragment's key as its hash tag, which puts both in one slot.
func (n names) guard(k viewlet.Key) string {
	return n.prefix + "@lsn:{" + n.prefix + k.Viewlet + k.Args + "}"
}

// watch says that somebody beside the daemon may write the viewlet's fragments.
func (n names) watch(viewlet string) string { return n.prefix + "@watch:" + viewlet }

// wait is a key of no meaning, of which there is one for every slot.
func (n names) wait(i int) string { return fmt.Sprintf("%s@wait:{%d}", n.prefix, i) }

// pair gives both, in one piece of memory.
func (n names) pair(k viewlet.Key) (fragment, guard string) {
	guard = n.guard(k)
	return guard[len(n.prefix)+len("@lsn:{") : len(guard)-len("}")], guard
}

// check tells whether a fragment and its guard share a slot: for lack of a
// brace in the prefix, or because the prefix itself has the hash tag of all.
func (n names) check(cluster bool) error {
	if cluster && strings.ContainsAny(n.prefix, "{}") && hashTag(n.prefix) == n.prefix {
		return fmt.Errorf("use prefix %q: in a Redis Cluster, braces in it must enclose something, as {shop}: does", n.prefix)
	}
	return nil
}

// hashTag is the part of a key that decides its slot.
//
// https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
func hashTag(key string) string {
	_, rest, open := strings.Cut(key, "{")
	tag, _, closed := strings.Cut(rest, "}")
	if open && closed && tag != "" {
		return tag
	}
	return key
}

// escapeGlob makes a pattern that matches s alone, as Redis matches.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
