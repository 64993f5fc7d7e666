package xdsclient

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const serverName = "istiod.istio-system.svc"

// pki is a CA with one server certificate.
type pki struct {
	roots  *x509.CertPool
	server tls.Certificate
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(err)
	ca, err = x509.ParseCertificate(caDER)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{serverName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	must(err)
	p := &pki{roots: x509.NewCertPool(), server: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	p.roots.AddCert(ca)
	return p
}

type deltaStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

// scripted is an ADS server whose delta stream is one function.
type scripted struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	script func(deltaStream) error
}

func (s *scripted) DeltaAggregatedResources(stream deltaStream) error { return s.script(stream) }

// serve runs an ADS server with TLS on a real socket and returns its address and a function that stops it abruptly. addr may be
// the address of a server that was stopped, or "127.0.0.1:0".
func serve(t *testing.T, p *pki, addr string, ads discoveryv3.AggregatedDiscoveryServiceServer, opts ...grpc.ServerOption) (string, func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(append(opts, grpc.Creds(credentials.NewServerTLSFromCert(&p.server)))...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, ads)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // it always ends with an error, which Stop causes
	}()
	stop := func() {
		server.Stop()
		<-served
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// callerMetadata returns a header of the client.
func callerMetadata(ctx context.Context, key string) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(md.Get(key), ",")
}

// recorder is a Handler that keeps what is in force. It rejects listeners without an address, and what cannot be decoded.
type recorder struct {
	mu      sync.Mutex
	client  *Client
	held    map[string]map[string]proto.Message // by type and name
	updates []string
	onApply func(*Update)
}

func (h *recorder) Apply(u *Update) (rejected []Rejection) {
	if h.onApply != nil {
		h.onApply(u)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held == nil {
		h.held = make(map[string]map[string]proto.Message)
	}
	if h.held[u.TypeURL] == nil {
		h.held[u.TypeURL] = make(map[string]proto.Message)
	}
	line := ShortType(u.TypeURL)
	for _, r := range u.Changed {
		m, err := r.Message()
		if err != nil {
			rejected = append(rejected, r.Reject("", err.Error()))
			continue
		}
		if l, ok := m.(*listenerv3.Listener); ok && l.GetAddress() == nil && l.GetInternalListener() == nil {
			rejected = append(rejected, r.Reject("address", "missing"))
			continue
		}
		h.held[u.TypeURL][r.Name] = m
		line += " +" + r.Name
	}
	for _, name := range u.Removed {
		delete(h.held[u.TypeURL], name)
		line += " -" + name
	}
	h.updates = append(h.updates, line)
	if u.TypeURL == TypeCluster {
		var names []string
		for name, m := range h.held[TypeCluster] {
			if m.(*clusterv3.Cluster).GetType() == clusterv3.Cluster_EDS {
				names = append(names, name)
			}
		}
		h.client.SetNames(TypeEndpoint, names...)
		for name := range h.held[TypeEndpoint] {
			if !slices.Contains(names, name) {
				delete(h.held[TypeEndpoint], name) // the client forgets it as well, and does not say so
			}
		}
	}
	return rejected
}

// names returns what is in force of a type, as the handler knows it.
func (h *recorder) names(typeURL string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for name := range h.held[typeURL] {
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (h *recorder) log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.updates, "\n")
}

// start runs a client until the test ends. change may alter its Config.
func start(t *testing.T, p *pki, target string, change func(*Config)) (*Client, *recorder, *logs) {
	t.Helper()
	lines := &logs{}
	cfg := Config{
		Target: target, ServerName: serverName,
		RootCAs:  func() (*x509.CertPool, error) { return p.roots, nil },
		Node:     &corev3.Node{Id: "waypoint~10.0.0.1~w.ns~ns.svc.cluster.local"},
		Wildcard: []string{TypeCluster, TypeListener},
		Backoff:  Backoff{Initial: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		Logger:   slog.New(slog.NewTextHandler(lines, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	h := &recorder{}
	c, err := New(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	h.client = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Run returned %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run did not return")
		}
	})
	return c, h, lines
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// logs is a log in memory.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func pack(t *testing.T, name string, m proto.Message) *discoveryv3.Resource {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &discoveryv3.Resource{Name: name, Resource: a}
}

func edsCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		}},
	}
}

func listener(name string) *listenerv3.Listener {
	return &listenerv3.Listener{Name: name, Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
		SocketAddress: &corev3.SocketAddress{Address: "0.0.0.0", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 15008}},
	}}}
}
