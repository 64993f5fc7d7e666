package controlplane

import (
	"time"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	statsv1 "istio.io/api/envoy/extensions/stats"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	netfilterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	requestidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// httpChain serves a port of a service as HTTP.
func (b *builder) httpChain(s *manifests.Service, p *manifests.Port) *listenerv3.FilterChain {
	name := chainName(s, p.Number, "http")
	m := b.httpManager(p.Number, b.serviceRoutes(name, s, p), b.rules(s, false))
	if p.Protocol == manifests.HTTP2 {
		m.Http2ProtocolOptions = &corev3.Http2ProtocolOptions{}
	}
	return &listenerv3.FilterChain{Name: name, Filters: []*listenerv3.Filter{b.hcm(m)}}
}

// directHTTP and directTCP serve traffic to workloads rather than to a service. Only the waypoint's own policies hold there.
func (b *builder) directHTTP() *listenerv3.FilterChain {
	m := b.httpManager(0, b.routeConfig("encap", 0, []*routev3.Route{b.defaultRoute("encap", "", 0)}, true), b.rules(nil, false))
	return &listenerv3.FilterChain{Name: "direct-http", Filters: []*listenerv3.Filter{b.connectAuthority(), b.hcm(m)}}
}

func (b *builder) directTCP() *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Name: "direct-tcp", Filters: append([]*listenerv3.Filter{b.connectAuthority()}, b.tcpFilters("encap", b.rules(nil, true))...)}
}

func (b *builder) tcpChain(s *manifests.Service, p *manifests.Port) *listenerv3.FilterChain {
	name := chainName(s, p.Number, "tcp")
	return &listenerv3.FilterChain{Name: name, Filters: b.tcpFilters(name, b.rules(s, true))}
}

func (b *builder) tcpFilters(cluster string, rules *istio.Rules) []*listenerv3.Filter {
	out := []*listenerv3.Filter{b.filter("istio.metadata_exchange", b.typedStruct("envoy.tcp.metadataexchange.config.MetadataExchange", map[string]any{
		"protocol": "istio-peer-exchange", "enable_discovery": true,
	}))}
	out = append(out, rules.NetworkFilters()...)
	return append(out, b.filter("istio.stats", statistics()), b.filter("envoy.filters.network.tcp_proxy", &tcpproxyv3.TcpProxy{
		StatPrefix: cluster, ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster}, AccessLog: b.accessLog(),
	}))
}

// connectAuthority hands the original destination on to encap.
func (b *builder) connectAuthority() *listenerv3.Filter {
	const key = "envoy.filters.listener.original_dst.local_ip"
	v := filterState(key, "%FILTER_STATE("+key+":PLAIN)%")
	v.SharedWithUpstream = filterstatev3.FilterStateValue_ONCE
	return b.filter("connect_authority", &netfilterstatev3.Config{OnNewConnection: []*filterstatev3.FilterStateValue{v}})
}

// httpManager is the HCM of a port. Its filters stand in istiod's order.
func (b *builder) httpManager(port uint16, routes *routev3.RouteConfiguration, rules *istio.Rules) *hcmv3.HttpConnectionManager {
	filters := append(rules.HTTPFilters(),
		b.httpFilter("envoy.filters.http.grpc_stats", &grpcstatsv3.FilterConfig{
			EmitFilterState: true, PerMethodStatSpecifier: &grpcstatsv3.FilterConfig_StatsForAllMethods{StatsForAllMethods: wrapperspb.Bool(false)},
		}),
		b.httpFilter("envoy.filters.http.fault", &faultv3.HTTPFault{}),
		b.httpFilter("envoy.filters.http.cors", &corsv3.Cors{}),
		b.typedHTTP("waypoint_upstream_peer_metadata", "io.istio.http.peer_metadata.Config", map[string]any{
			"upstream_discovery": []any{map[string]any{"workload_discovery": map[string]any{}}},
		}),
		b.httpFilter("istio.stats", statistics()),
		b.router(),
	)
	return &hcmv3.HttpConnectionManager{
		StatPrefix: statPrefix(port), RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes}, HttpFilters: filters,
		Tracing: b.tracing(), ServerName: "istio-envoy", StreamIdleTimeout: durationpb.New(0), UseRemoteAddress: wrapperspb.Bool(false),
		Proxy_100Continue: true, NormalizePath: wrapperspb.Bool(true),
		UpgradeConfigs:               []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_KEEP_UNCHANGED,
		RequestIdExtension: &hcmv3.RequestIDExtension{TypedConfig: b.any(&requestidv3.UuidRequestIdConfig{
			UseRequestIdForTraceSampling: wrapperspb.Bool(true),
		})},
		AccessLog: b.accessLog(),
	}
}

// statistics are Istio's standard metrics, as seen from a gateway in front of the server.
func statistics() *statsv1.PluginConfig {
	return &statsv1.PluginConfig{DisableHostHeaderFallback: true, Reporter: statsv1.Reporter_SERVER_GATEWAY}
}

// logFields are the fields of the demo's access log, of which it prints a line for each request.
var logFields = map[string]any{
	"request_id": "%REQ(X-REQUEST-ID)%", "method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
	"code": "%RESPONSE_CODE%", "details": "%RESPONSE_CODE_DETAILS%", "flags": "%RESPONSE_FLAGS%", "route": "%ROUTE_NAME%",
	"principal": "%FILTER_STATE(io.istio.peer_principal:PLAIN)%", "source": "%DOWNSTREAM_REMOTE_ADDRESS%", "target": "%DOWNSTREAM_LOCAL_ADDRESS%",
	"upstream": "%UPSTREAM_HOST%", "cluster": "%UPSTREAM_CLUSTER%", "closed": "%CONNECTION_TERMINATION_DETAILS%",
	"duration": "%DURATION%",
}

func (b *builder) accessLog() []*accesslogv3.AccessLog {
	if b.o.AccessLog == "" {
		return nil
	}
	fields, err := structpb.NewStruct(logFields)
	if err != nil {
		b.fail(err)
	}
	return []*accesslogv3.AccessLog{{Name: "envoy.access_loggers.file", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.any(&filelogv3.FileAccessLog{
		Path: b.o.AccessLog,
		AccessLogFormat: &filelogv3.FileAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields},
		}},
	})}}}
}

func (b *builder) hcm(m *hcmv3.HttpConnectionManager) *listenerv3.Filter {
	return b.filter("envoy.filters.network.http_connection_manager", m)
}

func (b *builder) filter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: b.any(m)}}
}

func (b *builder) httpFilter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.any(m)}}
}

func (b *builder) router() *hcmv3.HttpFilter {
	return b.httpFilter("envoy.filters.http.router", &routerv3.Router{})
}

// typedHTTP is a filter of Istio's that has no Go type.
func (b *builder) typedHTTP(name, typeName string, value map[string]any) *hcmv3.HttpFilter {
	return b.httpFilter(name, b.typedStruct(typeName, value))
}

func (b *builder) typedStruct(typeName string, value map[string]any) *udpav1.TypedStruct {
	s, err := structpb.NewStruct(value)
	if err != nil {
		b.fail(err)
	}
	return &udpav1.TypedStruct{TypeUrl: "type.googleapis.com/" + typeName, Value: s}
}

func portRange(n uint16) *typev3.Int32Range {
	return &typev3.Int32Range{Start: int32(n), End: int32(n) + 1}
}

func seconds(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Second) }
