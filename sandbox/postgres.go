package sandbox

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// PostgresConfig says how a private Postgres is made. Its zero value is a good
// one.
type PostgresConfig struct {
	// BinDir is the folder of initdb and postgres. Empty: $PGBIN, or else the
	// newest Postgres installed.
	BinDir string
	// Dir is the folder that holds the cluster, its socket and its log. It is
	// created, or empty, and Close removes it. Empty: a temporary one.
	Dir string
	// InitArgs are added to initdb's, where the last of a kind wins. Without
	// any, the encoding is UTF8 and the locale C.
	InitArgs []string
	// StandbyOf makes the server a standby of that one, which must be running:
	// a copy of its data that follows its WAL, with its password and from its
	// BinDir. InitArgs mean nothing then. Where there is no pg_basebackup in
	// BinDir, that server is restarted for the copy.
	//
	// https://www.postgresql.org/docs/current/warm-standby.html
	StandbyOf *Postgres
	// Settings go into the configuration file, over those made here: logical
	// WAL, many slots and walsenders, and nothing that makes data survive a
	// power cut. ALTER SYSTEM goes over both.
	//
	// https://www.postgresql.org/docs/current/runtime-config.html
	Settings map[string]string
}

// Postgres is a private Postgres: its superuser is postgres, without a password
// on its socket, which only we and root reach, and with a random one over TCP,
// on the loopback interface. It stops, and its folder goes, when it is closed
// or the context that it was started with ends; when we die, it stops. Its
// methods may be called from any goroutine.
type Postgres struct {
	server
	bin      string
	version  string
	password string
	settings map[string]string // guarded by server.mu
}

// StartPostgres makes a cluster, starts Postgres on a free port and waits until
// it takes queries: a second or two. An error tells what to install, or what
// the log ends with, and leaves nothing behind. When we are root the server
// runs as the user postgres or nobody.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if cfg.StandbyOf != nil {
		cfg.BinDir = cfg.StandbyOf.bin
	}
	bin, err := findPostgres(ctx, cfg.BinDir, postgresFolders())
	if err != nil {
		return nil, err
	}
	p := &Postgres{
		server:   server{name: "Postgres"},
		bin:      bin,
		password: newPassword(),
		settings: maps.Clone(cfg.Settings),
	}
	p.spec = p
	if p.version, err = postgresVersion(ctx, bin); err != nil {
		return nil, err
	}
	install := func(ctx context.Context) error { return p.initdb(ctx, cfg.InitArgs) }
	if cfg.StandbyOf != nil {
		p.password = cfg.StandbyOf.password
		install = func(ctx context.Context) error { return p.copy(ctx, cfg.StandbyOf) }
	}
	err = p.open(ctx, cfg.Dir, install)
	if err != nil {
		return nil, err
	}
	return p, nil
}

var versionNumber = regexp.MustCompile(`\) (\d+\S*)`)

func postgresVersion(ctx context.Context, bin string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").CombinedOutput()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w; it says %q", filepath.Join(bin, "postgres"), err, out)
	}
	found := versionNumber.FindSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("ask %s for its version: it says %q", filepath.Join(bin, "postgres"), out)
	}
	return string(found[1]), nil
}

// initdb makes the cluster.
//
// https://www.postgresql.org/docs/current/app-initdb.html
func (p *Postgres) initdb(ctx context.Context, args []string) error {
	if err := p.owner.reaches(p.bin); err != nil {
		return fmt.Errorf("run initdb: %w; set PGBIN to a folder that it can", err)
	}
	password := filepath.Join(p.dir, "password")
	if err := p.owner.writeFile(password, p.password+"\n"); err != nil {
		return fmt.Errorf("run initdb: %w", err)
	}
	defer os.Remove(password)
	cmd := exec.Command(filepath.Join(p.bin, "initdb"), slices.Concat([]string{
		"--pgdata=" + p.dataDir(), "--no-sync",
		"--username=postgres", "--pwfile=" + password, "--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8", "--locale=C",
	}, args)...)
	if err := p.run(ctx, cmd); err != nil {
		return fmt.Errorf("run initdb: %w", err)
	}
	return p.include()
}

// copy makes the cluster a copy of the primary's that follows its WAL.
//
// https://www.postgresql.org/docs/current/app-pgbasebackup.html
func (p *Postgres) copy(ctx context.Context, primary *Postgres) error {
	program := filepath.Join(p.bin, "pg_basebackup")
	if _, err := exec.LookPath(program); err != nil {
		return p.copyStopped(ctx, primary)
	}
	if err := p.owner.reaches(p.bin); err != nil {
		return fmt.Errorf("run pg_basebackup: %w; set PGBIN to a folder that it can", err)
	}
	cmd := exec.Command(program,
		"--pgdata="+p.dataDir(), "--no-sync", "--checkpoint=fast", "--write-recovery-conf", "--dbname="+primary.SocketURL())
	if err := p.run(ctx, cmd); err != nil {
		return fmt.Errorf("run pg_basebackup: %w", err)
	}
	return nil
}

// copyStopped is copy for a Postgres of which there is only the server itself.
//
// https://www.postgresql.org/docs/current/warm-standby.html#STANDBY-SERVER-SETUP
func (p *Postgres) copyStopped(ctx context.Context, primary *Postgres) error {
	if err := primary.Stop(ctx, Fast); err != nil {
		return err
	}
	if err := p.run(ctx, exec.Command("cp", "-R", "-p", primary.dataDir(), p.dataDir())); err != nil {
		return fmt.Errorf("copy %s: %w", primary.dataDir(), err)
	}
	if err := primary.Start(ctx); err != nil {
		return err
	}
	follow := fmt.Sprintf("primary_conninfo = 'host=%s port=%d user=postgres dbname=postgres'\n", primary.dir, primary.port)
	if err := p.owner.writeFile(filepath.Join(p.dataDir(), "postgresql.auto.conf"), follow); err != nil {
		return fmt.Errorf("configure Postgres: %w", err)
	}
	return p.owner.writeFile(filepath.Join(p.dataDir(), "standby.signal"), "")
}

// include makes the cluster read the file that prepare writes.
func (p *Postgres) include() error {
	conf, err := os.OpenFile(filepath.Join(p.dataDir(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("configure Postgres: %w", err)
	}
	_, err = conf.WriteString("\ninclude = '" + settingsFile + "'\n")
	if closed := conf.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("configure Postgres: %w", err)
	}
	return nil
}

const settingsFile = "sandbox.conf"

// prepare writes the settings, which may have changed since the last start.
func (p *Postgres) prepare() error {
	settings := map[string]string{
		"listen_addresses":           "127.0.0.1",
		"port":                       strconv.Itoa(p.port),
		"unix_socket_directories":    p.dir,
		"wal_level":                  "logical",
		"max_wal_senders":            "50",
		"max_replication_slots":      "50",
		"max_connections":            "200",
		"fsync":                      "off",
		"full_page_writes":           "off",
		"dynamic_shared_memory_type": "mmap", // in the folder, so that a killed server leaves nothing in /dev/shm
		"log_line_prefix":            "%m [%p] ",
		"timezone":                   "UTC",
		"log_timezone":               "UTC",
	}
	maps.Copy(settings, p.settings)
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return p.owner.writeFile(filepath.Join(p.dataDir(), settingsFile), conf.String())
}

func (p *Postgres) command() *exec.Cmd {
	return exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.dataDir())
}

// Postgres's signals: SIGINT is a fast shutdown, SIGQUIT an immediate one.
//
// https://www.postgresql.org/docs/current/server-shutdown.html
func (*Postgres) orphaned() syscall.Signal { return syscall.SIGQUIT }
func (*Postgres) closing() syscall.Signal  { return syscall.SIGQUIT }

// StopMode is how Postgres is asked to stop.
type StopMode int

const (
	// Fast rolls back what is open, sends walsenders' clients the rest of the
	// WAL, and writes a checkpoint.
	Fast StopMode = iota
	// Immediate stops without a checkpoint: the next start recovers from the
	// WAL, as after a crash.
	Immediate
)

// Stop stops the server and waits for it while ctx lives. Stopping a server
// that does not run does nothing. A fast stop waits for walsenders' clients,
// for up to wal_sender_timeout where one does not answer.
func (p *Postgres) Stop(ctx context.Context, mode StopMode) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if mode == Immediate {
		return p.stop(ctx, syscall.SIGQUIT)
	}
	return p.stop(ctx, syscall.SIGINT)
}

// Restart stops the server fast and starts it with these settings over those
// that it has. They stay for later starts, even if this one fails.
func (p *Postgres) Restart(ctx context.Context, settings map[string]string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.stop(ctx, syscall.SIGINT); err != nil {
		return err
	}
	merged := maps.Clone(p.settings)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, settings)
	p.settings = merged
	if err := p.start(ctx); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	return nil
}

// Run runs another of Postgres's programs on the cluster, such as pg_resetwal,
// and waits for it while ctx lives. It says fs.ErrNotExist of one that the
// server came without.
func (p *Postgres) Run(ctx context.Context, program string, args ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	path := filepath.Join(p.bin, program)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	if err := p.run(ctx, exec.Command(path, append([]string{"-D", p.dataDir()}, args...)...)); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	return nil
}

// sweep removes the System V segment by which a postmaster knows its cluster
// in use. One that is killed leaves it, and only the next start would find it.
//
// https://www.postgresql.org/docs/current/kernel-resources.html#SYSVIPC
func (p *Postgres) sweep() {
	pidFile, err := os.ReadFile(filepath.Join(p.dataDir(), "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(pidFile), "\n")
	const segment = 6 // the line of its key and id
	if len(lines) <= segment {
		return
	}
	if ids := strings.Fields(lines[segment]); len(ids) == 2 {
		_ = exec.Command("ipcrm", "-m", ids[1]).Run() // a few bytes stay when the program is missing
	}
}

// URL is for a superuser's connection over TCP to the database postgres. It
// holds the password.
func (p *Postgres) URL() string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", p.password), Host: p.address(), Path: "/postgres",
		RawQuery: "sslmode=disable",
	}).String()
}

// SocketURL is for the same over the Unix socket.
func (p *Postgres) SocketURL() string {
	return (&url.URL{
		Scheme: "postgres", User: url.User("postgres"), Path: "/postgres",
		RawQuery: url.Values{"host": {p.dir}, "port": {strconv.Itoa(p.port)}}.Encode(),
	}).String()
}

// Version is the server's version, such as 15.14 or 18beta1.
func (p *Postgres) Version() string { return p.version }

// Major is the server's major version, such as 15.
func (p *Postgres) Major() int { return majorIn(p.version) }

func (p *Postgres) dataDir() string { return filepath.Join(p.dir, "data") }
