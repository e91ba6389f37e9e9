package replication

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPasswordsAreNotShown: whatever the URL, and whatever is wrong with it.
func TestPasswordsAreNotShown(t *testing.T) {
	free := freePort(t)
	for _, url := range []string{
		"postgres://shop:s3cret@127.0.0.1:%d/shop",
		"postgres://shop:s3cret@127.0.0.1:%d/shop?sslmode=verify-full&sslrootcert=/nowhere.pem",
		"postgres://shop:s3cret@127.0.0.1:notaport/shop",
		"postgres://shop:x@s3cret@127.0.0.1:%d/shop",
		"postgres://shop:x/s3cret@127.0.0.1:%d/shop",
		"postgres://shop:12/s3cret@127.0.0.1:%d/shop",
		"postgres://shop:x?s3cret@127.0.0.1:%d/shop",
		"postgres://shop:x#s3cret@127.0.0.1:%d/shop",
		"postgres://shop:s3cret",
		"postgres://shop:s3cret%%zz@127.0.0.1:%d/shop",
		"postgres://shop:%%733cret@127.0.0.1:%d/shop?connect_timeout=s3cret",
		"postgres://shop@127.0.0.1:%d/shop?password=s3cret&sslmode=odd",
		"postgres://shop@127.0.0.1:%d/shop?sslmode=odd&password=s3cret%%zz",
		"mysql://shop:s3cret@127.0.0.1:%d/shop",
		"s3cret://shop:s3cret@127.0.0.1/shop",
		"shop:s3cret@127.0.0.1:%d/shop",
		"host=127.0.0.1 port=%d user=shop password=s3cret sslmode=odd",
		"host=127.0.0.1 port=%d user=shop password=my s3cret",
		"host=127.0.0.1 port=%d user=shop password = 'my s3cret",
	} {
		if strings.Contains(url, "%") {
			url = fmt.Sprintf(strings.ReplaceAll(url, "%d", "%[1]d"), free)
		}
		log := newLog()
		cfg := Config{URL: url, Log: log.logger()}
		_, errOpen := Open(t.Context(), cfg)
		_, errSetup := Setup(t.Context(), cfg, nil)
		_, errSlot := SlotStatus(t.Context(), cfg)
		for _, err := range []error{errOpen, errSetup, errSlot, Preflight(t.Context(), cfg, nil), Teardown(t.Context(), cfg)} {
			if err == nil {
				t.Errorf("%s gives no error", url)
			} else if shown := err.Error(); strings.Contains(strings.ToLower(shown), "s3cret") && !strings.HasPrefix(url, "s3cret") || strings.Contains(shown, "\n") {
				t.Errorf("%s gives %q", url, shown)
			}
		}
		if log.count("s3cret") > 0 {
			t.Errorf("%s is in the log", url)
		}
	}
}

// TestURLMistakes: what is wrong is said where it can be.
func TestURLMistakes(t *testing.T) {
	for url, want := range map[string]string{
		"mysql://shop@localhost/shop":                    "its scheme is mysql: write postgres://",
		"postgres://shop:p@ss@localhost/shop":            "%40",
		"postgres://shop:p/ss@localhost/shop":            "%2F",
		"postgres://shop:pw@localhost/shop?sslmode=odd":  "sslmode",
		"postgres://shop:pis@localhost/shop?sslmode=odd": "sslmode is invalid",
		"postgres://shop:pw@localhost:0/shop":            "invalid port",
		"postgres://shop:pw@a,b,c/shop?port=1,2":         "2 port numbers",
		"postgres://u:w@localhost/?sslrootcert=/not.pem": "/not.pem",
	} {
		if _, err := parse(url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse(%s) = %v, want it to say %q", url, err, want)
		}
	}
	for _, url := range []string{
		"postgres://shop:p%40ss%2F@localhost/shop",
		"postgresql://shop@a:1,b:2/shop?target_session_attrs=read-write",
		"postgres:///shop?host=/tmp&user=me@tenant",
		"host=/tmp dbname=shop password='p@ss/w:rd'",
		"postgres://[::1]:5432/shop",
		"",
	} {
		if _, err := parse(url); err != nil {
			t.Errorf("parse(%s) = %v", url, err)
		}
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestNoTLS: that a server has no TLS is told where TLS is asked for, and not
// where it would only be preferred.
func TestNoTLS(t *testing.T) {
	url := strings.Replace(shared.url("there_is_no_such_database"), "sslmode=disable", "sslmode=", 1)
	for mode, want := range map[string]bool{"prefer": false, "require": true} {
		_, err := Connect(t.Context(), Config{URL: strings.Replace(url, "sslmode=", "sslmode="+mode, 1)})
		if err == nil || strings.Contains(err.Error(), "refused TLS") != want || strings.Contains(err.Error(), "does not exist") == want {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// TestTLS: the stream survives the read timeouts of an idle TLS connection, and
// what is larger than a TLS record.
func TestTLS(t *testing.T) {
	cert, key := selfSigned(t)
	proxy := newTLSProxy(t, cert, key, fmt.Sprintf("127.0.0.1:%d", shared.port))
	db := shared.database(t)
	db.sql.exec("CREATE TABLE v (id int PRIMARY KEY, body text)")
	cfg := db.cfg("sslmode", "require", "sslnegotiation", "direct")
	db.publish(t, db.cfg(), "v")
	cfg.URL = strings.Replace(cfg.URL, fmt.Sprintf("127.0.0.1:%d", db.port), proxy, 1)
	s := open(t, cfg, newRecorder())
	for i, size := range []int{10, 20_000, 2 * frameBuffer} {
		db.sql.exec("SELECT pg_sleep(0.3)") // several read timeouts
		db.sql.exec(fmt.Sprintf("INSERT INTO v VALUES (%d, repeat('x', %d))", i, size))
		s.want(t, "begin", fmt.Sprintf("insert public.v new id=%d body=%s", i, strings.Repeat("x", size)), "commit")
	}
	s.stop(t)
}

// newTLSProxy ends TLS before a server that has none.
func newTLSProxy(t testing.TB, cert, key []byte, target string) (addr string) {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"postgresql"}})
	if err != nil {
		t.Fatal(err)
	}
	return serveProxy(t, l, target, disguise{}).addr
}

func selfSigned(t testing.TB) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func TestUnixSocket(t *testing.T) {
	db := shared.database(t)
	cfg := db.cfg()
	cfg.URL = fmt.Sprintf("postgres:///%s?host=%s&port=%d&user=postgres", db.name, filepath.Dir(db.data), db.port)
	if _, err := Setup(t.Context(), cfg, nil); err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
