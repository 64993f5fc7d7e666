package istio

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	httpextauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	networkextauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
)

// Names that tie an ext_authz filter to the RBAC filter before it: the RBAC filter writes the key of the policy that
// matches as metadata, and ext_authz asks its provider only where the key begins with its prefix.
const (
	customPrefix     = "istio-ext-authz"
	customStats      = "istio_ext_authz_"
	customKey        = customStats + "shadow_effective_policy_id"
	badCustomSuffix  = "-deny-due-to-bad-CUSTOM-action"
	httpRBACFilter   = "envoy.filters.http.rbac"
	tcpRBACFilter    = "envoy.filters.network.rbac"
	httpExtAuthz     = "envoy.filters.http.ext_authz"
	networkExtAuthz  = "envoy.filters.network.ext_authz"
	multipleProvider = "PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS"
)

// Custom is what the policies of action CUSTOM with one extension provider become: rules that are only evaluated
// (Shadow), and a filter that asks the provider about what they match.
//
// Two peculiarities of istiod are kept. A provider that cannot be asked leaves no filter, and its policies' rules are
// enforced as DENY. And dry-run policies are enforced as DENY rules too since 1.30 (before, they were left out); Rules.Notes
// names them.
type Custom struct {
	Pair
	// Provider is the name of the extension provider.
	Provider string
	// Bad says why the provider cannot be asked; "" when it can.
	Bad string
	// HTTP and Network ask the provider, on chains of their kind; nil for a bad provider.
	HTTP    *httpextauthzv3.ExtAuthz
	Network *networkextauthzv3.ExtAuthz
}

// addCustom translates the policies of action CUSTOM that apply.
func (r *Rules) addCustom(policies []*Policy, t *Target) error {
	if len(policies) == 0 {
		return nil
	}
	groups := map[string]*Custom{}
	names := map[string]bool{}
	for _, p := range policies {
		provider := p.Spec.GetProvider().GetName()
		names[provider] = true
		group, prefix := "", customPrefix+"-"
		if t.Version.manyProviders() {
			group = provider
			if provider != "" {
				prefix += provider + "-"
			}
		}
		c := groups[group]
		if c == nil {
			c = &Custom{Provider: provider}
			groups[group] = c
		}
		dry := r.dryRun(p)
		if dry && t.Version.manyProviders() {
			r.note(p, "a dry run of action CUSTOM is enforced: istiod makes a DENY rule of it")
		} else if dry {
			r.note(p, "a dry run of action CUSTOM is left out by istiod: it is not even reported")
		}
		if err := r.translate(p, t, c.of(dry, rbacv3.RBAC_DENY), prefix); err != nil {
			return p.wrap(err)
		}
	}
	providers := resolve(t)
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		c := groups[key]
		// Up to here Enforced are the rules of policies that are enforced. They become the shadow rules of the filter.
		enforced, dry := c.Enforced, c.Shadow
		c.Enforced, c.Shadow = nil, nil
		if !c.choose(providers, slices.Sorted(maps.Keys(names)), t) {
			continue // an HTTP provider on a TCP port
		}
		if c.Bad == "" {
			c.Shadow = enforced
			if t.Version.manyProviders() {
				c.Shadow = orEmpty(enforced)
				if len(dry.GetPolicies()) > 0 {
					c.Enforced = dry
				}
			}
		} else {
			c.Enforced = badRules(orEmpty(enforced))
		}
		r.Custom = append(r.Custom, *c)
	}
	for _, p := range policies {
		r.noteProvider(p, t, providers)
	}
	return nil
}

// orEmpty are rules that are there even if they are none.
func orEmpty(rules *rbacv3.RBAC) *rbacv3.RBAC {
	if rules == nil {
		return &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{}}
	}
	return rules
}

// choose sets what asks the provider, or why it cannot be asked. It returns false where istiod makes no filter at all: for
// a provider over HTTP on a TCP port.
func (c *Custom) choose(providers map[string]*provider, names []string, t *Target) bool {
	if len(names) > 1 && !(t.Version.manyProviders() && t.MultipleProviders) {
		c.Bad = fmt.Sprintf("policies of action CUSTOM for one workload name several providers: %s", strings.Join(names, ", "))
		if t.Version.manyProviders() {
			c.Bad += "; istiod needs " + multipleProvider + " for that"
		} else {
			c.Bad += "; istiod " + t.Version.String() + " allows one"
			c.Provider = ""
		}
		return true
	}
	p := providers[c.Provider]
	if p == nil {
		c.Bad = fmt.Sprintf("there is no extension provider %q for external authorization in meshConfig.extensionProviders", c.Provider)
		return true
	}
	if p.err != nil {
		c.Bad = fmt.Sprintf("extension provider %q: %v", c.Provider, p.err)
		return true
	}
	prefix := customPrefix
	if t.Version.manyProviders() {
		prefix += "-" + c.Provider
	}
	if t.TCP {
		c.Network = p.network(prefix)
		return c.Network != nil
	}
	c.HTTP = p.http(prefix)
	return true
}

// noteProvider says what becomes of a policy whose provider is not asked.
func (r *Rules) noteProvider(p *Policy, t *Target, providers map[string]*provider) {
	name := p.Spec.GetProvider().GetName()
	for i := range r.Custom {
		c := &r.Custom[i]
		if c.Bad != "" && (c.Provider == name || !t.Version.manyProviders()) {
			r.note(p, "everything that its rules match is denied: "+c.Bad)
			return
		}
		if c.Provider == name {
			return
		}
	}
	if found := providers[name]; t.TCP && found != nil {
		r.skip(p, fmt.Sprintf("extension provider %q is asked over HTTP, and istiod makes no filter of it on a TCP port", name))
	}
}

// badRules denies what the rules match, under other names.
func badRules(rules *rbacv3.RBAC) *rbacv3.RBAC {
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{}}
	for key, p := range rules.GetPolicies() {
		out.Policies[key+badCustomSuffix] = p
	}
	return out
}

// enabledBy is the condition of an ext_authz filter: the RBAC filter of that name has found a policy with the prefix.
func enabledBy(filter, policyPrefix string) *matcherv3.MetadataMatcher {
	return metadata(filter, []string{customKey}, matchValue(prefix(policyPrefix)))
}
