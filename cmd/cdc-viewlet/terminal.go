package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// terminal reports whether somebody watches the talk.
func (a *app) terminal() bool { return isTerminal(a.stderr) }

// watched reports whether somebody watches the data.
func (a *app) watched() bool { return isTerminal(a.stdout) }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// bar shows how many fragments are rendered of so many, or of -1 for who knows
// how many. It is blank where nobody watches.
func (a *app) bar(what string, of int64) (set func(rendered int), finish func()) {
	if !a.terminal() {
		return func(int) {}, func() {}
	}
	options := []progressbar.Option{
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(24),
		progressbar.OptionSetSpinnerChangeInterval(0), // it has no goroutine then, which may write after the end
	}
	if of >= 0 {
		options = append(options, progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("fragments"))
	}
	bar := progressbar.NewOptions64(of, options...)
	set = func(rendered int) {
		if rendered == 0 {
			return // a rate of none an hour tells nothing
		}
		if of < 0 {
			bar.Describe(fmt.Sprintf("%s: %d fragments", what, rendered))
		}
		_ = bar.Set(rendered)
	}
	return set, func() { _ = bar.Finish() }
}

// follow shows a bar until ctx ends. What it gives is closed when the bar is
// gone.
func (a *app) follow(ctx context.Context, what string, of int64, rendered func() int) <-chan struct{} {
	gone := make(chan struct{})
	set, finish := a.bar(what, of)
	go func() {
		defer close(gone)
		defer finish()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			set(rendered())
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return gone
}
