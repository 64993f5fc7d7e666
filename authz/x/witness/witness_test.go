package witness_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/witness"
)

var target = istio.Target{Objects: []istio.Object{{Kind: "Service", Namespace: "shop", Name: "cart"}}}

// policies reads the specs of policies in namespace shop that target the Service cart, named by their position: p0, p1, …
func policies(t testing.TB, specs ...string) []istio.Policy {
	t.Helper()
	var out []istio.Policy
	for i, text := range specs {
		spec := &securityv1beta1.AuthorizationPolicy{}
		raw, err := yaml.YAMLToJSON([]byte(text))
		if err == nil {
			err = protojson.Unmarshal(raw, spec)
		}
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		spec.TargetRefs = []*typev1beta1.PolicyTargetReference{{Kind: "Service", Name: "cart"}}
		out = append(out, istio.Policy{Namespace: "shop", Name: "p" + string(rune('0'+i)), Spec: spec})
	}
	return out
}

func chain(t testing.TB, p []istio.Policy) authz.Chain {
	t.Helper()
	rules, err := istio.Compile(p, target)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rules.Chain()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func of(t testing.TB, p []istio.Policy, o witness.Options) *witness.Found {
	t.Helper()
	o.Target.Objects = target.Objects
	found, err := witness.Of(p, o)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

const everything = `
rules:
- from:
  - source: {principals: [cluster.local/ns/shop/sa/web, "cluster.local/ns/ops/*", "*/sa/admin"], notNamespaces: [test]}
  - source: {namespaces: ["team-*"], ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.0.0/16], remoteIpBlocks: [2001:db8::/32]}
  - source: {serviceAccounts: [web, other/api], trustDomains: [td.example]}
  - source: {requestPrincipals: ["https://issuer/*"], notRequestPrincipals: ["https://issuer/bad"]}
  to:
  - operation: {methods: [GET, HEAD], paths: ["/api/*", "*.html", "/x/{*}/y", "/z/{**}"], notPaths: ["/api/secret*"]}
  - operation: {hosts: [cart, "cart:*", "*.example"], ports: ["80", "443"], notMethods: [DELETE]}
  when:
  - {key: "request.headers[X-Tier]", values: ["gold*"], notValues: [goldfish]}
  - {key: "request.auth.claims[realm][roles]", values: [reader, "*"]}
  - {key: destination.ip, values: [10.96.0.0/12]}
  - {key: connection.sni, notValues: [bad]}
  - {key: "experimental.envoy.filters.http.x[k]", values: ["[v]"]}
`

// Whatever a rule asks, there is a request that matches it, and one for each clause that fails only this one.
func TestEveryKindOfClause(t *testing.T) {
	p := policies(t, everything)
	found := of(t, p, witness.Options{Paths: pathnorm.Base})
	c := found.Coverage
	if c.Alternatives != 8 || c.Matched != 8 || c.Isolated != c.Clauses || c.Truncated || len(c.Unmatched) > 0 {
		t.Errorf("%+v", c)
	}
	allowed := 0
	set := chain(t, p)
	for _, q := range found.Queries {
		r, err := q.Request(pathnorm.Base)
		if err != nil {
			t.Fatal(err)
		}
		if set.Decide(r).Allowed {
			allowed++
		}
	}
	if allowed == 0 || allowed == len(found.Queries) {
		t.Errorf("%d of %d are allowed", allowed, len(found.Queries))
	}
	t.Log(c)
}

// A contradiction is named, and so is what a TCP port does not have.
func TestUnmatched(t *testing.T) {
	p := policies(t, `rules: [{to: [{operation: {methods: [GET], notMethods: ["*"]}}]}, {from: [{source: {namespaces: [a]}}]}]`)
	if got := of(t, p, witness.Options{}).Coverage.Unmatched; !slices.Equal(got, []string{"shop/p0 rules[0] to[0]"}) {
		t.Error(got)
	}
	p = policies(t, `rules: [{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {ports: ["90"]}}]}]`)
	found := of(t, p, witness.Options{Target: istio.Target{TCP: true}})
	if got := found.Coverage.Unmatched; !slices.Equal(got, []string{"shop/p0 rules[0] to[0]"}) {
		t.Error(got)
	}
	for _, q := range found.Queries {
		if !q.TCP || q.Method != "" {
			t.Error(q)
		}
	}
}

// The requests depend on the policies only, and are bounded.
func TestDeterministicAndBounded(t *testing.T) {
	p := policies(t, everything, "action: DENY\n"+strings.TrimPrefix(everything, "\n"))
	a, b := of(t, p, witness.Options{Limit: 500}), of(t, p, witness.Options{Limit: 500})
	if len(a.Queries) != 500 || !a.Coverage.Truncated {
		t.Errorf("%d %+v", len(a.Queries), a.Coverage)
	}
	for i := range a.Queries {
		if a.Queries[i].Flags() != b.Queries[i].Flags() {
			t.Fatalf("%v\n%v", a.Queries[i], b.Queries[i])
		}
	}
}

// Each of these changes is seen by some witness, though other policies deny and allow around it.
func TestChangesAreSeen(t *testing.T) {
	around := []string{
		`{action: DENY, rules: [{to: [{operation: {paths: ["/admin*"]}}]}, {from: [{source: {namespaces: [evil]}}], to: [{operation: {methods: [POST]}}]}]}`,
		`{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}], to: [{operation: {methods: [GET], paths: ["/cart/*"]}}]}]}`,
	}
	for _, c := range []struct{ name, before, after string }{
		{"a method more", `rules: [{to: [{operation: {methods: [PUT]}}]}]`, `rules: [{to: [{operation: {methods: [PUT, POST]}}]}]`},
		{"a prefix wider", `rules: [{to: [{operation: {paths: ["/a/b*"]}}]}]`, `rules: [{to: [{operation: {paths: ["/a*"]}}]}]`},
		{"exact to prefix", `rules: [{to: [{operation: {paths: ["/a"]}}]}]`, `rules: [{to: [{operation: {paths: ["/a*"]}}]}]`},
		{"another account", `rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/a]}}]}]`, `rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/b]}}]}]`},
		{"a namespace to an account", `rules: [{from: [{source: {namespaces: [x]}}]}]`, `rules: [{from: [{source: {principals: [cluster.local/ns/x/sa/a]}}]}]`},
		{"a range halved", `rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]`, `rules: [{from: [{source: {ipBlocks: [10.0.0.0/9]}}]}]`},
		{"a range of IPv6 narrowed", `rules: [{from: [{source: {remoteIpBlocks: ["2001:db8::/32"]}}]}]`, `rules: [{from: [{source: {remoteIpBlocks: ["2001:db8::/33"]}}]}]`},
		{"a DENY wider", `{action: DENY, rules: [{to: [{operation: {paths: ["/cart/x"]}}]}]}`, `{action: DENY, rules: [{to: [{operation: {paths: ["/cart/x*"]}}]}]}`},
		{"a DENY with one method less", `{action: DENY, rules: [{to: [{operation: {methods: [GET, PUT]}}]}]}`, `{action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}`},
		{"an exception", `rules: [{to: [{operation: {paths: ["/a/*"]}}]}]`, `rules: [{to: [{operation: {paths: ["/a/*"], notPaths: ["/a/secret"]}}]}]`},
		{"a port", `rules: [{to: [{operation: {ports: ["8080"]}}]}]`, `rules: [{to: [{operation: {ports: ["8081"]}}]}]`},
		{"the host's port", `rules: [{to: [{operation: {hosts: [h]}}]}]`, `rules: [{to: [{operation: {hosts: [h, "h:*"]}}]}]`},
		{"a condition on a header", `rules: [{to: [{operation: {methods: [PUT]}}]}]`, `rules: [{to: [{operation: {methods: [PUT]}}], when: [{key: "request.headers[x-a]", values: [b]}]}]`},
		{"any token to one issuer's", `rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]`, `rules: [{from: [{source: {requestPrincipals: ["me/*"]}}]}]`},
		{"a claim", `rules: [{when: [{key: "request.auth.claims[groups]", values: [a, b]}]}]`, `rules: [{when: [{key: "request.auth.claims[groups]", values: [a]}]}]`},
		{"AND to OR", `rules: [{from: [{source: {namespaces: [x]}}], to: [{operation: {methods: [PUT]}}]}]`, `rules: [{from: [{source: {namespaces: [x]}}]}, {to: [{operation: {methods: [PUT]}}]}]`},
		{"a DENY less", `{action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}], to: [{operation: {paths: ["*.html"]}}]}]}`, `{action: DENY}`},
		{"ALLOW to DENY", `rules: [{to: [{operation: {paths: [/cart/open]}}]}]`, `{action: DENY, rules: [{to: [{operation: {paths: [/cart/open]}}]}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := policies(t, append(around, c.before)...), policies(t, append(around, c.after)...)
			found := of(t, slices.Concat(before, after), witness.Options{Paths: pathnorm.Base})
			was, is := chain(t, before), chain(t, after)
			for _, q := range found.Queries {
				r, err := q.Request(pathnorm.Base)
				if err != nil {
					t.Fatal(err)
				}
				if was.Decide(r).Allowed != is.Decide(r).Allowed {
					t.Logf("%v", &q)
					return
				}
			}
			t.Errorf("none of %v", found.Coverage)
		})
	}
}
