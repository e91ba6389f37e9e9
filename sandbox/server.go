package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	readyWait  = time.Minute           // how long a server may take to be ready, a crash recovery included
	readyProbe = 10 * time.Millisecond // how often it is asked whether it is
	closeWait  = 5 * time.Second       // how long it may take to end by itself when it is closed
	portTries  = 5
	logTail    = 2 << 10 // bytes of the log that an error shows
)

// Ports are taken from below the range that the kernel gives to outgoing
// connections: a client that keeps dialling a stopped server on a port of that
// range would sooner or later be given the port itself.
const firstPort, lastPort = 12000, 32000

// server is what Postgres and Redis have in common: a child process with a
// port and a folder of its own. Its methods may be called from any goroutine.
type server struct {
	name  string // Postgres or Redis
	dir   string
	owner *owner // nil: ourselves
	port  int
	spec  spec

	// current is the process started last; nil before the first start.
	current atomic.Pointer[process]
	mu      sync.Mutex // held by the one operation under way
	closed  bool
	release func() bool // takes the server from the context that it lives under
}

// spec is what tells Postgres and Redis apart.
type spec interface {
	// prepare writes what command needs, the port included.
	prepare() error
	command() *exec.Cmd
	// probe gives nil when the server takes queries, and an error that is a
	// fatal when it never will.
	probe(context.Context) error
	// orphaned ends the server when we die, closing when it is closed.
	orphaned() syscall.Signal
	closing() syscall.Signal
	// sweep takes away what a server that was killed leaves outside its folder.
	sweep()
}

// fatal is an error that asking again does not mend.
type fatal struct{ error }

// open makes the folder, starts the server in it for the first time, and ties
// it to ctx. When it gives an error, nothing is left.
func (s *server) open(ctx context.Context, dir string, install func(context.Context) error) (err error) {
	if s.owner, err = unprivileged(); err != nil {
		return err
	}
	if s.dir, err = s.owner.newFolder(dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := install(ctx); err != nil {
		return err
	}
	if err := s.startOnFreePort(ctx, freePort); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release = context.AfterFunc(ctx, func() { _ = s.Close() })
	return nil
}

// startOnFreePort starts the server on a port of pick's. Another process may
// take it first: then it picks again.
func (s *server) startOnFreePort(ctx context.Context, pick func() (int, error)) (err error) {
	for range portTries {
		if s.port, err = pick(); err != nil {
			return err
		}
		if err = s.Start(ctx); err == nil || portFree(s.port) {
			return err
		}
	}
	return err
}

// Start starts the server again, on the same port and with the data that it
// left, and waits until it takes queries, for as long as ctx lives and for a
// minute at most. A server that is running, or closed, is an error.
func (s *server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	return nil
}

func (s *server) start(ctx context.Context) error {
	if s.closed {
		return errors.New("it is closed")
	}
	if s.current.Load().running() {
		return errors.New("it is running")
	}
	if err := s.spec.prepare(); err != nil {
		return err
	}
	p, logged, err := s.launch(s.spec.command())
	if err != nil {
		return err
	}
	s.current.Store(p)
	if err := s.awaitReady(ctx, p); err != nil {
		return errors.Join(fmt.Errorf("%w%s", err, tail(s.LogPath(), logged)), p.kill())
	}
	return nil
}

// run runs a program to its end, or to the end of ctx.
func (s *server) run(ctx context.Context, cmd *exec.Cmd) error {
	p, logged, err := s.launch(cmd)
	if err != nil {
		return err
	}
	select {
	case <-p.gone:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.kill())
	}
	if !p.state.Success() {
		return fmt.Errorf("%s%s", p.state, tail(s.LogPath(), logged))
	}
	return nil
}

// launch starts a program of the server's in its folder, as its owner, and
// gives the size that the log had before.
func (s *server) launch(cmd *exec.Cmd) (p *process, logged int64, err error) {
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return nil, 0, err
	}
	cmd.Dir, cmd.Env = s.dir, cleanEnv()
	cmd.Stdout, cmd.Stderr = log, log
	p, err = launch(s.owner.of(cmd), s.spec.orphaned())
	return p, info.Size(), err
}

func (s *server) awaitReady(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("it is not ready after %s", readyWait))
	defer cancel()
	again := time.NewTicker(readyProbe)
	defer again.Stop()
	for {
		var never fatal
		if err := s.spec.probe(ctx); err == nil || errors.As(err, &never) {
			return err
		}
		select {
		case <-again.C:
		case <-p.gone:
			return fmt.Errorf("it ended before it was ready: %s", p.state)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stop ends the server with sig; one that is not running is stopped already.
func (s *server) stop(ctx context.Context, sig syscall.Signal) error {
	p := s.current.Load()
	if !p.running() {
		return nil
	}
	if err := p.stop(ctx, sig); err != nil {
		return fmt.Errorf("stop %s: %w%s", s.name, err, tail(s.LogPath(), 0))
	}
	return nil
}

// Kill ends the server and whatever it forked with SIGKILL, as a power cut
// does, and waits until they are gone. Start brings it back.
func (s *server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

func (s *server) kill() error {
	if p := s.current.Load(); p.running() {
		if err := p.kill(); err != nil {
			return fmt.Errorf("kill %s: %w", s.name, err)
		}
	}
	return nil
}

// Close stops the server at once, whatever else is being done with it, and
// removes its folder. It waits until both are gone; closing twice is closing
// once.
func (s *server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	if p := s.current.Load(); p.running() {
		_ = p.stop(ctx, s.spec.closing()) // what it leaves is killed below
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	err := s.kill()
	s.spec.sweep()
	if rm := os.RemoveAll(s.dir); rm != nil {
		err = errors.Join(err, fmt.Errorf("remove folder of %s: %w", s.name, rm))
	}
	s.closed = err == nil
	if s.closed && s.release != nil {
		s.release()
	}
	return err
}

// PID is the server's process id, or 0 when it is not running.
func (s *server) PID() int {
	if p := s.current.Load(); p.running() {
		return p.child.Pid
	}
	return 0
}

// Port is the TCP port on 127.0.0.1, the same for as long as the server lives.
func (s *server) Port() int { return s.port }

// Dir is the folder that holds all that the server writes. Close removes it.
func (s *server) Dir() string { return s.dir }

// LogPath is the file that the server's messages are appended to.
func (s *server) LogPath() string { return filepath.Join(s.dir, "log") }

func (s *server) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// tail gives the log's end for an error, from offset at the earliest.
func tail(path string, offset int64) string {
	log, err := os.ReadFile(path)
	if err != nil {
		return "; its log: " + err.Error()
	}
	log = bytes.TrimSpace(log[min(offset, int64(len(log))):])
	if len(log) == 0 {
		return "; its log is empty"
	}
	if len(log) > logTail {
		log = log[len(log)-logTail:]
		_, log, _ = bytes.Cut(log, []byte("\n"))
	}
	return "; its log ends with:\n" + string(log)
}

func freePort() (int, error) {
	for range 100 {
		if port := firstPort + rand.IntN(lastPort-firstPort); portFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: none of 100 tried between %d and %d", firstPort, lastPort)
}

func portFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}
