// Package builtin lists the filters that this program has.
//
// They are found by the type of their configuration, never by their name: a name is what the control plane likes it to be, and
// several filters of a chain may have the same one. Only per-route configuration goes by name, as xDS has it.
//
// What is not in the list makes the chain that holds it refuse everybody, so the list is also what can fail open: a filter
// belongs here only when it does what its configuration says. Not here, on purpose, until they are:
//
//   - ext_authz (HTTP and network), jwt_authn: they decide who may pass.
//   - wasm, lua: a plugin may be somebody's policy.
//   - grpc_web, ext_proc, stateful_session, redis_proxy, mysql_proxy, sni_dynamic_forward_proxy and other filters that change
//     what the backend gets.
package builtin

import (
	"io"
	"net/netip"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/cors"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/fault"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/grpcstats"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/headermutation"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/mongo"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/peermetadata"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/rbac"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/setfilterstate"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/stats"
)

// Dependencies are what filters need of the rest of the program. All are required, save Network, Audit and Format.
type Dependencies struct {
	// Stats and Mesh take the counters: Envoy's and Istio's.
	Stats *metrics.Stats
	Mesh  *metrics.Mesh
	// Peer finds the workload that has an address, nil if none is known; see peermetadata.Options.
	Peer func(netip.Addr) *telemetry.Peer
	// Network is the name of this proxy's network.
	Network string
	// Audit takes the lines of audit loggers; see rbac.Options.
	Audit io.Writer
	// Format is what format strings take from the process.
	Format format.Options
}

// Registry returns the list.
func Registry(d Dependencies) filter.Registry {
	policy := rbac.Options{Stats: d.Stats, Audit: d.Audit}
	peers := peermetadata.Options{Peer: d.Peer, Network: d.Network}
	return filter.Registry{
		HTTP: map[string]filter.Compiler[filter.HTTP]{
			"envoy.extensions.filters.http.rbac.v3.RBAC":                      rbac.HTTP(policy),
			"envoy.extensions.filters.http.set_filter_state.v3.Config":        setfilterstate.HTTP(d.Format),
			"io.istio.http.peer_metadata.Config":                              peermetadata.HTTP(peers),
			"envoy.extensions.filters.http.grpc_stats.v3.FilterConfig":        grpcstats.HTTP(),
			"envoy.extensions.filters.http.fault.v3.HTTPFault":                fault.HTTP(d.Stats),
			"envoy.extensions.filters.http.cors.v3.Cors":                      cors.HTTP(d.Stats),
			"envoy.extensions.filters.http.header_mutation.v3.HeaderMutation": headermutation.HTTP(d.Format),
			"stats.PluginConfig":                                              stats.HTTP(d.Mesh),
		},
		Network: map[string]filter.Compiler[filter.Network]{
			"envoy.extensions.filters.network.rbac.v3.RBAC":               rbac.Network(policy),
			"envoy.extensions.filters.network.set_filter_state.v3.Config": setfilterstate.Network(d.Format),
			"envoy.tcp.metadataexchange.config.MetadataExchange":          peermetadata.MetadataExchange(peers),
			"envoy.extensions.network_filters.peer_metadata.Config":       peermetadata.Carrier(),
			"stats.PluginConfig": stats.Network(d.Mesh),
			"envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy": mongo.Network(),
		},
	}
}
