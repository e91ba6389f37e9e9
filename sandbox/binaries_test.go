package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// install puts empty programs into root/folder.
func install(t testing.TB, root, folder string, programs ...string) {
	t.Helper()
	dir := filepath.Join(root, folder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFindPostgres(t *testing.T) {
	root := tempFolder(t)
	install(t, root, "lib/9.6/bin", "initdb", "postgres")
	install(t, root, "lib/15/bin", "initdb", "postgres")
	install(t, root, "pgsql-17/bin", "initdb", "postgres")
	install(t, root, "lib/18/bin", "initdb") // the client's package alone
	install(t, root, "path", "initdb", "postgres")
	patterns := []string{filepath.Join(root, "lib/*/bin"), filepath.Join(root, "pgsql-*/bin")}
	t.Setenv("PGBIN", "")
	t.Setenv("PATH", filepath.Join(root, "path"))

	for _, c := range []struct {
		what, dir, env string
		patterns       []string
		want           string
	}{
		{what: "the newest that is whole", patterns: patterns, want: "pgsql-17/bin"},
		{what: "by number, not by letter", patterns: patterns[:1], want: "lib/15/bin"},
		{what: "PGBIN", env: "lib/9.6/bin", patterns: patterns, want: "lib/9.6/bin"},
		{what: "the folder asked for", dir: "lib/15/bin", env: "lib/9.6/bin", patterns: patterns, want: "lib/15/bin"},
		{what: "PATH", want: "path"},
	} {
		t.Setenv("PGBIN", "")
		if c.env != "" {
			t.Setenv("PGBIN", filepath.Join(root, c.env))
		}
		if c.dir != "" {
			c.dir = filepath.Join(root, c.dir)
		}
		got, err := findPostgres(t.Context(), c.dir, c.patterns)
		if err != nil || got != filepath.Join(root, c.want) {
			t.Errorf("%s: got %s, %v, want %s", c.what, got, err, c.want)
		}
	}

	t.Setenv("PGBIN", filepath.Join(root, "lib/18/bin"))
	_, err := findPostgres(t.Context(), "", patterns)
	wantError(t, err, "no initdb and postgres in the folder ", "lib/18/bin")
	t.Setenv("PGBIN", "")
	t.Setenv("PATH", root)
	_, err = findPostgres(t.Context(), "", nil)
	if !errors.Is(err, errNoPostgres) {
		t.Errorf("with nothing installed: %v", err)
	}
	wantError(t, err, "apt-get install postgresql")
}

func TestFindRedis(t *testing.T) {
	root := tempFolder(t)
	install(t, root, "bin", "valkey-server")
	t.Setenv("PATH", filepath.Join(root, "bin"))
	t.Setenv("REDISBIN", "")
	asked := filepath.Join(root, "bin", "valkey-server")
	if got, err := findRedis(asked); err != nil || got != asked {
		t.Errorf("asked for: got %s, %v", got, err)
	}
	install(t, root, "bin", "redis-server")
	if got, err := findRedis(""); err != nil || got != filepath.Join(root, "bin", "redis-server") {
		t.Errorf("on PATH: got %s, %v", got, err)
	}
	t.Setenv("REDISBIN", asked)
	if got, err := findRedis(""); err != nil || got != asked {
		t.Errorf("REDISBIN: got %s, %v", got, err)
	}
}
