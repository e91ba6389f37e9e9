package rules

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/rules/hint"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// ParseMessage appends the refreshes that a logical message of ours asks for
// to dst: product_teaser:42 for one fragment, product_teaser:* for all of a
// viewlet, each on a line of its own. An error is for the log and names the
// lines that ask for nothing known; the others are followed.
func (s *Set) ParseMessage(dst []viewlet.Refresh, content []byte) ([]viewlet.Refresh, error) {
	var errs []error
	wrong := 0
	for line := range bytes.Lines(content) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		r, err := s.parseRefresh(string(line))
		if err == nil {
			dst = append(dst, r)
		} else if wrong++; wrong <= 10 {
			errs = append(errs, fmt.Errorf("read message: %w", err))
		}
	}
	if wrong > 10 {
		errs = append(errs, fmt.Errorf("read message: %d lines more are wrong", wrong-10))
	}
	return dst, errors.Join(errs...)
}

func (s *Set) parseRefresh(line string) (viewlet.Refresh, error) {
	name, _, _ := strings.Cut(line, ":")
	v := s.viewlets[name]
	if v == nil {
		return viewlet.Refresh{}, fmt.Errorf("no viewlet has the name %.80q", name)
	}
	if line == name+":"+viewlet.Whole {
		return viewlet.Refresh{Key: viewlet.Key{Viewlet: v.Name}, Via: viewlet.Whole}, nil
	}
	k, err := viewlet.ParseKey(line)
	if err != nil {
		return viewlet.Refresh{}, err
	}
	args, err := k.Split(nil)
	if err != nil {
		return viewlet.Refresh{}, err
	}
	if len(args) != len(v.Params) {
		return viewlet.Refresh{}, fmt.Errorf("%.80q has %s, and %s has %s", line, hint.Count(len(args), "argument"), v.Name, hint.Count(len(v.Params), "param"))
	}
	return viewlet.Refresh{Key: k}, nil
}
