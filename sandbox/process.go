package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// killWait is how long a killed process may take to be gone: it waits at most
// for the disk.
const killWait = 10 * time.Second

// process is a child, and whatever that child forks.
type process struct {
	child *os.Process
	gone  chan struct{}    // closed when the child and all that it forked are gone
	state *os.ProcessState // how the child ended; to be read when gone is closed
}

// launch starts cmd in a process group of its own, so that the terminal's
// Ctrl-C reaches us alone. If we die without a word, the kernel sends it
// orphaned, where the system can do that.
func launch(cmd *exec.Cmd, orphaned syscall.Signal) (*process, error) {
	// Every descendant inherits the write end and nobody uses it: the read end
	// comes to its end when the last of them is gone.
	alive, inherited, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, inherited)
	detach(cmd, orphaned)

	p := &process{gone: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that forked for the end of the
		// parent (prctl(2), PR_SET_PDEATHSIG), so this one stays until the child
		// is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.child = cmd.Process
		inherited.Close()
		started <- err
		if err != nil {
			alive.Close()
			return
		}
		_ = cmd.Wait() // an exit status is no error here
		p.state = cmd.ProcessState
		_, _ = io.Copy(io.Discard, alive)
		alive.Close()
		close(p.gone)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// running reports whether the child or anything that it forked is left. A nil
// process is not running.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// signal sends sig to the child alone. A child that has ended is not an error.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.child.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to process %d: %w", sig, p.child.Pid, err)
	}
	return nil
}

// stop sends sig and waits until all are gone or ctx ends.
func (p *process) stop(ctx context.Context, sig syscall.Signal) error {
	if err := p.signal(sig); err != nil {
		return err
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for process %d to end: %w", p.child.Pid, ctx.Err())
	}
}

// kill ends all of them at once, as a power cut does, and waits until they are
// gone.
func (p *process) kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), killWait)
	defer cancel()
	killChildren(p.child)
	return p.stop(ctx, syscall.SIGKILL)
}
