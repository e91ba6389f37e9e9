package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// Two daemons in one process share nothing: each follows its own database to
// its own keys, and goes on when the other one ends.
func TestTwoInOneProcess(t *testing.T) {
	postgres, err := sandbox.StartPostgres(t.Context(), sandbox.PostgresConfig{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := sandbox.StartRedis(t.Context(), sandbox.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()

	a, b := startDaemon(t, postgres, server, client, "a"), startDaemon(t, postgres, server, client, "b")
	a.awaits(t, "1", "a is 1")
	b.awaits(t, "1", "b is 1")
	a.writes(t, "UPDATE t SET n = 2; INSERT INTO t VALUES (2, 2)")
	a.awaits(t, "2", "a is 2")
	b.awaits(t, "1", "b is 1")
	b.writes(t, "UPDATE t SET n = 3")
	b.awaits(t, "1", "b is 3")
	a.stop(t)
	b.writes(t, "UPDATE t SET n = 4; DELETE FROM t WHERE id = 2")
	a.writes(t, "UPDATE t SET n = 9")
	b.awaits(t, "1", "b is 4")
	b.stop(t)
	a.awaits(t, "1", "a is 2")
	for key, want := range map[string]int64{"a:v:1": 1, "a:v:2": 1, "b:v:1": 1, "b:v:2": 0} {
		if got := client.Exists(t.Context(), key).Val(); got != want {
			t.Errorf("there are %d of %s, want %d", got, key, want)
		}
	}
}

// inProcess is a daemon that runs in this process, with a database and a
// prefix of its own.
type inProcess struct {
	name   string
	sql    *pgx.Conn
	client *redis.Client
	end    context.CancelFunc
	ended  chan int // its exit code
	stderr *lines
}

func startDaemon(t *testing.T, postgres *sandbox.Postgres, server *sandbox.Redis, client *redis.Client, name string) *inProcess {
	t.Helper()
	home, err := url.Parse(postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	d := &inProcess{name: name, client: client, ended: make(chan int, 1), stderr: &lines{}}
	d.sql = connect(t, home.String())
	d.writes(t, "CREATE DATABASE "+name)
	home.Path = "/" + name
	d.sql = connect(t, home.String())
	d.writes(t, "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)")
	file := filepath.Join(t.TempDir(), "rules.hcl")
	rules := fmt.Sprintf(`
		postgres {
		  slot        = "slot_of_%[1]s"
		  publication = "%[1]s"
		}
		redis {
		  prefix = "%[1]s:"
		}
		viewlet "v" {
		  params = ["id"]
		  query  = "SELECT n FROM t WHERE id = @id"
		  all    = "SELECT id FROM t"
		  body   = "%[1]s is {{.n}}"
		}
		table "t" {
		  refresh = v(id)
		}`, name)
	if err := os.WriteFile(file, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	d.end = end
	go func() {
		d.ended <- execute(ctx, []string{"run", "-c", file, "--postgres", home.String(), "--redis", server.URL(), "--http", "127.0.0.1:0"}, d.stderr, d.stderr)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, d.stderr.String())
		}
	})
	return d
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (d *inProcess) writes(t *testing.T, sql string) {
	t.Helper()
	if _, err := d.sql.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// awaits waits until the daemon's fragment of v is what is wanted.
func (d *inProcess) awaits(t *testing.T, id, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		got, err := d.client.Get(ctx, d.name+":v:"+id).Result()
		if err == nil && got == want {
			return
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatalf("wait until %s:v:%s is %q: %v", d.name, id, want, err)
		}
		<-again.C
	}
}

func (d *inProcess) stop(t *testing.T) {
	t.Helper()
	d.end()
	if code := <-d.ended; code != 0 {
		t.Errorf("%s ended with %d", d.name, code)
	}
}

// lines keeps what a daemon says.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
