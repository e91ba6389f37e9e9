package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long anything may take that is waited for.
const patience = 30 * time.Minute

// daemon is a cdc-viewlet that runs.
type daemon struct {
	cmd   *exec.Cmd
	began time.Time
	ended chan struct{}

	mu   sync.Mutex
	said []line
	url  string
}

// line is what it wrote to its log, and when that was read.
type line struct {
	text string
	at   time.Time
}

// daemon starts the built daemon with these rules over one slot, and a template
// that they may name.
func (db *database) daemon(ctx context.Context, slot, rules string) (*daemon, error) {
	dir, err := os.MkdirTemp(db.dir, "rules-")
	if err != nil {
		return nil, err
	}
	rules = fmt.Sprintf("postgres {\n  slot = %q\n  publication = \"bench\"\n}\n", slot) + rules
	for name, text := range map[string]string{"rules.hcl": rules, "teaser.html": teaserTemplate} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	d := &daemon{cmd: exec.CommandContext(ctx, db.binary, "run", "-c", "rules.hcl", "--http", "127.0.0.1:0"), ended: make(chan struct{})}
	d.cmd.Dir = dir
	d.cmd.Env = append(os.Environ(), "DATABASE_URL="+db.url(), "REDIS_URL="+db.redis.URL())
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	d.began = time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go d.listen(stderr)
	return d, nil
}

// listen reads the log until the daemon ends.
func (d *daemon) listen(stderr io.Reader) {
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		d.mu.Lock()
		d.said = append(d.said, line{lines.Text(), time.Now()})
		if _, rest, found := strings.Cut(lines.Text(), `msg="serving HTTP" url=`); found {
			d.url = rest
		}
		d.mu.Unlock()
	}
	_ = d.cmd.Wait() // ProcessState tells how it ended
	close(d.ended)
}

// says waits until the log has the words, and gives when it had.
func (d *daemon) says(ctx context.Context, words string) (time.Time, error) {
	var at time.Time
	err := until(ctx, "the daemon says "+strconv.Quote(words), 5*time.Millisecond, func() (bool, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, l := range d.said {
			if strings.Contains(l.text, words) {
				at = l.at
				return true, nil
			}
		}
		return false, d.alive()
	})
	return at, err
}

// ready waits until every fragment is in Redis.
func (d *daemon) ready(ctx context.Context) (time.Time, error) {
	return d.says(ctx, "ready: every fragment is in Redis")
}

// alive is an error when the daemon has ended. The lock is held.
func (d *daemon) alive() error {
	select {
	case <-d.ended:
		var said strings.Builder
		for _, l := range d.said {
			said.WriteString("\n\t" + l.text)
		}
		return fmt.Errorf("the daemon has ended:%s", said.String())
	default:
		return nil
	}
}

// stop ends the daemon in order. It may have ended.
func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.ended
}

// metric sums the metric's lines that have all the words.
func (d *daemon) metric(ctx context.Context, name string, words ...string) (float64, error) {
	d.mu.Lock()
	url := d.url
	d.mu.Unlock()
	if url == "" {
		return 0, errors.New("the daemon serves no metrics yet")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept-Encoding", "identity") // packing it would cost more than all the rest
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	sum := 0.0
	lines := bufio.NewScanner(answer.Body)
next:
	for lines.Scan() {
		text, found := strings.CutPrefix(lines.Text(), "cdc_viewlet_"+name)
		if !found {
			continue
		}
		for _, w := range words {
			if !strings.Contains(text, w) {
				continue next
			}
		}
		value, err := strconv.ParseFloat(text[strings.LastIndexByte(text, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
		sum += value
	}
	return sum, lines.Err()
}

// rendered waits until so many fragments have been rendered and written, since
// the daemon began. It asks seldom: each answer costs the daemon about a
// millisecond of a core, which nobody takes from what it is compared with.
func (d *daemon) rendered(ctx context.Context, n float64) error {
	return until(ctx, fmt.Sprintf("%.0f fragments are rendered", n), 25*time.Millisecond, func() (bool, error) {
		got, err := d.metric(ctx, "renders_total")
		return got >= n, err
	})
}

// peakMiB is the most memory that the daemon has had, in MiB.
func (d *daemon) peakMiB() float64 {
	kib, _ := strconv.ParseFloat(strings.TrimSuffix(statusOf(d.cmd.Process.Pid, "VmHWM"), " kB"), 64)
	return kib / 1024
}

// cpu is the processor time of the daemon, once it has ended.
func (d *daemon) cpu() time.Duration {
	return d.cmd.ProcessState.UserTime() + d.cmd.ProcessState.SystemTime()
}

func statusOf(pid int, field string) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	for l := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(l, field+":"); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// onCPU is the processor time that a process has had; false when it is gone.
//
// https://docs.kernel.org/scheduler/sched-stats.html
func onCPU(pid int) (time.Duration, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0, false
	}
	ns, _, _ := strings.Cut(string(text), " ")
	n, err := strconv.ParseInt(ns, 10, 64)
	return time.Duration(n), err == nil
}

// until asks again and again until it holds.
func until(ctx context.Context, what string, every time.Duration, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}
