package reverse

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"
	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// Filter is the two rule sets of an RBAC filter.
type Filter struct {
	Rules, Shadow *rbacv3.RBAC
	// Custom is true for the filter before an ext_authz filter, whose shadow rules are policies of action CUSTOM.
	Custom bool
	// TCP is true for a network filter.
	TCP bool
}

// Policy is an AuthorizationPolicy as far as RBAC tells: without what it is attached to.
type Policy struct {
	istio.Policy
	// Problem says why Spec has no rules; "" when converting Spec gives the same RBAC.
	Problem string
	// RBAC are the rules that it came from, by name.
	RBAC map[string]*rbacv3.Policy
	// TCP is true when it came from a network filter, from which HTTP attributes are gone.
	TCP bool
}

// Policies reads the policies of a chain's filters, by action and name. Rules of which the name is not one of istiod's come as
// policies without a namespace.
func Policies(filters []Filter) []Policy {
	var out []Policy
	for _, f := range filters {
		out = append(out, set(f, f.Shadow, true)...)
		out = append(out, set(f, f.Rules, false)...)
	}
	return out
}

// set reads one rule set.
func set(f Filter, rbac *rbacv3.RBAC, shadow bool) []Policy {
	byName := map[string]*Policy{}
	for _, name := range slices.Sorted(maps.Keys(rbac.GetPolicies())) {
		source, ok := authz.ParseSource(name)
		if !ok {
			source.Name = name
		}
		key := source.Namespace + "/" + source.Name
		p := byName[key]
		if p == nil {
			p = &Policy{TCP: f.TCP, RBAC: map[string]*rbacv3.Policy{}}
			p.Namespace, p.Name, p.Spec = source.Namespace, source.Name, &securityv1beta1.AuthorizationPolicy{Action: action(rbac.GetAction())}
			if !ok {
				p.Problem = "its name is not one that istiod gives"
			}
			byName[key] = p
		}
		p.RBAC[name] = rbac.GetPolicies()[name]
		bad := strings.HasSuffix(name, "-deny-due-to-bad-CUSTOM-action")
		if f.Custom && shadow || bad || source.Provider != "" {
			p.Spec.Action = securityv1beta1.AuthorizationPolicy_CUSTOM
			p.Spec.ActionDetail = &securityv1beta1.AuthorizationPolicy_Provider{Provider: &securityv1beta1.AuthorizationPolicy_ExtensionProvider{Name: source.Provider}}
			if source.Provider == "" {
				p.Problem = "the RBAC does not tell its extension provider"
			}
			if bad {
				p.Problem = "its extension provider could not be asked, so istiod made a DENY rule of it"
			}
		} else if shadow {
			p.Annotations = map[string]string{istio.DryRun: "true"}
		}
	}
	var out []Policy
	for _, key := range slices.Sorted(maps.Keys(byName)) {
		p := byName[key]
		if p.Problem == "" {
			p.Problem = p.read()
		}
		if p.Problem != "" {
			p.Spec.Rules = nil
		}
		out = append(out, *p)
	}
	return out
}

func action(a rbacv3.RBAC_Action) securityv1beta1.AuthorizationPolicy_Action {
	switch a {
	case rbacv3.RBAC_DENY:
		return securityv1beta1.AuthorizationPolicy_DENY
	case rbacv3.RBAC_LOG:
		return securityv1beta1.AuthorizationPolicy_AUDIT
	}
	return securityv1beta1.AuthorizationPolicy_ALLOW
}

// read fills in the rules and checks them. It returns what is wrong.
func (p *Policy) read() string {
	rules := map[int]*rbacv3.Policy{}
	for name, r := range p.RBAC {
		source, _ := authz.ParseSource(name)
		rules[source.Rule] = r
	}
	if len(rules) == 1 && rules[0] != nil && isNever(rules[0]) {
		return p.check()
	}
	for i := range len(rules) {
		r := rules[i]
		if r == nil {
			return fmt.Sprintf("it has a rules[%d] that is not in this chain", i)
		}
		one, err := rule(r)
		if err != nil {
			return fmt.Sprintf("rules[%d] is not of istiod's making: %v", i, err)
		}
		p.Spec.Rules = append(p.Spec.Rules, one)
	}
	return p.check()
}

// isNever knows what istiod makes of a policy without rules.
func isNever(r *rbacv3.Policy) bool {
	return len(r.GetPermissions()) == 1 && r.GetPermissions()[0].GetNotRule().GetAny() && len(r.GetPrincipals()) == 1 && r.GetPrincipals()[0].GetNotId().GetAny()
}

// check converts the policy and compares.
func (p *Policy) check() string {
	problem := ""
	for _, v := range versions {
		if problem = p.checkVersion(v); problem == "" {
			return ""
		}
	}
	return problem
}

// versions of istiod that the RBAC may be of: names of providers are in keys, and names are quoted in regular expressions, by
// some only. The oldest comes last.
var versions = []istio.Version{istio.Newest, istio.V127, istio.V124}

func (p *Policy) checkVersion(v istio.Version) string {
	const name = "waypoint"
	probe := istio.Policy{Namespace: p.Namespace, Name: p.Name, Annotations: p.Annotations, Spec: proto.CloneOf(p.Spec)}
	probe.Spec.TargetRefs = []*typev1beta1.PolicyTargetReference{{Group: "gateway.networking.k8s.io", Kind: "Gateway", Name: name}}
	rules, err := istio.Compile([]istio.Policy{probe}, istio.Target{
		Version: v, Gateway: istio.Object{Namespace: p.Namespace, Name: name}, TCP: p.TCP, Providers: []*meshconfig.MeshConfig_ExtensionProvider{{
			Name: p.Spec.GetProvider().GetName(), Provider: &meshconfig.MeshConfig_ExtensionProvider_EnvoyExtAuthzGrpc{
				EnvoyExtAuthzGrpc: &meshconfig.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationGrpcProvider{Service: "provider.local", Port: 80},
			},
		}},
	})
	if err != nil {
		return fmt.Sprintf("what it seems to be is no valid policy: %v", err)
	}
	got := map[string]*rbacv3.Policy{}
	pairs := []istio.Pair{rules.Audit, rules.Deny, rules.Allow}
	for _, c := range rules.Custom {
		pairs = append(pairs, c.Pair)
	}
	for _, pair := range pairs {
		maps.Copy(got, pair.Enforced.GetPolicies())
		maps.Copy(got, pair.Shadow.GetPolicies())
	}
	for _, key := range slices.Sorted(maps.Keys(p.RBAC)) {
		if !proto.Equal(got[key], p.RBAC[key]) {
			return key + " would be converted to something else"
		}
	}
	if len(got) != len(p.RBAC) {
		return "it would be converted to something else"
	}
	return ""
}
