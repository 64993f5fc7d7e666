package pair

import (
	"fmt"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/rbac"
)

// MaxFilters is how many RBAC filters a chain has places for. istiod makes up to three.
const MaxFilters = 4

// Set is the policies of one filter chain.
type Set struct {
	// Filters in the order of the chain, at most MaxFilters.
	Filters []Filter
	// Network says that the filters are network filters, which see no HTTP.
	Network bool
	// Origin says what made the set: the generator, with its seed.
	Origin string
}

// Filter is one RBAC filter. Nil rules enforce, or report, nothing.
type Filter struct {
	Rules, Shadow *rbacv3.RBAC
}

// Prefix stands before the metadata keys of the i-th filter, so that the results of several filters, which share one
// namespace, do not replace each other.
func Prefix(i int) string { return fmt.Sprintf("f%d_", i) }

// HTTP is the configuration of the i-th filter.
func (s *Set) HTTP(i int) *httpv3.RBAC {
	f := s.Filters[i]
	return &httpv3.RBAC{Rules: f.Rules, ShadowRules: f.Shadow, RulesStatPrefix: Prefix(i), ShadowRulesStatPrefix: Prefix(i)}
}

// TCP is the configuration of the i-th filter of a network set.
func (s *Set) TCP(i int) *networkv3.RBAC {
	f := s.Filters[i]
	return &networkv3.RBAC{Rules: f.Rules, ShadowRules: f.Shadow, StatPrefix: "tcp.", ShadowRulesStatPrefix: Prefix(i)}
}

// Compiled is a set as authz decides with it.
type Compiled struct {
	chain   authz.Chain
	network bool
}

// Compile makes authz's program of a set, through the front end that the proxy uses.
func (s *Set) Compile() (*Compiled, error) {
	c := &Compiled{network: s.Network}
	for i := range s.Filters {
		var f *rbac.Filter
		var err error
		if s.Network {
			f, err = rbac.FromNetwork(s.TCP(i))
		} else {
			f, err = rbac.FromHTTP(s.HTTP(i))
		}
		if err != nil {
			return nil, fmt.Errorf("filter %d: %w", i, err)
		}
		c.chain = append(c.chain, authz.Stage{Shadow: f.Shadow, Enforced: f.Enforced})
	}
	return c, nil
}

// Answer is what a chain says of a request, in the terms of Envoy's dynamic metadata and response code details.
type Answer struct {
	Allowed bool
	Details string // of the denial
	Filters [MaxFilters]FilterAnswer
}

// FilterAnswer is the results of one filter. A result is "allowed" or "denied", and "" where there are no rules or the request
// did not come so far. A policy is "" where none matched. What Envoy does not tell is "" too, see Visible.
type FilterAnswer struct {
	Policy, Result             string
	ShadowPolicy, ShadowResult string
}

// Visible takes away what Envoy does not tell, of a chain that came as far as the last filter. The network filter writes no
// result of its rules. The HTTP filter that denies writes its results after it has answered, which is too late for the answer
// to have them; Details tells of the denial.
func (a *Answer) Visible(last int, network bool) {
	if network {
		for i := range a.Filters {
			a.Filters[i].Policy, a.Filters[i].Result = "", ""
		}
	} else if !a.Allowed {
		a.Filters[last] = FilterAnswer{}
	}
}

// Decide gives authz's answer. It is an error if the chain's verdict is not that of its stages, or an explanation not that of
// the decision.
func (c *Compiled) Decide(r *authz.Request, explain bool) (Answer, error) {
	a := Answer{Allowed: true}
	last := 0
	for i, stage := range c.chain {
		last = i
		f := &a.Filters[i]
		if stage.Shadow != nil {
			d := stage.Shadow.Decide(r)
			f.ShadowPolicy, f.ShadowResult = d.Policy, rbac.Result(d)
		}
		if stage.Enforced == nil {
			continue
		}
		d := stage.Enforced.Decide(r)
		if !d.Allowed {
			a.Allowed, a.Details = false, d.Details
			break
		}
		f.Policy, f.Result = d.Policy, rbac.Result(d)
	}
	a.Visible(last, c.network)
	v := c.chain.Decide(r)
	if v.Allowed != a.Allowed || v.Details != a.Details {
		return a, fmt.Errorf("the chain says %+v, its stages %+v", v.Decision, a)
	}
	if explain {
		if x := c.chain.Explain(r); x.Verdict.Decision != v.Decision {
			return a, fmt.Errorf("the chain decides %+v and explains %+v", v.Decision, x.Verdict.Decision)
		}
	}
	return a, nil
}

// Explain says why authz decides as it does.
func (c *Compiled) Explain(r *authz.Request) authz.ChainExplanation { return c.chain.Explain(r) }
