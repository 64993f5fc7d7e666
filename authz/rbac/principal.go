package rbac

import (
	"errors"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/gowaypoint/gowaypoint/authz"
)

func principal(p *rbacv3.Principal, l layer) (authz.Clause, error) {
	switch id := p.GetIdentifier().(type) {
	case *rbacv3.Principal_AndIds:
		parts, err := each("and_ids.ids", id.AndIds.GetIds(), l, principal)
		return authz.And(parts), err
	case *rbacv3.Principal_OrIds:
		parts, err := each("or_ids.ids", id.OrIds.GetIds(), l, principal)
		return authz.Or(parts), err
	case *rbacv3.Principal_NotId:
		inner, err := principal(id.NotId, l)
		return &authz.Not{Clause: inner}, at("not_id", err)
	case *rbacv3.Principal_Any:
		return always(id.Any)
	case *rbacv3.Principal_Authenticated_:
		c, err := authenticated(id.Authenticated)
		return c, at("authenticated", err)
	case *rbacv3.Principal_SourceIp:
		c, err := ip(authz.SourceIP, id.SourceIp)
		return c, at("source_ip", err)
	case *rbacv3.Principal_DirectRemoteIp:
		c, err := ip(authz.DirectRemoteIP, id.DirectRemoteIp)
		return c, at("direct_remote_ip", err)
	case *rbacv3.Principal_RemoteIp:
		c, err := ip(authz.RemoteIP, id.RemoteIp)
		return c, at("remote_ip", err)
	case *rbacv3.Principal_Header:
		return in("header", l, id.Header, header)
	case *rbacv3.Principal_UrlPath:
		c, err := urlPath(id.UrlPath)
		return c, at("url_path", err)
	case *rbacv3.Principal_Metadata:
		c, err := metadata(id.Metadata, authz.DynamicMetadata)
		return c, at("metadata", err)
	case *rbacv3.Principal_SourcedMetadata:
		c, err := sourcedMetadata(id.SourcedMetadata)
		return c, at("sourced_metadata", err)
	case *rbacv3.Principal_FilterState:
		c, err := filterState(id.FilterState)
		return c, at("filter_state", err)
	case *rbacv3.Principal_Custom:
		c, err := custom(id.Custom.GetTypedConfig())
		return c, at("custom", err)
	}
	return nil, errors.New("identifier: not set, or of a kind that this build does not know")
}

func authenticated(a *rbacv3.Principal_Authenticated) (authz.Clause, error) {
	if a.GetPrincipalName() == nil {
		return &authz.Authenticated{}, nil
	}
	pattern, err := stringMatch(a.GetPrincipalName())
	return &authz.Authenticated{Pattern: &pattern}, at("principal_name", err)
}

func filterState(m *matcherv3.FilterStateMatcher) (authz.Clause, error) {
	switch match := m.GetMatcher().(type) {
	case *matcherv3.FilterStateMatcher_StringMatch:
		pattern, err := stringMatch(match.StringMatch)
		return &authz.FilterStateIs{Key: m.GetKey(), Pattern: pattern}, at("string_match", err)
	case *matcherv3.FilterStateMatcher_AddressMatch:
		c := &authz.FilterStateIP{Key: m.GetKey(), Invert: match.AddressMatch.GetInvertMatch()}
		for _, r := range match.AddressMatch.GetRanges() {
			prefix, err := cidr(r.GetAddressPrefix(), r.GetPrefixLen())
			if err != nil {
				return nil, at("address_match.ranges", err)
			}
			c.Ranges = append(c.Ranges, prefix)
		}
		return c, nil
	}
	return nil, errors.New("matcher: not set, or of a kind that this build does not know")
}
