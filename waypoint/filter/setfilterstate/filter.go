// Package setfilterstate leaves named strings for later filters, and for the tunnel's inside.
//
// What it does: computes each value from a format string when the request or the connection comes, and keeps it as filter
// state: the request's own (HTTP), or the connection's (network).
//
// Configured by: envoy.extensions.filters.http.set_filter_state.v3.Config (on_request_headers, clear_route_cache) and
// envoy.extensions.filters.network.set_filter_state.v3.Config (on_new_connection; on_downstream_tls_handshake, which without
// downstream TLS is the same moment). Of a value: object_key, factory_key, format_string, shared_with_upstream, skip_if_empty.
// read_only has no effect in Envoy 1.40 either.
//
// Refuses: on_downstream_data; factories other than those below; formats other than text; format operators that are not known.
// An expression of %CEL(…)% with an attribute that no request has is refused, too.
//
// Writes: filter state; Record.PeerPrincipal and LocalPrincipal with the keys of the principals.
//
// # Values that are not there
//
// Envoy writes "-" for an operator without a value, so a client without a URI in its certificate has the principal "-", which a
// rule for principals ["*"] matches. Here a value of which no operator had anything to say is not set, and what an earlier
// filter or the tunnel's outside left under that key is taken away.
package setfilterstate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
)

// HTTP returns the compiler of the HTTP filter.
func HTTP(o format.Options) filter.Compiler[filter.HTTP] {
	return filter.Compiler[filter.HTTP]{
		New: func(name string, config proto.Message) (filter.HTTP, error) {
			c, ok := config.(*httpv3.Config)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a set_filter_state Config", config)
			}
			entries, err := compile("on_request_headers", c.GetOnRequestHeaders(), o)
			if err != nil {
				return nil, err
			}
			return &httpFilter{name: name, entries: entries, clearRoute: c.GetClearRouteCache()}, nil
		},
	}
}

// Network returns the compiler of the network filter.
func Network(o format.Options) filter.Compiler[filter.Network] {
	return filter.Compiler[filter.Network]{
		New: func(name string, config proto.Message) (filter.Network, error) {
			c, ok := config.(*networkv3.Config)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a network set_filter_state Config", config)
			}
			if len(c.GetOnDownstreamData()) > 0 {
				return nil, errors.New("on_downstream_data: not supported; use on_new_connection")
			}
			entries, err := compile("on_new_connection", c.GetOnNewConnection(), o)
			if err != nil {
				return nil, err
			}
			handshake, err := compile("on_downstream_tls_handshake", c.GetOnDownstreamTlsHandshake(), o)
			if err != nil {
				return nil, err
			}
			return &networkFilter{name: name, entries: append(entries, handshake...)}, nil
		},
	}
}

// addressKeys have a factory of their own in Envoy, which makes an address of the value; what is none is not set.
var addressKeys = map[string]bool{
	filter.OriginalDstLocal:                               true,
	filter.OriginalDstRemote:                              true,
	"envoy.network.transport_socket.original_dst_address": true,
}

// stringFactories make a string of the value. The hashable ones take part in Envoy's choice of an upstream connection; here a
// tunnel never shares its inside with another.
var stringFactories = map[string]bool{"envoy.string": true, "envoy.hashable_string": true, "istio.hashable_string": true}

// entry is a compiled FilterStateValue.
type entry struct {
	key       string
	value     value
	address   bool // the value must be "ip:port"
	share     filter.Share
	skipEmpty bool
}

// value computes a text; ok is false when there is none.
type value interface {
	Value(r *telemetry.Record) (text string, ok bool)
}

func compile(field string, list []*commonv3.FilterStateValue, o format.Options) ([]entry, error) {
	var entries []entry
	for i, v := range list {
		e, err := compileOne(v, o)
		if err != nil {
			return nil, fmt.Errorf("%s[%d].%w", field, i, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func compileOne(v *commonv3.FilterStateValue, o format.Options) (entry, error) {
	e := entry{key: v.GetObjectKey(), skipEmpty: v.GetSkipIfEmpty()}
	if e.key == "" {
		return e, errors.New("object_key: is empty")
	}
	factory := v.GetFactoryKey()
	if factory == "" {
		factory = e.key
	}
	switch {
	case addressKeys[factory]:
		e.address = true
	case !stringFactories[factory]:
		if v.GetFactoryKey() == "" {
			return e, fmt.Errorf("object_key: %q has no factory that is supported; set factory_key", e.key)
		}
		return e, fmt.Errorf("factory_key: %q is not supported", factory)
	}
	switch s := v.GetSharedWithUpstream(); s {
	case commonv3.FilterStateValue_NONE:
	case commonv3.FilterStateValue_ONCE:
		e.share = filter.Once
	case commonv3.FilterStateValue_TRANSITIVE:
		e.share = filter.Transitive
	default:
		return e, fmt.Errorf("shared_with_upstream: unknown value %d", s)
	}
	var err error
	if e.value, err = compileFormat(v.GetFormatString(), o); err != nil {
		return e, fmt.Errorf("format_string: %w", err)
	}
	return e, nil
}

// outcome is what becomes of a key.
type outcome uint8

const (
	set    outcome = iota
	remove         // there is no value
	leave          // what is there stays, as in Envoy: the value is to be skipped, or makes no object
)

func (e *entry) eval(r *telemetry.Record) (text string, o outcome) {
	text, ok := e.value.Value(r)
	switch {
	case e.skipEmpty && text == "":
		return "", leave
	case !ok:
		return "", remove
	case !e.address:
		return text, set
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Addr().Zone() != "" || !plainPort(text) {
		return "", leave // a host name, as the authority of a CONNECT may be
	}
	return a.String(), set
}

// plainPort refuses a port that is read here, but that another parser may read otherwise, as "080".
func plainPort(text string) bool {
	port := text[strings.LastIndexByte(text, ':')+1:]
	return port == "0" || port[0] != '0'
}

type httpFilter struct {
	name       string
	entries    []entry
	clearRoute bool
}

func (f *httpFilter) Name() string { return f.name }

// Request computes the values of one request.
func (f *httpFilter) Request(x *filter.Exchange) filter.Action {
	if x.Conn.TLS { // the principals are those of this very connection; nothing has put them into the record yet
		x.Record.PeerPrincipal, x.Record.LocalPrincipal = x.Conn.PeerURISAN, x.Conn.LocalURISAN
	}
	for i := range f.entries {
		e := &f.entries[i]
		text, o := e.eval(x.Record)
		switch o {
		case leave:
			continue
		case set:
			x.State.Set(e.key, text, e.share)
		case remove:
			x.State.Delete(e.key)
			if _, there := x.Conn.State.Get(e.key); there {
				x.State.Set(e.key, "", filter.NotShared) // hides the connection's
			}
		}
		switch e.key {
		case filter.PeerPrincipalKey:
			x.Record.PeerPrincipal = text
		case filter.LocalPrincipalKey:
			x.Record.LocalPrincipal = text
		}
	}
	if f.clearRoute {
		x.ClearRoute()
	}
	return filter.Continue
}

type networkFilter struct {
	name    string
	entries []entry
}

func (f *networkFilter) Name() string { return f.name }

// Connect computes the values of one connection. It denies none.
func (f *networkFilter) Connect(c *filter.Conn) *filter.Denial {
	r := telemetry.Record{
		DownstreamRemote: c.Remote, DownstreamLocal: c.Local, ConnectionID: c.ID, RequestedServerName: c.RequestedServerName,
		Source: c.Peer, FilterState: &c.State,
	}
	for i := range f.entries {
		if c.TLS {
			r.PeerPrincipal, r.LocalPrincipal = c.PeerURISAN, c.LocalURISAN
		} else {
			r.PeerPrincipal, _ = c.State.Get(filter.PeerPrincipalKey)
			r.LocalPrincipal, _ = c.State.Get(filter.LocalPrincipalKey)
		}
		e := &f.entries[i]
		switch text, o := e.eval(&r); o {
		case set:
			c.State.Set(e.key, text, e.share)
		case remove:
			c.State.Delete(e.key)
		case leave:
		}
	}
	return nil
}
