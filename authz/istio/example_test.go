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
