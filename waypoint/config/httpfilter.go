package config

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/program"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// PerRoute is the configuration of a filter at a route, as it stands in typed_per_filter_config.
type PerRoute = *anypb.Any

// inertExtensions are extensions without an effect that anybody could miss here, by the type of their configuration. A filter
// that the registry knows is not looked up here.
//
// The list is all that is ever left out. Envoy leaves out any filter that it does not know and that is_optional, which suits whoever
// wrote the configuration for several versions of Envoy; a policy that happens to be marked so would be left out with it.
var inertExtensions = map[string]string{
	"envoy.extensions.filters.http.grpc_stats.v3.FilterConfig":            "its counters are Istio's request metrics, which count gRPC messages themselves",
	"envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig": "it resolves names ahead for clusters of a type that is refused",
	"envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy":          "it counts MongoDB commands and passes the bytes on as they are",
	"envoy.tcp.metadataexchange.config.MetadataExchange":                  "peers are found by address; its ALPN is never negotiated inside a tunnel",
	"io.istio.http.peer_metadata.Config":                                  "peers are found by address",
	"envoy.extensions.network_filters.peer_metadata.Config":               "carries peers across an internal connection, which does not exist here",
	"envoy.extensions.network_filters.peer_metadata.UpstreamConfig":       "carries peers across an internal connection, which does not exist here",
}

// disabledFilter stands in the name table for a filter that is off unless a route turns it on.
const disabledFilter = "\x00disabled"

// httpFilters compiles the filters in order. It returns the types by filter name, for per-route configuration.
func (c *chainCompiler) httpFilters(fs []*hcmv3.HttpFilter, h *program.HTTP) map[string]string {
	named := map[string]string{}
	routed := false
	for i, f := range fs {
		where := fmt.Sprintf("http_filters[%d] %q", i, f.GetName())
		if routed {
			c.fail("%s: comes after the router", where)
			continue
		}
		if f.GetDisabled() {
			named[f.GetName()] = disabledFilter
			c.note("%s: disabled", where)
			continue
		}
		packed := f.GetTypedConfig()
		if cd := f.GetConfigDiscovery(); cd != nil {
			var err error
			if packed, err = c.discovered(f.GetName(), cd); err != nil {
				c.fail("%s: %w", where, err)
				continue
			}
		}
		e, err := c.any(packed)
		if err != nil {
			c.fail("%s: %w", where, err)
			continue
		}
		if r, ok := e.Message.(*routerv3.Router); ok {
			routed = true
			h.SuppressEnvoyHeaders = r.GetSuppressEnvoyHeaders()
			continue
		}
		named[f.GetName()] = e.Type
		k, ok := c.opt.Filters.HTTP[e.Type]
		switch {
		case ok && k.New != nil:
			x, err := k.New(f.GetName(), e.Message)
			if err != nil {
				c.fail("%s: %w", where, err)
			} else if x != nil {
				c.noted(where, x)
				h.Filters = append(h.Filters, x)
			}
		case inertExtensions[e.Type] != "":
		case e.Type == "":
			c.fail("%s: has no typed_config", where)
		default: // is_optional or not, it could be what denies
			c.fail("%s: %s is not supported", where, e.Type)
		}
	}
	if !routed {
		c.fail("http_filters: the last one must be the router")
	}
	return named
}

// noted reports what a filter, or its per-route configuration, leaves out.
func (c *chainCompiler) noted(where string, f any) {
	n, ok := f.(filter.Noter)
	if !ok {
		return
	}
	for _, note := range n.Notes() {
		c.note("%s: %s", where, note)
	}
}

// discovered returns the configuration that an ECDS resource holds.
func (c *chainCompiler) discovered(name string, cd *corev3.ExtensionConfigSource) (*anypb.Any, error) {
	packed := cd.GetDefaultConfig()
	if r, ok := c.resource(TypeExtension, name); ok {
		x, err := decodeExtension(r)
		if err != nil {
			return nil, fmt.Errorf("extension config: %w", err)
		}
		packed = x.GetTypedConfig()
		c.extra = append(c.extra, x)
	} else if packed == nil || !cd.GetApplyDefaultConfigWithoutWarming() {
		return nil, errors.New("its extension config (ECDS) has not arrived")
	}
	// An agent may put another type in the place of one that it could not fetch; only the listed ones may come.
	e, err := c.any(packed)
	if err != nil {
		return nil, fmt.Errorf("extension config: %w", err)
	}
	if !slices.ContainsFunc(cd.GetTypeUrls(), func(u string) bool { return typeName(u) == e.Type || typeName(u) == typeName(packed.GetTypeUrl()) }) {
		return nil, fmt.Errorf("extension config: %s is not one of type_urls", e.Type)
	}
	return packed, nil
}

// perRoute compiles an entry of typed_per_filter_config for the filter of that name. nil, nil: it concerns nothing in the chain.
func (c *chainCompiler) perRoute(named map[string]string, name string, config PerRoute) (any, error) {
	t, ok := named[name]
	if !ok { // as in Envoy, configuration for a filter that is not there waits for nobody
		return nil, nil
	}
	if t == disabledFilter {
		return nil, fmt.Errorf("typed_per_filter_config %q: the filter is disabled and cannot be turned on by a route", name)
	}
	e, err := c.any(config)
	if err != nil {
		return nil, fmt.Errorf("typed_per_filter_config %q: %w", name, err)
	}
	if w, ok := e.Message.(*routev3.FilterConfig); ok {
		if w.GetDisabled() {
			return nil, fmt.Errorf("typed_per_filter_config %q: disabled is not supported", name)
		}
		if e, err = c.any(w.GetConfig()); err != nil {
			return nil, fmt.Errorf("typed_per_filter_config %q: %w", name, err)
		}
	}
	k, ok := c.opt.Filters.HTTP[t]
	switch {
	case ok && k.NewRoute != nil && e.Message != nil:
		v, err := k.NewRoute(e.Message)
		if err != nil {
			return nil, fmt.Errorf("typed_per_filter_config %q: %w", name, err)
		}
		c.noted(fmt.Sprintf("typed_per_filter_config %q", name), v)
		return v, nil
	case !ok && inertExtensions[t] != "":
		return nil, nil
	}
	return nil, fmt.Errorf("typed_per_filter_config %q: %w", name, typeError(e))
}
