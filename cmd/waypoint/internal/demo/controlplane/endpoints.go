package controlplane

import (
	"net/netip"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

// clusterID is the name of the demo's Kubernetes cluster, Istio's default.
const clusterID = "Kubernetes"

// endpoints are the pods of a service's port: those of the mesh through connect_originate, others by their socket address.
func (b *builder) endpoints(name string, s *manifests.Service, p *manifests.Port) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	group := &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{}}
	for _, pod := range b.mesh.Endpoints(s) {
		port := p.Target(pod)
		if port == 0 {
			continue // the pod has no port of that name
		}
		canonical, revision := pod.Canonical()
		metadata := map[string]map[string]any{
			"istio": {"workload": strings.Join([]string{pod.Workload, pod.Namespace, canonical, revision, clusterID}, ";")},
		}
		at := netip.AddrPortFrom(pod.IP, port).String()
		address := socketAddress(pod.IP.String(), port)
		if pod.HBONE {
			address = internalAddress("connect_originate", at)
			metadata[originalDst] = map[string]any{"local": at}
		}
		group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
			HealthStatus:   corev3.HealthStatus_HEALTHY, LoadBalancingWeight: wrapperspb.UInt32(1), Metadata: b.metadata(metadata),
		})
	}
	if n := len(group.GetLbEndpoints()); n > 0 {
		group.LoadBalancingWeight = wrapperspb.UInt32(uint32(n))
		out.Endpoints = []*endpointv3.LocalityLbEndpoints{group}
	}
	return out
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func workloadUID(p *manifests.Pod) string {
	return clusterID + "//Pod/" + p.Namespace + "/" + p.Name
}

// workload is an istio.workload.Workload, which tells the waypoint who is behind an address. There is no Go type for it that
// does not bring all of Istio along, so the message is put together field by field, and travels as the unknown fields of an
// empty one, which are the same bytes.
func workload(p *manifests.Pod) proto.Message {
	var raw []byte
	text := func(field protowire.Number, v string) {
		raw = protowire.AppendString(protowire.AppendTag(raw, field, protowire.BytesType), v)
	}
	number := func(field protowire.Number, v uint64) {
		raw = protowire.AppendVarint(protowire.AppendTag(raw, field, protowire.VarintType), v)
	}
	canonical, revision := p.Canonical()
	text(1, p.Name)
	text(2, p.Namespace)
	text(3, string(p.IP.AsSlice()))
	if p.HBONE {
		number(5, 1) // tunnel_protocol HBONE
	}
	text(7, p.Account.Name)
	text(10, canonical)
	text(11, revision)
	if !p.Deployment {
		number(12, 2) // workload_type POD
	}
	text(13, p.Workload)
	text(18, clusterID)
	text(20, workloadUID(p))
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(raw)
	return m
}
