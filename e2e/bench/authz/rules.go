package authzbench

import (
	"fmt"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/gowaypoint/gowaypoint/authz"
)

// Sizes are the numbers of policies that engines are compared at.
var Sizes = []int{1, 1_000, 10_000}

// Rule is a policy that all engines can express: whoever has the principal may use the method on paths that begin with Prefix.
type Rule struct{ Name, Method, Prefix, Principal string }

// Rules are n policies. They are tried, by those engines that try one after the other, in the order of their names, so that the
// one that allows Match is the last.
func Rules(n int) []Rule {
	rules := make([]Rule, 0, n)
	for i := range n {
		rules = append(rules, Rule{
			Name:      fmt.Sprintf("ns[shop]-policy[p%05d]-rule[0]", n-1-i),
			Method:    "GET",
			Prefix:    fmt.Sprintf("/service%d/", i),
			Principal: fmt.Sprintf("spiffe://cluster.local/ns/shop/sa/client%d", i),
		})
	}
	return rules
}

// Request is what is asked of every engine.
type Request struct{ Method, Path, Principal string }

// Match is a request that Rules allow, by the last of them.
var Match = Request{"GET", "/service0/item", "spiffe://cluster.local/ns/shop/sa/client0"}

// Sample are requests with the verdict that all engines have to give about Rules(n).
func Sample(n int) map[Request]bool {
	last := fmt.Sprint(n - 1)
	return map[Request]bool{
		Match: true,
		{"GET", "/service" + last + "/", "spiffe://cluster.local/ns/shop/sa/client" + last}:                   true,
		{"GET", "/service" + last + "/a/b", "spiffe://cluster.local/ns/shop/sa/client" + last}:                true,
		{"POST", Match.Path, Match.Principal}:                                                                 false,
		{"DELETE", Match.Path, Match.Principal}:                                                               false,
		{"GET", "/service0", Match.Principal}:                                                                 false,
		{"GET", "/service00/item", Match.Principal}:                                                           false,
		{"GET", "/other/service0/item", Match.Principal}:                                                      false,
		{"GET", Match.Path, Match.Principal + "0000"}:                                                         false,
		{"GET", Match.Path, "spiffe://cluster.local/ns/shop/sa/client"}:                                       false,
		{"GET", Match.Path, ""}:                                                                               false,
		{"GET", "/service" + fmt.Sprint(n) + "/", "spiffe://cluster.local/ns/shop/sa/client" + fmt.Sprint(n)}: false,
	}
}

// RBAC is a rule set as istiod sends it.
func RBAC(rules []Rule) *rbacv3.RBAC {
	out := &rbacv3.RBAC{Policies: make(map[string]*rbacv3.Policy, len(rules))}
	for _, r := range rules {
		out.Policies[r.Name] = policy(
			header(":method", exact(r.Method)),
			urlPath(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: r.Prefix}}),
			r.Principal)
	}
	return out
}

// Exact is the set of the targets: n policies of ten rules, each with a path and a principal of its own.
func Exact(n int) (rules *rbacv3.RBAC, match Request) {
	rules = &rbacv3.RBAC{Policies: make(map[string]*rbacv3.Policy, 10*n)}
	for i := range n {
		for j := range 10 {
			match = Request{"GET", fmt.Sprintf("/service%d/item%d", i, j), fmt.Sprintf("spiffe://cluster.local/ns/ns%d/sa/client%d", i%100, i)}
			rules.Policies[fmt.Sprintf("ns[ns%d]-policy[p%05d]-rule[%d]", i%100, i, j)] = policy(
				header(":method", exact("GET")), urlPath(exact(match.Path)), match.Principal)
		}
	}
	return rules, match
}

// GetOnly allows GET to everybody.
func GetOnly() *rbacv3.RBAC {
	return &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{"ns[default]-policy[allow-get]-rule[0]": {
		Permissions: []*rbacv3.Permission{all(anyOf(header(":method", exact("GET"))))},
		Principals: []*rbacv3.Principal{{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{
			Ids: []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}}}}}},
	}}}
}

// policy nests as istiod's do.
func policy(method, path *rbacv3.Permission, principal string) *rbacv3.Policy {
	who := &rbacv3.Principal{Identifier: &rbacv3.Principal_FilterState{FilterState: &matcherv3.FilterStateMatcher{
		Key: authz.PeerPrincipal, Matcher: &matcherv3.FilterStateMatcher_StringMatch{StringMatch: exact(principal)},
	}}}
	return &rbacv3.Policy{
		Permissions: []*rbacv3.Permission{all(anyOf(method), anyOf(path))},
		Principals: []*rbacv3.Principal{{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{
			Ids: []*rbacv3.Principal{{Identifier: &rbacv3.Principal_OrIds{OrIds: &rbacv3.Principal_Set{Ids: []*rbacv3.Principal{who}}}}}}}}},
	}
}

func all(parts ...*rbacv3.Permission) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: parts}}}
}

func anyOf(parts ...*rbacv3.Permission) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: &rbacv3.Permission_Set{Rules: parts}}}
}

func header(name string, m *matcherv3.StringMatcher) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: &routev3.HeaderMatcher{
		Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m},
	}}}
}

func urlPath(m *matcherv3.StringMatcher) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: m}}}}
}

func exact(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}
