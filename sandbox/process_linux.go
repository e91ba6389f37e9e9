package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

func detach(cmd *exec.Cmd, orphaned syscall.Signal) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = orphaned
}

// killChildren stops the process, which therefore neither forks nor reaps, and
// kills its children. A Postgres backend that is busy would notice only later
// that its postmaster is gone, and write WAL until then.
//
// Without the kernel's CONFIG_PROC_CHILDREN it leaves them to that.
func killChildren(parent *os.Process) {
	if parent.Signal(syscall.SIGSTOP) != nil {
		return
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", parent.Pid))
	for _, field := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(field); err == nil {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
	}
}
