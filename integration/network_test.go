package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is the way from the daemon to one server, which can be cut, slowed
// down and held up in each direction.
type network struct{ proxy *toxiproxy.Proxy }

// direction is one of the two, as toxiproxy names them.
type direction string

const (
	toServer direction = "upstream"
	toDaemon direction = "downstream"
)

// newNetwork gives a way to the server that the URL names, and the URL of its
// near end.
func newNetwork(t testing.TB, server string) (*network, string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	zerolog.SetGlobalLevel(zerolog.Disabled) // its toxics log by themselves
	house := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &network{}
	for tries := 0; ; tries++ {
		// Below the range of outgoing connections, of which one could take the
		// port while the network is cut.
		port := 32001 + rand.IntN(700)
		n.proxy = toxiproxy.NewProxy(house, u.Scheme, fmt.Sprintf("127.0.0.1:%d", port), u.Host)
		if err := n.proxy.Start(); err == nil {
			break
		} else if tries == 50 {
			t.Fatal(err)
		}
	}
	t.Cleanup(n.proxy.Stop)
	u.Host = n.proxy.Listen
	return n, u.String()
}

// hold keeps what goes in a direction until it is released, and then lets all
// of it go on in order.
func (n *network) hold(t testing.TB, d direction) (release func()) {
	t.Helper()
	return n.toxic(t, d, `"type": "latency", "attributes": {"latency": 3600000}`)
}

// lose takes what goes in a direction and passes nothing on, as a firewall does
// that forgot the connection. When it is mended those connections end.
func (n *network) lose(t testing.TB, d direction) (mend func()) {
	t.Helper()
	return n.toxic(t, d, `"type": "timeout", "attributes": {"timeout": 0}`)
}

// swallow is to lose both directions.
func (n *network) swallow(t testing.TB) (mend func()) {
	t.Helper()
	there, back := n.lose(t, toServer), n.lose(t, toDaemon)
	return func() { there(); back() }
}

// delay makes every packet of a direction late, by up to twice 40 ms.
func (n *network) delay(t testing.TB, d direction) (mend func()) {
	t.Helper()
	return n.toxic(t, d, `"type": "latency", "attributes": {"latency": 40, "jitter": 40}`)
}

// throttle lets 64 KB a second through.
func (n *network) throttle(t testing.TB, d direction) (mend func()) {
	t.Helper()
	return n.toxic(t, d, `"type": "bandwidth", "attributes": {"rate": 64}`)
}

// breakOff resets every connection once a little more has gone through it.
func (n *network) breakOff(t testing.TB, d direction) (mend func()) {
	t.Helper()
	return n.toxic(t, d, `"type": "limit_data", "attributes": {"bytes": 2000}`)
}

func (n *network) toxic(t testing.TB, d direction, what string) (mend func()) {
	t.Helper()
	added, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(`{"stream": "` + string(d) + `", ` + what + `}`))
	if err != nil {
		t.Fatal(err)
	}
	mend = sync.OnceFunc(func() {
		if err := n.proxy.Toxics.RemoveToxic(context.Background(), added.Name); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(mend)
	return mend
}

// cut ends all connections and refuses new ones, until it is mended.
func (n *network) cut(t testing.TB) (mend func()) {
	t.Helper()
	n.proxy.Stop()
	mend = sync.OnceFunc(func() {
		if err := n.proxy.Start(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(mend)
	return mend
}
