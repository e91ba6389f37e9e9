package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// terminal reports whether somebody watches the talk.
func (a *app) terminal() bool {
	f, ok := a.stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// bar is a progress bar of so many fragments, or -1 for who knows how many. It
// is blank where nobody watches.
func (a *app) bar(what string, of int64) *progressbar.ProgressBar {
	if !a.terminal() {
		return progressbar.DefaultSilent(of)
	}
	return progressbar.NewOptions64(of,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("fragments"),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(24),
	)
}
