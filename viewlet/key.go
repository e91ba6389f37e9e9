package viewlet

import (
	"fmt"
	"strings"
)

// Key names one fragment: a viewlet and the arguments it is rendered with.
// It is comparable and made by NewKey or ParseKey.
type Key struct {
	Viewlet string
	// Args is each argument percent-encoded and preceded by a colon, so that
	// Viewlet+Args is what people write: product_teaser:42, teaser:42:sv. It
	// is empty for a viewlet without params, and ":" for one empty argument.
	Args string
}

// String gives the fragment's name: product_teaser:42.
func (k Key) String() string { return k.Viewlet + k.Args }

// NewKey names a viewlet's fragment by its arguments in Postgres's text form.
func NewKey(name string, args ...string) Key {
	if len(args) == 0 {
		return Key{Viewlet: name}
	}
	var buf []byte
	for _, a := range args {
		buf = AppendArg(buf, a)
	}
	return Key{Viewlet: name, Args: string(buf)}
}

// ParseKey reads what Key.String gives. An argument that is not encoded as
// AppendArg encodes is an error: two names of one fragment must not exist.
func ParseKey(s string) (Key, error) {
	name, rest, found := strings.Cut(s, ":")
	if name == "" {
		return Key{}, fmt.Errorf("parse key %q: no viewlet before the colon", s)
	}
	k := Key{Viewlet: name}
	if found {
		k.Args = ":" + rest
	}
	args, err := k.Split(nil)
	if err != nil {
		return Key{}, fmt.Errorf("parse key %q: %w", s, err)
	}
	if NewKey(name, args...) != k {
		return Key{}, fmt.Errorf("parse key %q: write it as %s", s, NewKey(name, args...))
	}
	return k, nil
}

// Split appends the key's arguments, decoded, to dst.
func (k Key) Split(dst []string) ([]string, error) { return SplitArgs(dst, k.Args) }

// SplitArgs appends the decoded arguments of an Args string to dst. Only a
// string that AppendArg did not make gives an error.
func SplitArgs(dst []string, args string) ([]string, error) {
	for args != "" {
		if args[0] != ':' {
			return dst, fmt.Errorf("arguments %q: no colon before the first", args)
		}
		args = args[1:]
		end := strings.IndexByte(args, ':')
		if end < 0 {
			end = len(args)
		}
		arg, err := decodeArg(args[:end])
		if err != nil {
			return dst, err
		}
		dst, args = append(dst, arg), args[end:]
	}
	return dst, nil
}

// AppendArg appends a colon and the argument, percent-encoded as RFC 3986,
// section 2.1, says: only A-Z a-z 0-9 - . _ ~ stay as they are. Python's
// quote(s, safe="") and PHP's rawurlencode give the same.
func AppendArg[T ~string | ~[]byte](dst []byte, arg T) []byte {
	const hex = "0123456789ABCDEF"
	dst = append(dst, ':')
	for i := 0; i < len(arg); i++ {
		if c := arg[i]; unreserved(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

func unreserved(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return c == '-' || c == '.' || c == '_' || c == '~'
}

func decodeArg(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	buf := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			buf = append(buf, s[i])
			continue
		}
		if i+2 >= len(s) || fromHex(s[i+1]) < 0 || fromHex(s[i+2]) < 0 {
			return "", fmt.Errorf("argument %q: a %% is followed by two hex digits; write %%25 for a percent sign", s)
		}
		buf = append(buf, byte(fromHex(s[i+1])<<4|fromHex(s[i+2])))
		i += 2
	}
	return string(buf), nil
}

func fromHex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
