package fake

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/fake/ambient"

	"google.golang.org/grpc"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/features"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/config/schema/gvr"
	kubelib "istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/kube/kclient/clienttest"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	k8stesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"
)

// Istiod is istiod's code on manifests: all of it that makes xDS, without an API server and without a CA.
type Istiod struct {
	t    testing.TB
	fake *xds.FakeDiscoveryServer
	m    *manifests
	mu   sync.Mutex // of m

	// Addr is where it serves delta ADS, in clear, as on istiod's port 15010. It stays the same over Stop and Serve.
	Addr string
	grpc *grpc.Server
}

// starting: NewFakeDiscoveryServer has settings of its own that several would write at the same time.
var starting sync.Mutex

// newIstiod starts istiod on manifests, with a MeshConfig in YAML on top of Istio's defaults, and returns when it has digested
// them.
func newIstiod(t testing.TB, m *manifests, meshYAML string) *Istiod {
	t.Helper()
	if ambient.Set != nil || !features.EnableAmbient {
		t.Fatalf("istiod has been initialised without ambient mode: %v", ambient.Set)
	}
	cfg, err := mesh.ApplyMeshConfigDefaults(meshYAML)
	must(t, err)
	_, err = m.endpointSlices()
	must(t, err)
	kube, err := m.yaml(func(o *unstructured.Unstructured) bool { return true })
	must(t, err)
	istio, err := m.yaml(isConfig)
	must(t, err)
	i := &Istiod{t: t, m: m}
	i.start(kube, istio, cfg)
	i.Serve()
	t.Cleanup(i.Stop)
	return i
}

func (i *Istiod) start(kube, istio string, cfg *meshconfig.MeshConfig) {
	starting.Lock()
	defer starting.Unlock()
	// istiod's ambient index watches the cluster, its other parts have a store of configuration: each wants the whole.
	i.fake = xds.NewFakeDiscoveryServer(i.t, xds.FakeOptions{
		KubernetesObjectString: kube, ConfigString: istio, MeshConfig: cfg, DebounceTime: 10 * time.Millisecond,
	})
	// It only believes in these kinds when their definitions say which version of Gateway API they come from.
	for _, kind := range []schema.GroupVersionResource{gvr.GRPCRoute, gvr.TCPRoute, gvr.TLSRoute} {
		clienttest.MakeCRDWithAnnotations(i.t, i.fake.KubeClient(), kind, map[string]string{"gateway.networking.k8s.io/bundle-version": "v1.6.0"})
	}
}

// isConfig: Istio's own kinds are in the configuration store. Gateway API is converted from what the cluster holds.
func isConfig(o *unstructured.Unstructured) bool {
	return strings.HasSuffix(o.GroupVersionKind().Group, ".istio.io")
}

// Serve accepts ADS streams, again if it was stopped.
func (i *Istiod) Serve() {
	i.t.Helper()
	addr := i.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	must(i.t, err)
	i.Addr = l.Addr().String()
	i.grpc = grpc.NewServer()
	i.fake.Discovery.Register(i.grpc)
	go func(s *grpc.Server) { _ = s.Serve(l) }(i.grpc) // ends with Stop, with no error that matters
}

// Stop closes the port and all streams, as when istiod dies. Its state goes on following Apply.
func (i *Istiod) Stop() { i.grpc.Stop() }

// Apply creates or replaces the objects of a YAML text, as kubectl apply does.
func (i *Istiod) Apply(text string) {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	objects, err := i.m.parse(text)
	must(i.t, err)
	slices, err := i.m.endpointSlices()
	must(i.t, err)
	for _, o := range append(objects, slices...) {
		must(i.t, i.inCluster(o, true))
		if isConfig(o) {
			must(i.t, i.inStore(o, true))
		}
	}
}

// Delete removes the objects that a YAML text names.
func (i *Istiod) Delete(text string) {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	objects, err := i.m.parse(text)
	must(i.t, err)
	for _, o := range objects {
		i.m.remove(o)
		must(i.t, i.inCluster(o, false))
		if isConfig(o) {
			must(i.t, i.inStore(o, false))
		}
	}
	slices, err := i.m.endpointSlices()
	must(i.t, err)
	for _, o := range slices {
		must(i.t, i.inCluster(o, true))
	}
}

// inCluster changes an object of the cluster; what watches it hears of that.
func (i *Istiod) inCluster(o *unstructured.Unstructured, there bool) error {
	b, err := yaml.Marshal(o.Object)
	if err != nil {
		return err
	}
	object, kind, err := kubelib.IstioCodec.UniversalDeserializer().Decode(b, nil, nil)
	if err != nil {
		return err
	}
	c := i.fake.KubeClient()
	var client any = c.Kube()
	switch {
	case strings.HasSuffix(kind.Group, ".istio.io"):
		client = c.Istio()
	case kind.Group == "gateway.networking.k8s.io":
		client = c.GatewayAPI()
	}
	tracker := client.(interface {
		Tracker() k8stesting.ObjectTracker
	}).Tracker()
	resource, known := gvk.ToGVR(config.FromKubernetesGVK(*kind))
	if !known {
		resource, _ = meta.UnsafeGuessKindToResource(*kind)
	}
	if resource.Group == "core" {
		resource.Group = ""
	}
	if !there {
		return tracker.Delete(resource, o.GetNamespace(), o.GetName())
	}
	err = tracker.Update(resource, object, o.GetNamespace())
	if errors.IsNotFound(err) {
		err = tracker.Create(resource, object, o.GetNamespace())
	}
	return err
}

// inStore changes an object of istiod's configuration store.
func (i *Istiod) inStore(o *unstructured.Unstructured, there bool) error {
	b, err := yaml.Marshal(o.Object)
	if err != nil {
		return err
	}
	configs, _, err := crd.ParseInputs(string(b))
	if err != nil || len(configs) != 1 {
		return fmt.Errorf("%s: %d configs, %w", key(o), len(configs), err)
	}
	c, store := configs[0], i.fake.Store()
	old := store.Get(c.GroupVersionKind, c.Name, c.Namespace)
	switch {
	case !there:
		return store.Delete(c.GroupVersionKind, c.Name, c.Namespace, nil)
	case old != nil:
		c.ResourceVersion, c.CreationTimestamp = old.ResourceVersion, old.CreationTimestamp
		_, err = store.Update(c)
	default:
		c.CreationTimestamp = time.Now()
		_, err = store.Create(c)
	}
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
