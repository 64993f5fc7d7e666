package conformance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// node is a proxy that runs, the pod behind it and a client's identity.
type node struct {
	t      *testing.T
	config mesh.Config
	client *mesh.Identity
	tls    *tls.Config
	proxy  subject.Proxy
}

// start runs a proxy on addresses of its own, network.2 (pod) and network.3 (proxy). app serves the connections of the pod's port.
// No policy refuses anything: what is tested comes before policy.
func start(t *testing.T, s subject.Subject, network string, app func(net.Conn)) *node {
	t.Helper()
	return startEdited(t, s, network, app, withoutPolicy)
}

func startEdited(t *testing.T, s subject.Subject, network string, app func(net.Conn), edit func(*mesh.Resources)) *node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ca, err := mesh.NewCA()
	must(t, err)
	issue := func(account string) *mesh.Identity {
		id, err := ca.Issue("default", account)
		must(t, err)
		return id
	}
	client, pod, waypoint := issue("client"), issue("helloworld"), issue("waypoint")
	n := &node{t: t, client: client, tls: client.TLS(waypoint.SPIFFE), config: mesh.Config{
		Listen: netip.MustParseAddr(network + ".3"), VIP: netip.MustParseAddr("10.96.0.1"), Pod: netip.MustParseAddr(network + ".2"),
		Edit: edit,
	}}
	servePod(t, network+".2:15008", pod.TLS(waypoint.SPIFFE), app)
	n.proxy, err = s.Start(ctx, subject.Setup{Config: n.config, Identity: waypoint, RootPEM: ca.RootPEM, Client: netip.MustParseAddr(network + ".1")})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", n.proxy.Log())
		}
		if err := n.proxy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func withoutPolicy(r *mesh.Resources) {
	r.EachObject(func(o map[string]any) {
		for _, key := range []string{"filters", "http_filters"} {
			if list, ok := o[key].([]any); ok {
				o[key] = slices.DeleteFunc(list, func(f any) bool {
					m, ok := f.(map[string]any)
					return ok && (m["name"] == "envoy.filters.http.rbac" || m["name"] == "envoy.filters.network.rbac")
				})
			}
		}
	})
}

// servePod answers CONNECT as ztunnel does and pipes each tunnel to app over a TCP connection.
func servePod(t *testing.T, addr string, config *tls.Config, app func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	must(t, err)
	a := &hbone.Acceptor{
		TLS: func() (*tls.Config, error) { return config, nil },
		H2:  func() h2.Options { return h2.Options{Limits: h2.Limits{ResetBurst: 1 << 30}} }, // as ztunnel: it takes any number
		Handler: func(s *h2.Stream, _ *hbone.Conn) {
			var h message.Head
			if _, err := s.ReadHead(&h); err != nil {
				return // the proxy has gone
			}
			if s.WriteHead(&message.Head{Status: 200}, false) == nil && s.Flush() == nil {
				toSocket(s.Tunnel(), app)
			}
		},
		Logger: slog.New(slog.DiscardHandler), // what is reset here is told by the client's side
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Serve(ctx, l) }() // ends with cancel
	t.Cleanup(func() { cancel(); <-done; a.Close() })
}

// toSocket gives app one end of a TCP connection, whose other end is the tunnel.
func toSocket(tunnel message.Conn, app func(net.Conn)) {
	near, far, err := socketPair()
	if err != nil {
		tunnel.Reset(message.ConnectError)
		return
	}
	go app(far)
	pipe(near, tunnel)
}

// pipe copies both ways, half-closes and resets included, until both ways have ended.
func pipe(c *net.TCPConn, tunnel message.Conn) {
	tunnel.OnReset(func(*message.ResetError) { _ = c.SetLinger(0); _ = c.Close() }) // the peer must not take it for an end
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := io.Copy(c, tunnel); err == nil {
			_ = c.CloseWrite() // the peer may have gone
		}
	}()
	_, err := io.Copy(tunnel, c)
	var reset *message.ResetError
	switch {
	case err == nil:
		_ = tunnel.CloseWrite() // as above
	case !errors.As(err, &reset): // what the peer wants no more of does not end the other direction
		tunnel.Reset(message.Cancel)
	}
	<-done
	_ = c.Close() // both ways have ended
}

func socketPair() (near, far *net.TCPConn, err error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }() // for one connection only
	if near, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr)); err != nil {
		return nil, nil, err
	}
	if far, err = l.AcceptTCP(); err != nil {
		_ = near.Close() // the error says why
	}
	return near, far, err
}

// dialTLS opens a TCP connection to the HBONE port and shows the client's certificate.
func (n *node) dialTLS() (*tls.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: n.tls}
	c, err := d.DialContext(n.t.Context(), "tcp", n.config.Address())
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), nil
}

// hboneConn is an HBONE connection of an honest client.
func (n *node) hboneConn() *h2.Conn {
	n.t.Helper()
	raw, err := n.dialTLS()
	must(n.t, err)
	c := h2.NewClient(raw, h2.Options{Logger: slog.New(slog.DiscardHandler)}) // its streams tell what went wrong
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Serve() }()
	n.t.Cleanup(func() { c.Close(nil); <-done })
	return c
}

// tunnel opens a tunnel to the service.
func (n *node) tunnel(c *h2.Conn) (message.Conn, error) {
	var s *h2.Stream
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var err error
		if s, err = c.Open(); err == nil {
			break
		}
		// A tunnel counts until both sides have ended it.
		if !errors.Is(err, h2.ErrTooManyStreams) || time.Now().After(end) {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	return hbone.Connect(ctx, s, n.config.Authority(), nil, false)
}

// forward listens on 127.0.0.1 and leads each connection into a tunnel of its own.
func (n *node) forward() netip.AddrPort {
	n.t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(n.t, err)
	n.t.Cleanup(func() { _ = l.Close() })
	h := n.hboneConn()
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return // the listener is closed
			}
			go func() {
				tunnel, err := n.tunnel(h)
				if err != nil {
					n.t.Log("no tunnel:", err)
					_ = c.Close() // the client sees that it has no connection
					return
				}
				pipe(c, tunnel)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// patience is how long anything may take that should come at once.
const patience = 10 * time.Second

// override is the environment variable that names a waypoint that is built already, as ENVOY_BINARY names an Envoy.
const override = "WAYPOINT_BINARY"

// waypoint compiles the waypoint, once for all tests.
var waypoint = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(override); path != "" {
		return path, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	root, err := subject.Root(ctx)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(buildDir, "waypoint")
	return binary, subject.Build(ctx, root, "./cmd/waypoint", binary)
})

// buildDir holds the binary until the tests end.
var buildDir string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if buildDir, err = os.MkdirTemp("", "conformance-"); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, os.RemoveAll(buildDir)
}

func ours(t *testing.T) subject.Subject {
	t.Helper()
	binary, err := waypoint()
	must(t, err)
	return subject.Waypoint(binary)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", t.Name(), err))
	}
}
