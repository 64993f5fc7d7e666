package pair_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

func listener(t *testing.T, name string) *pair.Listener {
	t.Helper()
	i := slices.IndexFunc(pair.Listeners, func(l pair.Listener) bool { return l.Name == name })
	if i < 0 {
		t.Fatalf("no listener %s", name)
	}
	return &pair.Listeners[i]
}

// What Envoy takes for the client's address, by the listener's trust in x-forwarded-for.
func TestRemoteAddress(t *testing.T) {
	peer := netip.MustParseAddr("127.0.0.2")
	for _, c := range []struct {
		listener, forwarded, want string
	}{
		{"base", "", "127.0.0.2"},
		{"base", "10.0.0.1", "10.0.0.1"},
		{"base", "10.0.0.1, 10.0.0.2", "10.0.0.2"},
		{"base", "10.0.0.1, unknown", "127.0.0.2"},
		{"base", "10.0.0.1:80", "127.0.0.2"},
		{"hops", "10.0.0.1, 10.0.0.2", "10.0.0.1"},
		{"hops", "10.0.0.1", "127.0.0.2"},
		{"merge", "10.0.0.1", "127.0.0.2"},
		{"decode", "10.0.0.1, 10.0.0.2", "10.0.0.2"},
	} {
		r := &pair.Request{HTTP: true, Method: "GET", Target: "/"}
		if c.forwarded != "" {
			r.Lines = []pair.Line{{Name: "X-Forwarded-For", Value: c.forwarded}}
		}
		view, ok := r.View(&pair.Conn{Listener: listener(t, c.listener), Source: peer, Destination: peer}, 80)
		if got := view.RemoteIP.String(); !ok || got != c.want {
			t.Errorf("%s %q: %s, want %s", c.listener, c.forwarded, got, c.want)
		}
	}
}

func TestView(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	proxied := netip.MustParseAddrPort("[2001:db8::1]:443")
	c := &pair.Conn{Listener: listener(t, "decode"), Source: loopback, Destination: loopback, ProxySource: proxied, ProxyDestination: proxied}
	r := &pair.Request{HTTP: true, Method: "GET", Target: "/a%2f../b?c#d", Host: "H", Principal: "spiffe://x", Lines: []pair.Line{{"X-A", "1"}, {"x-b", ""}, {"x-a", "2"}}}
	view, ok := r.View(c, 80)
	if !ok || view.Path != "/b?c" || view.Authority != "H" || view.SourceIP != proxied.Addr() || view.DirectRemoteIP != loopback || view.Destination != proxied {
		t.Errorf("%+v", view)
	}
	for i, want := range []string{"1", "2"} {
		if got, ok := view.Headers.Header("x-a", i); !ok || got != want {
			t.Errorf("x-a %d: %q, %v", i, got, ok)
		}
	}
	if _, ok := view.Headers.Header("x-a", 2); ok {
		t.Error("a third x-a")
	}
	if v, ok := view.FilterState.FilterState(authz.PeerPrincipal); !ok || v != "spiffe://x" {
		t.Errorf("principal %q", v)
	}
	r.Target = "/%00"
	if _, ok := r.View(c, 80); ok {
		t.Error("an escaped NUL can be normalised")
	}
}

func TestWire(t *testing.T) {
	r := &pair.Request{HTTP: true, Method: "get", Target: "*", Host: "h", Lines: []pair.Line{{"X-A", "\xff"}}}
	const want = "get * HTTP/1.1\r\nhost: h\r\nx-set: 3\r\nX-A: \xff\r\n\r\n"
	if got := string(r.AppendWire(nil, "3")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
