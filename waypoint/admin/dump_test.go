package admin

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// istioctlResolver is how istioctl reads a dump: of a type that it does not know it drops the content.
type istioctlResolver struct{ *protoregistry.Types }

func (r istioctlResolver) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if t, err := r.Types.FindMessageByURL(url); err == nil {
		return t, nil
	}
	return (&emptypb.Empty{}).ProtoReflect().Type(), nil
}

func parseDump(t *testing.T, body string) map[string]*anypb.Any {
	t.Helper()
	var d adminv3.ConfigDump
	o := protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: istioctlResolver{protoregistry.GlobalTypes}}
	if err := o.Unmarshal([]byte(body), &d); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	out := map[string]*anypb.Any{}
	for _, a := range d.GetConfigs() {
		out[strings.TrimPrefix(a.GetTypeUrl(), typePrefix+"envoy.admin.v3.")] = a
	}
	return out
}

func sectionOf[T proto.Message](t *testing.T, sections map[string]*anypb.Any, into T) T {
	t.Helper()
	name := string(into.ProtoReflect().Descriptor().Name())
	if sections[name] == nil {
		t.Fatalf("no section %s among %v", name, slices.Collect(maps.Keys(sections)))
	}
	if err := sections[name].UnmarshalTo(into); err != nil {
		t.Fatal(err)
	}
	return into
}

func TestDumpEchoesResources(t *testing.T) {
	w := newWorld(t, oddListener(), &listenerv3.Listener{Name: badListener}, coldCluster())
	body := w.get("/config_dump?include_eds")
	sections := parseDump(t, body)
	wantSections := []string{"BootstrapConfigDump", "ClustersConfigDump", "EcdsConfigDump", "EndpointsConfigDump", "ListenersConfigDump",
		"RoutesConfigDump", "ScopedRoutesConfigDump", "SecretsConfigDump"}
	if got := slices.Sorted(maps.Keys(sections)); !slices.Equal(got, wantSections) {
		t.Errorf("sections %v", got)
	}

	echoed := func(url, name string, a *anypb.Any) {
		t.Helper()
		m, err := a.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		if want := w.sent[url][name]; !proto.Equal(m, want) {
			t.Errorf("%s is dumped as\n%v\nwant\n%v", name, m, want)
		}
	}
	clusters := sectionOf(t, sections, &adminv3.ClustersConfigDump{})
	if active, warming := clusters.GetDynamicActiveClusters(), clusters.GetDynamicWarmingClusters(); len(active) != len(w.sent[xdsclient.TypeCluster])-1 ||
		len(warming) != 1 {
		t.Errorf("%d active clusters, warming are %v", len(active), warming)
	} else {
		echoed(xdsclient.TypeCluster, "cold", warming[0].GetCluster())
	}
	for _, c := range clusters.GetDynamicActiveClusters() {
		m, err := c.GetCluster().UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		echoed(xdsclient.TypeCluster, m.(interface{ GetName() string }).GetName(), c.GetCluster())
		if c.GetLastUpdated() == nil {
			t.Error("no last_updated")
		}
	}

	endpoints := sectionOf(t, sections, &adminv3.EndpointsConfigDump{})
	if n := len(endpoints.GetDynamicEndpointConfigs()); n < len(w.sent[xdsclient.TypeEndpoint]) {
		t.Errorf("%d endpoint configs", n)
	}

	names := 0
	for _, l := range sectionOf(t, sections, &adminv3.ListenersConfigDump{}).GetDynamicListeners() {
		switch l.GetName() {
		case badListener:
			if l.GetActiveState() != nil || !strings.Contains(l.GetErrorState().GetDetails(), "must be set") || l.GetErrorState().GetFailedConfiguration() == nil {
				t.Errorf("the rejected listener is dumped as %v", l)
			}
		case "odd": // istioctl's own copy of it loses the content as well
			if l.GetActiveState() == nil {
				t.Errorf("the listener with an unknown extension is dumped as %v", l)
			}
		default:
			names++
			echoed(xdsclient.TypeListener, l.GetName(), l.GetActiveState().GetListener())
		}
	}
	if names != len(w.sent[xdsclient.TypeListener])-2 {
		t.Errorf("%d listeners", names)
	}
	for _, want := range []string{`"@type": "type.googleapis.com/example.not.Linked"`, `"undecoded_bytes": 8`, `"undecoded_sha256": "`} {
		if !strings.Contains(body, want) {
			t.Errorf("the unknown extension is not described: no %s", want)
		}
	}

	boot := sectionOf(t, sections, &adminv3.BootstrapConfigDump{})
	if boot.GetBootstrap().GetNode().GetId() != nodeID || boot.GetBootstrap().GetAdmin().GetAddress().GetSocketAddress().GetAddress() != "127.0.0.1" {
		t.Errorf("bootstrap %v", boot)
	}
}

// Kiali reads the dump with encoding/json, by the names of the protos.
func TestDumpForKiali(t *testing.T) {
	w := newWorld(t)
	var d struct {
		Configs []struct {
			Type      string `json:"@type"`
			Listeners []struct {
				Active struct {
					Listener struct {
						Address struct {
							Socket struct {
								Port int `json:"port_value"`
							} `json:"socket_address"`
						} `json:"address"`
						Chains []any `json:"filter_chains"`
					} `json:"listener"`
				} `json:"active_state"`
			} `json:"dynamic_listeners"`
		} `json:"configs"`
	}
	if err := json.Unmarshal([]byte(w.get("/config_dump")), &d); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range d.Configs {
		if strings.HasSuffix(c.Type, "EndpointsConfigDump") {
			t.Error("endpoints were not asked for")
		}
		for _, l := range c.Listeners {
			found = found || l.Active.Listener.Address.Socket.Port == 15008 && len(l.Active.Listener.Chains) == 1
		}
	}
	if !found {
		t.Error("no listener at 15008")
	}
}

// A waypoint's routes stand in its listeners; istioctl says "no routes found" unless they appear as static ones.
func TestInlineRoutesAreStatic(t *testing.T) {
	w := newWorld(t)
	routes := sectionOf(t, parseDump(t, w.get("/config_dump?mask=dynamic_route_configs,static_route_configs")), &adminv3.RoutesConfigDump{})
	found := map[string]int{}
	for _, r := range routes.GetStaticRouteConfigs() {
		var rc routev3.RouteConfiguration
		if err := r.GetRouteConfig().UnmarshalTo(&rc); err != nil {
			t.Fatal(err)
		}
		found[rc.GetName()]++
		if len(rc.GetVirtualHosts()) == 0 {
			t.Errorf("%s has no virtual hosts", rc.GetName())
		}
	}
	if found["default"] == 0 || found["inbound-vip|5000|http|helloworld.default.svc.cluster.local"] != 1 {
		t.Errorf("static routes %v", found)
	}
}

func TestDumpOfSecrets(t *testing.T) {
	w := newWorld(t)
	body := w.get("/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets")
	if strings.Contains(body, "PRIVATE KEY") {
		t.Fatal("the private key is in the dump")
	}
	sections := parseDump(t, body)
	if len(sections) != 1 {
		t.Errorf("the mask fits secrets alone: %v", sections)
	}
	secrets := sectionOf(t, sections, &adminv3.SecretsConfigDump{})
	got := map[string]*tlsv3.Secret{}
	for _, s := range secrets.GetDynamicActiveSecrets() {
		var sec tlsv3.Secret
		if err := s.GetSecret().UnmarshalTo(&sec); err != nil {
			t.Fatal(err)
		}
		got[s.GetName()] = &sec
	}
	if c := got["default"].GetTlsCertificate(); string(c.GetPrivateKey().GetInlineBytes()) != redactedText ||
		!strings.HasPrefix(string(c.GetCertificateChain().GetInlineBytes()), "-----BEGIN CERTIFICATE") {
		t.Errorf("default: %v", got["default"])
	}
	if got["ROOTCA"].GetValidationContext().GetTrustedCa().GetInlineBytes() == nil {
		t.Errorf("ROOTCA: %v", got["ROOTCA"])
	}
	if warm := secrets.GetDynamicWarmingSecrets(); len(warm) != 1 || warm[0].GetName() != "kubernetes://never" || warm[0].GetVersionInfo() != "uninitialized" {
		t.Errorf("warming: %v", warm)
	}
}

// The requests of istioctl's commands (contract A2), and what Envoy says to those that fit nothing.
func TestDumpParameters(t *testing.T) {
	w := newWorld(t)
	for query, want := range map[string]string{
		"mask=dynamic_active_clusters,dynamic_warming_clusters,static_clusters": "ClustersConfigDump",
		"mask=dynamic_listeners,static_listeners":                               "ListenersConfigDump",
		"mask=bootstrap":                                 "BootstrapConfigDump",
		"mask=bootstrap.node.id":                         "BootstrapConfigDump",
		"include_eds=true&mask=dynamic_endpoint_configs": "EndpointsConfigDump",
		"mask=ecds_filters":                              "EcdsConfigDump",
	} {
		sections := parseDump(t, w.get("/config_dump?"+query))
		if len(sections) != 1 || sections[want] == nil {
			t.Errorf("%s: %v, want %s alone", query, slices.Collect(maps.Keys(sections)), want)
		}
	}
	if boot := sectionOf(t, parseDump(t, w.get("/config_dump?mask=bootstrap.node.id")), &adminv3.BootstrapConfigDump{}); boot.GetBootstrap().GetNode().GetId() != nodeID ||
		boot.GetBootstrap().GetDynamicResources() != nil || boot.GetLastUpdated() != nil {
		t.Errorf("trimmed bootstrap: %v", boot)
	}

	one := w.get("/config_dump?resource=dynamic_active_clusters&name_regex=main_intern.l&mask=cluster.name,cluster.type")
	var d adminv3.ConfigDump
	if err := protojson.Unmarshal([]byte(one), &d); err != nil {
		t.Fatal(err)
	}
	var c adminv3.ClustersConfigDump_DynamicCluster
	if len(d.GetConfigs()) != 1 || d.GetConfigs()[0].UnmarshalTo(&c) != nil {
		t.Fatal(one)
	}
	if m, err := c.GetCluster().UnmarshalNew(); err != nil || !proto.Equal(m, &clusterv3.Cluster{
		Name: "main_internal", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
	}) {
		t.Errorf("%v, %v", m, err)
	}

	w.wants(http.StatusBadRequest, http.MethodGet, "/config_dump?mask=nonsense")
	w.wants(http.StatusNotFound, http.MethodGet, "/config_dump?resource=nonsense")
	w.wants(http.StatusBadRequest, http.MethodGet, "/config_dump?resource=bootstrap")
	w.wants(http.StatusBadRequest, http.MethodGet, "/config_dump?resource=dynamic_active_clusters&mask=cluster.nonsense")
	w.wants(http.StatusBadRequest, http.MethodGet, "/config_dump?name_regex=(")
	w.wants(http.StatusNotFound, http.MethodGet, "/config_dump?resource=dynamic_endpoint_configs") // not without include_eds
}
