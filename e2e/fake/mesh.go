package fake

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"github.com/gowaypoint/gowaypoint/xdsclient"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"
)

// Mesh is a cluster with one waypoint in it.
type Mesh struct {
	T      testing.TB
	Istiod *Istiod
	Server *waypoint.Server
	// Pods are those of the manifests, by name (name.namespace outside of default).
	Pods map[string]*Pod

	ca   *mesh.CA
	addr atomic.Pointer[string] // of the HBONE port

	mu    sync.Mutex
	hosts map[string]string // "10.244.0.2:15008" → loopback address
}

// waypointIP is the address of the waypoint's pod in testdata/base.yaml.
const waypointIP = "10.244.0.9"

// Options are what a Mesh is made of beside testdata/base.yaml.
type Options struct {
	Manifests string
	// MeshConfig is YAML on top of Istio's defaults, metrics as Istio's charts set them, and an access log in JSON.
	MeshConfig string
	// Images are applications by image name, beside those of this package.
	Images map[string]Image
}

const meshConfig = `
defaultProviders: {metrics: [prometheus]}
accessLogFile: %s
accessLogEncoding: JSON
%s`

// AccessLog is the path of the access log of all waypoints of the process: istiod keeps the file logger that it made first for
// good. Request ids tell the lines apart.
var AccessLog = sync.OnceValue(func() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("waypoint-access-%d.log", os.Getpid()))
})

// Start starts the cluster and returns when the waypoint is ready and has heard all that istiod has to say.
func Start(t testing.TB, o Options) *Mesh {
	t.Helper()
	m := &Mesh{T: t, Pods: map[string]*Pod{}, hosts: map[string]string{}}
	var err error
	m.ca, err = mesh.NewCA()
	must(t, err)
	base, err := os.ReadFile("testdata/base.yaml")
	must(t, err)
	objects := &manifests{}
	for _, text := range []string{string(base), o.Manifests} {
		_, err = objects.parse(text)
		must(t, err)
	}
	must(t, each(objects, "Pod", func(p *corev1.Pod) error { return m.run(p, o.Images) }))
	m.Istiod = newIstiod(t, objects, fmt.Sprintf(meshConfig, AccessLog(), o.MeshConfig))
	m.startServer()
	return m
}

func (m *Mesh) startServer() {
	t := m.T
	t.Helper()
	id, err := m.ca.Issue("default", "waypoint")
	must(t, err)
	store := identity.NewStore(identity.StoreOptions{})
	must(t, store.SetWorkload(id.CertPEM, id.KeyPEM))
	must(t, store.SetAnchors(m.ca.RootPEM))
	level := slog.LevelError
	if testing.Verbose() {
		level = slog.LevelWarn
	}
	m.Server, err = waypoint.New(waypoint.Config{
		Node: m.node(), XDS: xdsclient.Config{Target: m.Istiod.Addr, Plaintext: true}, Secrets: store,
		Listen: m.listen, Dialer: m, Drain: waypoint.Drain{Grace: 50 * time.Millisecond},
		Logger: slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: level})),
	})
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the server does not end")
		}
	})
	eventually(t, "the waypoint is ready", m.Server.Ready)
	m.settle()
}

// node is what the stock deployment tells istiod of a waypoint pod.
func (m *Mesh) node() *corev3.Node {
	labels := map[string]any{
		"gateway.istio.io/managed": "istio.io-mesh-controller", "gateway.networking.k8s.io/gateway-name": "waypoint",
		"service.istio.io/canonical-name": "waypoint", "service.istio.io/canonical-revision": "latest",
	}
	meta, err := structpb.NewStruct(map[string]any{
		"NAMESPACE": "default", "SERVICE_ACCOUNT": "waypoint", "CLUSTER_ID": "Kubernetes", "MESH_ID": "cluster.local", "NETWORK": "",
		"NAME": "waypoint", "WORKLOAD_NAME": "waypoint", "INSTANCE_IPS": waypointIP, "ISTIO_VERSION": "1.32.0", "LABELS": labels,
	})
	must(m.T, err)
	return &corev3.Node{Id: "waypoint~" + waypointIP + "~waypoint.default~default.svc.cluster.local", Cluster: "waypoint.default", Metadata: meta}
}

// settle waits until the waypoint has got all that istiod has pushed, and serves it. Neither says when it has finished: what is
// waited for is that nothing has moved for a while.
func (m *Mesh) settle() {
	m.T.Helper()
	const quiet = 150 * time.Millisecond
	state := func() string {
		d := m.Istiod.fake.Discovery
		s := fmt.Sprint(d.InboundUpdates.Load(), d.CommittedUpdates.Load(), m.Server.Program().Version, m.Server.Workloads())
		for _, typ := range []string{xdsclient.TypeCluster, xdsclient.TypeEndpoint, xdsclient.TypeListener} {
			s += fmt.Sprint(" ", m.Server.XDS().Stats(typ).Accepted)
		}
		return s
	}
	last, since := state(), time.Now()
	deadline := since.Add(20 * time.Second)
	for time.Since(since) < quiet {
		if time.Now().After(deadline) {
			m.T.Fatal("istiod does not come to rest")
		}
		time.Sleep(10 * time.Millisecond)
		if now := state(); now != last {
			last, since = now, time.Now()
		}
	}
}

// listen binds the HBONE port on any loopback address.
func (m *Mesh) listen(netip.AddrPort) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	m.addr.Store(&addr)
	return virtual{l}, nil
}

// virtual shows the loopback address 127.a.b.c of a client as 10.a.b.c.
type virtual struct{ net.Listener }

func (v virtual) Accept() (net.Conn, error) {
	c, err := v.Listener.Accept()
	if err != nil {
		return nil, err
	}
	remote := *c.RemoteAddr().(*net.TCPAddr)
	remote.IP = append(net.IP{10}, remote.IP.To4()[1:]...)
	return &virtualConn{c.(*net.TCPConn), &remote}, nil
}

type virtualConn struct {
	*net.TCPConn
	remote net.Addr
}

func (c *virtualConn) RemoteAddr() net.Addr { return c.remote }

// loopback is the address that a pod's connections come from.
func loopback(podIP string) *net.TCPAddr {
	return &net.TCPAddr{IP: net.ParseIP("127." + strings.TrimPrefix(podIP, "10."))}
}

// DialContext leads a pod's address to its socket.
func (m *Mesh) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	real, ok := m.hosts[address]
	m.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s: connection refused", address)}
	}
	var d net.Dialer
	return d.DialContext(ctx, network, real)
}

func (m *Mesh) route(virtual, real string) {
	m.mu.Lock()
	m.hosts[virtual] = real
	m.mu.Unlock()
}

func (m *Mesh) host(virtual string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	real, ok := m.hosts[virtual]
	return real, ok
}

// eventually waits until f returns nil.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
