package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// A thousand visitors that miss the same fragment at once cost one render,
// whether or not it was there a moment ago, and for each way to keep fragments.
func TestManyMissOneRender(t *testing.T) {
	t.Parallel()
	const visitors = 1000
	for keep, rules := range map[string]string{
		"all":       smallRules,
		"requested": strings.Replace(smallRules, "all      =", "keep = \"requested\"\n  all =", 1),
	} {
		t.Run(keep, func(t *testing.T) {
			t.Parallel()
			s := smallSite(t, startPostgres(t))
			writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": rules})
			p := s.run(t, "--http", "127.0.0.1:0")
			url := urlOf(t, p)
			renders := func() float64 { return metric(t, url+"/metrics", `cdc_viewlet_http_renders_total{viewlet="v"}`) }
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: visitors}}
			defer client.CloseIdleConnections()
			get(t, url+"/viewlet/v/7")
			for round := range 5 {
				before := renders()
				if err := s.redis.client.Del(t.Context(), "viewlet:v:7").Err(); err != nil {
					t.Fatal(err)
				}
				var ready sync.WaitGroup
				ready.Add(visitors)
				g, ctx := errgroup.WithContext(t.Context())
				for range visitors {
					g.Go(func() error {
						ready.Done()
						ready.Wait()
						return visit(ctx, client, url+"/viewlet/v/7", "one n7")
					})
				}
				if err := g.Wait(); err != nil {
					t.Fatal(err)
				}
				if n := renders() - before; n != 1 {
					t.Errorf("in round %d %v were rendered for %d visitors", round, n, visitors)
				}
				s.awaits(t, "v:7", "one n7")
			}
			p.stop(t)
		})
	}
}

// visit wants the page to be there, and to say so.
// A visitor misses a fragment, and while the query runs that it is rendered from, its
// row changes. The lane leaves the key alone, for nothing is in Redis of it. What the
// visitor's query saw must not stay.
func TestMissOvertakenByChange(t *testing.T) {
	t.Parallel()
	const slow = `(SELECT pg_advisory_xact_lock_shared(7)) IS NOT NULL`
	s := smallSite(t, startPostgres(t))
	writeFiles(t, s.dir, map[string]string{"rules/rules.hcl": strings.NewReplacer(
		"all      =", "keep = \"requested\"\n  derive = false\n  all =", "WHERE id = @id", "WHERE id = @id AND "+slow,
	).Replace(smallRules)})
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	conn, err := pgx.Connect(t.Context(), s.db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for round := range 3 {
		if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(7)"); err != nil {
			t.Fatal(err)
		}
		visited := make(chan struct{})
		go func() {
			defer close(visited)
			if answer, err := http.Get(url + "/viewlet/v/7"); err == nil {
				_ = answer.Body.Close()
			}
		}()
		eventually(t, "the visitor's query waits", func() bool {
			return ask[bool](t, s.db, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
		})
		psql(t, s.db, fmt.Sprintf("UPDATE t SET n = 'new %d' WHERE id = 7", round))
		quiet(t, s.db)
		if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_unlock(7)"); err != nil {
			t.Fatal(err)
		}
		<-visited
		s.awaits(t, "v:7", fmt.Sprintf("one new %d", round))
		if err := s.redis.client.Del(t.Context(), "viewlet:v:7").Err(); err != nil {
			t.Fatal(err)
		}
	}
	p.stop(t)
}

func visit(ctx context.Context, client *http.Client, url, want string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || string(body) != want) {
		err = fmt.Errorf("get %s: %s: %q, want %q", url, answer.Status, body, want)
	}
	return err
}
