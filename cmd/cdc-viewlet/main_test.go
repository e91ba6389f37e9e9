package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// What Ctrl-C ends says so, and not which call it was in.
func TestInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.hcl")
	if err := os.WriteFile(path, []byte(`viewlet "menu" { query = "SELECT 1 AS one" }`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code := execute(ctx, []string{"check", "-c", path, "--postgres", "postgres://app@127.0.0.1/shop"}, &stdout, &stderr)
	if want := "cdc-viewlet: interrupted, before it was done\n"; code != exitFailed || stderr.String() != want {
		t.Errorf("it ends with %d and says %q, want %q", code, &stderr, want)
	}
}
