package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// controlPlane is go-control-plane's delta ADS server behind TLS and a token check.
type controlPlane struct {
	cache cache.SnapshotCache
	node  string

	mu       sync.Mutex
	token    string
	requests []string // nodes, ACKs and NACKs, in words
	version  int
}

func newControlPlane() *controlPlane {
	return &controlPlane{
		cache: cache.NewSnapshotCache(true, cache.IDHash{}, nil), token: "secret",
		node: "waypoint~10.0.0.1~w.ns~ns.svc.cluster.local",
	}
}

// serve runs it; see [serve].
func (cp *controlPlane) serve(t *testing.T, p *pki, addr string, opts ...grpc.ServerOption) (string, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ads := serverv3.NewServer(ctx, cp.cache, serverv3.CallbackFuncs{
		DeltaStreamOpenFunc: func(ctx context.Context, _ int64, _ string) error {
			cp.mu.Lock()
			defer cp.mu.Unlock()
			if got := callerMetadata(ctx, "authorization"); got != "Bearer "+cp.token {
				return status.Errorf(codes.Unauthenticated, "token %q", got)
			}
			if callerMetadata(ctx, "clusterid") != "Kubernetes" {
				return status.Error(codes.Unauthenticated, "no clusterid")
			}
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			cp.mu.Lock()
			defer cp.mu.Unlock()
			line := printRequest(r)
			if r.GetResponseNonce() != "" {
				line = strings.Replace(line, " "+r.GetResponseNonce(), "", 1)
			}
			cp.requests = append(cp.requests, line)
			return nil
		},
	})
	return serve(t, p, addr, ads, opts...)
}

// set publishes clusters (with an endpoint each) and listeners.
func (cp *controlPlane) set(t *testing.T, clusters []*clusterv3.Cluster, listeners ...*listenerv3.Listener) {
	t.Helper()
	cp.mu.Lock()
	cp.version++
	version := fmt.Sprint(cp.version)
	cp.mu.Unlock()
	all := map[resource.Type][]types.Resource{}
	for _, c := range clusters {
		all[resource.ClusterType] = append(all[resource.ClusterType], c)
		all[resource.EndpointType] = append(all[resource.EndpointType], &endpointv3.ClusterLoadAssignment{ClusterName: c.GetName()})
	}
	for _, l := range listeners {
		all[resource.ListenerType] = append(all[resource.ListenerType], l)
	}
	snapshot, err := cache.NewSnapshot(version, all)
	if err != nil {
		t.Fatal(err)
	}
	if err := cp.cache.SetSnapshot(context.Background(), cp.node, snapshot); err != nil {
		t.Fatal(err)
	}
}

func (cp *controlPlane) saw(line string) bool {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	for _, r := range cp.requests {
		if r == line {
			return true
		}
	}
	return false
}

func withToken(token *func() (string, error)) func(*Config) {
	return func(cfg *Config) {
		cfg.Token = func() (string, error) { return (*token)() }
		cfg.Metadata = map[string]string{"ClusterID": "Kubernetes"}
	}
}

func secret() *func() (string, error) {
	f := func() (string, error) { return "secret", nil }
	return &f
}

func TestControlPlane(t *testing.T) {
	p, cp := newPKI(t), newControlPlane()
	addr, _ := cp.serve(t, p, "127.0.0.1:0")
	cp.set(t, []*clusterv3.Cluster{edsCluster("a"), edsCluster("b")}, listener("l1"), listener("l2"))
	c, h, _ := start(t, p, addr, withToken(secret()))

	eventually(t, "clusters, endpoints and listeners arrive", func() bool {
		return h.names(TypeCluster) == "a b" && h.names(TypeEndpoint) == "a b" && h.names(TypeListener) == "l1 l2"
	})
	eventually(t, "all is acknowledged", func() bool {
		return cp.saw("send CDS ACK") && cp.saw("send EDS ACK") && cp.saw("send LDS ACK")
	})
	if !cp.saw("send CDS node=" + cp.node) {
		t.Errorf("no node: %q", cp.requests)
	}
	if s := c.Status(); !s.Connected || s.Since.IsZero() || s.Streams != 1 || s.Failures != 0 || s.BytesReceived == 0 || s.BytesSent == 0 {
		t.Errorf("status %+v", s)
	}

	// A change of one cluster and the removal of another reach the consumer as such.
	changed := edsCluster("a")
	changed.AltStatName = "changed"
	cp.set(t, []*clusterv3.Cluster{changed, edsCluster("c")}, listener("l1"))
	eventually(t, "the change arrives", func() bool {
		return h.names(TypeCluster) == "a c" && h.names(TypeEndpoint) == "a c" && h.names(TypeListener) == "l1"
	})
	r, ok := c.Get(TypeCluster, "a")
	if !ok {
		t.Fatal("a is not in the cache")
	}
	m, err := r.Message()
	if err != nil || m.(*clusterv3.Cluster).GetAltStatName() != "changed" {
		t.Errorf("cache holds %v, %v", m, err)
	}
	if _, ok := c.Get(TypeEndpoint, "b"); ok {
		t.Error("the endpoints of b are still in the cache")
	}

	// A bad listener is refused by name; the good one is in force, and the stream goes on.
	cp.set(t, []*clusterv3.Cluster{changed, edsCluster("c")}, &listenerv3.Listener{Name: "l1"}, listener("l3"))
	eventually(t, "the NACK", func() bool {
		return cp.saw("send LDS NACK\n     Error adding/updating listener(s) l1: address: missing")
	})
	if got := h.names(TypeListener); got != "l1 l3" {
		t.Errorf("listeners in force: %q", got)
	}
	s := c.Snapshot(TypeListener)
	if len(s.Entries) != 2 || s.Rejected != 1 || s.Entries[0].Failure == nil || s.Entries[0].Accepted == nil || s.Entries[1].Failure != nil {
		t.Errorf("snapshot %+v", s)
	}
	if got := c.Status().Streams; got != 1 {
		t.Errorf("%d streams", got)
	}
}

// TestRestart: the server goes away while the client serves on, and returns at the same address with another configuration.
func TestRestart(t *testing.T) {
	p, cp := newPKI(t), newControlPlane()
	addr, stop := cp.serve(t, p, "127.0.0.1:0")
	cp.set(t, []*clusterv3.Cluster{edsCluster("a"), edsCluster("b")}, listener("l1"))
	c, h, lines := start(t, p, addr, withToken(secret()))
	eventually(t, "first configuration", func() bool { return h.names(TypeEndpoint) == "a b" && h.names(TypeListener) == "l1" })

	stop()
	eventually(t, "failures are counted", func() bool { return c.Status().Failures >= 3 && !c.Status().Connected })
	if got := h.names(TypeCluster); got != "a b" {
		t.Errorf("in force while istiod is away: %q", got)
	}
	before := h.log()
	cp.set(t, []*clusterv3.Cluster{edsCluster("a"), edsCluster("c")}, listener("l1"))
	cp.serve(t, p, addr)
	eventually(t, "second configuration", func() bool { return h.names(TypeCluster) == "a c" && h.names(TypeEndpoint) == "a c" })
	if got := strings.TrimPrefix(h.log(), before); strings.Contains(got, "+a") || strings.Contains(got, "+l1") {
		t.Errorf("unchanged resources were applied again:%s", got)
	}
	if n := lines.count("cannot get configuration"); n != 1 {
		t.Errorf("the outage was logged %d times", n)
	}
}

// TestRecycledConnections: istiod ends connections of a certain age, here of a fifth of a second instead of half an hour.
func TestRecycledConnections(t *testing.T) {
	p, cp := newPKI(t), newControlPlane()
	addr, _ := cp.serve(t, p, "127.0.0.1:0", grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 200 * time.Millisecond, MaxConnectionAgeGrace: 50 * time.Millisecond,
	}))
	cp.set(t, []*clusterv3.Cluster{edsCluster("a")}, listener("l1"))
	c, h, lines := start(t, p, addr, withToken(secret()))
	eventually(t, "three streams", func() bool { return c.Status().Streams >= 3 && c.Status().Connected })
	cp.set(t, []*clusterv3.Cluster{edsCluster("a"), edsCluster("b")}, listener("l1"))
	eventually(t, "a change on a later stream", func() bool { return h.names(TypeCluster) == "a b" && h.names(TypeEndpoint) == "a b" })
	if n := strings.Count(h.log(), "+a"); n != 2 { // once as a cluster, once as endpoints
		t.Errorf("a was applied %d times:\n%s", n, h.log())
	}
	if n := lines.count("cannot get configuration"); n != 0 {
		t.Errorf("recycling was reported as a failure, %d times", n)
	}
}

// TestTokenAndRootsAreReadAgain: both are wrong at first, and right later, as after a rotation.
func TestTokenAndRootsAreReadAgain(t *testing.T) {
	p, cp := newPKI(t), newControlPlane()
	addr, _ := cp.serve(t, p, "127.0.0.1:0")
	cp.set(t, []*clusterv3.Cluster{edsCluster("a")}, listener("l1"))

	var mu sync.Mutex
	token, tokenErr, roots := "", errors.New("no such file"), newPKI(t).roots
	get := func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return token, tokenErr
	}
	c, h, lines := start(t, p, addr, func(cfg *Config) {
		withToken(&get)(cfg)
		cfg.RootCAs = rootsOf(&mu, &roots)
	})
	step := func(reason string, next func()) {
		t.Helper()
		eventually(t, reason, func() bool { return strings.Contains(c.Status().LastError, reason) })
		mu.Lock()
		next()
		mu.Unlock()
	}
	step("reading the token: no such file", func() { tokenErr = nil })
	step("the token is empty", func() { token = "stale\n" })
	step("certificate signed by unknown authority", func() { roots = p.roots })
	step(`Unauthenticated: token "Bearer stale"`, func() { token = "secret" })
	eventually(t, "configuration", func() bool { return h.names(TypeCluster) == "a" && c.Status().Connected })
	if n := lines.count("cannot get configuration"); n != 4 {
		t.Errorf("four reasons were logged as %d", n)
	}
}
