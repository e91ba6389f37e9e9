package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// buildDaemon gives the path of the built binary, with the race detector in it
// where the tests have it.
func buildDaemon(t testing.TB) string {
	t.Helper()
	binary, err := shared.daemon.get(func() (string, error) {
		dir, err := os.MkdirTemp("", "cdc-viewlet-")
		if err != nil {
			return "", err
		}
		binary := filepath.Join(dir, "cdc-viewlet")
		build := exec.Command("go", "build", "-race="+fmt.Sprint(raceDetector), "-o", binary, "./cmd/cdc-viewlet")
		build.Dir = repository(t)
		if out, err := build.CombinedOutput(); err != nil {
			return "", errors.Join(fmt.Errorf("build the daemon: %w\n%s", err, out), os.RemoveAll(dir))
		}
		return binary, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// environment gives the variables by which the daemon finds both servers.
func environment(db *database, r *redisServer) []string {
	return []string{"DATABASE_URL=" + db.url, "REDIS_URL=" + r.URL()}
}

// program is a program under way. It is killed when the test ends before it;
// what it wrote to stderr is shown when the test fails.
type program struct {
	cmd            *exec.Cmd
	stdout, stderr transcript
	ended          chan struct{}
}

// daemon runs the built binary in dir, with the variables over our own ones.
func daemon(t testing.TB, dir string, env []string, args ...string) *program {
	t.Helper()
	return run(t, dir, env, buildDaemon(t), args...)
}

func run(t testing.TB, dir string, env []string, name string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	// Without it, what is built with the race detector sleeps a second at its end.
	p.cmd.Dir, p.cmd.Env = dir, append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = time.Second // for children that it leaves, and that hold its stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("run %s: %v", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState tells how it ended
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s wrote:\n%s", filepath.Base(name), strings.Join(args, " "), p.stderr.String())
		}
	})
	return p
}

// signal sends sig; a program that has ended does not mind.
func (p *program) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("send %s: %v", sig, err)
	}
}

// kill is kill -9.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// wait gives the exit code, -1 for one that a signal ended.
func (p *program) wait(t testing.TB) int {
	t.Helper()
	eventually(t, p.cmd.String()+" ends", p.hasEnded)
	return p.cmd.ProcessState.ExitCode()
}

func (p *program) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// stop asks the program to end, and wants it to do so well; or not to have come
// so far yet that the signal is its own to take.
func (p *program) stop(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	code := p.wait(t)
	status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	early := p.stderr.String() == "" && status.Signaled() && status.Signal() == syscall.SIGTERM
	if code != 0 && !early {
		t.Fatalf("%s: exit code %d after SIGTERM, want 0", p.cmd, code)
	}
}

// says waits until the program has written the words to stderr. One that ends
// without them fails the test.
func (p *program) says(t testing.TB, words string) {
	t.Helper()
	said := func() bool { return strings.Contains(p.stderr.String(), words) }
	eventually(t, fmt.Sprintf("it says %q", words), func() bool { return said() || p.hasEnded() })
	if !said() {
		t.Fatalf("%s ended without saying %q: %s", p.cmd, words, p.cmd.ProcessState)
	}
}

// transcript keeps what a program writes, to be read while it writes.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.Write(b)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
