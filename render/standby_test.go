package render

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// words is a log that tests look into.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *words) count(s string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.text.String(), s)
}

const (
	takenIn  = "rendering from the standby\""
	takenOut = "not rendering from the standby"
)

// pair is a primary and a standby that is rendered from.
type pair struct {
	*site
	primary, standby *sandbox.Postgres
	replica          *pgx.Conn
	log              *words
}

func startServer(t testing.TB, cfg sandbox.PostgresConfig) *sandbox.Postgres {
	t.Helper()
	p, err := sandbox.StartPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

const whereRules = `
viewlet "v" {
  params = ["id"]
  query  = "SELECT n, pg_is_in_recovery() AS standby FROM t WHERE id = @id"
  all    = "SELECT id FROM t"
  body   = "{{.n}} {{.standby}}"
}`

func newPair(t testing.TB, lag time.Duration) *pair {
	t.Helper()
	p := &pair{log: &words{}}
	p.primary = startServer(t, sandbox.PostgresConfig{})
	p.site = &site{TB: t, url: p.primary.URL()}
	p.admin = p.dial(p.url)
	p.exec("CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t SELECT i, 'old' FROM generate_series(1, 3000) i")
	p.standby = startServer(t, sandbox.PostgresConfig{StandbyOf: p.primary})
	p.admin = p.dial(p.url) // the primary may have been restarted for the copy
	p.replica = p.dial(p.standby.URL())
	p.load(whereRules)
	p.use(p.standby.URL(), lag)
	p.eventually("the standby is taken in", func() bool { return p.log.count(takenIn) == 1 })
	return p
}

// use renders from the standby behind the URL for as long as the test runs.
func (p *pair) use(url string, lag time.Duration) {
	p.Helper()
	logger := slog.New(slog.NewTextHandler(p.log, nil))
	if err := p.db.UseStandby(p.Context(), StandbyConfig{Config: Config{URL: url}, Lag: lag, Log: logger}); err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.db.Run(ctx) }()
	p.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.Error(err)
		}
	})
}

func (p *pair) eventually(what string, holds func() bool) {
	p.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-again.C {
		if time.Now().After(deadline) {
			p.Fatalf("wait until %s: it does not happen; the log says\n%s", what, p.log.text.String())
		}
	}
}

func (p *pair) onStandby(sql string) {
	p.Helper()
	if _, err := p.replica.Exec(p.Context(), sql); err != nil {
		p.Fatalf("%s: %v", sql, err)
	}
}

// body renders v:1 as a pass does: a look, and then the query.
func (p *pair) body() string {
	p.Helper()
	snap, err := p.r.Snapshot(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	fragments, err := p.r.Render(p.Context(), "v", []viewlet.Key{viewlet.NewKey("v", "1")})
	if err != nil || fragments[0].Err != nil {
		p.Fatal(err, fragments)
	}
	if fragments[0].LSN < snap.LSN {
		p.Errorf("the fragment's LSN is %v, and what it serves was at %v", fragments[0].LSN, snap.LSN)
	}
	if alone := p.r.db.standby == nil; alone != (fragments[0].Seen != nil) {
		p.Errorf("%q has seen %+v: that the next query sees as much is known of the primary alone", fragments[0].Body, fragments[0].Seen)
	}
	return string(fragments[0].Body)
}

func (p *pair) want(want string) {
	p.Helper()
	if got := p.body(); got != want {
		p.Errorf("v:1 is %q, want %q", got, want)
	}
}

// keys counts those of all of v.
func (p *pair) keys() (n int) {
	p.Helper()
	err := p.r.Expand(p.Context(), "v", viewlet.Whole, nil, func(keys []viewlet.Key) error { n += len(keys); return nil })
	if err != nil {
		p.Fatal(err)
	}
	return n
}

// What a look has seen on the primary is rendered from the standby once that
// has replayed it.
func TestStandbyServesWhatItHasReplayed(t *testing.T) {
	p := newPair(t, time.Minute)
	p.want("old true")
	for _, name := range []string{"a", "b", "c", "d"} {
		p.exec("UPDATE t SET n = $1 WHERE id = 1", name)
		p.want(name + " true")
	}
	p.onStandby("SELECT pg_wal_replay_pause()")
	p.exec("UPDATE t SET n = 'late' WHERE id = 1")
	rendered := make(chan string)
	go func() { rendered <- p.body() }()
	p.eventually("somebody waits for the standby", func() bool {
		s := p.db.standby
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.wanted > s.at
	})
	p.onStandby("SELECT pg_wal_replay_resume()")
	if got := <-rendered; got != "late true" {
		t.Errorf("v:1 is %q, want what was committed before the look, and from the standby", got)
	}
	if keys := p.keys(); keys != 3000 {
		t.Errorf("the standby names %d keys, want 3000", keys)
	}
}

// A standby that falls behind is left to itself, and taken in again when it has
// caught up; each is said once.
func TestStandbyFallsBehind(t *testing.T) {
	p := newPair(t, 400*time.Millisecond)
	p.onStandby("SELECT pg_wal_replay_pause()")
	p.exec("UPDATE t SET n = 'new' WHERE id = 1")
	p.want("new false")
	p.want("new false")
	p.exec("UPDATE t SET n = 'newer' WHERE id = 1")
	p.want("newer false")
	p.onStandby("SELECT pg_wal_replay_resume()")
	p.eventually("it is taken in again", func() bool { return p.log.count(takenIn) == 2 })
	p.want("newer true")
	if n := p.log.count(takenOut); n != 1 {
		t.Errorf("said %d times that it was taken out, want once", n)
	}
}

// A standby that stands before what was seen is never rendered from, though it
// serves: so it is with one that begins anew at an older place.
func TestStandbyGoesBack(t *testing.T) {
	p := newPair(t, time.Minute)
	p.want("old true")
	p.onStandby("SELECT pg_wal_replay_pause()")
	p.exec("UPDATE t SET n = 'new' WHERE id = 1; INSERT INTO t VALUES (3001, 'new')")
	at, err := p.db.place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.db.standby.raise(at.lsn)
	fragments, err := p.r.Render(t.Context(), "v", []viewlet.Key{viewlet.NewKey("v", "1")})
	if err != nil || string(fragments[0].Body) != "new false" {
		t.Errorf("v:1 is %q, %v, want it from the primary", fragments[0].Body, err)
	}
	if keys := p.keys(); keys != 3001 {
		t.Errorf("there are %d keys, want 3001, as the primary has", keys)
	}
	p.onStandby("SELECT pg_wal_replay_resume()")
}

// A standby that stops, that starts again, and that is promoted.
func TestStandbyStopsAndIsPromoted(t *testing.T) {
	p := newPair(t, 2*time.Second)
	if err := p.standby.Stop(t.Context(), sandbox.Immediate); err != nil {
		t.Fatal(err)
	}
	p.exec("UPDATE t SET n = 'alone' WHERE id = 1")
	p.want("alone false")
	if err := p.standby.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.eventually("it is taken in again", func() bool { return p.log.count(takenIn) == 2 })
	p.want("alone true")

	replica := p.dial(p.standby.URL())
	if _, err := replica.Exec(t.Context(), "SELECT pg_promote()"); err != nil {
		t.Fatal(err)
	}
	if _, err := replica.Exec(t.Context(), "UPDATE t SET n = 'of another history' WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	p.want("alone false")
	p.eventually("it is told why", func() bool { return p.log.count(errPromoted.Error()) == 1 })
	if n := p.log.count(takenOut); n != 2 {
		t.Errorf("said %d times that it was taken out, want twice", n)
	}
	if err := p.db.CheckStandby(t.Context()); err == nil || errors.Is(err, ErrAnotherCluster) {
		t.Errorf("CheckStandby = %v, want another timeline", err)
	}
}

// Changes come from a primary of another history, that of a standby that was
// promoted: what copies the old one is not rendered from, whoever else answers.
func TestStandbyOfOldPrimary(t *testing.T) {
	p := newPair(t, time.Second)
	is, err := p.db.identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.db.Follow(is.system, 2)
	p.eventually("it is told why", func() bool { return p.log.count("it is on timeline 1, and the primary on 2") == 1 })
	p.db.Follow(is.system, 1)
	p.eventually("it is taken in again", func() bool { return p.log.count(takenIn) == 2 })
	p.want("old true")
}

// What compares with the truth asks the primary, whatever renders else.
func TestOnPrimary(t *testing.T) {
	p := newPair(t, time.Minute)
	p.want("old true")
	p.r = p.r.OnPrimary()
	p.want("old false")
	if keys := p.keys(); keys != 3000 {
		t.Errorf("the primary names %d keys, want 3000", keys)
	}
}

// Another cluster's server is refused, standby or not; and so is the primary.
func TestNoStandbyOfThisPrimary(t *testing.T) {
	s := newSite(t, "CREATE TABLE t (id int PRIMARY KEY, n text)")
	s.load(whereRules)
	cfg := StandbyConfig{Config: Config{URL: startServer(t, sandbox.PostgresConfig{}).URL()}, Lag: time.Second, Log: slog.New(slog.DiscardHandler)}
	if err := s.db.UseStandby(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.db.CheckStandby(t.Context()); !errors.Is(err, ErrAnotherCluster) {
		t.Errorf("CheckStandby = %v, want %v", err, ErrAnotherCluster)
	}
	s.db.standby.pool.Close()
	cfg.URL = s.url
	if err := s.db.UseStandby(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.db.CheckStandby(t.Context()); !errors.Is(err, errPromoted) {
		t.Errorf("CheckStandby = %v, want %v", err, errPromoted)
	}
}
