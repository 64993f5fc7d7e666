package controlplane

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	httpfilterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	inspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	netfilterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	inputv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
)

// connectTerminate takes HBONE: TLS with a client certificate, CONNECT, and on to main_internal with what the handshake
// proved in filter state.
func (b *builder) connectTerminate() *listenerv3.Listener {
	state := func(key, format string, hashable bool) *filterstatev3.FilterStateValue {
		v := filterState(key, format)
		v.SharedWithUpstream = filterstatev3.FilterStateValue_ONCE
		if hashable {
			v.FactoryKey = "istio.hashable_string"
		}
		return v
	}
	hcm := &hcmv3.HttpConnectionManager{
		StatPrefix: "connect_terminate",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: "default", VirtualHosts: []*routev3.VirtualHost{{Name: "default", Domains: []string{"*"}, Routes: []*routev3.Route{{
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "main_internal"},
					UpgradeConfigs: []*routev3.RouteAction_UpgradeConfig{{
						UpgradeType: "CONNECT", ConnectConfig: &routev3.RouteAction_UpgradeConfig_ConnectConfig{},
					}},
				}},
			}}}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{
			b.typedHTTP("waypoint_downstream_peer_metadata", "io.istio.http.peer_metadata.Config", map[string]any{
				"downstream_discovery": []any{map[string]any{"workload_discovery": map[string]any{}}}, "shared_with_upstream": true,
			}),
			b.httpFilter("connect_authority", &httpfilterstatev3.Config{OnRequestHeaders: []*filterstatev3.FilterStateValue{
				state("envoy.filters.listener.original_dst.local_ip", "%REQ(:AUTHORITY)%", false),
				state("io.istio.connect_authority", "%REQ(:AUTHORITY)%", true),
				state("envoy.filters.listener.original_dst.remote_ip", "%DOWNSTREAM_REMOTE_ADDRESS%", false),
				state("io.istio.peer_principal", "%DOWNSTREAM_PEER_URI_SAN%", true),
				state("io.istio.local_principal", "%DOWNSTREAM_LOCAL_URI_SAN%", true),
			}}),
			b.router(),
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			// ztunnel opens another connection beyond these.
			MaxConcurrentStreams: wrapperspb.UInt32(100), AllowConnect: true,
			ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: seconds(10), Timeout: seconds(20)},
		},
		ServerName: "istio-envoy", StreamIdleTimeout: durationpb.New(0), UseRemoteAddress: wrapperspb.Bool(false),
		ForwardClientCertDetails:    hcmv3.HttpConnectionManager_APPEND_FORWARD,
		SetCurrentClientCertDetails: &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Subject: wrapperspb.Bool(true), Dns: true, Uri: true},
		UpgradeConfigs:              []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "CONNECT"}},
	}
	return &listenerv3.Listener{
		Name: "connect_terminate", Address: socketAddress("0.0.0.0", hbonePort),
		FilterChains: []*listenerv3.FilterChain{{Name: "default", TransportSocket: b.downstreamTLS(), Filters: []*listenerv3.Filter{b.hcm(hcm)}}},
		ConnectionBalanceConfig: &listenerv3.Listener_ConnectionBalanceConfig{
			BalanceType: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance_{ExactBalance: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance{}},
		},
	}
}

func filterState(key, format string) *filterstatev3.FilterStateValue {
	return &filterstatev3.FilterStateValue{
		Key: &filterstatev3.FilterStateValue_ObjectKey{ObjectKey: key},
		Value: &filterstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: format}}},
		}},
	}
}

// mainInternal has a chain for each port of each service and finds it by address, port and, where a port has not declared
// it, protocol.
func (b *builder) mainInternal() *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name: "main_internal", TrafficDirection: corev3.TrafficDirection_INBOUND,
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		ListenerFilters: []*listenerv3.ListenerFilter{
			b.originalDstFilter(),
			{
				Name: "envoy.filters.listener.http_inspector", FilterDisabled: notInspected(b.mesh),
				ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: b.any(&inspectorv3.HttpInspector{})},
			},
		},
	}
	byIP := &xdsmatcherv3.IPMatcher{}
	for _, s := range b.mesh.Services {
		ports := map[string]*xdsmatcherv3.Matcher_OnMatch{}
		for i := range s.Ports {
			p := &s.Ports[i]
			for _, kind := range kinds(p) {
				if kind == "http" {
					l.FilterChains = append(l.FilterChains, b.httpChain(s, p))
				} else {
					l.FilterChains = append(l.FilterChains, b.tcpChain(s, p))
				}
			}
			ports[strconv.Itoa(int(p.Number))] = b.portMatch(s, p)
		}
		byIP.RangeMatchers = append(byIP.RangeMatchers, &xdsmatcherv3.IPMatcher_IPRangeMatcher{
			Ranges: []*xdscorev3.CidrRange{{AddressPrefix: s.VIP.String(), PrefixLen: wrapperspb.UInt32(uint32(s.VIP.BitLen()))}},
			OnMatch: nested(&xdsmatcherv3.Matcher_MatcherTree{
				Input: b.input("port", &inputv3.DestinationPortInput{}), TreeType: exactMap(ports),
			}, nil),
		})
	}
	l.FilterChains = append(l.FilterChains, b.directTCP(), b.directHTTP())
	l.FilterChainMatcher = &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
		Input:    b.input("ip", &inputv3.DestinationIPInput{}),
		TreeType: &xdsmatcherv3.Matcher_MatcherTree_CustomMatch{CustomMatch: b.input("ip", byIP)},
	}}}
	return l
}

// portMatch leads to the chain of a port; to one of two, by what http_inspector saw, where the protocol is not declared.
func (b *builder) portMatch(s *manifests.Service, p *manifests.Port) *xdsmatcherv3.Matcher_OnMatch {
	list := kinds(p)
	if len(list) == 1 {
		return b.chainMatch(chainName(s, p.Number, list[0]))
	}
	http := b.chainMatch(chainName(s, p.Number, "http"))
	return nested(&xdsmatcherv3.Matcher_MatcherTree{
		Input: b.input("application-protocol", &inputv3.ApplicationProtocolInput{}),
		// The quotes belong to the value: the input is a list of protocols, each in quotes.
		TreeType: exactMap(map[string]*xdsmatcherv3.Matcher_OnMatch{"'h2c'": http, "'http/1.1'": http}),
	}, b.chainMatch(chainName(s, p.Number, "tcp")))
}

func (b *builder) chainMatch(name string) *xdsmatcherv3.Matcher_OnMatch {
	return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: b.input(name, wrapperspb.String(name))}}
}

func (b *builder) input(name string, m proto.Message) *xdscorev3.TypedExtensionConfig {
	return &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: b.any(m)}
}

func nested(tree *xdsmatcherv3.Matcher_MatcherTree, otherwise *xdsmatcherv3.Matcher_OnMatch) *xdsmatcherv3.Matcher_OnMatch {
	return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Matcher{Matcher: &xdsmatcherv3.Matcher{
		MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: tree}, OnNoMatch: otherwise,
	}}}
}

func exactMap(m map[string]*xdsmatcherv3.Matcher_OnMatch) *xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap {
	return &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: m}}
}

// notInspected are the ports on which every service declares the same kind of protocol.
func notInspected(m *manifests.Mesh) *listenerv3.ListenerFilterChainMatchPredicate {
	seen := map[uint16]map[string]bool{}
	for _, s := range m.Services {
		for i := range s.Ports {
			p := &s.Ports[i]
			if seen[p.Number] == nil {
				seen[p.Number] = map[string]bool{}
			}
			for _, kind := range kinds(p) {
				seen[p.Number][kind] = true
			}
		}
	}
	var rules []*listenerv3.ListenerFilterChainMatchPredicate
	for _, n := range slices.Sorted(maps.Keys(seen)) {
		if len(seen[n]) == 1 {
			rules = append(rules, &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
				DestinationPortRange: portRange(n),
			}})
		}
	}
	switch len(rules) {
	case 0:
		return nil
	case 1:
		return rules[0]
	}
	return &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
		OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: rules},
	}}
}

// connectOriginate wraps what goes to a pod of the mesh into HBONE.
func (b *builder) connectOriginate() *listenerv3.Listener {
	l := b.originator("connect_originate", "%DOWNSTREAM_LOCAL_ADDRESS%", nil)
	l.ListenerFilters = []*listenerv3.ListenerFilter{b.originalDstFilter()}
	return l
}

// innerConnectOriginate and outerConnectOriginate are for other networks; every managed waypoint has them.
func (b *builder) innerConnectOriginate() *listenerv3.Listener {
	const target = "istio.double_hbone.hbone_target_address"
	l := b.originator("inner_connect_originate", "%FILTER_STATE("+target+":PLAIN)%", &corev3.HeaderValue{Key: "x-forwarded-network"})
	local := filterState("envoy.filters.listener.original_dst.local_ip", "%DYNAMIC_METADATA(envoy.filters.listener.original_dst:local)%")
	address := filterState(target, "%DYNAMIC_METADATA(istio:double_hbone:hbone_target_address)%")
	address.FactoryKey = "istio.hashable_string"
	for _, v := range []*filterstatev3.FilterStateValue{local, address} {
		v.SharedWithUpstream = filterstatev3.FilterStateValue_TRANSITIVE
	}
	chain := l.GetFilterChains()[0]
	chain.Filters = slices.Insert(chain.GetFilters(), 0, b.filter("propagate_endpoint_metadata", &netfilterstatev3.Config{
		OnNewConnection: []*filterstatev3.FilterStateValue{local, address},
	}))
	return l
}

func (b *builder) outerConnectOriginate() *listenerv3.Listener {
	l := b.originator("outer_connect_originate", "%FILTER_STATE(istio.double_hbone.hbone_target_address:PLAIN)%",
		&corev3.HeaderValue{Key: "x-istio-source", Value: "waypoint"})
	l.ListenerFilters = []*listenerv3.ListenerFilter{b.originalDstFilter()}
	return l
}

func (b *builder) originator(name, hostname string, header *corev3.HeaderValue) *listenerv3.Listener {
	tunnel := &tcpproxyv3.TcpProxy_TunnelingConfig{Hostname: hostname}
	if header != nil {
		tunnel.HeadersToAdd = []*corev3.HeaderValueOption{{Header: header, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}}
	}
	return &listenerv3.Listener{
		Name: name, UseOriginalDst: wrapperspb.Bool(false),
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{b.filter("envoy.filters.network.tcp_proxy", &tcpproxyv3.TcpProxy{
			StatPrefix: name, ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: name}, TunnelingConfig: tunnel,
		})}}},
	}
}

func (b *builder) originalDstFilter() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name: "envoy.filters.listener.original_dst", ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: b.any(&originaldstv3.OriginalDst{})},
	}
}

// statPrefix is what istiod calls the statistics of a port.
func statPrefix(port uint16) string { return fmt.Sprintf("inbound_0.0.0.0_%d;", port) }
