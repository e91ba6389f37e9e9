package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// scale is how much is measured.
type scale struct {
	quick bool
	runs  int
}

// house is a Postgres, a Redis and a built daemon, for all rows.
type house struct {
	scale
	dir      string
	binary   string
	postgres *sandbox.Postgres
	redis    *sandbox.Redis
	rdb      *redis.Client // over TCP, as the daemon has it
}

// open starts the servers and builds the daemon.
func open(ctx context.Context, s scale) (h *house, err error) {
	if s.runs == 0 {
		s.runs = 5
		if s.quick {
			s.runs = 2
		}
	}
	h = &house{scale: s}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if h.dir, err = os.MkdirTemp("", "cdc-viewlet-bench-"); err != nil {
		return h, err
	}
	h.binary = filepath.Join(h.dir, "cdc-viewlet")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", h.binary, "github.com/cdc-viewlet/cdc-viewlet/cmd/cdc-viewlet").CombinedOutput(); err != nil {
		return h, fmt.Errorf("build the daemon: %w\n%s", err, out)
	}
	h.postgres, err = sandbox.StartPostgres(ctx, sandbox.PostgresConfig{Settings: map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off",
	}})
	if err != nil {
		return h, err
	}
	if h.redis, err = sandbox.StartRedis(ctx, sandbox.RedisConfig{}); err != nil {
		return h, err
	}
	options, err := redis.ParseURL(h.redis.URL())
	if err != nil {
		return h, err
	}
	options.ReadTimeout = time.Minute // to forget millions of fragments takes seconds
	h.rdb = redis.NewClient(options)
	return h, nil
}

// close stops everything. What it could report is that something is gone.
func (h *house) close() {
	if h.rdb != nil {
		_ = h.rdb.Close()
	}
	if h.redis != nil {
		_ = h.redis.Close()
	}
	if h.postgres != nil {
		_ = h.postgres.Close()
	}
	_ = os.RemoveAll(h.dir)
}

// of is a size, or with --quick a tenth of it.
func (s scale) of(full int) int {
	if s.quick {
		return full / 10
	}
	return full
}

// machine says where the figures come from.
func (h *house) machine() string {
	model := "an unnamed processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, found := strings.CutPrefix(line, "model name"); found {
				model = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	load := ""
	if average, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = ", load " + strings.Fields(string(average))[0]
	}
	return fmt.Sprintf("%d cores of %s, %s/%s, %s, Postgres %s%s",
		runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version(), h.postgres.Version(), load)
}

// alternate runs the two by turns, so that neither has the quieter hour.
func (h *house) alternate(ours, theirs func() (float64, error)) (a, b []float64, err error) {
	for range h.runs {
		first, err := ours()
		if err != nil {
			return a, b, fmt.Errorf("ours: %w", err)
		}
		second, err := theirs()
		if err != nil {
			return a, b, fmt.Errorf("theirs: %w", err)
		}
		a, b = append(a, first), append(b, second)
	}
	return a, b, nil
}

// database is a row's own.
type database struct {
	*house
	name string
	pool *pgxpool.Pool // over the socket
}

// in gives a row an empty database and an empty Redis, and takes both away.
func (h *house) in(ctx context.Context, name string, do func(*database) error) (err error) {
	admin, err := pgx.Connect(ctx, h.postgres.SocketURL())
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	db := &database{house: h, name: name}
	defer func() { err = errors.Join(err, db.drop(context.WithoutCancel(ctx), admin)) }()
	if db.pool, err = pgxpool.New(ctx, withDatabase(h.postgres.SocketURL(), name)+connections); err != nil {
		return err
	}
	if err := h.rdb.FlushAll(ctx).Err(); err != nil {
		return err
	}
	return do(db)
}

// connections is how many a pool may have: those who write, those who refresh,
// and one who watches.
const connections = "&pool_max_conns=16"

func (db *database) drop(ctx context.Context, admin *pgx.Conn) error {
	if db.pool != nil {
		db.pool.Close()
	}
	if _, err := admin.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1", db.name); err != nil {
		return err
	}
	_, err := admin.Exec(ctx, "DROP DATABASE "+db.name+" WITH (FORCE)")
	return err
}

// url is for whoever is measured: over TCP.
func (db *database) url() string { return withDatabase(db.postgres.URL(), db.name) }

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(err) // sandbox made it
	}
	u.Path = "/" + name
	return u.String()
}

// exec runs statements.
func (db *database) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := db.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// client gives the path of one of Postgres's client programs; empty where
// there is none.
func client(name string) string {
	if bin := os.Getenv("PGBIN"); bin != "" {
		if path, err := exec.LookPath(filepath.Join(bin, name)); err == nil {
			return path
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		return found[len(found)-1]
	}
	path, _ := exec.LookPath(name)
	return path
}
