package controlplane

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/types/known/durationpb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	tracingtypev3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// tracing is the default of Istio: one request of a hundred, with the tags that say who called whom. With a collector, all.
func (b *builder) tracing() *hcmv3.HttpConnectionManager_Tracing {
	sampling := 1.0
	if b.o.Collector != "" {
		sampling = 100
	}
	t := &hcmv3.HttpConnectionManager_Tracing{
		ClientSampling: &typev3.Percent{Value: 100}, RandomSampling: &typev3.Percent{Value: sampling}, OverallSampling: &typev3.Percent{Value: 100},
	}
	tag := func(name string) *tracingtypev3.CustomTag {
		c := &tracingtypev3.CustomTag{Tag: name}
		t.CustomTags = append(t.CustomTags, c)
		return c
	}
	literal := func(name, value string) {
		tag(name).Type = &tracingtypev3.CustomTag_Literal_{Literal: &tracingtypev3.CustomTag_Literal{Value: value}}
	}
	peer := func(side, state string) {
		for _, f := range [][2]string{{"app", "app"}, {"app_version", "version"}, {"canonical_revision", "revision"}, {"canonical_service", "service"},
			{"cluster_id", "cluster"}, {"instance_name", "name"}, {"namespace", "namespace"}, {"workload", "workload"}, {"workload_type", "type"}} {
			tag("istio." + side + "_" + f[0]).Type = &tracingtypev3.CustomTag_Value{Value: fmt.Sprintf("%%FILTER_STATE(%s:FIELD:%s)%%", state, f[1])}
		}
	}
	for _, action := range []string{"allow", "deny"} {
		for _, r := range [][2]string{{"name", "shadow_effective_policy_id"}, {"result", "shadow_engine_result"}} {
			tag("istio.authorization.dry_run." + action + "_policy." + r[0]).Type = &tracingtypev3.CustomTag_Metadata_{Metadata: &tracingtypev3.CustomTag_Metadata{
				Kind: &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Request_{Request: &metadatav3.MetadataKind_Request{}}},
				MetadataKey: &metadatav3.MetadataKey{Key: "envoy.filters.http.rbac", Path: []*metadatav3.MetadataKey_PathSegment{
					{Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: "istio_dry_run_" + action + "_" + r[1]}},
				}},
			}}
		}
	}
	if b.o.Collector != "" {
		t.Provider = b.provider()
	}
	literal("istio.canonical_revision", "latest")
	literal("istio.canonical_service", "unknown")
	literal("istio.cluster_id", clusterID)
	peer("destination", "upstream_peer_obj")
	literal("istio.mesh_id", "unknown")
	literal("istio.namespace", b.mesh.Waypoint.Namespace)
	peer("source", "downstream_peer_obj")
	return t
}

// collectorCluster leads to the collector of traces. With Istio it would be an outbound cluster of the provider's service.
const collectorCluster = "outbound|4317||collector.demo.svc.cluster.local"

// provider is what istiod sends for a meshConfig.extensionProviders entry of kind opentelemetry.
func (b *builder) provider() *tracev3.Tracing_Http {
	return &tracev3.Tracing_Http{Name: "envoy.tracers.opentelemetry", ConfigType: &tracev3.Tracing_Http_TypedConfig{
		TypedConfig: b.any(&tracev3.OpenTelemetryConfig{
			ServiceName: b.mesh.Waypoint.Name + "." + b.mesh.Waypoint.Namespace,
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: collectorCluster, Authority: "collector.demo.svc.cluster.local",
			}}},
		}),
	}}
}

func (b *builder) collector() *clusterv3.Cluster {
	a, err := netip.ParseAddrPort(b.o.Collector)
	if err != nil {
		b.fail(fmt.Errorf("collector: %w", err))
		return nil
	}
	c := b.cluster(collectorCluster, &upstreamv3.HttpProtocolOptions{UpstreamProtocolOptions: explicitHTTP2(&corev3.Http2ProtocolOptions{})})
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.ConnectTimeout = durationpb.New(connectTimeout)
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: collectorCluster, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: socketAddress(a.Addr().String(), a.Port()),
		}}}},
	}}}
	return c
}
