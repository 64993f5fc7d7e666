package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/bootstrap"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/config"
	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// world is a waypoint without its data path: resources of a real istiod come over a real stream, and fill the real compiler, cluster
// manager and secret store that the pages show.
type world struct {
	t        *testing.T
	sent     map[string]map[string]proto.Message // by type URL and name
	client   *xdsclient.Client
	compiler *config.Compiler
	clusters *cluster.Manager
	secrets  *identity.Store
	report   atomic.Pointer[config.Report]
	server   *Server
	log      *lockedBuffer

	mu  sync.Mutex
	res config.Resources

	ready    atomic.Pointer[error]
	draining atomic.Bool
	drained  chan bool // skip_exit
	quit     chan struct{}
}

const nodeID = "waypoint~10.0.0.1~w.ns~ns.svc.cluster.local"

// badListener is sent by the control plane and rejected.
const badListener = "bad"

// newWorld serves samples, and what extra adds, and waits until all of it has arrived.
func newWorld(t *testing.T, extra ...proto.Message) *world {
	w := &world{
		t: t, sent: map[string]map[string]proto.Message{}, compiler: config.New(config.Options{}), log: &lockedBuffer{},
		drained: make(chan bool, 1), quit: make(chan struct{}, 1),
	}
	logger := slog.New(slog.NewTextHandler(w.log, nil))
	for _, f := range []string{"cds", "eds", "lds"} {
		w.sample("testdata/" + f + ".json")
	}
	for _, m := range w.sent[xdsclient.TypeCluster] { // istiod answers for each name that it is asked for
		if name := m.(*clusterv3.Cluster).GetEdsClusterConfig().GetServiceName(); name != "" && w.sent[xdsclient.TypeEndpoint][name] == nil {
			w.send(&endpointv3.ClusterLoadAssignment{ClusterName: name})
		}
	}
	for _, m := range extra {
		w.send(m)
	}
	w.report.Store(&config.Report{})
	w.clusters = cluster.NewManager(cluster.Options{Logger: logger})
	t.Cleanup(w.clusters.Close)
	w.secrets = identity.NewStore(identity.StoreOptions{})
	t.Cleanup(w.secrets.Close)
	w.fillSecrets()

	client, err := xdsclient.New(xdsclient.Config{
		Target: w.controlPlane(), Plaintext: true, Node: &corev3.Node{Id: nodeID}, Logger: logger,
		Wildcard: []string{xdsclient.TypeCluster, xdsclient.TypeListener, xdsclient.TypeWorkload},
	}, w)
	if err != nil {
		t.Fatal(err)
	}
	w.client = client

	ctx, cancel := context.WithCancel(context.Background())
	w.server = New(w.sources(), Options{
		AdminAddr: "127.0.0.1:0", StatusAddr: ":0", HealthAddr: ":0", PrometheusAddr: ":0", Logger: logger,
	})
	if err := w.server.Listen(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = client.Run(ctx) }) // ends with ctx
	wg.Go(func() {
		if err := w.server.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	w.await("all resources", func() bool {
		for url, m := range w.sent {
			if len(client.Snapshot(url).Entries) != len(m) {
				return false
			}
		}
		return true
	})
	return w
}

func (w *world) sources() Sources {
	return Sources{
		Node:    &corev3.Node{Id: nodeID, Cluster: "w.ns"},
		Version: "1.2.3", Revision: "0123456789abcdef", Started: time.Now(),
		Settings: []bootstrap.Report{{Field: "env FOO", Value: "bar", Why: "has no effect here", Loud: true}},
		XDS:      w.client,
		Secrets:  w.secrets.Secrets,
		Report:   w.report.Load,
		Clusters: w.clusters.All,
		Listeners: func() []Listener {
			return []Listener{{"connect_terminate", []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:15008"), netip.MustParseAddrPort("[::]:15008")}}}
		},
		Workloads: func() int { return 7 },
		Ready: func() error {
			if err := w.ready.Load(); err != nil {
				return *err
			}
			return nil
		},
		Draining: w.draining.Load,
		Drain:    func(skipExit bool) { w.drained <- skipExit },
		Quit:     func() { w.quit <- struct{}{} },
		Registry: metrics.NewRegistry(metrics.MeshOptions{Version: "1.31.0"}, nil),
		Level:    &slog.LevelVar{},
	}
}

// sample reads a DiscoveryResponse.
func (w *world) sample(file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	var r discoveryv3.DiscoveryResponse
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, &r); err != nil {
		w.t.Fatal(file, err)
	}
	for _, a := range r.GetResources() {
		m, err := a.UnmarshalNew()
		if err != nil {
			w.t.Fatal(file, err)
		}
		w.send(m)
	}
}

func (w *world) send(m proto.Message) {
	url := typePrefix + string(m.ProtoReflect().Descriptor().FullName())
	if w.sent[url] == nil {
		w.sent[url] = map[string]proto.Message{}
	}
	w.sent[url][cache.GetResourceName(m)] = m
}

// controlPlane is go-control-plane's delta ADS server.
func (w *world) controlPlane() string {
	snapshots := cache.NewSnapshotCache(true, cache.IDHash{}, nil)
	all := map[string][]types.Resource{}
	for url, set := range w.sent {
		for _, m := range set {
			all[url] = append(all[url], m)
		}
	}
	snapshot, err := cache.NewSnapshot("push-1", all)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := snapshots.SetSnapshot(context.Background(), nodeID, snapshot); err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(ctx, snapshots, nil))
	go func() { _ = g.Serve(l) }() // always ends with an error, which Stop causes
	w.t.Cleanup(func() { cancel(); g.Stop() })
	return l.Addr().String()
}

// Apply is what package waypoint does with an update, in short.
func (w *world) Apply(u *xdsclient.Update) (rejected []xdsclient.Rejection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	set := w.res.Of(u.TypeURL, true)
	for _, r := range u.Changed {
		if r.Name == badListener {
			rejected = append(rejected, r.Reject("address", "must be set"))
			continue
		}
		if set != nil {
			set[r.Name] = config.Resource{Raw: r.Value}
		}
	}
	p, report := w.compiler.Compile(w.res)
	w.report.Store(report)
	w.client.SetNames(xdsclient.TypeEndpoint, w.compiler.EDSNames()...)
	w.clusters.Update(p)
	return rejected
}

func (w *world) fillSecrets() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	spiffe, _ := url.Parse("spiffe://cluster.local/ns/ns/sa/w")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0xabc), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(49 * time.Hour), URIs: []*url.URL{spiffe},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.secrets.SetWorkload(cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})); err != nil {
		w.t.Fatal(err)
	}
	if err := w.secrets.SetAnchors(cert); err != nil {
		w.t.Fatal(err)
	}
	w.secrets.Require("kubernetes://never")
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: does not happen; log:\n%s", what, w.log)
		}
	}
}

// answer is what a request brought.
type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(method string, addr net.Addr, path string) answer {
	w.t.Helper()
	return w.ask(method, addr, path, nil)
}

func (w *world) ask(method string, addr net.Addr, path string, header http.Header) answer {
	w.t.Helper()
	_, port, _ := net.SplitHostPort(addr.String())
	r, err := http.NewRequest(method, "http://127.0.0.1:"+port+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r) // follows no redirects, like istioctl
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end below
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// get asks the admin port and wants 200.
func (w *world) get(path string) string {
	w.t.Helper()
	a := w.do(http.MethodGet, w.server.AdminAddr(), path)
	if a.status != http.StatusOK {
		w.t.Fatalf("GET %s: %d %s", path, a.status, a.body)
	}
	return a.body
}

// wants asks the admin port and compares the status.
func (w *world) wants(status int, method, path string) string {
	w.t.Helper()
	a := w.do(method, w.server.AdminAddr(), path)
	if a.status != status {
		w.t.Errorf("%s %s: status %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a.body
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// oddListener holds an extension of a type that this program does not know.
func oddListener() *listenerv3.Listener {
	return &listenerv3.Listener{Name: "odd", ListenerFilters: []*listenerv3.ListenerFilter{{
		Name: "odd", ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: &anypb.Any{
			TypeUrl: typePrefix + "example.not.Linked", Value: []byte("\x0a\x06secret"),
		}},
	}}}
}

// coldCluster is one whose endpoints never come.
func coldCluster() *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: "cold", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		}},
	}
}
