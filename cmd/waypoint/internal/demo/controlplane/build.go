package controlplane

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
	"github.com/gowaypoint/gowaypoint/xdsclient"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// Options are what an Istio user sets elsewhere than in the manifests that the demo takes.
type Options struct {
	// AccessLog is the file for the access logs, one line of JSON a request; "" writes none, Istio's default.
	AccessLog string
	// Collector is the address (host:port) of an OTLP/gRPC collector that takes all requests' spans. "" : no provider.
	Collector string
}

// Resources are by type URL and name.
type Resources map[string]map[string]proto.Message

func (r Resources) add(typeURL, name string, m proto.Message) {
	if r[typeURL] == nil {
		r[typeURL] = map[string]proto.Message{}
	}
	r[typeURL][name] = m
}

// Names returns the names of a type's resources, sorted.
func (r Resources) Names(typeURL string) []string { return slices.Sorted(maps.Keys(r[typeURL])) }

// builder keeps the first error, so that building reads as a description.
type builder struct {
	mesh *manifests.Mesh
	o    Options
	err  error
}

// Build makes the resources of a mesh. An error names the object in the manifests.
func Build(mesh *manifests.Mesh, o Options) (Resources, error) {
	b := &builder{mesh: mesh, o: o}
	out := Resources{}
	for _, l := range []*listenerv3.Listener{
		b.connectTerminate(), b.mainInternal(), b.connectOriginate(), b.innerConnectOriginate(), b.outerConnectOriginate(),
	} {
		out.add(xdsclient.TypeListener, l.GetName(), l)
	}
	clusters := b.fixedClusters()
	if o.Collector != "" {
		clusters = append(clusters, b.collector())
	}
	for _, s := range mesh.Services {
		for i := range s.Ports {
			for _, kind := range kinds(&s.Ports[i]) {
				c := b.inboundVIP(s, &s.Ports[i], kind)
				clusters = append(clusters, c)
				out.add(xdsclient.TypeEndpoint, c.GetName(), b.endpoints(c.GetName(), s, &s.Ports[i]))
			}
		}
	}
	for _, c := range clusters {
		out.add(xdsclient.TypeCluster, c.GetName(), c)
	}
	for _, p := range mesh.Pods {
		out.add(xdsclient.TypeWorkload, workloadUID(p), workload(p))
	}
	return out, b.err
}

// kinds says whether a port is served as HTTP, as TCP, or as either.
func kinds(p *manifests.Port) []string {
	switch p.Protocol {
	case manifests.HTTP, manifests.HTTP2:
		return []string{"http"}
	case manifests.TCP:
		return []string{"tcp"}
	}
	return []string{"tcp", "http"}
}

// chainName is the name of a chain, its cluster, its endpoints and its route configuration alike.
func chainName(s *manifests.Service, port uint16, kind string) string {
	return fmt.Sprintf("inbound-vip|%d|%s|%s", port, kind, s.Host())
}

// rules compiles the policies for a service, or (nil) for traffic to workloads.
func (b *builder) rules(s *manifests.Service, tcp bool) *istio.Rules {
	t := istio.Target{Gateway: istio.Object{Namespace: b.mesh.Waypoint.Namespace, Name: b.mesh.Waypoint.Name}, TCP: tcp}
	if s != nil {
		t.Objects = []istio.Object{{Kind: "Service", Namespace: s.Namespace, Name: s.Name}}
	}
	rules, err := istio.Compile(b.mesh.Policies, t)
	if err != nil {
		b.fail(err)
		return &istio.Rules{}
	}
	return rules
}

func (b *builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// any packs a message, with its maps in one order, so that equal configuration is equal bytes.
func (b *builder) any(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		b.fail(err)
	}
	return a
}
