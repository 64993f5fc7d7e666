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
	groups := map[string]*customGroup{}
	for _, p := range policies {
		// Before 1.30 all policies are one group, which can have one provider.
		name, key, prefix := p.Spec.GetProvider().GetName(), "", customPrefix+"-"
		if t.Version.manyProviders() {
			key = name
			if name != "" {
				prefix += name + "-"
			}
		}
		g := groups[key]
		if g == nil {
			g = &customGroup{}
			groups[key] = g
		}
		g.providers = insert(g.providers, name)
		dry := r.dryRun(p)
		if dry && t.Version.manyProviders() {
			r.note(p, "a dry run of action CUSTOM is enforced: istiod makes a DENY rule of it")
		} else if dry {
			r.note(p, "a dry run of action CUSTOM is left out by istiod: it is not even reported")
		}
		if err := r.translate(p, t, g.written.of(dry, rbacv3.RBAC_DENY), prefix); err != nil {
			return p.wrap(err)
		}
	}
	providers := resolve(t)
	names := slices.Sorted(maps.Keys(groups))
	for _, key := range names {
		if c := groups[key].custom(providers, names, t); c != nil {
			r.Custom = append(r.Custom, *c)
		}
	}
	for _, p := range policies {
		r.noteProvider(p, t, providers)
	}
	return nil
}

// customGroup is the policies that share a filter, as they are written: what is to be enforced, and dry runs.
type customGroup struct {
	providers []string // sorted
	written   Pair
}

func insert(sorted []string, s string) []string {
	i, found := slices.BinarySearch(sorted, s)
	if found {
		return sorted
	}
	return slices.Insert(sorted, i, s)
}

// custom makes the filters of a group, one of those named. It is nil where istiod makes none: for a provider over HTTP on
// a TCP port.
func (g *customGroup) custom(providers map[string]*provider, groups []string, t *Target) *Custom {
	c := &Custom{Provider: g.providers[0]}
	p := providers[c.Provider]
	switch {
	case len(g.providers) > 1:
		c.Provider = ""
		c.Bad = fmt.Sprintf("policies of action CUSTOM for one workload name several providers (%s), and istiod %s allows one", strings.Join(g.providers, ", "), t.Version)
	case len(groups) > 1 && !t.MultipleProviders:
		c.Bad = fmt.Sprintf("policies of action CUSTOM for one workload name several providers (%s), and istiod needs %s for that", strings.Join(groups, ", "), multipleProvider)
	case p == nil:
		c.Bad = fmt.Sprintf("there is no extension provider %q for external authorization in meshConfig.extensionProviders", c.Provider)
	case p.err != nil:
		c.Bad = fmt.Sprintf("extension provider %q: %v", c.Provider, p.err)
	}
	if c.Bad != "" {
		c.Enforced = badRules(g.written.Enforced)
		return c
	}
	prefix := customPrefix
	c.Shadow = g.written.Enforced
	if t.Version.manyProviders() {
		prefix += "-" + c.Provider
		if c.Shadow == nil {
			c.Shadow = &rbacv3.RBAC{Action: rbacv3.RBAC_DENY}
		}
		if len(g.written.Shadow.GetPolicies()) > 0 {
			c.Enforced = g.written.Shadow
		}
	}
	if !t.TCP {
		c.HTTP = p.http(prefix)
		return c
	}
	if c.Network = p.network(prefix); c.Network == nil {
		return nil
	}
	return c
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
