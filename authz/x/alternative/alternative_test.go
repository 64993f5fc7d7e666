package alternative_test

import (
	"fmt"
	"testing"

	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// A rule with two from and one to entries is two alternatives, each with the conditions of the rule.
func ExampleOf() {
	policies := []istio.Policy{{Namespace: "shop", Name: "readers", Spec: &securityv1beta1.AuthorizationPolicy{
		Rules: []*securityv1beta1.Rule{{
			From: []*securityv1beta1.Rule_From{
				{Source: &securityv1beta1.Source{Namespaces: []string{"web"}}},
				{Source: &securityv1beta1.Source{Principals: []string{"*"}, NotNamespaces: []string{"test"}}},
			},
			To:   []*securityv1beta1.Rule_To{{Operation: &securityv1beta1.Operation{Methods: []string{"GET"}}}},
			When: []*securityv1beta1.Condition{{Key: "request.headers[X-Team]", Values: []string{"a"}}},
		}},
	}}}
	for _, a := range alternative.Of(policies) {
		fmt.Println(a.Where())
		for _, t := range a.Tests {
			fmt.Printf("  %v: %v, not %v (%s)\n", t.Dimension, t.Values, t.Not, t.Field)
		}
	}
	// Output:
	// shop/readers rules[0] from[0] to[0]
	//   source: [web], not [] (spec.rules[0].from[0].source.namespaces)
	//   method: [GET], not [] (spec.rules[0].to[0].operation.methods)
	//   header x-team: [a], not [] (spec.rules[0].when[0].values)
	// shop/readers rules[0] from[1] to[0]
	//   source: [*], not [] (spec.rules[0].from[1].source.principals)
	//   source: [], not [test] (spec.rules[0].from[1].source.namespaces)
	//   method: [GET], not [] (spec.rules[0].to[0].operation.methods)
	//   header x-team: [a], not [] (spec.rules[0].when[0].values)
}

// Whichever way an attribute is written, it is one dimension.
func TestDimensions(t *testing.T) {
	for key, want := range map[string]string{
		"source.principal": "source", "source.namespace": "source", "source.serviceAccount": "source", "source.trustDomain": "source",
		"source.ip": "source IP", "remote.ip": "remote IP", "destination.ip": "destination IP", "destination.port": "port", "connection.sni": "server name",
		"request.auth.principal": "token", "request.auth.claims[iss]": "token", "request.auth.claims[sub]": "token",
		"request.auth.audiences": "claim aud", "request.auth.claims[aud]": "claim aud", "request.auth.presenter": "claim azp", "request.auth.claims[a][b]": "claim a.b",
		"request.headers[:path]": "path", "request.headers[Host]": "host", "request.headers[:method]": "method", "request.headers[X-A]": "header x-a",
		"experimental.envoy.filters.http.x[k]": "metadata envoy.filters.http.x[k]", "request.time": "unknown request.time",
	} {
		if got := alternative.DimensionOf(key).String(); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

// A matcher reads what is uncertain as its policy does: a client without a known address matches a DENY of addresses, and no ALLOW.
func TestMatcher(t *testing.T) {
	spec := &securityv1beta1.AuthorizationPolicy{Rules: []*securityv1beta1.Rule{{
		From: []*securityv1beta1.Rule_From{{Source: &securityv1beta1.Source{IpBlocks: []string{"10.0.0.0/8"}}}},
	}}}
	r, err := (&query.Query{Method: "GET", Path: "/"}).Request(pathnorm.Base)
	if err != nil {
		t.Fatal(err)
	}
	for action, want := range map[securityv1beta1.AuthorizationPolicy_Action]bool{securityv1beta1.AuthorizationPolicy_ALLOW: false, securityv1beta1.AuthorizationPolicy_DENY: true} {
		spec.Action = action
		all := alternative.Of([]istio.Policy{{Namespace: "shop", Name: "p", Spec: spec}})
		m, err := all[0].Matcher(istio.Target{})
		if err != nil || m.Match(r) != want {
			t.Errorf("%v: %v, %v", action, m.Match(r), err)
		}
	}
}
