package istio_test

import (
	"fmt"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"
)

type peer string

func (p peer) FilterState(key string) (string, bool) { return string(p), key == authz.PeerPrincipal }

// One policy, and what it says to three requests.
func ExampleCompile() {
	policy := istio.Policy{Namespace: "default", Name: "readers", Spec: &securityv1beta1.AuthorizationPolicy{
		TargetRefs: []*typev1beta1.PolicyTargetReference{{Kind: "Service", Name: "helloworld"}},
		Rules: []*securityv1beta1.Rule{{
			From: []*securityv1beta1.Rule_From{{Source: &securityv1beta1.Source{ServiceAccounts: []string{"curl"}}}},
			To:   []*securityv1beta1.Rule_To{{Operation: &securityv1beta1.Operation{Methods: []string{"GET"}}}},
		}},
	}}
	rules, err := istio.Compile([]istio.Policy{policy}, istio.Target{
		Objects: []istio.Object{{Kind: "Service", Namespace: "default", Name: "helloworld"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	chain, err := rules.Chain()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range []*authz.Request{
		{HTTP: true, Method: "GET", FilterState: peer("spiffe://cluster.local/ns/default/sa/curl")},
		{HTTP: true, Method: "POST", FilterState: peer("spiffe://cluster.local/ns/default/sa/curl")},
		{HTTP: true, Method: "GET", FilterState: peer("spiffe://cluster.local/ns/other/sa/curl")},
	} {
		d := chain.Decide(r)
		fmt.Printf("%v %q %q\n", d.Allowed, d.Policy, d.Details)
	}
	// Output:
	// true "ns[default]-policy[readers]-rule[0]" ""
	// false "" "rbac_access_denied_matched_policy[none]"
	// false "" "rbac_access_denied_matched_policy[none]"
}

// A policy by selector, for pods behind a waypoint: who enforces it, and what is likely not meant.
func ExampleMesh_WhoEnforces() {
	waypoint := istio.Object{Kind: "Gateway", Namespace: "shop", Name: "waypoint"}
	labels := map[string]string{"app": "cart"}
	mesh := istio.Mesh{
		Gateways:  []istio.Gateway{{Namespace: "shop", Name: "waypoint"}},
		Services:  []istio.Service{{Object: istio.Object{Kind: "Service", Namespace: "shop", Name: "cart"}, Selector: labels, Waypoint: &waypoint}},
		Workloads: []istio.Workload{{Namespace: "shop", Name: "cart", Labels: labels, Mode: istio.Ambient}},
	}
	policy := istio.Policy{Namespace: "shop", Name: "no-tests", Spec: &securityv1beta1.AuthorizationPolicy{
		Selector: &typev1beta1.WorkloadSelector{MatchLabels: labels},
		Action:   securityv1beta1.AuthorizationPolicy_DENY,
		Rules:    []*securityv1beta1.Rule{{From: []*securityv1beta1.Rule_From{{Source: &securityv1beta1.Source{Namespaces: []string{"tests"}}}}}},
	}}
	e := mesh.WhoEnforces(&policy)
	for _, by := range e.By {
		fmt.Println(by.Enforcer, by.Guards)
	}
	for _, trap := range e.Traps {
		fmt.Println(trap.ID)
	}
	fmt.Println(e.Traps[0].Text)
	// Output:
	// ztunnel Workload shop/cart
	// sees-waypoint-identity
	// selector-behind-waypoint
	// Behind Gateway shop/waypoint the pods' ztunnels see the waypoint as the client, not the one who called. This rule does not match what comes through the waypoint: whom it is to keep out gets in that way.
}

// The keys of a token's issuer are the caller's to fetch: the package does no I/O.
func ExampleAuthenticate() {
	tokens := istio.RequestAuthentication{Namespace: "default", Name: "tokens", Spec: &securityv1beta1.RequestAuthentication{
		TargetRefs: []*typev1beta1.PolicyTargetReference{{Kind: "Service", Name: "helloworld"}},
		JwtRules:   []*securityv1beta1.JWTRule{{Issuer: "https://issuer.example", JwksUri: "https://issuer.example/keys"}},
	}}
	authentication, err := istio.Authenticate([]istio.RequestAuthentication{tokens}, istio.Target{
		Objects: []istio.Object{{Kind: "Service", Namespace: "default", Name: "helloworld"}},
		JWKS:    func(uri string) (string, error) { return "", fmt.Errorf("GET %s: 503", uri) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(authentication.HTTPFilter().GetName())
	fmt.Println(authentication.Notes[0])
	// Output:
	// envoy.filters.http.jwt_authn
	// default/tokens: jwtRules[0]: every token of issuer "https://issuer.example" is refused: GET https://issuer.example/keys: 503
}
