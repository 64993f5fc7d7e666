package istio

import (
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/rbac"
)

// Prefixes that istiod gives: dry-run results are written as metadata under them, and access logs and traces read them.
const (
	shadowAllow = "istio_dry_run_allow_"
	shadowDeny  = "istio_dry_run_deny_"
	tcpStats    = "tcp."
)

// shadowPrefix is the shadow prefix of a pair. Without shadow rules istiod sends that of ALLOW, whatever the action.
func (p Pair) shadowPrefix() string {
	switch p.Shadow.GetAction().String() {
	case "DENY":
		return shadowDeny
	case "LOG":
		return ""
	}
	return shadowAllow
}

// shadowPrefix is the prefix under which the RBAC filter leaves word for ext_authz.
func (c *Custom) shadowPrefix() string {
	if c.Bad != "" {
		return ""
	}
	return customStats
}

// filter is one RBAC filter, with the filter that asks a provider after it.
type filter struct {
	pair     Pair
	prefix   string
	provider string
	extAuthz proto.Message // nil: nobody is asked
}

// local lists the filters of all actions but CUSTOM, in the order of evaluation.
func (r *Rules) local() (out []filter) {
	for _, p := range []Pair{r.Audit, r.Deny, r.Allow} {
		if p.Enforced != nil || p.Shadow != nil {
			out = append(out, filter{pair: p, prefix: p.shadowPrefix()})
		}
	}
	return out
}

// custom lists the filters of action CUSTOM, in the order of evaluation.
func (r *Rules) custom() (out []filter) {
	for i := range r.Custom {
		c := &r.Custom[i]
		f := filter{pair: c.Pair, prefix: c.shadowPrefix()}
		switch {
		case c.Bad != "":
		case r.tcp:
			f.provider, f.extAuthz = c.Provider, c.Network
		default:
			f.provider, f.extAuthz = c.Provider, c.HTTP
		}
		out = append(out, f)
	}
	return out
}

func (f *filter) http() *httprbacv3.RBAC {
	return &httprbacv3.RBAC{Rules: f.pair.Enforced, ShadowRules: f.pair.Shadow, ShadowRulesStatPrefix: f.prefix}
}

func (f *filter) network() *networkrbacv3.RBAC {
	return &networkrbacv3.RBAC{Rules: f.pair.Enforced, ShadowRules: f.pair.Shadow, ShadowRulesStatPrefix: f.prefix, StatPrefix: tcpStats}
}

// HTTP returns the configurations of the RBAC filters alone, in their order. Without the filters between them (see
// HTTPFilters) nobody asks the providers of action CUSTOM.
func (r *Rules) HTTP() []*httprbacv3.RBAC {
	var out []*httprbacv3.RBAC
	for _, f := range append(r.custom(), r.local()...) {
		out = append(out, f.http())
	}
	return out
}

// Network is as HTTP, for rules of a Target with TCP.
func (r *Rules) Network() []*networkrbacv3.RBAC {
	var out []*networkrbacv3.RBAC
	for _, f := range append(r.custom(), r.local()...) {
		out = append(out, f.network())
	}
	return out
}

// HTTPFilters returns the filters of an HTTP chain, in istiod's order: for each provider of action CUSTOM the rules and the
// filter that asks it; then those given, which stand between (istiod has JWT authentication there); then the rules of AUDIT,
// DENY and ALLOW.
func (r *Rules) HTTPFilters(between ...*hcmv3.HttpFilter) []*hcmv3.HttpFilter {
	var out []*hcmv3.HttpFilter
	add := func(filters []filter) {
		for i := range filters {
			out = append(out, httpFilter(httpRBACFilter, filters[i].http()))
			if m := filters[i].extAuthz; m != nil {
				out = append(out, httpFilter(httpExtAuthz, m))
			}
		}
	}
	add(r.custom())
	out = append(out, between...)
	add(r.local())
	return out
}

// NetworkFilters returns the filters of a TCP chain, in istiod's order. The rules must be of a Target with TCP.
func (r *Rules) NetworkFilters() []*listenerv3.Filter {
	var out []*listenerv3.Filter
	for _, f := range append(r.custom(), r.local()...) {
		out = append(out, networkFilter(tcpRBACFilter, f.network()))
		if f.extAuthz != nil {
			out = append(out, networkFilter(networkExtAuthz, f.extAuthz))
		}
	}
	return out
}

func httpFilter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(m)}}
}

func networkFilter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: toAny(m)}}
}

// toAny packs a message, always into the same bytes. It cannot fail for what Compile makes: strings of policies come
// from YAML or protobuf, which are UTF-8; one that is not would be a mistake of the caller's.
func toAny(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("authz/istio: %v", err))
	}
	return a
}

// Chain compiles the rules to decide with, one stage for each RBAC filter. Where action CUSTOM applies, the stage names the
// provider that is asked about what its Shadow matches.
func (r *Rules) Chain() (authz.Chain, error) {
	var chain authz.Chain
	for _, f := range append(r.custom(), r.local()...) {
		compile := func() (*rbac.Filter, error) { return rbac.FromHTTP(f.http()) }
		if r.tcp {
			compile = func() (*rbac.Filter, error) { return rbac.FromNetwork(f.network()) }
		}
		compiled, err := compile()
		if err != nil {
			return nil, err
		}
		chain = append(chain, authz.Stage{Shadow: compiled.Shadow, Enforced: compiled.Enforced, Provider: f.provider})
	}
	return chain, nil
}
