package viewlet

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Each cause is told once, whoever meets it, and the end when all work again.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outage
		var said strings.Builder
		log := slog.New(slog.NewTextHandler(&said, nil))
		fails := func(want bool, who string, err error) {
			t.Helper()
			if got := o.fails(who, err); got != want {
				t.Errorf("%s, %v: told %v, want %v", who, err, got, want)
			}
		}
		refused, loading := errors.New("connection refused"), errors.New("LOADING")
		o.works(log, "a")
		fails(true, "a", fmt.Errorf("store a:1: %w", refused))
		fails(false, "a", fmt.Errorf("store a:2: %w", refused))
		fails(false, "b", fmt.Errorf("store b:7: %w", refused))
		fails(true, "a", loading)
		time.Sleep(5 * time.Second)
		o.works(log, "a")
		o.works(log, "c")
		if said.Len() > 0 {
			t.Errorf("it says %s while b still fails", &said)
		}
		o.works(log, "b")
		if want := `level=INFO msg="refreshing works again" after=5s`; !strings.Contains(said.String(), want) {
			t.Errorf("it says %q, want %q", &said, want)
		}
		fails(true, "b", refused)
		for i := 1; i < 100; i++ {
			fails(i < mostTold, "b", fmt.Errorf("cause %d", i))
		}
	})
}
