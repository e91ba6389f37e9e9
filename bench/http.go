package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// overHTTP asks for fragments over HTTP.
func overHTTP(ctx context.Context, h *house) (results []result, err error) {
	err = h.withShop(ctx, "http", h.of(10_000), 100, func(s *shop) error {
		body, err := s.rdb.Get(ctx, "viewlet:teaser:1").Bytes()
		if err != nil {
			return err
		}
		ours := func() (float64, error) { return h.hits(ctx, s.daemon.url+"/viewlet/teaser/1") }
		res := result{what: "hits", unit: "krequests/s", with: "nginx, which is not installed", aim: "stated"}
		if page, stop, err := h.nginx(ctx, body); err != nil {
			return err
		} else if page == "" {
			for range h.runs {
				rate, err := ours()
				if err != nil {
					return err
				}
				res.ours = append(res.ours, rate)
			}
		} else {
			defer stop()
			res.with = "nginx and a file of the same size"
			if res.ours, res.theirs, err = h.alternate(ours, func() (float64, error) { return h.hits(ctx, page) }); err != nil {
				return err
			}
		}
		missed, err := s.missed(ctx, 1000)
		results = []result{res, {what: "misses", unit: "renders", ours: []float64{missed}, with: "1,000 clients that miss the same fragment", aim: "1"}}
		return err
	})
	return results, err
}

// hits is how many thousand answers a second 32 clients get.
func (h *house) hits(ctx context.Context, url string) (float64, error) {
	const clients = 32
	lasting := 3 * time.Second
	if h.quick {
		lasting = time.Second
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	var answers atomic.Int64
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range clients {
		g.Go(func() error {
			for time.Since(began) < lasting {
				if err := get(ctx, client, url); err != nil {
					return err
				}
				answers.Add(1)
			}
			return nil
		})
	}
	err := g.Wait()
	return float64(answers.Load()) / time.Since(began).Seconds() / 1000, err
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, answer.Status)
	}
	return nil
}

// missed takes a fragment away, lets so many clients ask for it at once, and
// gives how often it was rendered.
func (s *shop) missed(ctx context.Context, clients int) (float64, error) {
	before, err := s.daemon.metric(ctx, "http_renders_total")
	if err != nil {
		return 0, err
	}
	if err := s.rdb.Del(ctx, "viewlet:teaser:2").Err(); err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	g, asking := errgroup.WithContext(ctx)
	var ready sync.WaitGroup
	ready.Add(clients)
	for range clients {
		g.Go(func() error {
			ready.Done()
			ready.Wait()
			return get(asking, client, s.daemon.url+"/viewlet/teaser/2")
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	after, err := s.daemon.metric(ctx, "http_renders_total")
	return after - before, err
}

// nginx serves a page, where it is installed; else the URL is empty.
func (h *house) nginx(ctx context.Context, body []byte) (url string, stop func(), err error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		return "", func() {}, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := listener.Addr().String()
	_ = listener.Close()
	dir := filepath.Join(h.dir, "nginx")
	conf := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; worker_processes auto;
events { worker_connections 1024; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=10;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen %[2]s; root %[1]s; }
}
`, dir, address)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	// Its workers run as another user when we are root.
	if err := os.Chmod(h.dir, 0o755); err != nil {
		return "", nil, err
	}
	for name, text := range map[string][]byte{"nginx.conf": []byte(conf), "page.html": body} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", nil, err
		}
	}
	cmd := exec.CommandContext(ctx, program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }
	url = "http://" + address + "/page.html"
	err = until(ctx, "nginx answers", 20*time.Millisecond, func() (bool, error) { return get(ctx, http.DefaultClient, url) == nil, nil })
	if err != nil {
		stop()
	}
	return url, stop, err
}
