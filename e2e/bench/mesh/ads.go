package mesh

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	// The types that the resources are made of: an Any in JSON can be read only if its type is known.
	_ "github.com/cncf/xds/go/udpa/type/v1"
	_ "github.com/cncf/xds/go/xds/type/matcher/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	_ "istio.io/api/envoy/extensions/stats"
)

// Type URLs on the stream.
const (
	typeListener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	typeCluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	typeEndpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	typeWorkload = "type.googleapis.com/istio.workload.Workload"
)

// ControlPlane answers delta ADS with a set of resources that never changes.
type ControlPlane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	byType map[string][]*discoveryv3.Resource
	server *grpc.Server
	addr   string

	// Rejected gets the NACKs of the proxy; one that is not read does not block.
	Rejected chan string
}

// Workload is a peer as istiod describes it.
type Workload struct {
	Name      string
	Address   netip.Addr
	Account   string
	Canonical string
}

// NewControlPlane serves r and the workloads in plaintext on a free port of 127.0.0.1 until Close.
func NewControlPlane(r *Resources, workloads []Workload) (*ControlPlane, error) {
	p := &ControlPlane{byType: map[string][]*discoveryv3.Resource{}, Rejected: make(chan string, 16)}
	for _, set := range []struct {
		list []object
		name string
	}{{r.Listeners, "name"}, {r.Clusters, "name"}, {r.Endpoints, "cluster_name"}} {
		for _, o := range set.list {
			if err := p.add(o, set.name); err != nil {
				return nil, err
			}
		}
	}
	for _, w := range workloads {
		uid := "Kubernetes//Pod/default/" + w.Name
		p.byType[typeWorkload] = append(p.byType[typeWorkload], &discoveryv3.Resource{
			Name: uid, Version: "1", Resource: &anypb.Any{TypeUrl: typeWorkload, Value: w.marshal(uid)}})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.addr = l.Addr().String()
	p.server = grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(p.server, p)
	go func() { _ = p.server.Serve(l) }() // ends with Close
	return p, nil
}

func (p *ControlPlane) add(o object, nameField string) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	name, _ := o[nameField].(string)
	var a anypb.Any
	if err := protojson.Unmarshal(text, &a); err != nil {
		return fmt.Errorf("resource %q: %w", name, err)
	}
	p.byType[a.GetTypeUrl()] = append(p.byType[a.GetTypeUrl()], &discoveryv3.Resource{Name: name, Resource: &a})
	return nil
}

// Address is where the control plane listens.
func (p *ControlPlane) Address() string { return p.addr }

// Close ends it, and its streams.
func (p *ControlPlane) Close() { p.server.Stop() }

// DeltaAggregatedResources answers each first request for a type, and each name that is subscribed to, with what there is.
// Everything else is an ACK, or a NACK, which goes to Rejected.
func (p *ControlPlane) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	seen := map[string]bool{}
	for nonce := 1; ; {
		req, err := s.Recv()
		if err == io.EOF { //nolint:errorlint // gRPC returns it bare
			return nil
		}
		if err != nil {
			return err
		}
		url := req.GetTypeUrl()
		if e := req.GetErrorDetail(); e != nil {
			select {
			case p.Rejected <- url + ": " + e.GetMessage():
			default:
			}
		}
		first := !seen[url]
		seen[url] = true
		names := req.GetResourceNamesSubscribe()
		wildcard := first && len(names) == 0 || slices.Contains(names, "*")
		if !wildcard && len(names) == 0 {
			continue
		}
		resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, Nonce: strconv.Itoa(nonce)}
		nonce++
		for _, r := range p.byType[url] {
			if wildcard || slices.Contains(names, r.GetName()) {
				resp.Resources = append(resp.Resources, r)
			}
		}
		if err := s.Send(resp); err != nil {
			return err
		}
	}
}

// marshal writes an istio.workload.Workload. There is no generated type in this module on purpose: istio.io/istio, which
// other tests link, brings its own, and a process can hold a message name once.
func (w Workload) marshal(uid string) []byte {
	var b []byte
	text := func(field protowire.Number, v string) {
		b = protowire.AppendTag(b, field, protowire.BytesType)
		b = protowire.AppendString(b, v)
	}
	text(1, w.Name)
	text(2, "default") // namespace
	text(3, string(w.Address.AsSlice()))
	text(7, w.Account)
	text(10, w.Canonical)
	text(11, "v1") // canonical_revision
	text(13, w.Canonical)
	text(18, "Kubernetes") // cluster_id
	text(20, uid)
	return b
}
