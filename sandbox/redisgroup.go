package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// RedisGroup is several private Redis servers that belong together: a primary
// with a replica and the Sentinel that watches them, or a Redis Cluster. All
// have one password.
type RedisGroup struct {
	Servers []*Redis
	url     *url.URL
}

// URL is for a connection to the whole. It holds the password.
func (g *RedisGroup) URL() string { return g.url.String() }

// Close closes all servers.
func (g *RedisGroup) Close() error {
	var errs []error
	for _, r := range g.Servers {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// start adds a server.
func (g *RedisGroup) start(ctx context.Context, password string, args ...string) (*Redis, error) {
	r, err := StartRedis(ctx, RedisConfig{Password: password, Args: append([]string{"--masterauth", password}, args...)})
	if err == nil {
		g.Servers = append(g.Servers, r)
	}
	return r, err
}

// StartRedisSentinel starts a primary, its replica, which has caught up, and a
// Sentinel, in this order. The Sentinel calls the primary mymaster, and
// promotes the replica about a second after the primary is gone.
//
// https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
func StartRedisSentinel(ctx context.Context) (*RedisGroup, error) {
	password := newPassword()
	g := &RedisGroup{}
	err := func() error {
		primary, err := g.start(ctx, password, "--repl-diskless-sync-delay", "0")
		if err != nil {
			return err
		}
		replica, err := g.start(ctx, password, "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", strconv.Itoa(primary.Port()))
		if err != nil {
			return err
		}
		if err := replica.until(ctx, "master_link_status:up", "INFO", "replication"); err != nil {
			return err
		}
		watcher, err := StartRedis(ctx, RedisConfig{Password: password, Args: []string{"--sentinel"}})
		if err != nil {
			return err
		}
		g.Servers = append(g.Servers, watcher)
		for _, command := range [][]string{
			{"MONITOR", "mymaster", "127.0.0.1", strconv.Itoa(primary.Port()), "1"},
			{"SET", "mymaster", "auth-pass", password},
			{"SET", "mymaster", "down-after-milliseconds", "500"},
			{"SET", "mymaster", "failover-timeout", "3000"},
		} {
			if _, err := watcher.Do(ctx, append([]string{"SENTINEL"}, command...)...); err != nil {
				return err
			}
		}
		g.url = &url.URL{
			Scheme: "redis+sentinel", User: url.UserPassword("default", password), Host: watcher.address(), Path: "/mymaster/0",
			RawQuery: url.Values{"sentinel_username": {"default"}, "sentinel_password": {password}}.Encode(),
		}
		return watcher.until(ctx, "slaves=1", "INFO", "sentinel")
	}()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start Redis with a Sentinel: %w", err), g.Close())
	}
	return g, nil
}

// clusterSlots is how many slots a Redis Cluster has.
const clusterSlots = 16384

// StartRedisCluster starts a Redis Cluster of so many primaries, which share
// the slots evenly, and waits until it takes writes.
//
// https://redis.io/docs/latest/operate/oss_and_stack/management/scaling/
func StartRedisCluster(ctx context.Context, primaries int) (*RedisGroup, error) {
	password := newPassword()
	g := &RedisGroup{}
	err := func() error {
		var buses []string // a port of each for the others; by default one that outgoing connections may have
		for i := range primaries {
			bus, err := freePort()
			if err != nil {
				return err
			}
			buses = append(buses, strconv.Itoa(bus))
			r, err := g.start(ctx, password, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", buses[i])
			if err != nil {
				return err
			}
			first, last := i*clusterSlots/primaries, (i+1)*clusterSlots/primaries-1
			if _, err := r.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)); err != nil {
				return err
			}
			if _, err := r.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
				return err
			}
			if _, err := r.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(g.Servers[0].Port()), buses[0]); err != nil {
				return err
			}
		}
		for _, r := range g.Servers {
			if err := r.until(ctx, "cluster_state:ok", "CLUSTER", "INFO"); err != nil {
				return err
			}
		}
		var hosts []string
		for _, r := range g.Servers {
			hosts = append(hosts, r.address())
		}
		g.url = &url.URL{Scheme: "redis+cluster", User: url.UserPassword("default", password), Host: strings.Join(hosts, ",")}
		return nil
	}()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a Redis Cluster: %w", err), g.Close())
	}
	return g, nil
}

// until asks until the answer has the words.
func (r *Redis) until(ctx context.Context, words string, command ...string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	again := time.NewTicker(readyProbe)
	defer again.Stop()
	for {
		said, err := r.Do(ctx, command...)
		if err == nil && strings.Contains(said, words) {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%s does not come to %s: %q, %v", strings.Join(command, " "), words, said, err)
		}
	}
}

// Do sends a command, whose words have no spaces, and gives its answer, if that
// is a text or a number.
//
// https://redis.io/docs/latest/develop/reference/protocol-spec/#inline-commands
func (r *Redis) Do(ctx context.Context, command ...string) (string, error) {
	conn, err := dialSocket(ctx, r.socket())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	answer, err := converse(conn, "AUTH "+r.password, strings.Join(command, " "))
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return answer, nil
}

// converse sends lines and gives the answer to the last.
func converse(conn net.Conn, lines ...string) (answer string, err error) {
	replies := bufio.NewReader(conn)
	for _, line := range lines {
		if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
			return "", err
		}
		if answer, err = readReply(replies); err != nil {
			return "", err
		}
	}
	return answer, nil
}

func readReply(replies *bufio.Reader) (string, error) {
	line, err := replies.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("the answer is an empty line")
	}
	switch line[0] {
	case '-':
		return "", errors.New(line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return "", err
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(replies, text)
		return string(text[:n]), err
	}
	return line[1:], nil
}
