//go:build envoy

package subject_test

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/backend"
	"github.com/gowaypoint/gowaypoint/e2e/bench/load"
	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
)

// Every subject must answer in the same way before it is worth measuring: GET 200, POST 403 in Envoy's words, a large body whole.
func TestEnvoyAnswers(t *testing.T) { answersAll(t, subject.Envoy("")) }

func TestNetHTTPAnswers(t *testing.T) {
	answersAll(t, subject.NetHTTP(built(t, "e2e", "./bench/cmd/nethttp")))
}

func TestWaypointAnswers(t *testing.T) {
	answersAll(t, subject.Waypoint(built(t, ".", "./cmd/waypoint")))
}

func answersAll(t *testing.T, s subject.Subject) {
	for name, policy := range map[string]mesh.Policy{"method": {}, "principal": {Principal: true}, "hundred": {Count: 100, Principal: true}} {
		t.Run(name, func(t *testing.T) { answers(t, s, policy) })
	}
}

func answers(t *testing.T, s subject.Subject, policy mesh.Policy) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ca, err := mesh.NewCA()
	must(t, err)
	issue := func(account string) *mesh.Identity {
		id, err := ca.Issue("default", account)
		must(t, err)
		return id
	}
	client, stranger, pod, waypoint := issue("client"), issue("stranger"), issue("helloworld"), issue("waypoint")
	config := mesh.Config{
		Listen: netip.MustParseAddr("127.9.0.3"), VIP: netip.MustParseAddr("10.96.0.1"), Pod: netip.MustParseAddr("127.9.0.2"), Policy: policy,
	}
	b, err := backend.Start("127.9.0.2:15008", "127.9.0.2:8080", pod.TLS(waypoint.SPIFFE))
	must(t, err)
	defer b.Close()
	p, err := s.Start(ctx, subject.Setup{
		Config: config, Identity: waypoint, RootPEM: ca.RootPEM, Client: netip.MustParseAddr("127.9.0.1"),
	})
	must(t, err)
	defer func() {
		if t.Failed() {
			t.Log(p.Log())
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}()

	target := load.Target{
		Addr: config.Address(), TLS: client.TLS(waypoint.SPIFFE), Authority: config.Authority(), Service: "helloworld:8080",
		Local: &net.TCPAddr{IP: net.IPv4(127, 9, 0, 1)},
	}
	exchange := func(target load.Target, requests ...*load.Request) {
		t.Helper()
		c, err := load.Dial(ctx, target)
		must(t, err)
		defer c.Close()
		tunnel, err := c.Tunnel()
		must(t, err)
		for _, r := range requests {
			if err := tunnel.Do(r); err != nil {
				t.Errorf("%q: %v", r.Bytes, err)
				return
			}
		}
		if err := tunnel.Close(); err != nil {
			t.Error(err)
		}
	}
	get := target.Get("/", backend.BodyLength)
	exchange(target, get, get, target.Refused("/"), target.Get("/bytes/3000000", 3_000_000), get)
	if policy.Principal {
		target.TLS = stranger.TLS(waypoint.SPIFFE)
		refused := target.Refused("/")
		refused.Bytes = get.Bytes
		exchange(target, refused)
	}
	if err := b.Err(); err != nil {
		t.Error(err)
	}
	if got := b.Requests(); got != 4 {
		t.Errorf("%d requests reached the backend, want 4", got)
	}
}

// built compiles one of our own commands; module is relative to the project's root.
func built(t *testing.T, module, pkg string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	root, err := subject.Root(ctx)
	must(t, err)
	binary := filepath.Join(t.TempDir(), filepath.Base(pkg))
	must(t, subject.Build(ctx, filepath.Join(root, module), pkg, binary))
	return binary
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
