package gen

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// Raw makes a set of RBAC protobufs that no front end would write: any matcher anywhere, nested. For a network set the
// matchers of HTTP are left out, which Envoy's network filter refuses.
func (w World) Raw(network bool) *pair.Set {
	s := &pair.Set{Network: network}
	r := raw{w, network}
	for range pick(w, []int{1, 1, 1, 2, 3, pair.MaxFilters}) {
		var f pair.Filter
		if !w.oneIn(8) {
			f.Rules = r.rules()
		}
		if w.oneIn(3) {
			f.Shadow = r.rules()
		}
		s.Filters = append(s.Filters, f)
	}
	return s
}

type raw struct {
	World
	network bool
}

// policyNames sort otherwise than they read, and have what response code details replace. With the empty name Envoy reports
// like a match of none.
var policyNames = []string{
	"ns[shop]-policy[p]-rule[0]", "ns[shop]-policy[p]-rule[2]", "ns[shop]-policy[p]-rule[10]", "a", "B", "b", "a b", "a\tb", "é", "ø",
	"\u2028", `q"uote\`, "10", "9", "none", "Z", "zz", "<x>", "a\u00a0b", "\U0001F600", "\uffff", "a]b", "%41",
}

func (w raw) rules() *rbacv3.RBAC {
	m := &rbacv3.RBAC{
		Action:   pick(w.World, []rbacv3.RBAC_Action{rbacv3.RBAC_ALLOW, rbacv3.RBAC_ALLOW, rbacv3.RBAC_DENY, rbacv3.RBAC_DENY, rbacv3.RBAC_LOG}),
		Policies: map[string]*rbacv3.Policy{},
	}
	for range pick(w.World, []int{0, 1, 1, 2, 2, 3, 5}) {
		m.Policies[pick(w.World, policyNames)] = &rbacv3.Policy{
			Permissions: some(w.World, 1, 2, func() *rbacv3.Permission { return w.permission(2) }),
			Principals:  some(w.World, 1, 2, func() *rbacv3.Principal { return w.principal(2) }),
		}
	}
	return m
}

func (w raw) permission(depth int) *rbacv3.Permission {
	set := func() *rbacv3.Permission_Set {
		return &rbacv3.Permission_Set{Rules: some(w.World, 1, 3, func() *rbacv3.Permission { return w.permission(depth - 1) })}
	}
	m := &rbacv3.Permission{}
	if depth > 0 && w.oneIn(2) {
		switch w.IntN(3) {
		case 0:
			m.Rule = &rbacv3.Permission_AndRules{AndRules: set()}
		case 1:
			m.Rule = &rbacv3.Permission_OrRules{OrRules: set()}
		default:
			m.Rule = &rbacv3.Permission_NotRule{NotRule: w.permission(depth - 1)}
		}
		return m
	}
	n := w.IntN(14)
	if w.network && n < 8 {
		n = 8 + w.IntN(6)
	}
	switch n {
	case 0, 1, 2:
		m.Rule = &rbacv3.Permission_Header{Header: w.header()}
	case 3, 4, 5:
		m.Rule = &rbacv3.Permission_UrlPath{UrlPath: w.urlPath()}
	case 6, 7:
		m.Rule = &rbacv3.Permission_UriTemplate{UriTemplate: w.template()}
	case 8:
		m.Rule = &rbacv3.Permission_DestinationIp{DestinationIp: w.cidr()}
	case 9:
		m.Rule = &rbacv3.Permission_DestinationPort{DestinationPort: uint32(w.port())}
	case 10:
		start := int32(w.port())
		m.Rule = &rbacv3.Permission_DestinationPortRange{DestinationPortRange: &typev3.Int32Range{Start: start, End: start + 1 + int32(w.IntN(65536-int(start)))}}
	case 11:
		m.Rule = &rbacv3.Permission_RequestedServerName{RequestedServerName: w.text(serverName)}
	case 12:
		if w.oneIn(2) {
			m.Rule = &rbacv3.Permission_Metadata{Metadata: w.metadata()}
		} else {
			m.Rule = &rbacv3.Permission_SourcedMetadata{SourcedMetadata: w.sourcedMetadata()}
		}
	default:
		m.Rule = &rbacv3.Permission_Any{Any: true}
	}
	return m
}

func (w raw) principal(depth int) *rbacv3.Principal {
	set := func() *rbacv3.Principal_Set {
		return &rbacv3.Principal_Set{Ids: some(w.World, 1, 3, func() *rbacv3.Principal { return w.principal(depth - 1) })}
	}
	m := &rbacv3.Principal{}
	if depth > 0 && w.oneIn(2) {
		switch w.IntN(3) {
		case 0:
			m.Identifier = &rbacv3.Principal_AndIds{AndIds: set()}
		case 1:
			m.Identifier = &rbacv3.Principal_OrIds{OrIds: set()}
		default:
			m.Identifier = &rbacv3.Principal_NotId{NotId: w.principal(depth - 1)}
		}
		return m
	}
	n := w.IntN(14)
	if w.network && n < 4 {
		n = 4 + w.IntN(10)
	}
	switch n {
	case 0, 1, 2:
		m.Identifier = &rbacv3.Principal_Header{Header: w.header()}
	case 3:
		m.Identifier = &rbacv3.Principal_UrlPath{UrlPath: w.urlPath()}
	case 4:
		m.Identifier = &rbacv3.Principal_SourceIp{SourceIp: w.cidr()}
	case 5:
		m.Identifier = &rbacv3.Principal_DirectRemoteIp{DirectRemoteIp: w.cidr()}
	case 6:
		m.Identifier = &rbacv3.Principal_RemoteIp{RemoteIp: w.cidr()}
	case 7:
		a := &rbacv3.Principal_Authenticated{}
		if !w.oneIn(4) {
			a.PrincipalName = w.text(pick(w.World, []kind{principal, subject}))
		}
		m.Identifier = &rbacv3.Principal_Authenticated_{Authenticated: a}
	case 8, 9:
		m.Identifier = &rbacv3.Principal_FilterState{FilterState: w.filterState()}
	case 10, 11:
		m.Identifier = &rbacv3.Principal_Metadata{Metadata: w.metadata()}
	case 12:
		m.Identifier = &rbacv3.Principal_SourcedMetadata{SourcedMetadata: w.sourcedMetadata()}
	default:
		m.Identifier = &rbacv3.Principal_Any{Any: true}
	}
	return m
}

func (w raw) urlPath() *matcherv3.PathMatcher {
	return &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: w.text(path)}}
}

var templates = []string{
	"/*", "/**", "/admin/*", "/admin/**", "/*/b/*", "/api/{version}/items/{id}", "/api/{rest=**}", "/public/*.html", "/{a=*}/x/{b=**}", "/a/b/c",
	"/a/**/c", "/**/c.html", "/api/{v=v1/*}/1", "/{x}/{y}.json", "/~a/*", "/a%2fb/*", "/*/**",
}

func (w raw) template() *corev3.TypedExtensionConfig {
	a, err := anypb.New(&uritemplatev3.UriTemplateMatchConfig{PathTemplate: pick(w.World, templates)})
	if err != nil {
		panic(fmt.Sprint("marshalling a template: ", err)) // cannot be
	}
	return &corev3.TypedExtensionConfig{Name: "envoy.path.match.uri_template.uri_template_matcher", TypedConfig: a}
}
