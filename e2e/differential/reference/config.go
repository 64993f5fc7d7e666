package reference

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// object is a piece of configuration on its way to JSON.
type object = map[string]any

type list = []any

// typed is an extension's configuration.
func typed(name, typeURL string, config object) object {
	c := object{"@type": "type.googleapis.com/" + typeURL}
	for k, v := range config {
		c[k] = v
	}
	return object{"name": name, "typed_config": c}
}

// Echoed in the answer: what the filters decided, and what they saw.
const (
	detailsHeader  = "d"
	rbacHeader     = "m" // metadata of the RBAC filters
	pathHeader     = "p"
	hostHeader     = "a"
	methodHeader   = "v"
	schemeHeader   = "s"
	addressesEcho  = "i"
	generationName = "generation"
)

var echo = list{
	header(detailsHeader, "%RESPONSE_CODE_DETAILS%"),
	header(rbacHeader, "%DYNAMIC_METADATA(envoy.filters.http.rbac)%"),
	header(pathHeader, ">%REQ(:PATH)%"),
	header(hostHeader, ">%REQ(:AUTHORITY)%"),
	header(methodHeader, ">%REQ(:METHOD)%"),
	header(schemeHeader, ">%REQ(:SCHEME)%"),
	header(addressesEcho, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%|%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%|%DOWNSTREAM_LOCAL_ADDRESS%|%REQUESTED_SERVER_NAME%"),
}

func header(name, value string) object {
	return object{"header": object{"key": name, "value": value}}
}

// bootstrap is the configuration but for the sets. dir has the certificates, and gets the Unix socket. The listeners of pair.Listeners get ports of the system's choice, on all
// addresses of both families.
func bootstrap(routes, dir string) ([]byte, error) {
	var listeners list
	for i := range pair.Listeners {
		listeners = append(listeners, httpListener(&pair.Listeners[i], routes, dir))
	}
	return json.Marshal(object{
		"node": object{"id": "reference", "cluster": "differential"},
		"layered_runtime": object{"layers": list{object{"name": "static", "static_layer": object{
			// As Istio's bootstrap: fragments are stripped rather than refused, and long expressions are taken.
			"envoy.reloadable_features.http_reject_path_with_fragment": false,
			"re2.max_program_size.error_level":                         32768,
		}}}},
		"static_resources": object{"listeners": listeners},
	})
}

func anyAddress() object {
	return object{"socket_address": object{"address": "::", "ipv4_compat": true, "port_value": 0}}
}

func httpListener(l *pair.Listener, routes, dir string) object {
	chain := object{"filters": list{typed("envoy.filters.network.http_connection_manager",
		"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", manager(l, routes))}}
	address := anyAddress()
	var listenerFilters list
	if l.Pipe {
		address = object{"pipe": object{"path": pipePath(dir, l)}}
	} else if l.TLS {
		listenerFilters = list{typed("envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", nil)}
		chain["transport_socket"] = transportSocket(dir)
	} else {
		listenerFilters = list{proxyProtocol(nil)}
	}
	return object{"name": l.Name, "address": address, "listener_filters": listenerFilters, "filter_chains": list{chain}}
}

func pipePath(dir string, l *pair.Listener) string { return filepath.Join(dir, l.Name+".sock") }

func proxyProtocol(rules list) object {
	return typed("envoy.filters.listener.proxy_protocol", "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
		object{"allow_requests_without_proxy_protocol": true, "rules": rules})
}

func transportSocket(certificates string) object {
	file := func(name string) object { return object{"filename": certificates + "/" + name} }
	return typed("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", object{
		"require_client_certificate": false,
		"common_tls_context": object{
			"tls_certificates":   list{object{"certificate_chain": file(serverCertificate), "private_key": file(serverKey)}},
			"validation_context": object{"trusted_ca": file(rootCertificate)},
		},
	})
}

// manager is the connection manager, with Istio's settings for a mode of normalisation.
func manager(l *pair.Listener, routes string) object {
	escapedSlashes := "KEEP_UNCHANGED"
	if l.Mode.UnescapeSlashes {
		escapedSlashes = "UNESCAPE_AND_FORWARD"
	}
	filters := list{
		typed("claims", "envoy.extensions.filters.http.header_to_metadata.v3.Config", object{"request_rules": list{
			metadataRule(pair.ClaimsHeader, pair.JWTNamespace, pair.JWTPayload), metadataRule(pair.OtherHeader, pair.OtherNamespace, pair.OtherKey),
		}}),
		typed("state", "envoy.extensions.filters.http.set_filter_state.v3.Config", object{"on_request_headers": list{
			stateRule(pair.PrincipalHeader, authz.PeerPrincipal, "envoy.string"), stateRule(pair.AddressHeader, pair.AddressKey, "envoy.network.ip"),
		}}),
	}
	for i := range pair.MaxFilters {
		filters = append(filters, typed(filterName(i), "envoy.extensions.filters.http.rbac.v3.RBAC", nil))
	}
	filters = append(filters, typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", nil))
	return object{
		"stat_prefix":                       l.Name,
		"generate_request_id":               false,
		"http_protocol_options":             object{"allow_custom_methods": true},
		"normalize_path":                    l.Mode.Normalize,
		"merge_slashes":                     l.Mode.MergeSlashes,
		"path_with_escaped_slashes_action":  escapedSlashes,
		"use_remote_address":                l.UseRemoteAddress,
		"xff_num_trusted_hops":              l.TrustedHops,
		"rds":                               object{"route_config_name": "routes", "config_source": object{"path_config_source": object{"path": routes}}},
		"http_filters":                      filters,
		"max_request_headers_kb":            96,
		"request_headers_timeout":           "0s",
		"stream_idle_timeout":               "0s",
		"local_reply_config":                object{"mappers": list{object{"filter": everything(), "headers_to_add": echo}}},
		"always_set_request_id_in_response": false,
	}
}

func filterName(i int) string { return fmt.Sprint("rbac", i) }

// everything is a filter of access logs, and of local replies, that all pass.
func everything() object {
	return object{"status_code_filter": object{"comparison": object{"op": "GE", "value": object{"default_value": 0, "runtime_key": "differential.none"}}}}
}

func metadataRule(header, namespace, key string) object {
	return object{"header": header, "remove": true, "on_header_present": object{
		"metadata_namespace": namespace, "key": key, "type": "PROTOBUF_VALUE", "encode": "BASE64",
	}}
}

func stateRule(header, key, factory string) object {
	return object{
		"object_key": key, "factory_key": factory, "skip_if_empty": true,
		"format_string": object{"omit_empty_values": true, "text_format_source": object{"inline_string": "%REQ(" + header + ")%"}},
	}
}
