package admin

import (
	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// routeSection lists the routes that came by RDS, and under static_route_configs those that stand in the listeners: for Envoy they
// are static, and a waypoint has hardly any other. There is one per HTTP connection manager, so names repeat.
func (s *Server) routeSection(names keep) proto.Message {
	d := &adminv3.RoutesConfigDump{}
	for _, e := range s.src.XDS.Snapshot(xdsclient.TypeListener).Entries {
		l := &listenerv3.Listener{}
		if e.Accepted == nil || proto.Unmarshal(e.Accepted.Value, l) != nil {
			continue
		}
		for _, r := range inlineRoutes(l, names) {
			d.StaticRouteConfigs = append(d.StaticRouteConfigs, &adminv3.RoutesConfigDump_StaticRouteConfig{
				RouteConfig: redact(r), LastUpdated: timestamp(e.LastUpdated),
			})
		}
	}
	for _, e := range kept(s.src.XDS.Snapshot(xdsclient.TypeRoute), names) {
		r := &adminv3.RoutesConfigDump_DynamicRouteConfig{ErrorState: errorState(e.Failure), LastUpdated: timestamp(e.LastUpdated)}
		if e.Accepted != nil {
			r.VersionInfo, r.RouteConfig = e.Accepted.Version, redact(e.Accepted.Any())
		}
		d.DynamicRouteConfigs = append(d.DynamicRouteConfigs, r)
	}
	return d
}

// inlineRoutes finds the route configurations in a listener's HTTP connection managers, in the order of the chains.
func inlineRoutes(l *listenerv3.Listener, names keep) []*anypb.Any {
	var out []*anypb.Any
	chains := l.GetFilterChains()
	if d := l.GetDefaultFilterChain(); d != nil {
		chains = append(chains[:len(chains):len(chains)], d)
	}
	for _, chain := range chains {
		for _, f := range chain.GetFilters() {
			m := &hcmv3.HttpConnectionManager{}
			if !f.GetTypedConfig().MessageIs(m) || f.GetTypedConfig().UnmarshalTo(m) != nil || m.GetRouteConfig() == nil {
				continue
			}
			if !names(m.GetRouteConfig().GetName()) {
				continue
			}
			if a, err := anypb.New(m.GetRouteConfig()); err == nil { // it was decoded a moment ago
				out = append(out, a)
			}
		}
	}
	return out
}
