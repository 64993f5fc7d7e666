package rbac

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/gowaypoint/gowaypoint/authz"
)

func permission(p *rbacv3.Permission, l layer) (authz.Clause, error) {
	switch rule := p.GetRule().(type) {
	case *rbacv3.Permission_AndRules:
		parts, err := each("and_rules.rules", rule.AndRules.GetRules(), l, permission)
		return authz.And(parts), err
	case *rbacv3.Permission_OrRules:
		parts, err := each("or_rules.rules", rule.OrRules.GetRules(), l, permission)
		return authz.Or(parts), err
	case *rbacv3.Permission_NotRule:
		inner, err := permission(rule.NotRule, l)
		return &authz.Not{Clause: inner}, at("not_rule", err)
	case *rbacv3.Permission_Any:
		return always(rule.Any)
	case *rbacv3.Permission_Header:
		return in("header", l, rule.Header, header)
	case *rbacv3.Permission_UrlPath:
		c, err := urlPath(rule.UrlPath)
		return c, at("url_path", err)
	case *rbacv3.Permission_UriTemplate:
		c, err := uriTemplate(rule.UriTemplate)
		return c, at("uri_template", err)
	case *rbacv3.Permission_DestinationIp:
		c, err := ip(authz.DestinationIP, rule.DestinationIp)
		return c, at("destination_ip", err)
	case *rbacv3.Permission_DestinationPort:
		return &authz.DestinationPort{From: rule.DestinationPort, To: rule.DestinationPort + 1}, nil
	case *rbacv3.Permission_DestinationPortRange:
		c, err := portRange(rule.DestinationPortRange)
		return c, at("destination_port_range", err)
	case *rbacv3.Permission_RequestedServerName:
		pattern, err := stringMatch(rule.RequestedServerName)
		return &authz.ServerName{Pattern: pattern}, at("requested_server_name", err)
	case *rbacv3.Permission_Metadata:
		c, err := metadata(rule.Metadata, authz.DynamicMetadata)
		return c, at("metadata", err)
	case *rbacv3.Permission_SourcedMetadata:
		c, err := sourcedMetadata(rule.SourcedMetadata)
		return c, at("sourced_metadata", err)
	case *rbacv3.Permission_Matcher:
		// There is one such extension, upstream_ip_port, which asks for an endpoint before one is chosen.
		return nil, notSupported("matcher", "extension "+rule.Matcher.GetTypedConfig().GetTypeUrl())
	}
	return nil, errors.New("rule: not set, or of a kind that this build does not know")
}

func always(set bool) (authz.Clause, error) {
	if !set {
		return nil, at("any", errors.New("must be true"))
	}
	return authz.Always{}, nil
}

// in compiles a rule about HTTP headers, which a network filter must not have: Envoy refuses it too.
func in[M any](field string, l layer, m M, compile func(M) (authz.Clause, error)) (authz.Clause, error) {
	if l == network {
		return nil, notSupported(field, "a network filter sees no headers")
	}
	c, err := compile(m)
	return c, at(field, err)
}

// portRange reads a half-open range with Envoy's bounds.
func portRange(r *typev3.Int32Range) (authz.Clause, error) {
	from, to := r.GetStart(), r.GetEnd()
	if from < 0 || to > 65536 || from >= to {
		return nil, fmt.Errorf("[%d, %d) is not a range of ports", from, to)
	}
	return &authz.DestinationPort{From: uint32(from), To: uint32(to)}, nil
}

func uriTemplate(ext *corev3.TypedExtensionConfig) (authz.Clause, error) {
	var config uritemplatev3.UriTemplateMatchConfig
	if !ext.GetTypedConfig().MessageIs(&config) {
		return nil, unknownExtension(ext.GetTypedConfig())
	}
	if err := unpack(ext.GetTypedConfig(), &config); err != nil {
		return nil, err
	}
	t, err := authz.ParseTemplate(config.GetPathTemplate())
	return &authz.URITemplate{Template: t}, err
}
