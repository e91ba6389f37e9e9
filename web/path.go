package web

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Rules knows the viewlets in force. Its methods may be called at any time by
// many goroutines.
type Rules interface {
	// Viewlet describes the viewlet of that name without asking any server.
	// There being none is an UnknownViewletError.
	Viewlet(name string) (Viewlet, error)
	// Validate gives the one key that the arguments stand for, in Postgres's
	// own text form (042 is 42). Arguments that do not fit their types, or are
	// too many or too few, are an ArgumentError; any other error means that it
	// cannot be told now. It may ask Postgres, and returns when ctx ends.
	Validate(ctx context.Context, name string, args []string) (viewlet.Key, error)
}

// Viewlet is what the web needs to know of one.
type Viewlet struct {
	Params      int    // how many arguments name a fragment
	ContentType string // of its fragments, such as text/html; charset=utf-8
}

// UnknownViewletError says that no viewlet has that name. Visitors see Reason.
type UnknownViewletError struct{ Reason string }

func (e UnknownViewletError) Error() string { return e.Reason }

// ArgumentError says that arguments do not fit a viewlet. Visitors see Reason.
type ArgumentError struct{ Reason string }

func (e ArgumentError) Error() string { return e.Reason }

// target is what NAME/ARGS... in a path names: a viewlet that is in force, and
// arguments that nobody has validated yet.
type target struct {
	Viewlet
	name string
	args []string
}

// resolve reads NAME/ARGS... as it stands in the path, percent-encoded. A
// segment is an argument, an empty one too.
func resolve(rules Rules, path string) (target, error) {
	var t target
	for i, segment := range strings.Split(path, "/") {
		text, err := url.PathUnescape(segment)
		if err != nil {
			return t, ArgumentError{fmt.Sprintf("argument %d: %v", i, err)}
		}
		if i == 0 {
			t.name = text
		} else {
			t.args = append(t.args, text)
		}
	}
	var err error
	t.Viewlet, err = rules.Viewlet(t.name)
	return t, err
}

// count returns an ArgumentError unless there are as many arguments as params.
func (t target) count() error {
	if len(t.args) == t.Params {
		return nil
	}
	noun := "arguments"
	if t.Params == 1 {
		noun = "argument"
	}
	return ArgumentError{fmt.Sprintf("%s takes %d %s, not %d", t.name, t.Params, noun, len(t.args))}
}

// escapedPath is the path as it was sent. url.URL.EscapedPath encodes it anew
// when the client left something unencoded that it should not have, and then
// an encoded slash within an argument is lost.
func escapedPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}
