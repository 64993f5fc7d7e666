// Package oracle is a plain reading of Envoy's RBAC protobufs, clause by clause, as Envoy 1.40 means them. It shares no code
// with authz, is not fast, and says what Envoy says: the differential test holds it against a real one.
//
// Each deliberate difference of authz is a switch, an [Exception]. With all of them it says what authz says. So a disagreement
// between authz and Envoy is explained exactly, or not at all.
package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// Exception is a set of deliberate differences.
type Exception uint8

// The deliberate differences; the package comment of authz has the reasons.
const (
	// RepeatedHeader: a header on several lines has to match on each line to allow, and on one line, or as the joined list, to
	// deny. Envoy takes any line that matches, and knows only the joined list of headers that it keeps on one line.
	RepeatedHeader Exception = 1 << iota
	// UnknownAddress: an address that is not known is in every range that denies, and in none that allows.
	UnknownAddress
	// NoCertificate: a TLS client without a certificate is nobody.
	NoCertificate
	// MappedAddress: an IPv4 address written as IPv6 (::ffff:10.0.0.1) is possibly the IPv4 address too. To Envoy it is in ranges of
	// IPv6 only. Whoever writes x-forwarded-for chooses the form.
	MappedAddress

	// All of them are what authz does.
	All = RepeatedHeader | UnknownAddress | NoCertificate | MappedAddress
)

// Exceptions lists them by name.
var Exceptions = map[Exception]string{
	RepeatedHeader: "a header on several lines",
	UnknownAddress: "an address that is not known",
	NoCertificate:  "a TLS client without a certificate",
	MappedAddress:  "an IPv4 address in IPv6 form",
}

// Decide says what a chain answers, with the exceptions that are given: 0 is Envoy.
func Decide(s *pair.Set, r *authz.Request, with Exception) pair.Answer {
	a := pair.Answer{Allowed: true}
	last := 0
	for i, f := range s.Filters {
		last = i
		out := &a.Filters[i]
		if f.Shadow != nil {
			out.ShadowPolicy, out.ShadowResult = engine(f.Shadow, r, with)
		}
		if f.Rules == nil {
			continue
		}
		policy, result := engine(f.Rules, r, with)
		if result == denied {
			if policy == "" {
				policy = "none"
			}
			a.Allowed, a.Details = false, "rbac_access_denied_matched_policy["+strings.Map(noSpace, policy)+"]"
			break
		}
		out.Policy, out.Result = policy, result
	}
	a.Visible(last, s.Network)
	return a
}

const allowed, denied = "allowed", "denied"

func noSpace(c rune) rune {
	if c < 0x80 && strings.ContainsRune(" \t\n\v\f\r", c) {
		return '_'
	}
	return c
}

// engine tries the policies in the order of their names.
func engine(rules *rbacv3.RBAC, r *authz.Request, with Exception) (policy, result string) {
	w := world{r, with}
	certain := rules.GetAction() == rbacv3.RBAC_ALLOW
	for _, name := range slices.Sorted(maps.Keys(rules.GetPolicies())) {
		p := rules.GetPolicies()[name]
		if slices.ContainsFunc(p.GetPermissions(), func(m *rbacv3.Permission) bool { return w.permission(m, certain) }) &&
			slices.ContainsFunc(p.GetPrincipals(), func(m *rbacv3.Principal) bool { return w.principal(m, certain) }) {
			if rules.GetAction() == rbacv3.RBAC_DENY {
				return name, denied
			}
			return name, allowed
		}
	}
	if rules.GetAction() == rbacv3.RBAC_ALLOW {
		return "", denied
	}
	return "", allowed
}

// world is a request and how to read it. The argument "certain" of its methods says which reading an exception takes: whether
// a test has to hold certainly, or only possibly. Without an exception both are the same.
type world struct {
	*authz.Request
	with Exception
}

func (w *world) permission(m *rbacv3.Permission, certain bool) bool {
	switch m := m.GetRule().(type) {
	case *rbacv3.Permission_AndRules:
		for _, one := range m.AndRules.GetRules() {
			if !w.permission(one, certain) {
				return false
			}
		}
		return true
	case *rbacv3.Permission_OrRules:
		return slices.ContainsFunc(m.OrRules.GetRules(), func(one *rbacv3.Permission) bool { return w.permission(one, certain) })
	case *rbacv3.Permission_NotRule:
		return !w.permission(m.NotRule, !certain)
	case *rbacv3.Permission_Any:
		return true
	case *rbacv3.Permission_Header:
		return w.header(m.Header, certain)
	case *rbacv3.Permission_UrlPath:
		return w.urlPath(m.UrlPath)
	case *rbacv3.Permission_UriTemplate:
		return w.template(m.UriTemplate)
	case *rbacv3.Permission_DestinationIp:
		return w.within(w.Destination.Addr(), m.DestinationIp, certain)
	case *rbacv3.Permission_DestinationPort:
		return w.port(int32(m.DestinationPort), int32(m.DestinationPort)+1, certain)
	case *rbacv3.Permission_DestinationPortRange:
		return w.port(m.DestinationPortRange.GetStart(), m.DestinationPortRange.GetEnd(), certain)
	case *rbacv3.Permission_RequestedServerName:
		return text(m.RequestedServerName, w.ServerName)
	case *rbacv3.Permission_Metadata:
		return w.metadata(m.Metadata, authz.DynamicMetadata)
	case *rbacv3.Permission_SourcedMetadata:
		return w.metadata(m.SourcedMetadata.GetMetadataMatcher(), source(m.SourcedMetadata))
	}
	panic(fmt.Sprintf("the oracle does not know %T", m.GetRule()))
}

func (w *world) principal(m *rbacv3.Principal, certain bool) bool {
	switch m := m.GetIdentifier().(type) {
	case *rbacv3.Principal_AndIds:
		for _, one := range m.AndIds.GetIds() {
			if !w.principal(one, certain) {
				return false
			}
		}
		return true
	case *rbacv3.Principal_OrIds:
		return slices.ContainsFunc(m.OrIds.GetIds(), func(one *rbacv3.Principal) bool { return w.principal(one, certain) })
	case *rbacv3.Principal_NotId:
		return !w.principal(m.NotId, !certain)
	case *rbacv3.Principal_Any:
		return true
	case *rbacv3.Principal_Header:
		return w.header(m.Header, certain)
	case *rbacv3.Principal_UrlPath:
		return w.urlPath(m.UrlPath)
	case *rbacv3.Principal_SourceIp:
		return w.within(w.SourceIP, m.SourceIp, certain)
	case *rbacv3.Principal_DirectRemoteIp:
		return w.within(w.DirectRemoteIP, m.DirectRemoteIp, certain)
	case *rbacv3.Principal_RemoteIp:
		return w.within(w.RemoteIP, m.RemoteIp, certain)
	case *rbacv3.Principal_Authenticated_:
		return w.authenticated(m.Authenticated)
	case *rbacv3.Principal_FilterState:
		return w.filterState(m.FilterState, certain)
	case *rbacv3.Principal_Metadata:
		return w.metadata(m.Metadata, authz.DynamicMetadata)
	case *rbacv3.Principal_SourcedMetadata:
		return w.metadata(m.SourcedMetadata.GetMetadataMatcher(), source(m.SourcedMetadata))
	}
	panic(fmt.Sprintf("the oracle does not know %T", m.GetIdentifier()))
}

func source(m *rbacv3.SourcedMetadata) authz.MetadataSource {
	if m.GetMetadataSource() == rbacv3.MetadataSource_ROUTE {
		return authz.RouteMetadata
	}
	return authz.DynamicMetadata
}
