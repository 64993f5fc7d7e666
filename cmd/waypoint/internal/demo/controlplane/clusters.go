package controlplane

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// Timeouts that istiod gives when the mesh configuration says nothing.
const (
	connectTimeout = 10 * time.Second
	internalIdle   = 300 * time.Second
	hboneIdle      = time.Hour
	cleanup        = time.Minute
)

const (
	originalDst     = "envoy.filters.listener.original_dst"
	httpOptionsName = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	hbonePort       = 15008
)

// fixedClusters are in the configuration of every waypoint.
func (b *builder) fixedClusters() []*clusterv3.Cluster {
	tunnel := &upstreamv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(hboneIdle)},
		UpstreamProtocolOptions:   explicitHTTP2(&corev3.Http2ProtocolOptions{AllowConnect: true}),
	}
	once := proto.CloneOf(tunnel)
	once.CommonHttpProtocolOptions.MaxRequestsPerConnection = wrapperspb.UInt32(1)
	internal := &upstreamv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(internalIdle)},
		UpstreamProtocolOptions:   downstreamProtocol(),
	}

	main := b.cluster("main_internal", internal)
	staticInternal(main, "main_internal")
	main.TransportSocket = b.internalUpstream(nil)

	encap := b.cluster("encap", internal)
	staticInternal(encap, "connect_originate")
	encap.TransportSocket = b.internalUpstream(nil)

	originate := b.originalDst("connect_originate", tunnel)
	originate.GetOriginalDstLbConfig().MetadataKey = &metadatav3.MetadataKey{Key: originalDst, Path: []*metadatav3.MetadataKey_PathSegment{
		{Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: "waypoint"}},
	}}
	ns := manifests.Account{Namespace: b.mesh.Waypoint.Namespace}.Principal() // …/sa/
	originate.TransportSocket = b.upstreamTLS(ns)

	inner := b.cluster("inner_connect_originate", once)
	staticInternal(inner, "outer_connect_originate")
	inner.TransportSocket = &corev3.TransportSocket{Name: "internal_upstream_with_tls", ConfigType: &corev3.TransportSocket_TypedConfig{
		TypedConfig: b.any(&internalv3.InternalUpstreamTransport{TransportSocket: b.upstreamTLS()}),
	}}

	outer := b.originalDst("outer_connect_originate", once)
	outer.TransportSocket = b.upstreamTLS()
	return []*clusterv3.Cluster{main, encap, originate, inner, outer}
}

// cluster is what all clusters have in common: no limits, and a name for statistics.
func (b *builder) cluster(name string, http *upstreamv3.HttpProtocolOptions) *clusterv3.Cluster {
	most := wrapperspb.UInt32(1<<32 - 1)
	c := &clusterv3.Cluster{
		Name: name, AltStatName: name + ";",
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{
			{MaxConnections: most, MaxPendingRequests: most, MaxRequests: most, MaxRetries: most},
		}},
	}
	if http != nil {
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsName: b.any(http)}
	}
	return c
}

func (b *builder) originalDst(name string, http *upstreamv3.HttpProtocolOptions) *clusterv3.Cluster {
	c := b.cluster(name, http)
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
	c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	c.ConnectTimeout = durationpb.New(connectTimeout)
	c.CleanupInterval = durationpb.New(cleanup)
	c.LbConfig = &clusterv3.Cluster_OriginalDstLbConfig_{OriginalDstLbConfig: &clusterv3.Cluster_OriginalDstLbConfig{
		UpstreamPortOverride: wrapperspb.UInt32(hbonePort),
	}}
	return c
}

// staticInternal makes an internal listener the only endpoint.
func staticInternal(c *clusterv3.Cluster, listener string) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: c.GetName(), Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: internalAddress(listener, ""),
		}}}},
	}}}
}

func internalAddress(listener, endpoint string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener}, EndpointId: endpoint,
	}}}
}

// inboundVIP is the cluster of a service's port.
func (b *builder) inboundVIP(s *manifests.Service, p *manifests.Port, kind string) *clusterv3.Cluster {
	var http *upstreamv3.HttpProtocolOptions
	switch p.Protocol {
	case manifests.HTTP2:
		http = &upstreamv3.HttpProtocolOptions{UpstreamProtocolOptions: explicitHTTP2(&corev3.Http2ProtocolOptions{})}
	case manifests.Auto:
		http = &upstreamv3.HttpProtocolOptions{UpstreamProtocolOptions: downstreamProtocol()}
	}
	c := b.cluster(chainName(s, p.Number, kind), http)
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{ServiceName: c.GetName(), EdsConfig: &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		InitialFetchTimeout:   durationpb.New(0), ResourceApiVersion: corev3.ApiVersion_V3,
	}}
	c.ConnectTimeout = durationpb.New(connectTimeout)
	c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}}
	c.TransportSocket = b.internalUpstream([]string{originalDst, "istio"})
	c.Metadata = b.istioMetadata(map[string]any{
		"services": []any{map[string]any{"host": s.Host(), "name": s.Name, "namespace": s.Namespace}}, "subset": kind,
	})
	return c
}

func (b *builder) istioMetadata(fields map[string]any) *corev3.Metadata {
	return b.metadata(map[string]map[string]any{"istio": fields})
}

func (b *builder) metadata(by map[string]map[string]any) *corev3.Metadata {
	m := &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{}}
	for name, fields := range by {
		s, err := structpb.NewStruct(fields)
		if err != nil {
			b.fail(err)
		}
		m.FilterMetadata[name] = s
	}
	return m
}

// internalUpstream connects to an internal listener and hands on metadata of the endpoint.
func (b *builder) internalUpstream(passthrough []string) *corev3.TransportSocket {
	t := &internalv3.InternalUpstreamTransport{TransportSocket: &corev3.TransportSocket{
		Name: "raw_buffer", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.any(&rawbufferv3.RawBuffer{})},
	}}
	for _, name := range passthrough {
		t.PassthroughMetadata = append(t.PassthroughMetadata, &internalv3.InternalUpstreamTransport_MetadataValueSource{
			Kind: &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Host_{Host: &metadatav3.MetadataKind_Host{}}}, Name: name,
		})
	}
	return &corev3.TransportSocket{Name: "internal_upstream", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.any(t)}}
}

func explicitHTTP2(o *corev3.Http2ProtocolOptions) *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_ {
	return &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: o},
	}}
}

func downstreamProtocol() *upstreamv3.HttpProtocolOptions_UseDownstreamProtocolConfig {
	return &upstreamv3.HttpProtocolOptions_UseDownstreamProtocolConfig{UseDownstreamProtocolConfig: &upstreamv3.HttpProtocolOptions_UseDownstreamHttpConfig{
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{}, Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
	}}
}
