package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// toldSQL makes a table like products whose trigger tells of each change.
var toldSQL = []string{
	"CREATE TABLE told (LIKE products INCLUDING ALL) WITH (fillfactor = 50)",
	"INSERT INTO told SELECT * FROM products",
	"VACUUM ANALYZE told",
	`CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify('stale', NEW.id::text); RETURN NULL; END $$`,
	"CREATE TRIGGER tell AFTER UPDATE ON told FOR EACH ROW EXECUTE FUNCTION tell()",
}

// listenerCommand has this program listen, instead of measure: as the daemon
// is, what it is compared with is a process of its own.
const listenerCommand = "listen"

// listener is such a process, started.
type listener struct{ cmd *exec.Cmd }

// listener starts one, and waits until it listens.
func (db *database) listener(ctx context.Context) (*listener, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &listener{cmd: exec.CommandContext(ctx, self, listenerCommand)}
	l.cmd.Env = append(os.Environ(), "DATABASE_URL="+db.url(), "REDIS_URL="+db.redis.URL())
	l.cmd.Stderr = os.Stderr
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	if said, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		l.stop()
		return nil, fmt.Errorf("start a listener: it says %q: %w", said, err)
	}
	return l, nil
}

func (l *listener) stop() {
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
	_ = l.cmd.Wait() // how it ends tells nothing
}

// listen refreshes what the trigger tells of, until ctx ends.
func listen(ctx context.Context, _ []string) error {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		return err
	}
	rdb := redis.NewClient(options)
	defer rdb.Close()
	r, err := newRefresher(ctx, os.Getenv("DATABASE_URL"), rdb, "told")
	if err != nil {
		return err
	}
	defer r.close()
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN stale"); err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		told, err := conn.WaitForNotification(ctx)
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		id, err := strconv.Atoi(told.Payload)
		if err != nil {
			return fmt.Errorf("read notification %q: %w", told.Payload, err)
		}
		if err := r.refresh(ctx, id); err != nil {
			return err
		}
	}
}
