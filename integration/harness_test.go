// Package integration tries the whole: the built daemon between a real Postgres
// and a real Redis.
package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// patience is how long eventually waits: far longer than anything takes.
const patience = time.Minute

func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// shared is what the tests of one run have in common; each part is made when
// the first test asks for it.
var shared house

type house struct {
	postgres once[*sandbox.Postgres]
	daemon   once[string] // the path of the built binary
}

func (h *house) close() error {
	var err error
	if p, made := h.postgres.made(); made {
		err = p.Close()
	}
	if binary, made := h.daemon.made(); made {
		err = errors.Join(err, os.RemoveAll(filepath.Dir(binary)))
	}
	return err
}

// once makes a value the first time that it is asked for.
type once[T any] struct {
	mu    sync.Mutex
	done  bool
	value T
	err   error
}

func (o *once[T]) get(make func() (T, error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.done {
		o.value, o.err = make()
		o.done = true
	}
	return o.value, o.err
}

func (o *once[T]) made() (T, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.value, o.done && o.err == nil
}

// eventually waits until the condition holds, and fails the test when patience
// ends first.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if err := poll(t.Context(), patience, holds); err != nil {
		t.Fatalf("wait until %s: %v", what, err)
	}
}

// poll asks holds, at once and then every few milliseconds.
func poll(ctx context.Context, patience time.Duration, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// writeFiles writes files, by their path below dir.
func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// repository is the folder of go.mod.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}
