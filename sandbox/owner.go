package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSocketDir is the longest path of a folder for Unix sockets: sun_path has
// 104 bytes on the BSDs and 108 on Linux, and ".s.PGSQL.12345" goes behind it.
const maxSocketDir = 104 - len("/.s.PGSQL.12345") - 1

// owner is the user that a server runs as and its folder belongs to. A nil
// owner is who we are.
type owner struct {
	name     string
	uid, gid uint32
}

// unprivileged finds another user when we are root, as which Postgres refuses
// to run.
//
// https://www.postgresql.org/docs/current/postgres-user.html
func unprivileged() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil && uid != 0 {
			return &owner{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("drop root: there is neither a user postgres nor a user nobody; run as another user")
}

// newFolder makes dir, or a temporary folder when dir is empty, which nobody
// else can enter. It may exist when there is nothing in it.
func (o *owner) newFolder(dir string) (string, error) {
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "cdc-viewlet-")
	} else if dir, err = filepath.Abs(dir); err == nil {
		err = makeEmpty(dir)
	}
	if err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	if err := o.fits(dir); err != nil {
		return "", errors.Join(fmt.Errorf("make folder: %w", err), os.Remove(dir))
	}
	return dir, nil
}

func makeEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	}
	return os.Chmod(dir, 0o700)
}

// fits hands the folder over, if its path serves.
func (o *owner) fits(dir string) error {
	if len(dir) > maxSocketDir {
		return fmt.Errorf("%s is too long a path for Unix sockets, by %d bytes; set TMPDIR to a shorter one", dir, len(dir)-maxSocketDir)
	}
	if o == nil {
		return nil
	}
	if err := o.reaches(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("%w; set TMPDIR to a folder that it can", err)
	}
	return os.Chown(dir, int(o.uid), int(o.gid))
}

// reaches gives an error when the owner cannot enter dir.
func (o *owner) reaches(dir string) error {
	if o == nil {
		return nil
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		enter := os.FileMode(0o001)
		switch {
		case ok && stat.Uid == o.uid:
			enter = 0o100
		case ok && stat.Gid == o.gid:
			enter = 0o010
		}
		if info.Mode()&enter == 0 {
			return fmt.Errorf("the user %s cannot enter %s", o.name, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

// of makes cmd run as the owner.
func (o *owner) of(cmd *exec.Cmd) *exec.Cmd {
	if o != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.uid, Gid: o.gid}}
	}
	return cmd
}

// writeFile writes a file that the owner alone can read.
func (o *owner) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	if o == nil {
		return nil
	}
	return os.Chown(path, int(o.uid), int(o.gid))
}

// cleanEnv is our environment without the variables that steer Postgres's
// programs, and with messages in English.
func cleanEnv() []string {
	env := []string{"LC_ALL=C"}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !strings.HasPrefix(name, "PG") && name != "LC_ALL" && name != "LANGUAGE" {
			env = append(env, v)
		}
	}
	return env
}

// newPassword gives a password that needs no quoting anywhere.
func newPassword() string { return rand.Text() }
