package route

import (
	"errors"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// rules says what becomes of a message's fields. A field that is named nowhere is reported.
type rules struct {
	honoured, refused map[protoreflect.Name]bool
}

// fieldRules are the rules of the messages that a route configuration is made of. A message that is not here is honoured as a
// whole.
var fieldRules = parseRules(map[protoreflect.FullName][2]string{
	// validate_clusters needs nothing: a route to a cluster that is not there answers cluster_not_found_response_code.
	// Routes are looked at one by one, which is why virtual_hosts and routes are missing from what is gone into.
	"envoy.config.route.v3.RouteConfiguration": {
		`name request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove virtual_hosts
		most_specific_header_mutations_wins validate_clusters max_direct_response_body_size_bytes request_mirror_policies
		ignore_port_in_host_matching vhost_header ignore_path_parameters_in_path_matching typed_per_filter_config`,
		`route_specifiers`},
	"envoy.config.route.v3.VirtualHost": {
		`name domains routes require_tls request_headers_to_add request_headers_to_remove response_headers_to_add
		response_headers_to_remove typed_per_filter_config retry_policy request_mirror_policies metadata`,
		`matcher route_specifiers cors`},
	"envoy.config.route.v3.Route": {
		`name match metadata decorator typed_per_filter_config request_headers_to_add request_headers_to_remove
		response_headers_to_add response_headers_to_remove route redirect direct_response`,
		`filter_action non_forwarding_action route_specifiers`},
	"envoy.config.route.v3.RouteMatch": {
		`prefix path safe_regex connect_matcher path_separated_prefix case_sensitive runtime_fraction headers query_parameters
		cookies grpc tls_context dynamic_metadata`,
		`path_match_policy filter_state`},
	"envoy.config.route.v3.RouteAction": {
		`cluster cluster_header weighted_clusters cluster_not_found_response_code prefix_rewrite regex_rewrite path_rewrite
		host_rewrite_literal auto_host_rewrite host_rewrite_header host_rewrite_path_regex host_rewrite append_x_forwarded_host
		timeout idle_timeout retry_policy request_mirror_policies hash_policy max_grpc_timeout upgrade_configs
		max_stream_duration`,
		`cluster_specifier_plugin inline_cluster_specifier_plugin path_rewrite_policy metadata_match cors`},
	"envoy.config.route.v3.RouteAction.MaxStreamDuration":   {`grpc_timeout_header_max`, ``},
	"envoy.config.route.v3.RouteAction.UpgradeConfig":       {`upgrade_type enabled connect_config`, ``},
	"envoy.config.route.v3.RouteAction.RequestMirrorPolicy": {`cluster runtime_fraction trace_sampled disable_shadow_host_suffix_append`, ``},
	"envoy.config.route.v3.RouteAction.HashPolicy":          {`header cookie connection_properties query_parameter terminal`, ``},
	// A PROXY header before a tunnel's bytes would be taken for them, or the other way round.
	"envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig": {``, `proxy_protocol_config`},
	// total_weight has no effect in Envoy any more: the sum counts.
	"envoy.config.route.v3.WeightedCluster": {`clusters total_weight`, ``},
	"envoy.config.route.v3.WeightedCluster.ClusterWeight": {
		`name weight request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove
		typed_per_filter_config host_rewrite_literal`,
		`cluster_header metadata_match`},
	"envoy.config.route.v3.RetryPolicy": {
		`retry_on num_retries per_try_timeout per_try_idle_timeout retry_priority retry_host_predicate
		host_selection_retry_max_attempts retriable_status_codes retry_back_off retriable_headers`, ``},
	"envoy.config.route.v3.RedirectAction": {
		`https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite regex_rewrite response_code
		strip_query`,
		`path_rewrite`},
	"envoy.config.route.v3.DirectResponseAction": {`status body`, ``},
	"envoy.config.route.v3.Decorator":            {`operation propagate`, ``},
})

func parseRules(in map[protoreflect.FullName][2]string) map[protoreflect.FullName]rules {
	set := func(names string) map[protoreflect.Name]bool {
		m := map[protoreflect.Name]bool{}
		for _, n := range strings.Fields(names) {
			m[protoreflect.Name(n)] = true
		}
		return m
	}
	out := make(map[protoreflect.FullName]rules, len(in))
	for name, r := range in {
		out[name] = rules{set(r[0]), set(r[1])}
	}
	return out
}

// audit notes the fields that are set and not honoured, by path, in the message and in those that it holds, down to virtual
// hosts and routes, which have an audit of their own. The error names those that may not be passed over.
func (c *compiler) audit(m protoreflect.Message, path string) error {
	rules, ok := fieldRules[m.Descriptor().FullName()]
	if !ok {
		return nil
	}
	var refused []error
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		here := join(path, string(f.Name()))
		switch {
		case rules.refused[f.Name()]:
			c.note(here, "is not supported; requests for it are refused")
			refused = append(refused, errors.New(here+" is not supported"))
		case !rules.honoured[f.Name()]:
			c.note(here, "is not honoured")
		case f.Name() == "virtual_hosts", f.Name() == "routes", f.IsMap(), f.Message() == nil:
		case f.IsList():
			list := m.Get(f).List()
			for k := range list.Len() {
				refused = append(refused, c.audit(list.Get(k).Message(), index(here, k)))
			}
		default:
			refused = append(refused, c.audit(m.Get(f).Message(), here))
		}
	}
	return errors.Join(refused...)
}
