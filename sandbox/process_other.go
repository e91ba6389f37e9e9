//go:build unix && !linux

package sandbox

import (
	"os"
	"os/exec"
	"syscall"
)

func detach(cmd *exec.Cmd, _ syscall.Signal) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

// killChildren leaves it to the children to notice that their parent is gone.
func killChildren(*os.Process) {}
