package cache

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

const secret = "s3cr3t"

// wantProblem sees that err says all of the words, on one line, and not the
// secret.
func wantProblem(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("no %q in: %v", w, err)
		}
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
		t.Errorf("it shows the password, or has lines: %v", err)
	}
}

func TestURLMistakes(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                             "REDIS_URL",
		"127.0.0.1:6379":                               "redis://user:password@host:6379/0",
		"localhost:6379":                               "no scheme",
		"user:s3cr3t@localhost":                        "no scheme",
		"http://u:s3cr3t@localhost":                    `"http"`,
		"redis+ring://u:s3cr3t@localhost":              "rediss://",
		"redis+cluster://u:s3cr3t@":                    "host:port,host:port",
		"redis+cluster://u:s3cr3t@a:1,,b:2":            "host:port,host:port",
		"redis+cluster://u:s3cr3t@a:1,b:x":             "host:port,host:port",
		"redis+cluster://u:s3cr3t@a:1,b:2/3":           "database 0",
		"redis+cluster://u:12/s3cr3t@a:1,b:2":          "%2F",
		"redis+cluster://u:12#s3cr3t@a:1,b:2":          "%23",
		"redis+cluster://u:12?s3cr3t@a:1,b:2":          "%3F",
		"redis+cluster://u:%zzs3cr3t@a:1,b:2":          "percent-encoded",
		"redis+sentinel://u:s3cr3t@a:1,b:2":            "/mymaster",
		"redis+sentinel://u:s3cr3t@a:1/m/shop":         "number of a database",
		"redis+sentinel://a/m?sentinel_pasword=s3cr3t": "sentinel_pasword",
		"redis://u:s3cr3t#x@localhost":                 "%23",
		"redis://u:12#s3cr3t@localhost":                "percent-encoded",
		"redis://u:12/s3cr3t@localhost":                "%2F",
		"redis://u:12?s3cr3t@localhost":                "%3F",
		"redis://u:12@s3cr3t/x@localhost":              "%40",
		"redis://u:%zzs3cr3t@localhost":                "percent-encoded",
		"redis://u:s3cr3t@localhost:port":              "malformed",
		"redis://u:s3cr3t@localhost/shop":              "number of a database",
		"redis://u:s3cr3t@localhost/-1":                "number of a database",
		"redis://u:s3cr3t@localhost?passwort=1":        "passwort",
		"redis://u:s3cr3t@localhost?read_timeout=soon": "read_timeout",
		"redis:///0":                                   "no host",
		"unix://run/redis.sock":                        "three slashes",
		"unix://u:s3cr3t@":                             "no path",
	} {
		_, err := Open(t.Context(), Config{URL: raw})
		if err == nil {
			t.Errorf("%q is accepted", raw)
			continue
		}
		wantProblem(t, err, want)
	}
}

func TestURLForms(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://:p%23%2F%3F%40@localhost":                "tcp localhost:6379 0  p#/?@",
		"redis://app:pw@redis.example:7000/3":             "tcp redis.example:7000 3 app pw",
		"rediss://[::1]/1":                                "tcp [::1]:6379 1  ",
		"unix:///run/redis@1.sock?db=2":                   "unix /run/redis@1.sock 2  ",
		"unix://app:pw@/run/redis.sock":                   "unix /run/redis.sock 0 app pw",
		"redis://h/?read_timeout=3s&max_retries=1":        "tcp h:6379 0  ",
		"rediss://app:p%C3%A4ss@h:1/0?skip_verify=true":   "tcp h:1 0 app päss",
		"redis://app:p%25w@h:1/0?client_name=cdc-viewlet": "tcp h:1 0 app p%w",
	} {
		o, err := parseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if o.kind != single {
			t.Errorf("%s: it is taken for more than one", raw)
		}
		if got := fmt.Sprintf("%s %s %d %s %s", o.Network, o.Addr, o.DB, o.Username, o.Password); got != want {
			t.Errorf("%s: got %q, want %q", raw, got, want)
		}
		if tls := o.TLSConfig != nil; tls != strings.HasPrefix(raw, "rediss") {
			t.Errorf("%s: TLS %v", raw, tls)
		}
	}
}

func TestURLFormsOfMany(t *testing.T) {
	for raw, want := range map[string]string{
		"redis+sentinel://app:p%2Fw@a:1,b/mymaster/3":               "1 mymaster of a:1,b:26379 3 app p/w  ",
		"redis+sentinel://a/my%20master?sentinel_password=x%26y":    "1 my master of a:26379 0    x&y",
		"rediss+sentinel://a,[::1]:7/m?sentinel_username=u&db=2":    "1 m of a:26379,[::1]:7 2   u ",
		"redis+cluster://app:pw@a:1,b,c:3":                          "2 a:1,b:6379,c:3 0 app pw  ",
		"rediss+cluster://:pw@a/0?skip_verify=true&read_timeout=3s": "2 a:6379 0  pw  ",
	} {
		p, err := parseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		got := fmt.Sprintf("%d %s %d %s %s %s %s", p.kind, p, p.DB, p.Username, p.Password, p.sentinelUser, p.sentinelPassword)
		if got != want {
			t.Errorf("%s: got %q, want %q", raw, got, want)
		}
		if tls := p.TLSConfig != nil; tls != strings.HasPrefix(raw, "rediss") || tls && p.TLSConfig.ServerName != "" {
			t.Errorf("%s: TLS %+v", raw, p.TLSConfig)
		}
	}
}

func TestUnreachable(t *testing.T) {
	port := freePort(t)
	file := filepath.Join(t.TempDir(), "none.sock")
	for raw, want := range map[string]string{
		fmt.Sprintf("redis://u:s3cr3t@127.0.0.1:%d", port): "start Redis there",
		"unix://u:s3cr3t@" + file:                          "no such socket",
		"redis://u:s3cr3t@nowhere.invalid":                 "correct the host",

		fmt.Sprintf("redis+sentinel://u:s3cr3t@127.0.0.1:%d/m", port): "start a Sentinel there",
		fmt.Sprintf("redis+cluster://u:s3cr3t@127.0.0.1:%d", port):    "start Redis there",
	} {
		_, err := Open(t.Context(), Config{URL: raw, Timeout: 5 * time.Second})
		wantProblem(t, err, want)
		var p *Problem
		if !errors.As(err, &p) || p.Remedy == "" || p.Addr == "" {
			t.Errorf("%v is no Problem with a remedy", err)
		}
	}
}

// A server that takes connections and says nothing costs no more than the
// timeout, and the caller's own haste is not Redis's fault.
func TestSilentServer(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	url := "redis://u:s3cr3t@" + l.Addr().String()
	start := time.Now()
	_, err := Open(t.Context(), Config{URL: url, Timeout: 200 * time.Millisecond})
	wantProblem(t, err, "did not answer within 200ms")
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var p *Problem
	if _, err = Open(ctx, Config{URL: url}); !errors.Is(err, context.Canceled) || errors.As(err, &p) {
		t.Errorf("got %v, want just context.Canceled", err)
	}
}

func TestRefusals(t *testing.T) {
	one := []viewlet.Fragment{fragment(t, "v:1", 1, "x")}
	t.Run("full", func(t *testing.T) {
		s := startServer(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
		c := s.open(t, Config{})
		wantProblem(t, c.Ping(t.Context()), "OOM", "raise maxmemory", "noeviction")
		_, err := c.Store(t.Context(), one, Options{})
		wantProblem(t, err, "store v:1: redis "+s.sock, "raise maxmemory")
		// Nothing of it is there, so that the next try writes and announces.
		s.raw.ConfigSet(t.Context(), "maxmemory", "0")
		if err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if got := store(t, c, one[0], Options{}); got != Written {
			t.Errorf("got %#v after", got)
		}
	})
	t.Run("replica", func(t *testing.T) {
		s := startServer(t, "--replicaof", "127.0.0.1", fmt.Sprint(freePort(t)))
		c := s.open(t, Config{})
		wantProblem(t, c.Ping(t.Context()), "READONLY", "primary")
		_, err := c.Store(t.Context(), one, Options{})
		wantProblem(t, err, "primary")
	})
	t.Run("database", func(t *testing.T) {
		s := startServer(t)
		_, err := Open(t.Context(), Config{URL: s.url() + "?db=99"})
		wantProblem(t, err, "databases setting")
	})
	t.Run("loading", func(t *testing.T) {
		c := &Cache{addr: "h:1"}
		wantProblem(t, c.problem(errors.New("LOADING Redis is loading the dataset in memory")), "wait")
	})
}

func TestUsers(t *testing.T) {
	s := startServer(t)
	for _, user := range [][]any{
		{"ACL", "SETUSER", "narrow", "on", ">" + secret, "~viewlet:*", "&viewlet:*", "+@read", "+eval", "+evalsha"},
		{"ACL", "SETUSER", "default", "resetpass", ">" + secret},
	} {
		if err := s.raw.Do(t.Context(), user...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	at := func(user, password string) string { return "unix://" + user + ":" + password + "@" + s.sock }
	for _, u := range []struct{ url, want string }{
		{s.url(), "give a password"},
		{"unix://" + secret + "@" + s.sock, "give a password"}, // its colon is missing
		{at("", "wrong"), "correct the user or the password"},
		{at("nobody", secret), "correct the user or the password"},
	} {
		_, err := Open(t.Context(), Config{URL: u.url})
		wantProblem(t, err, "open cache: redis "+s.sock, u.want)
	}
	full := s.open(t, Config{URL: at("", secret)})
	if err := full.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	narrow := s.open(t, Config{URL: at("narrow", secret)})
	wantProblem(t, narrow.Ping(t.Context()), "ACL SETUSER cdc-viewlet on >PASSWORD ~viewlet:* &viewlet:* +eval")
	_, err := Open(t.Context(), Config{URL: at("narrow", secret), Prefix: "other:"})
	wantProblem(t, err, "~other:*")
}

// The rights that the remedy names are enough for everything.
func TestRights(t *testing.T) {
	s := startServer(t)
	for i, prefix := range []string{"viewlet:", "[app]*:"} {
		user := fmt.Sprintf("user%d", i)
		line := strings.TrimPrefix((&Cache{names: names{prefix}}).grant(), "ACL SETUSER cdc-viewlet on >PASSWORD ")
		args := []any{"ACL", "SETUSER", user, "on", ">" + secret}
		for _, word := range strings.Fields(line) {
			args = append(args, word)
		}
		if err := s.raw.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		everything(t, s.open(t, Config{URL: "unix://" + user + ":" + secret + "@" + s.sock + "?db=1", Prefix: prefix}))
	}
	if log := must(s.raw.Do(t.Context(), "ACL", "LOG").Slice())(t); len(log) != 0 {
		t.Errorf("Redis refused something: %v", log)
	}
}

// everything calls each method once.
func everything(t *testing.T, c *Cache) {
	t.Helper()
	ctx := t.Context()
	news := must(c.Subscribe(ctx))(t)
	one, all := key(t, "v:1"), keys(t, "v:1")
	must(c.Store(ctx, []viewlet.Fragment{{Key: key(t, "v:2"), Err: errors.New("broken")}, fragment(t, "v:1", 1, "a")}, Options{}))(t)
	for a := range news {
		if a.Viewlet == "v" {
			break
		}
	}
	must(c.Store(ctx, []viewlet.Fragment{fragment(t, "v:2", 1, "b")}, Options{TTL: time.Minute}))(t)
	must(c.Store(ctx, []viewlet.Fragment{fragment(t, "v:2", 1, "b")}, Options{}))(t)
	must(c.Store(ctx, []viewlet.Fragment{fragment(t, "v:2", 1, "b")}, Options{TTL: time.Minute}))(t)
	must(c.Store(ctx, []viewlet.Fragment{fragment(t, "v:2", 1, "-")}, Options{}))(t)
	must(c.Keep(ctx, all, 1))(t)
	must(c.Stale(ctx, all, 1))(t)
	failures(t, c)
	must(c.Faults(ctx, []string{"v:1"}))(t)
	must(c.Absent(ctx, all))(t)
	must(c.Mend(ctx, must(c.Held(ctx, all))(t), []viewlet.Fragment{fragment(t, "v:1", 1, "a")}, Options{TTL: time.Minute}))(t)
	must(c.Reached(ctx))(t)
	allKeys(t, c, "v")
	if body, found, err := c.Get(ctx, one); err != nil || !found || string(body) != "a" {
		t.Errorf("got %q, %v, %v", body, found, err)
	}
	for verb, err := range map[string]error{
		"ping":             c.Ping(ctx),
		"carry":            c.Carry(ctx, []viewlet.Fragment{fragment(t, "v:1", 1, "a")}),
		"sweep":            c.Sweep(ctx, "v", func([]viewlet.Key, []string) error { return nil }),
		"walk":             c.Walk(ctx, "v", func([]string) error { return nil }),
		"delete orphans":   c.DeleteOrphans(ctx, []string{c.RedisKey(one)}),
		"save state":       c.SaveState(ctx, State{System: "1"}),
		"save fingerprint": c.SaveFingerprint(ctx, "v", "x"),
		"drop fingerprint": c.DropFingerprint(ctx, "v"),
		"fail":             c.Fail(ctx, "v", errors.New("broken")),
		"unfail":           c.Unfail(ctx, "v"),
		"fail again":       c.FailAgain(ctx, []viewlet.Fragment{broken(t, "v:2", 1)}),
		"forgive":          c.Forgive(ctx, all),
		"forget guards":    c.ForgetGuards(ctx),
	} {
		if err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
	must(c.SaveLSN(ctx, 1))(t)
	must(c.State(ctx))(t)
	must(c.Due(ctx, "v", time.Now(), nil))(t)
	must(c.Take(ctx))(t)
}

func TestTLS(t *testing.T) {
	cert, keyFile := selfSigned(t)
	port := freePort(t)
	if !hasTLS(t) {
		t.Skip("this redis-server was built without TLS")
	}
	s := startServer(t, "--tls-port", fmt.Sprint(port), "--bind", "127.0.0.1", "--tls-cert-file", cert,
		"--tls-key-file", keyFile, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	url := fmt.Sprintf("rediss://127.0.0.1:%d", port)
	_, err := Open(t.Context(), Config{URL: url})
	wantProblem(t, err, "SSL_CERT_FILE", "skip_verify=true")
	c := s.open(t, Config{URL: url + "?skip_verify=true"})
	if got := store(t, c, fragment(t, "v:1", 1, "x"), Options{}); got != Written {
		t.Errorf("got %#v", got)
	}
	_, err = Open(t.Context(), Config{URL: fmt.Sprintf("redis://127.0.0.1:%d", port)})
	wantProblem(t, err, "see whether it wants TLS")
	plain := freePort(t)
	startServer(t, "--port", fmt.Sprint(plain), "--bind", "127.0.0.1")
	_, err = Open(t.Context(), Config{URL: fmt.Sprintf("rediss://127.0.0.1:%d", plain), Timeout: 500 * time.Millisecond})
	wantProblem(t, err, "whether it speaks TLS")
}

func hasTLS(t *testing.T) bool {
	t.Helper()
	s := startServer(t)
	return s.raw.ConfigGet(t.Context(), "tls-port").Val()["tls-port"] != ""
}

// selfSigned gives the files of a certificate that nobody trusts.
func selfSigned(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private))(t)
	pkcs := must(x509.MarshalPKCS8PrivateKey(private))(t)
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs)
}
