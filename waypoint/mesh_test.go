package waypoint_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/xdsclient"

	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// mesh is what stands around a waypoint in these tests: a control plane that sends what it is told over a real ADS stream, a
// CA, clients with certificates, and pods behind HBONE terminators. Addresses of pods are virtual; Config.Dialer leads them to
// loopback sockets.
type mesh struct {
	t       *testing.T
	ca      *x509.Certificate
	caKey   *ecdsa.PrivateKey
	roots   *x509.CertPool
	rootPEM []byte
	ads     *ads
	server  *waypoint.Server
	stop    context.CancelFunc
	ended   chan error

	addr  atomic.Pointer[string] // of the HBONE port
	mu    sync.Mutex
	hosts map[string]string // "10.244.0.2:15008" → loopback address
}

func newMesh(t *testing.T) *mesh {
	m := &mesh{t: t, hosts: map[string]string{}, ended: make(chan error, 1)}
	m.makeCA()
	m.ads = newADS(t)
	return m
}

// start runs a waypoint against the control plane and waits until it is ready.
func (m *mesh) start(drain waypoint.Drain) {
	m.t.Helper()
	store := identity.NewStore(identity.StoreOptions{})
	cert, key := m.issue("spiffe://cluster.local/ns/default/sa/waypoint", time.Hour)
	must(m.t, store.SetWorkload(cert, key))
	must(m.t, store.SetAnchors(m.rootPEM))
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	s, err := waypoint.New(waypoint.Config{
		Node: &corev3.Node{Id: "waypoint~10.244.0.9~waypoint-1.default~default.svc.cluster.local", Metadata: &structpb.Struct{
			Fields: map[string]*structpb.Value{"ISTIO_VERSION": structpb.NewStringValue("1.31.0")}}},
		XDS:     xdsclient.Config{Target: m.ads.addr, Plaintext: true},
		Secrets: store,
		Listen: func(netip.AddrPort) (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				a := l.Addr().String()
				m.addr.Store(&a)
			}
			return l, err
		},
		Dialer: m,
		Drain:  drain,
		Logger: slog.New(slog.NewTextHandler(testWriter{m.t}, &slog.HandlerOptions{Level: level})),
	})
	must(m.t, err)
	m.server = s
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() { m.ended <- s.Run(ctx) }()
	m.t.Cleanup(func() {
		stop()
		select {
		case err := <-m.ended:
			if err != nil {
				m.t.Error("the server:", err)
			}
		case <-time.After(20 * time.Second):
			m.t.Error("the server does not end")
		}
	})
	eventually(m.t, "ready", func() error { return s.Ready() })
}

// DialContext leads a pod's address to its loopback socket.
func (m *mesh) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	real, ok := m.hosts[address]
	m.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("connect: no route to host %s", address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, real)
}

// hbonePod serves app, called for each connection, behind an HBONE terminator at ip:15008, as ztunnel does: over a socket.
func (m *mesh) hbonePod(ip string, app func(net.Conn)) *pod {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(m.t, err)
	cfg := m.tlsConfig("spiffe://cluster.local/ns/default/sa/helloworld", tls.RequireAndVerifyClientCert)
	p := &pod{}
	a := &hbone.Acceptor{
		TLS: func() (*tls.Config, error) { return cfg, nil }, H2: func() h2.Options { return h2.Options{} },
		Opened: func(*hbone.Conn) { p.connections.Add(1) }, Logger: slog.Default(),
		Handler: func(s *h2.Stream, _ *hbone.Conn) {
			var h message.Head
			if _, err := s.ReadHead(&h); err != nil {
				return
			}
			p.tunnels.Add(1)
			ok := message.Head{Status: 200}
			if s.WriteHead(&ok, false) != nil || s.Flush() != nil {
				return
			}
			bridge(s.Tunnel(), app)
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.t.Cleanup(cancel)
	go func() { _ = a.Serve(ctx, l) }()
	p.acceptor = a
	m.route(ip+":15008", l.Addr().String())
	return p
}

type pod struct {
	acceptor             *hbone.Acceptor
	connections, tunnels atomic.Int64
}

func (m *mesh) route(virtual, real string) {
	m.mu.Lock()
	m.hosts[virtual] = real
	m.mu.Unlock()
}

// plainPod serves an HTTP handler on a pod's own port, without HBONE.
func (m *mesh) plainPod(addr string, h http.Handler) {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(m.t, err)
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	m.t.Cleanup(func() { _ = s.Close() })
	m.route(addr, l.Addr().String())
}

// bridge connects a tunnel with app over a TCP connection, half-closes included.
func bridge(t message.Conn, app func(net.Conn)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer func() { _ = l.Close() }()
	go func() {
		if c, err := l.Accept(); err == nil {
			app(c)
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return
	}
	tcp := c.(*net.TCPConn)
	t.OnReset(func(*message.ResetError) { _ = tcp.SetLinger(0); _ = tcp.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := io.Copy(tcp, t); err == nil {
			_ = tcp.CloseWrite()
		}
	}()
	if _, err := io.Copy(t, tcp); err != nil {
		t.Reset(message.Cancel)
	} else {
		_ = t.CloseWrite()
	}
	<-done
	_ = tcp.Close()
}

// httpApp serves HTTP/1.1 and h2c on a connection with net/http.
func httpApp(h http.Handler) func(net.Conn) {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return func(c net.Conn) {
		l := &oneConn{c: make(chan net.Conn, 1)}
		l.c <- c
		_ = (&http.Server{Handler: h, Protocols: p}).Serve(l)
	}
}

// oneConn is a listener for one connection. It never ends: the connection's goroutine belongs to the server.
type oneConn struct{ c chan net.Conn }

func (l *oneConn) Accept() (net.Conn, error) { return <-l.c, nil }
func (l *oneConn) Close() error              { return nil }
func (l *oneConn) Addr() net.Addr            { return &net.TCPAddr{} }

// client is a pod's ztunnel: one HBONE connection.
type client struct {
	m    *mesh
	conn *h2.Conn
}

func (m *mesh) client(sa string) *client {
	m.t.Helper()
	cfg := m.tlsConfig("spiffe://cluster.local/ns/default/sa/"+sa, tls.NoClientCert)
	cfg.InsecureSkipVerify = true
	raw, err := tls.Dial("tcp", *m.addr.Load(), cfg)
	must(m.t, err)
	c := &client{m: m, conn: h2.NewClient(raw, h2.Options{})}
	go func() { _ = c.conn.Serve() }()
	m.t.Cleanup(func() { c.conn.Close(nil) })
	return c
}

// tunnel opens a CONNECT to authority.
func (c *client) tunnel(authority string) (net.Conn, error) {
	s, err := c.conn.Open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := hbone.Connect(ctx, s, authority, nil, false)
	if err != nil {
		return nil, err
	}
	return hbone.NetConn(conn), nil
}

// http is an HTTP/1.1 client whose connections are tunnels to authority.
func (c *client) http(authority string) *http.Client {
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return c.tunnel(authority) }, DisableCompression: true}
	c.m.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// http2 is an HTTP/2 prior-knowledge client.
func (c *client) http2(authority string) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return c.tunnel(authority) }, Protocols: p}
	c.m.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// do makes a request and returns status and body.
func do(t *testing.T, c *http.Client, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader([]byte(body)))
	must(t, err)
	resp, err := c.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

// --- certificates

func (m *mesh) makeCA() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(m.t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"test"}}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(m.t, err)
	m.ca, err = x509.ParseCertificate(der)
	must(m.t, err)
	m.caKey = key
	m.roots = x509.NewCertPool()
	m.roots.AddCert(m.ca)
	m.rootPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (m *mesh) issue(id string, life time.Duration) (certPEM, keyPEM []byte) {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(m.t, err)
	u, err := url.Parse(id)
	must(m.t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(m.t, err)
	tmpl := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life), URIs: []*url.URL{u},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, m.ca, &key.PublicKey, m.caKey)
	must(m.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(m.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func (m *mesh) tlsConfig(id string, auth tls.ClientAuthType) *tls.Config {
	c, k := m.issue(id, time.Hour)
	pair, err := tls.X509KeyPair(c, k)
	must(m.t, err)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: m.roots, ClientAuth: auth, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
}

// --- control plane

// ads sends resources over delta ADS: all of a type when it is asked for, and what changes afterwards.
type ads struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	t    *testing.T
	addr string

	server *grpc.Server

	mu      sync.Mutex
	res     map[string]map[string]*anypb.Any // type → name → resource
	changed chan struct{}                    // closed when res changed
	acks    map[string]int
	nacks   []string
}

func newADS(t *testing.T) *ads {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	a := &ads{t: t, addr: l.Addr().String(), res: map[string]map[string]*anypb.Any{}, changed: make(chan struct{}), acks: map[string]int{}}
	a.serve(l)
	t.Cleanup(func() { a.server.Stop() })
	return a
}

func (a *ads) serve(l net.Listener) {
	s := grpc.NewServer()
	a.server = s
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, a)
	go func() { _ = s.Serve(l) }()
}

// stop ends the control plane; restart brings it back at the same address.
func (a *ads) stop() { a.server.Stop() }

func (a *ads) restart() {
	a.t.Helper()
	l, err := net.Listen("tcp", a.addr)
	must(a.t, err)
	a.serve(l)
}

// load takes the resources of a sample file.
func (a *ads) load(path string) {
	a.t.Helper()
	b, err := os.ReadFile(path)
	must(a.t, err)
	var file struct {
		TypeURL   string            `json:"type_url"`
		Resources []json.RawMessage `json:"resources"`
	}
	must(a.t, json.Unmarshal(b, &file))
	for _, raw := range file.Resources {
		var r anypb.Any
		must(a.t, protojson.Unmarshal(raw, &r))
		m, err := r.UnmarshalNew()
		must(a.t, err)
		a.set(resourceName(m), m)
	}
}

// endpoints makes HBONE pods the only endpoints of a cluster.
func (m *mesh) endpoints(cluster string, pods ...string) {
	m.t.Helper()
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: cluster, Endpoints: []*endpointv3.LocalityLbEndpoints{{}}}
	for _, p := range pods {
		st, err := structpb.NewStruct(map[string]any{"local": p})
		must(m.t, err)
		cla.Endpoints[0].LbEndpoints = append(cla.Endpoints[0].LbEndpoints, &endpointv3.LbEndpoint{
			Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.filters.listener.original_dst": st}},
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
				Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
					AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: "connect_originate"}, EndpointId: p}}}}},
		})
	}
	m.ads.set(cluster, cla)
}

func resourceName(m proto.Message) string {
	switch r := m.(type) {
	case interface{ GetClusterName() string }:
		return r.GetClusterName()
	case interface{ GetName() string }:
		return r.GetName()
	}
	return ""
}

// set puts a resource into force.
func (a *ads) set(name string, m proto.Message) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	must(a.t, err)
	a.setRaw(name, "type.googleapis.com/"+string(m.ProtoReflect().Descriptor().FullName()), b)
}

func (a *ads) setRaw(name, typeURL string, b []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.res[typeURL] == nil {
		a.res[typeURL] = map[string]*anypb.Any{}
	}
	a.res[typeURL][name] = &anypb.Any{TypeUrl: typeURL, Value: b}
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *ads) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	type watch struct {
		wildcard bool
		names    map[string]bool
		sent     map[string]string
		first    bool
	}
	watches := map[string]*watch{}
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			requests <- r
		}
	}()
	nonce := 0
	for {
		a.mu.Lock()
		changed := a.changed
		order := []string{xdsclient.TypeCluster, xdsclient.TypeEndpoint, xdsclient.TypeListener, xdsclient.TypeRoute, xdsclient.TypeSecret, xdsclient.TypeExtensionConfig, xdsclient.TypeWorkload}
		var out []*discoveryv3.DeltaDiscoveryResponse
		for _, typ := range order {
			w := watches[typ]
			if w == nil {
				continue
			}
			resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typ}
			for name, r := range a.res[typ] {
				if (w.wildcard || w.names[name]) && w.sent[name] != string(r.GetValue()) {
					w.sent[name] = string(r.GetValue())
					resp.Resources = append(resp.Resources, &discoveryv3.Resource{Name: name, Resource: r})
				}
			}
			if typ == xdsclient.TypeEndpoint { // istiod answers for a service that it does not know with an empty assignment
				for name := range w.names {
					if _, ok := w.sent[name]; !ok && a.res[typ][name] == nil {
						w.sent[name] = ""
						empty, err := anypb.New(&endpointv3.ClusterLoadAssignment{ClusterName: name})
						must(a.t, err)
						resp.Resources = append(resp.Resources, &discoveryv3.Resource{Name: name, Resource: empty})
					}
				}
			}
			for name, v := range w.sent {
				if v != "" && a.res[typ][name] == nil {
					delete(w.sent, name)
					resp.RemovedResources = append(resp.RemovedResources, name)
				}
			}
			if w.first || len(resp.Resources)+len(resp.RemovedResources) > 0 {
				w.first = false
				nonce++
				resp.Nonce = fmt.Sprint(nonce)
				out = append(out, resp)
			}
		}
		a.mu.Unlock()
		for _, r := range out {
			if err := stream.Send(r); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			w := watches[r.GetTypeUrl()]
			if w == nil {
				w = &watch{names: map[string]bool{}, sent: map[string]string{}, first: true,
					wildcard: len(r.GetResourceNamesSubscribe()) == 0}
				watches[r.GetTypeUrl()] = w
			}
			for _, n := range r.GetResourceNamesSubscribe() {
				if n == "*" {
					w.wildcard = true
				}
				w.names[n] = true
			}
			for _, n := range r.GetResourceNamesUnsubscribe() {
				delete(w.names, n)
				delete(w.sent, n)
			}
			a.mu.Lock()
			if e := r.GetErrorDetail(); e != nil {
				a.nacks = append(a.nacks, e.GetMessage())
			} else if r.GetResponseNonce() != "" {
				a.acks[r.GetTypeUrl()]++
			}
			a.mu.Unlock()
		}
	}
}

// --- odds and ends

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(string(bytes.TrimSpace(p)))
	}
	return len(p), nil
}

var errNotYet = errors.New("not yet")
