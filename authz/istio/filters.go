package istio

import (
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/rbac"
)

// Prefixes that istiod gives: dry-run results are written as metadata under them, and access logs and traces read them.
const (
	shadowAllow = "istio_dry_run_allow_"
	shadowDeny  = "istio_dry_run_deny_"
	tcpStats    = "tcp."
)

// prefix is the shadow prefix of a pair. Without shadow rules istiod sends that of ALLOW, whatever the action.
func (p Pair) prefix() string {
	switch p.Shadow.GetAction().String() {
	case "DENY":
		return shadowDeny
	case "LOG":
		return ""
	}
	return shadowAllow
}

// pairs lists what there is, in the order of evaluation.
func (r *Rules) pairs() []Pair {
	var out []Pair
	for _, p := range []Pair{r.Audit, r.Deny, r.Allow} {
		if p.Enforced != nil || p.Shadow != nil {
			out = append(out, p)
		}
	}
	return out
}

// HTTP returns the HTTP filters' configurations, in the order in which they stand in a chain.
func (r *Rules) HTTP() []*httpv3.RBAC {
	var out []*httpv3.RBAC
	for _, p := range r.pairs() {
		out = append(out, &httpv3.RBAC{Rules: p.Enforced, ShadowRules: p.Shadow, ShadowRulesStatPrefix: p.prefix()})
	}
	return out
}

// Network returns the network filters' configurations, for rules that were compiled with Target.TCP.
func (r *Rules) Network() []*networkv3.RBAC {
	var out []*networkv3.RBAC
	for _, p := range r.pairs() {
		out = append(out, &networkv3.RBAC{Rules: p.Enforced, ShadowRules: p.Shadow, ShadowRulesStatPrefix: p.prefix(), StatPrefix: tcpStats})
	}
	return out
}

// Filters compiles the rules to decide with, in the order of evaluation. A request passes when each of them lets it pass.
func (r *Rules) Filters() ([]*rbac.Filter, error) {
	var out []*rbac.Filter
	add := func(f *rbac.Filter, err error) error {
		out = append(out, f)
		return err
	}
	if r.tcp {
		for _, c := range r.Network() {
			if err := add(rbac.FromNetwork(c)); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	for _, c := range r.HTTP() {
		if err := add(rbac.FromHTTP(c)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Chain compiles the rules to decide with.
func (r *Rules) Chain() (authz.Chain, error) {
	filters, err := r.Filters()
	if err != nil {
		return nil, err
	}
	var chain authz.Chain
	for _, f := range filters {
		chain = append(chain, authz.Stage{Shadow: f.Shadow, Enforced: f.Enforced})
	}
	return chain, nil
}
