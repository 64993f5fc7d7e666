package gen

import (
	"fmt"
	"strings"

	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/types/known/anypb"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// Istio makes a set by way of AuthorizationPolicy objects: filters as istiod would lay them out for a waypoint. Objects that
// istiod does not translate, as some releases do not some names, are made again.
func (w World) Istio(network bool) (*pair.Set, error) {
	var err error
	for range 50 {
		target := istio.Target{
			Gateway: istio.Object{Namespace: "shop", Name: "waypoint"}, TCP: network,
			Providers: []*meshv1alpha1.MeshConfig_ExtensionProvider{{Name: "asker", Provider: &meshv1alpha1.MeshConfig_ExtensionProvider_EnvoyExtAuthzGrpc{
				EnvoyExtAuthzGrpc: &meshv1alpha1.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationGrpcProvider{Service: "asker.shop.svc.cluster.local", Port: 9000},
			}}},
		}
		if target.Version, err = istio.ParseVersion(pick(w, []string{"1.24.0", "1.27.0", "1.32.0", "1.32.0"})); err != nil {
			return nil, err
		}
		if w.oneIn(3) {
			target.TrustDomains = []string{"cluster.local", "td.example"}
		}
		var policies []istio.Policy
		for i := range 1 + w.IntN(4) {
			policies = append(policies, w.policy(fmt.Sprint("p", i)))
		}
		var rules *istio.Rules
		if rules, err = istio.Compile(policies, target); err == nil {
			return setOf(rules, network)
		}
	}
	return nil, err
}

// setOf takes the RBAC filters of a chain.
func setOf(rules *istio.Rules, network bool) (*pair.Set, error) {
	s := &pair.Set{Network: network}
	add := func(config *anypb.Any) error {
		if m := new(httpv3.RBAC); config.MessageIs(m) {
			err := config.UnmarshalTo(m)
			s.Filters = append(s.Filters, pair.Filter{Rules: m.GetRules(), Shadow: m.GetShadowRules()})
			return err
		}
		if m := new(networkv3.RBAC); config.MessageIs(m) {
			err := config.UnmarshalTo(m)
			s.Filters = append(s.Filters, pair.Filter{Rules: m.GetRules(), Shadow: m.GetShadowRules()})
			return err
		}
		return nil
	}
	if network {
		for _, f := range rules.NetworkFilters() {
			if err := add(f.GetTypedConfig()); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
	for _, f := range rules.HTTPFilters() {
		if err := add(f.GetTypedConfig()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (w World) policy(name string) istio.Policy {
	p := istio.Policy{Namespace: "shop", Name: name, Spec: &securityv1beta1.AuthorizationPolicy{
		TargetRefs: []*typev1beta1.PolicyTargetReference{{Group: "gateway.networking.k8s.io", Kind: "Gateway", Name: "waypoint"}},
		Action: pick(w, []securityv1beta1.AuthorizationPolicy_Action{
			securityv1beta1.AuthorizationPolicy_ALLOW, securityv1beta1.AuthorizationPolicy_ALLOW, securityv1beta1.AuthorizationPolicy_DENY,
			securityv1beta1.AuthorizationPolicy_DENY, securityv1beta1.AuthorizationPolicy_AUDIT,
		}),
		Rules: some(w, 0, 3, w.rule),
	}}
	if w.oneIn(12) { // rule[10] and its like sort before rule[2]
		p.Spec.Rules = some(w, 11, 12, w.rule)
	}
	if w.oneIn(8) {
		p.Spec.Action = securityv1beta1.AuthorizationPolicy_CUSTOM
		p.Spec.ActionDetail = &securityv1beta1.AuthorizationPolicy_Provider{Provider: &securityv1beta1.AuthorizationPolicy_ExtensionProvider{Name: "asker"}}
	}
	if w.oneIn(5) {
		p.Annotations = map[string]string{istio.DryRun: pick(w, []string{"true", "true", "false"})}
	}
	return p
}

func (w World) rule() *securityv1beta1.Rule {
	r := &securityv1beta1.Rule{}
	if !w.oneIn(3) {
		r.From = some(w, 1, 2, func() *securityv1beta1.Rule_From { return &securityv1beta1.Rule_From{Source: w.source()} })
	}
	if !w.oneIn(3) {
		r.To = some(w, 1, 2, func() *securityv1beta1.Rule_To { return &securityv1beta1.Rule_To{Operation: w.operation()} })
	}
	if w.oneIn(3) {
		r.When = some(w, 1, 2, w.condition)
	}
	return r
}

// few values, most often none: each field that is there makes a rule match less.
func (w World) few(value func() string) []string {
	if !w.oneIn(5) {
		return nil
	}
	return some(w, 1, 3, value)
}

func (w World) source() *securityv1beta1.Source {
	s := &securityv1beta1.Source{
		Principals: w.few(w.principalForm), NotPrincipals: w.few(w.principalForm),
		RequestPrincipals: w.few(w.requestPrincipal), NotRequestPrincipals: w.few(w.requestPrincipal),
		Namespaces: w.few(w.namespaceForm), NotNamespaces: w.few(w.namespaceForm),
		IpBlocks: w.few(w.block), NotIpBlocks: w.few(w.block), RemoteIpBlocks: w.few(w.block), NotRemoteIpBlocks: w.few(w.block),
		TrustDomains: w.few(w.trustDomain), NotTrustDomains: w.few(w.trustDomain),
	}
	if w.oneIn(4) { // not together with principals or namespaces
		return &securityv1beta1.Source{ServiceAccounts: some(w, 1, 2, w.serviceAccount), NotServiceAccounts: w.few(w.serviceAccount)}
	}
	return s
}

func (w World) operation() *securityv1beta1.Operation {
	return &securityv1beta1.Operation{
		Hosts: w.few(w.form(host)), NotHosts: w.few(w.form(host)), Ports: w.few(w.portForm), NotPorts: w.few(w.portForm),
		Methods: w.few(w.form(method)), NotMethods: w.few(w.form(method)), Paths: w.few(w.pathForm), NotPaths: w.few(w.pathForm),
	}
}

func (w World) condition() *securityv1beta1.Condition {
	type key struct {
		name  string
		value func() string
	}
	k := pick(w, []key{
		{"request.headers[x-a]", w.form(headerValue)}, {"request.headers[User-Agent]", w.form(headerValue)}, {"request.headers[:method]", w.form(method)},
		{"request.headers[host]", w.form(host)},
		{"source.ip", w.block}, {"remote.ip", w.block}, {"source.namespace", w.namespaceForm}, {"source.principal", w.principalForm},
		{"source.serviceAccount", w.serviceAccount}, {"source.trustDomain", w.trustDomain},
		{"request.auth.principal", w.requestPrincipal}, {"request.auth.audiences", w.form(claim)}, {"request.auth.presenter", w.form(claim)},
		{"request.auth.claims[groups]", w.form(claim)}, {"request.auth.claims[nested][sub]", w.form(claim)},
		{"destination.ip", w.block}, {"destination.port", w.portForm}, {"connection.sni", w.form(serverName)},
		{"experimental.envoy.filters." + pair.OtherNamespace + "[" + pair.OtherKey + "]", w.form(claim)},
	})
	c := &securityv1beta1.Condition{Key: k.name}
	if !w.oneIn(4) {
		c.Values = some(w, 1, 2, k.value)
	}
	if len(c.Values) == 0 || w.oneIn(4) {
		c.NotValues = some(w, 1, 2, k.value)
	}
	return c
}

// form writes a word in the ways of Istio's API: as it is, x*, *x, or * alone.
func (w World) form(k kind) func() string {
	return func() string {
		s := strings.Trim(w.nonEmpty(k), "*")
		if s == "" {
			return "*"
		}
		switch w.IntN(6) {
		case 0:
			return s + "*"
		case 1:
			return "*" + s
		case 2:
			return pick(w, []string{"*", s})
		}
		return s
	}
}

func (w World) principalForm() string {
	if s := strings.TrimPrefix(w.form(principal)(), "spiffe://"); s != "" {
		return s
	}
	return "*"
}

func (w World) requestPrincipal() string {
	return pick(w, []string{"*", "issuer/subject", "https://issuer.example/subject", "issuer/*", "*/subject", "*ssuer/subject", "issuer/sub*", "iss*", "*ject", "issuer"})
}

func (w World) namespaceForm() string {
	return pick(w, []string{"shop", "default", "sh*", "*op", "*", "shop-2", "s*p"})
}

func (w World) serviceAccount() string {
	return pick(w, []string{"web", "api", "shop/web", "default/web", "shop-2/web.v2", "shop/x"})
}

func (w World) trustDomain() string {
	return pick(w, []string{"cluster.local", "td.example", "*", "td.*", "*.local", "clusterXlocal"})
}

func (w World) portForm() string { return fmt.Sprint(w.port()) }

func (w World) block() string {
	addr := pick(w, addresses)
	if w.oneIn(3) {
		return addr.String()
	}
	return fmt.Sprintf("%s/%d", addr, pick(w, []int{0, 8, 16, 24, 31, 32, 64, 96, 128})%(addr.BitLen()+1))
}

func (w World) pathForm() string {
	if w.oneIn(4) {
		return pick(w, []string{"/admin/{*}", "/admin/{**}", "/{*}/b/{*}", "/api/{**}", "/{**}/c", "/api/{*}/items/{**}"})
	}
	return w.form(path)()
}
