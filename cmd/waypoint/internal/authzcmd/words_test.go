package authzcmd

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// Whatever a policy writes comes back in its own notation when a request does not match it.
func TestWantedIsWhatThePolicySays(t *testing.T) {
	for _, c := range []struct{ rule, attribute, wanted string }{
		{`{from: [{source: {principals: ["cluster.local/ns/a/sa/b"]}}]}`, "source principal", `"cluster.local/ns/a/sa/b"`},
		{`{from: [{source: {principals: ["cluster.local/ns/a/*", "*/sa/b"]}}]}`, "source principal", `"cluster.local/ns/a/*" or "*/sa/b"`},
		{`{from: [{source: {principals: ["*"]}}]}`, "source principal", `"*"`},
		{`{from: [{source: {namespaces: [a, "b-*"]}}]}`, "source principal", `namespace "a" or namespace "b-*"`},
		{`{from: [{source: {serviceAccounts: [x, y/z]}}]}`, "source principal", `service account "ns/x" or service account "y/z"`},
		{`{from: [{source: {trustDomains: [a.example, "*.example"]}}]}`, "source principal", `trust domain "a.example" or trust domain "*.example"`},
		{`{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}`, "source IP", "10.0.0.0/8"},
		{`{from: [{source: {remoteIpBlocks: [10.0.0.1]}}]}`, "remote IP", "10.0.0.1/32"},
		{`{to: [{operation: {methods: [PUT, "P*"]}}]}`, "method", `"PUT" or "P*"`},
		{`{to: [{operation: {paths: [/a, "/b*", "*/c", "/d/{*}/e", "/f/{**}"]}}]}`, "path", `"/a" or "/b*" or "*/c" or "/d/{*}/e" or "/f/{**}"`},
		{`{to: [{operation: {hosts: [a.example, "*.b.example", "c.example:*"]}}]}`, "host", `"a.example" or "*.b.example" or "c.example:*"`},
		{`{to: [{operation: {ports: ["80"]}}]}`, "port", "80"},
		{`{when: [{key: "request.headers[x-a]", values: [v, "w*"]}]}`, "header x-a", `"v" or "w*"`},
		{`{when: [{key: "request.auth.claims[a][b]", values: [v, "*w"]}]}`, "token's claim a.b", `"v" or "*w"`},
		{`{when: [{key: request.auth.audiences, values: [v]}]}`, "token's audience", `"v"`},
		{`{when: [{key: request.auth.presenter, values: [v]}]}`, "token's presenter", `"v"`},
		{`{when: [{key: connection.sni, values: ["*.a"]}]}`, "SNI", `"*.a"`},
		{`{when: [{key: destination.ip, values: [10.0.0.1]}]}`, "destination IP", "10.0.0.1/32"},
		{`{when: [{key: "experimental.envoy.filters.a.b[c]", values: ["[v]"]}]}`, "metadata of envoy.filters.a.b c", `"v"`},
	} {
		spec := specOf(t, c.rule)
		rules, err := istio.Compile([]istio.Policy{{Namespace: "ns", Name: "p", Spec: spec}}, istio.Target{Gateway: istio.Object{Namespace: "ns", Name: "w"}})
		if err != nil {
			t.Fatalf("%s: %v", c.rule, err)
		}
		chain, err := rules.Chain()
		if err != nil {
			t.Fatal(err)
		}
		reasons := chain.Explain(&authz.Request{HTTP: true, Method: "GET", Path: "/", Authority: "x"}).Stages[0].Enforced.Policies[0].Reasons
		if len(reasons) != 1 {
			t.Errorf("%s: %v", c.rule, reasons)
			continue
		}
		name, wants := attribute(reasons[0].Attribute), wanted(reasons[0].Attribute, reasons[0].Wanted)
		if name != c.attribute || wants != c.wanted {
			t.Errorf("%s: %s wanted %s; want %s wanted %s (of %s)", c.rule, name, wants, c.attribute, c.wanted, reasons[0])
		}
		if fields := about(spec.GetRules()[0], name, wants); len(fields) != 1 {
			t.Errorf("%s: comes from the fields %v", c.rule, fields)
		}
	}
}

func specOf(t *testing.T, rule string) *securityv1beta1.AuthorizationPolicy {
	t.Helper()
	set := readText(t, fmt.Sprintf("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: ns}\nspec: {rules: [%s]}\n", rule))
	spec := proto.CloneOf(set.Policies[0].Spec)
	spec.TargetRefs = []*typev1beta1.PolicyTargetReference{{Group: "gateway.networking.k8s.io", Kind: "Gateway", Name: "w"}}
	return spec
}

// What Envoy's JWT filter does with a token, apart from its signature.
func TestAuthenticate(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	rules := []jwtRule{{from: "a", issuer: "https://a", audiences: []string{"https://shop/"}, lists: []string{"roles"}}, {from: "b", issuer: "https://b"}}
	for _, c := range []struct {
		claims map[string]any
		status int
	}{
		{map[string]any{"iss": "https://b"}, 0},
		{map[string]any{"iss": "https://c"}, 401},
		{map[string]any{}, 401},
		{map[string]any{"iss": "https://a"}, 403},
		{map[string]any{"iss": "https://a", "aud": "shop"}, 0}, // scheme and final slash do not count
		{map[string]any{"iss": "https://a", "aud": []any{"x", "http://shop"}}, 0},
		{map[string]any{"iss": "https://a", "aud": []any{"x", 1.0}}, 403},
		{map[string]any{"iss": "https://b", "exp": 1_799_999_941.0}, 0}, // within a minute
		{map[string]any{"iss": "https://b", "exp": 1_799_999_939.0}, 401},
		{map[string]any{"iss": "https://b", "nbf": 1_800_000_059.0}, 0},
		{map[string]any{"iss": "https://b", "nbf": 1_800_000_061.0}, 401},
	} {
		if _, status, why := authenticate(&token{claims: c.claims}, rules, now); status != c.status || (why == "") != (status == 0) {
			t.Errorf("%v: %d %s, want %d", c.claims, status, why, c.status)
		}
	}
	claims, _, _ := authenticate(&token{claims: map[string]any{"iss": "https://a", "aud": "shop", "scope": "x y", "roles": "z", "other": "x y"}}, rules, now)
	if got := fmt.Sprintf("%v %v %v", claims["scope"], claims["roles"], claims["other"]); got != "[x y] [z] x y" {
		t.Errorf("lists with spaces between: %s", got)
	}
}
