package rbac

import (
	"errors"
	"maps"
	"slices"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
)

// surelyKnown reports that a set of rules has no unknown fields. It goes through what istiod writes without reflection, which for
// 100,000 policies is most of the time that compiling them takes. At anything else it gives up: false is no verdict, and
// refuseUnknownFields then looks at everything.
//
// Each case below names every field of its message that may hold a message. TestSurelyKnownKnowsAllFields fails when there is one
// more in the API.
func surelyKnown(rules *rbacv3.RBAC) bool {
	if !clean(rules) || rules.GetAuditLoggingOptions() != nil {
		return false
	}
	for _, p := range rules.GetPolicies() {
		if !knownPolicy(p) {
			return false
		}
	}
	return true
}

// surelyValid reports that validate would find nothing wrong with a set of rules. It is validate in one go over each policy, and
// over many at once: 100,000 of them do not fit the processor's caches, so that each going through all of them counts. As with
// surelyKnown, false is no verdict.
func surelyValid(rules *rbacv3.RBAC) bool {
	if _, known := rbacv3.RBAC_Action_name[int32(rules.GetAction())]; !known || !clean(rules) || rules.GetAuditLoggingOptions() != nil {
		return false
	}
	policies := slices.Collect(maps.Values(rules.GetPolicies()))
	return inParts(len(policies), func(from, to int) error {
		for _, p := range policies[from:to] {
			if !knownPolicy(p) {
				return errUnsure
			}
			if err := p.Validate(); err != nil {
				return err
			}
		}
		return nil
	}) == nil
}

var errUnsure = errors.New("not surely valid")

func knownPolicy(p *rbacv3.Policy) bool {
	return p != nil && clean(p) && p.GetCondition() == nil && p.GetCheckedCondition() == nil && p.GetCelConfig() == nil &&
		every(p.GetPermissions(), knownPermission) && every(p.GetPrincipals(), knownPrincipal)
}

// clean reports that the message itself has no unknown fields.
func clean(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) == 0 }

func every[M any](list []M, known func(M) bool) bool {
	for _, m := range list {
		if !known(m) {
			return false
		}
	}
	return true
}

func knownPermission(p *rbacv3.Permission) bool {
	if p == nil || !clean(p) {
		return false
	}
	switch rule := p.GetRule().(type) {
	case *rbacv3.Permission_AndRules:
		return rule.AndRules != nil && clean(rule.AndRules) && every(rule.AndRules.GetRules(), knownPermission)
	case *rbacv3.Permission_OrRules:
		return rule.OrRules != nil && clean(rule.OrRules) && every(rule.OrRules.GetRules(), knownPermission)
	case *rbacv3.Permission_NotRule:
		return knownPermission(rule.NotRule)
	case *rbacv3.Permission_Any, *rbacv3.Permission_DestinationPort:
		return true
	case *rbacv3.Permission_Header:
		return knownHeader(rule.Header)
	case *rbacv3.Permission_UrlPath:
		return knownPath(rule.UrlPath)
	}
	return false
}

func knownPrincipal(p *rbacv3.Principal) bool {
	if p == nil || !clean(p) {
		return false
	}
	switch id := p.GetIdentifier().(type) {
	case *rbacv3.Principal_AndIds:
		return id.AndIds != nil && clean(id.AndIds) && every(id.AndIds.GetIds(), knownPrincipal)
	case *rbacv3.Principal_OrIds:
		return id.OrIds != nil && clean(id.OrIds) && every(id.OrIds.GetIds(), knownPrincipal)
	case *rbacv3.Principal_NotId:
		return knownPrincipal(id.NotId)
	case *rbacv3.Principal_Any:
		return true
	case *rbacv3.Principal_Header:
		return knownHeader(id.Header)
	case *rbacv3.Principal_UrlPath:
		return knownPath(id.UrlPath)
	case *rbacv3.Principal_FilterState:
		m := id.FilterState
		text, ok := m.GetMatcher().(*matcherv3.FilterStateMatcher_StringMatch)
		return ok && clean(m) && knownString(text.StringMatch)
	}
	return false
}

func knownPath(m *matcherv3.PathMatcher) bool {
	return m != nil && clean(m) && knownString(m.GetPath())
}

func knownHeader(m *routev3.HeaderMatcher) bool {
	if m == nil || !clean(m) {
		return false
	}
	switch match := m.GetHeaderMatchSpecifier().(type) {
	case nil, *routev3.HeaderMatcher_PresentMatch:
		return true
	case *routev3.HeaderMatcher_StringMatch:
		return knownString(match.StringMatch)
	}
	return false
}

func knownString(m *matcherv3.StringMatcher) bool {
	if m == nil || !clean(m) {
		return false
	}
	switch match := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact, *matcherv3.StringMatcher_Prefix, *matcherv3.StringMatcher_Suffix, *matcherv3.StringMatcher_Contains:
		return true
	case *matcherv3.StringMatcher_SafeRegex:
		return match.SafeRegex != nil && clean(match.SafeRegex) && match.SafeRegex.GetEngineType() == nil
	}
	return false
}
