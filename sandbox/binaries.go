package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// errNoPostgres is what a machine without Postgres's server is told.
var errNoPostgres = errors.New("find Postgres: no initdb and postgres on this machine; install them " +
	"(Debian and Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql) " +
	"or set PGBIN to the folder that holds them")

// errNoRedis is what a machine without Redis is told.
var errNoRedis = errors.New("find Redis: neither redis-server nor valkey-server on this machine; install one " +
	"(Debian and Ubuntu: apt-get install redis-server; Fedora: dnf install valkey; macOS: brew install redis)")

// postgresFolders are where packages put the server's programs, which no PATH
// names, by major version.
func postgresFolders() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",                               // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                        // Red Hat and its kin, from the Postgres project
		"/usr/lib/postgresql*/bin",                                // SUSE
		"/opt/homebrew/opt/postgresql@*/bin",                      // Homebrew
		"/usr/local/opt/postgresql@*/bin",                         // Homebrew on Intel
		"/Applications/Postgres.app/Contents/Versions/[1-9]*/bin", // Postgres.app
		"/Library/PostgreSQL/*/bin",                               // EDB's installer
		"/usr/local/pgsql/bin",                                    // make install
	}
}

// findPostgres gives the folder of initdb and postgres: dir, or else PGBIN, or
// else the newest that a package has put on this machine, or the one on PATH.
func findPostgres(ctx context.Context, dir string, folders []string) (string, error) {
	for _, asked := range []string{dir, os.Getenv("PGBIN")} {
		if asked == "" {
			continue
		}
		if !holdsPostgres(asked) {
			return "", fmt.Errorf("find Postgres: no initdb and postgres in the folder %s that was asked for", asked)
		}
		return filepath.Abs(asked)
	}
	if newest := newestFolder(folders); newest != "" {
		return newest, nil
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		if found := strings.TrimSpace(string(out)); holdsPostgres(found) {
			return found, nil
		}
	}
	if initdb, err := exec.LookPath("initdb"); err == nil && holdsPostgres(filepath.Dir(initdb)) {
		return filepath.Dir(initdb), nil
	}
	return "", errNoPostgres
}

// newestFolder gives the folder with the highest major version in its name.
func newestFolder(patterns []string) string {
	newest, highest := "", -1
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern) // only a bad pattern is an error
		for _, folder := range found {
			if major := majorIn(filepath.Base(filepath.Dir(folder))); major > highest && holdsPostgres(folder) {
				newest, highest = folder, major
			}
		}
	}
	return newest
}

var digits = regexp.MustCompile(`\d+`)

// majorIn reads the first number in a name or a version: 15 of 15.14 and of
// pgsql-15. A name without one gives 0.
func majorIn(name string) int {
	n, _ := strconv.Atoi(digits.FindString(name))
	return n
}

func holdsPostgres(folder string) bool {
	return executable(filepath.Join(folder, "initdb")) && executable(filepath.Join(folder, "postgres"))
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// findRedis gives the program: bin, or else $REDISBIN, or else redis-server or
// valkey-server, on PATH or where packages put it.
func findRedis(bin string) (string, error) {
	if bin = cmp.Or(bin, os.Getenv("REDISBIN")); bin != "" {
		if !executable(bin) {
			return "", fmt.Errorf("find Redis: %s is not a program", bin)
		}
		return filepath.Abs(bin)
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if found, err := exec.LookPath(name); err == nil {
			return filepath.Abs(found)
		}
		for _, folder := range []string{"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"} {
			if found := filepath.Join(folder, name); executable(found) {
				return found, nil
			}
		}
	}
	return "", errNoRedis
}
