package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// orphanVar makes the test binary start both servers, tell their process ids,
// and wait to be killed.
const orphanVar = "SANDBOX_TEST_ORPHAN"

func TestMain(m *testing.M) {
	if os.Getenv(orphanVar) != "" {
		beOrphaned()
	}
	os.Exit(m.Run())
}

func beOrphaned() {
	p, err := StartPostgres(context.Background(), PostgresConfig{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r, err := StartRedis(context.Background(), RedisConfig{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID(), r.PID())
	select {}
}

func TestServersEndWithTheirParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child that its parent died")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(exe)
	parent.Env = append(os.Environ(), orphanVar+"=1", "TMPDIR="+tempFolder(t))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	pids := strings.Fields(line)
	if len(pids) != 2 {
		t.Fatalf("the parent says %q", line)
	}
	for _, s := range pids {
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("the parent says %q", line)
		}
		eventually(t, "process "+s+" ends", func() bool { return !alive(pid) })
	}
}

// tempFolder is t.TempDir for servers that run as another user: everybody may
// pass through, and its path is short.
func tempFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sandbox-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// wantEmpty fails the test when there is anything in dir.
func wantEmpty(t testing.TB, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

// wantError fails the test when err does not say all that is wanted.
func wantError(t testing.TB, err error, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got error %v, want one that says %q", err, w)
		}
	}
}

// alive reports whether the process runs; one that only waits for its parent
// to take notice does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return runtime.GOOS != "linux"
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// eventually waits until the condition holds, and fails the test when it does
// not within half a minute.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("not within half a minute: %s", what)
		}
	}
}
