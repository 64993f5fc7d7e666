package policytest

import (
	"fmt"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
)

// Coverage is which parts of the policies the cases have hit. An alternative (a from with a to entry of a rule) is hit by a
// request that matches it and reaches its action: a request that a DENY policy has refused reaches no ALLOW.
type Coverage struct {
	// Alternatives of all policies that a waypoint can enforce.
	Alternatives int `json:"alternatives"`
	Hit          int `json:"hit"`
	// Missed are the alternatives that no case hits.
	Missed []Missed `json:"missed,omitempty"`
	// Uncounted are policies without targetRefs: no waypoint enforces them, so that no case can hit them.
	Uncounted []string `json:"uncounted,omitempty"`
}

// Missed is an alternative that no case hits.
type Missed struct {
	Policy string `json:"policy"` // namespace/name
	Part   string `json:"part"`   // rules[0] from[1] to[0]
	Field  string `json:"field"`  // the part's place in the policy, for its line
	Index  int    `json:"-"`      // of the policy
	// Why is "" or what keeps every case from hitting it: no case is about a target of the policy.
	Why string `json:"why,omitempty"`
}

// Percent of the alternatives that are hit; 100 when there are none.
func (c Coverage) Percent() float64 {
	if c.Alternatives == 0 {
		return 100
	}
	return 100 * float64(c.Hit) / float64(c.Alternatives)
}

// cover collects hits.
type cover struct {
	all     []alternative.Alternative
	hit     []bool
	applied []bool // by policy: some case is about a target of it
	policy  []istio.Policy
}

func newCover(policies []istio.Policy) cover {
	all := alternative.Of(policies)
	return cover{all: all, hit: make([]bool, len(all)), applied: make([]bool, len(policies)), policy: policies}
}

// asked is an alternative as requests for one target are put to it.
type asked struct {
	matcher alternative.Matcher
	order   int // of its action in a chain
	hit     *bool
}

// order in which actions are asked.
func order(action string) int {
	return map[string]int{"CUSTOM": 0, "AUDIT": 1, "DENY": 2, "ALLOW": 3}[action]
}

// ask marks the alternative if the request matches and reaches it.
func (a *asked) ask(r *authz.Request, v *authz.Verdict) {
	if *a.hit || !a.matcher.Match(r) {
		return
	}
	if v.Allowed || order(deciding(v)) >= a.order {
		*a.hit = true
	}
}

// deciding is the action that a verdict comes from.
func deciding(v *authz.Verdict) string {
	if v.Source.Provider != "" {
		return "CUSTOM"
	}
	return v.Action.String()
}

// asksOf are the alternatives of the policies that apply to a target.
func (c *cover) asksOf(policies []istio.Policy, t istio.Target) ([]asked, error) {
	var out []asked
	for i := range policies {
		rules, err := istio.Compile(policies[i:i+1], t)
		if err != nil {
			return nil, err
		}
		chain, err := rules.Chain()
		if err != nil {
			return nil, err
		}
		c.applied[i] = c.applied[i] || len(chain) > 0
		for j := range c.all {
			a := &c.all[j]
			if a.Policy != i || len(chain) == 0 {
				continue
			}
			m, err := a.Matcher(t)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.Where(), err)
			}
			out = append(out, asked{m, order(a.Action().String()), &c.hit[j]})
		}
	}
	return out, nil
}

func (c *cover) result() Coverage {
	var out Coverage
	for i := range c.policy {
		if p := &c.policy[i]; !refers(p) {
			out.Uncounted = append(out.Uncounted, p.Namespace+"/"+p.Name)
		}
	}
	for i := range c.all {
		a := &c.all[i]
		if !refers(a.Object()) {
			continue
		}
		out.Alternatives++
		if c.hit[i] {
			out.Hit++
			continue
		}
		m := Missed{Policy: a.Object().Namespace + "/" + a.Object().Name, Part: a.Part(), Index: a.Policy, Field: field(a)}
		if !c.applied[a.Policy] {
			m.Why = "no case is about a target of this policy"
		}
		out.Missed = append(out.Missed, m)
	}
	return out
}

func refers(p *istio.Policy) bool {
	return p.Spec.GetTargetRef() != nil || len(p.Spec.GetTargetRefs()) > 0
}

// field is the narrowest field that an alternative has to itself.
func field(a *alternative.Alternative) string {
	f := fmt.Sprintf("spec.rules[%d]", a.Rule)
	switch {
	case a.To > 0 || a.From < 0 && a.To >= 0:
		return fmt.Sprintf("%s.to[%d]", f, a.To)
	case a.From >= 0:
		return fmt.Sprintf("%s.from[%d]", f, a.From)
	}
	return f
}
