package sandbox

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// RedisConfig says how a private Redis is made. Its zero value is a good one.
type RedisConfig struct {
	// Bin is the server's program. Empty: $REDISBIN, or else redis-server or
	// valkey-server.
	Bin string
	// Dir is the folder that holds all that the server writes. It is created,
	// or empty, and Close removes it. Empty: a temporary one.
	Dir string
	// Args follow the configuration file on the command line and win over it:
	// "--maxmemory", "2mb". Without any, nothing is written to disk.
	//
	// https://redis.io/docs/latest/operate/oss_and_stack/management/config/
	Args []string
	// Password is asked for by the server; several that belong together have
	// the same. Empty: a random one.
	Password string
}

// Redis is a private Redis (or Valkey), with a random password, on the loopback
// interface and a Unix socket. It stops, and its folder goes, when it is closed
// or the context that it was started with ends; when we die, it stops. Its
// methods may be called from any goroutine.
type Redis struct {
	server
	bin      string
	args     []string
	password string
}

// StartRedis starts Redis on a free port and waits until it answers. An error
// tells what to install, or what the log ends with, and leaves nothing behind.
// When we are root the server runs as the user postgres or nobody.
func StartRedis(ctx context.Context, cfg RedisConfig) (*Redis, error) {
	bin, err := findRedis(cfg.Bin)
	if err != nil {
		return nil, err
	}
	r := &Redis{server: server{name: "Redis"}, bin: bin, args: cfg.Args, password: cmp.Or(cfg.Password, newPassword())}
	r.spec = r
	if err := r.open(ctx, cfg.Dir, func(context.Context) error { return nil }); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Redis) prepare() error {
	var conf strings.Builder
	for _, line := range [][2]string{
		{"bind", "127.0.0.1"},
		{"port", fmt.Sprint(r.port)},
		{"unixsocket", quoteRedis(r.socket())},
		{"unixsocketperm", "700"},
		{"requirepass", r.password},
		{"dir", quoteRedis(r.dir)},
		{"save", `""`},
		{"appendonly", "no"},
	} {
		fmt.Fprintln(&conf, line[0], line[1])
	}
	return r.owner.writeFile(r.conf(), conf.String())
}

// quoteRedis quotes a path for redis.conf.
func quoteRedis(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

func (r *Redis) command() *exec.Cmd {
	return exec.Command(r.bin, append([]string{r.conf()}, r.args...)...)
}

func (*Redis) orphaned() syscall.Signal { return syscall.SIGKILL }
func (*Redis) closing() syscall.Signal  { return syscall.SIGKILL }
func (*Redis) sweep()                   {}

// Stop asks the server to end, paused or not, and waits for it while ctx
// lives. Stopping a server that does not run does nothing.
func (r *Redis) Stop(ctx context.Context) error {
	if err := r.Resume(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stop(ctx, syscall.SIGTERM)
}

// Pause makes the server hang: it stays connected and answers nothing until
// Resume. One that does not run is left as it is.
func (r *Redis) Pause() error { return r.send(syscall.SIGSTOP) }

// Resume ends a Pause.
func (r *Redis) Resume() error { return r.send(syscall.SIGCONT) }

func (r *Redis) send(sig syscall.Signal) error {
	p := r.current.Load()
	if !p.running() {
		return nil
	}
	return p.signal(sig)
}

// URL is for a connection over TCP. It holds the password.
func (r *Redis) URL() string {
	return (&url.URL{Scheme: "redis", User: url.UserPassword("default", r.password), Host: r.address(), Path: "/0"}).String()
}

// SocketURL is for a connection over the Unix socket. It holds the password.
func (r *Redis) SocketURL() string {
	return (&url.URL{Scheme: "unix", User: url.UserPassword("default", r.password), Path: r.socket(), RawQuery: "db=0"}).String()
}

func (r *Redis) socket() string { return filepath.Join(r.dir, "redis.sock") }
func (r *Redis) conf() string   { return filepath.Join(r.dir, "redis.conf") }
