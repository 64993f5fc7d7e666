// Package peermetadata finds out which workload the client is.
//
// What it does: looks the client's address up among the workloads that the control plane knows. The endpoint's workload is
// looked up by the request's own life, once an endpoint has been chosen, so that part of the configuration needs no filter.
//
// Configured by: a TypedStruct io.istio.http.peer_metadata.Config (downstream_discovery and upstream_discovery:
// workload_discovery; shared_with_upstream, for a CONNECT); network: envoy.tcp.metadataexchange.config.MetadataExchange
// (enable_discovery; protocol is an ALPN name that is never negotiated inside a tunnel) and the two messages of
// envoy.extensions.network_filters.peer_metadata, which carry peers across an internal connection that does not exist here.
//
// Refuses: nothing; peers are labels of metrics and columns of logs, and no policy asks for them. Notes: every other field by
// name, such as discovery by baggage or istio_headers and all propagation.
//
// Writes: Record.Source (downstream_peer, downstream_peer_obj in log formats); for a connection, and a CONNECT whose tunnel is to
// know its client, Conn.Peer.
//
// With x-forwarded-network naming another network than this one's, the address is that network's, and the client stays unknown.
package peermetadata

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
)

// Options are what the filters need to know.
type Options struct {
	// Peer finds the workload that has an address, nil if none is known. It returns the same pointer for the same workload as
	// long as the workload does not change: metrics use it as a key.
	Peer func(netip.Addr) *telemetry.Peer
	// Network is the name of this proxy's network (node metadata NETWORK); empty if it has none.
	Network string
}

// HTTP returns the compiler of the HTTP filter.
func HTTP(o Options) filter.Compiler[filter.HTTP] {
	return filter.Compiler[filter.HTTP]{
		New: func(name string, config proto.Message) (filter.HTTP, error) {
			c, ok := config.(*structpb.Struct)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a TypedStruct of io.istio.http.peer_metadata.Config", config)
			}
			f := &httpFilter{name: name, options: o}
			f.discover, f.notes = discovery(c, "downstream_discovery", "downstreamDiscovery")
			_, more := discovery(c, "upstream_discovery", "upstreamDiscovery")
			f.shared = c.GetFields()["shared_with_upstream"].GetBoolValue() || c.GetFields()["sharedWithUpstream"].GetBoolValue()
			f.notes = append(f.notes, more...)
			f.notes = append(f.notes, others(c, "downstream_discovery", "downstreamDiscovery", "upstream_discovery", "upstreamDiscovery",
				"shared_with_upstream", "sharedWithUpstream")...)
			return f, nil
		},
	}
}

// MetadataExchange returns the compiler of the network filter istio.metadata_exchange.
func MetadataExchange(o Options) filter.Compiler[filter.Network] {
	return filter.Compiler[filter.Network]{
		New: func(name string, config proto.Message) (filter.Network, error) {
			c, ok := config.(*structpb.Struct)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a TypedStruct of envoy.tcp.metadataexchange.config.MetadataExchange", config)
			}
			on := c.GetFields()["enable_discovery"].GetBoolValue() || c.GetFields()["enableDiscovery"].GetBoolValue()
			return &networkFilter{name: name, options: o, discover: on, notes: others(c, "protocol", "enable_discovery", "enableDiscovery")}, nil
		},
	}
}

// Carrier returns the compiler of the network filters that carry peers across an internal connection. They do nothing here:
// the inside of a tunnel is reached without one.
func Carrier() filter.Compiler[filter.Network] {
	return filter.Compiler[filter.Network]{
		New: func(name string, _ proto.Message) (filter.Network, error) { return &networkFilter{name: name}, nil },
	}
}

// discovery tells whether a list of discovery methods has workload_discovery, and notes the others.
func discovery(c *structpb.Struct, names ...string) (workloads bool, notes []string) {
	for _, name := range names {
		for i, method := range c.GetFields()[name].GetListValue().GetValues() {
			for kind := range method.GetStructValue().GetFields() {
				if kind == "workload_discovery" || kind == "workloadDiscovery" {
					workloads = true
				} else {
					notes = append(notes, fmt.Sprintf("%s[%d].%s: peers are found by address only", name, i, kind))
				}
			}
		}
	}
	return workloads, notes
}

// others notes the fields that are set besides the known ones.
func others(c *structpb.Struct, known ...string) (notes []string) {
	for name := range c.GetFields() {
		if !slices.Contains(known, name) {
			notes = append(notes, name+": not supported")
		}
	}
	slices.Sort(notes)
	return notes
}

type httpFilter struct {
	name     string
	options  Options
	discover bool
	shared   bool
	notes    []string
}

func (f *httpFilter) Name() string    { return f.name }
func (f *httpFilter) Notes() []string { return f.notes }

// Request finds the client. What the owner of the connection has found already is not looked up again.
func (f *httpFilter) Request(x *filter.Exchange) filter.Action {
	if !f.discover {
		return filter.Continue
	}
	if network, ok := x.Request.Get("x-forwarded-network"); ok && network != f.options.Network {
		x.Record.Source = nil
		return filter.Continue
	}
	if x.Record.Source == nil {
		x.Record.Source = f.options.Peer(x.Conn.Remote.Addr().Unmap())
	}
	if f.shared && x.Request.Method == http.MethodConnect { // then the connection is this request's alone
		x.Conn.Peer = x.Record.Source
	}
	return filter.Continue
}

type networkFilter struct {
	name     string
	options  Options
	discover bool
	notes    []string
}

func (f *networkFilter) Name() string    { return f.name }
func (f *networkFilter) Notes() []string { return f.notes }

// Connect finds the client. It denies nobody.
func (f *networkFilter) Connect(c *filter.Conn) *filter.Denial {
	if f.discover && c.Peer == nil {
		c.Peer = f.options.Peer(c.Remote.Addr().Unmap())
	}
	return nil
}
