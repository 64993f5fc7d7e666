package lint

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/witness"
)

// sameScope reports whether o applies wherever p does.
func sameScope(p, o *policy) bool {
	if p == o {
		return true
	}
	if len(p.refs) > 0 {
		for _, ref := range p.refs {
			if !slices.Contains(o.refs, ref) {
				return false
			}
		}
		return true
	}
	return len(o.refs) == 0 && p.Namespace == o.Namespace &&
		(o.Spec.GetSelector() == nil || p.Spec.GetSelector() != nil && maps.Equal(p.Spec.GetSelector().GetMatchLabels(), o.Spec.GetSelector().GetMatchLabels()))
}

// reach looks for rules that can never make a difference.
func (l *linter) reach() {
	pr := newProver(l.target())
	type place struct {
		p    *policy
		rule int
	}
	var open []place
	gone := map[place]bool{} // rules without an effect
	for i, p := range l.policies {
		for rule := range p.Spec.GetRules() {
			mine := p.of(rule)
			if slices.ContainsFunc(mine, func(a *alternative.Alternative) bool { why, _ := pr.contradiction(a); return why != "" }) {
				continue
			}
			switch at := (place{p, rule}); {
			case l.deniedBefore(pr, p, rule, mine):
			case l.shadowed(pr, i, rule, mine):
				gone[at] = true
			default:
				open = append(open, at)
			}
		}
	}
	for _, at := range open {
		l.perhapsShadowed(at.p, at.rule, func(p *policy, rule int) bool { return gone[place{p, rule}] })
	}
}

// of are the alternatives of one rule.
func (p *policy) of(rule int) []*alternative.Alternative {
	var out []*alternative.Alternative
	for i := range p.alternatives {
		if p.alternatives[i].Rule == rule {
			out = append(out, &p.alternatives[i])
		}
	}
	return out
}

// shadowed reports a rule of which each alternative is covered by one of another rule. Of two rules that cover each other the
// later one is reported.
func (l *linter) shadowed(pr prover, index, rule int, mine []*alternative.Alternative) bool {
	p := l.policies[index]
	var by string
	for _, a := range mine {
		found := ""
		for j, o := range l.policies {
			if o.action() != p.action() || o.dryRun != p.dryRun || o.Spec.GetProvider().GetName() != p.Spec.GetProvider().GetName() || !sameScope(p, o) {
				continue
			}
			for k := range o.alternatives {
				b := &o.alternatives[k]
				later := j > index || j == index && b.Rule > rule
				if j == index && b.Rule == rule || !pr.alternative(b, a) || later && sameScope(o, p) && pr.alternative(a, b) {
					continue
				}
				if found = fmt.Sprintf("rules[%d]", b.Rule); o != p {
					found = o.name() + " " + found
				}
				break
			}
			if found != "" {
				break
			}
		}
		if found == "" {
			return false
		}
		if by == "" {
			by = found
		}
	}
	l.report(p, "shadowed-rule", fmt.Sprintf("spec.rules[%d]", rule), fmt.Sprintf("every request that rules[%d] matches, %s matches as well: the rule changes nothing", rule, by),
		"remove the rule, or narrow "+by+" if that matches more than it was meant to")
	return true
}

// deniedBefore reports an ALLOW rule of which a DENY covers every alternative.
func (l *linter) deniedBefore(pr prover, p *policy, rule int, mine []*alternative.Alternative) bool {
	if !p.allows() {
		return false
	}
	by := ""
	for _, a := range mine {
		found := ""
		for _, o := range l.policies {
			if !o.denies() || o.dryRun || !sameScope(p, o) {
				continue
			}
			for k := range o.alternatives {
				if b := &o.alternatives[k]; found == "" && pr.alternative(b, a) {
					found = fmt.Sprintf("%s rules[%d]", o.name(), b.Rule)
				}
			}
		}
		if found == "" {
			return false
		}
		by = found
	}
	l.report(p, "deny-covers-allow", fmt.Sprintf("spec.rules[%d]", rule), fmt.Sprintf("DENY goes before ALLOW, and %s denies everything that rules[%d] allows", by, rule),
		"narrow the DENY, for example by what it must not deny (notPrincipals, notPaths), or remove the rule")
	return true
}

// The search for a request that shows a rule's effect is bounded.
const (
	maxHints    = 3000 // requests
	maxCompared = 300  // alternatives
)

// company is policies that count together, with requests made from their constants.
type company struct {
	policies []*policy
	requests []*authz.Request
	matchers []matcherOf
}

type matcherOf struct {
	alternative.Matcher
	policy *policy
	rule   int
}

// perhapsShadowed asks requests made from the constants whether the rule ever makes a difference beside the others that are not
// gone.
func (l *linter) perhapsShadowed(p *policy, rule int, gone func(*policy, int) bool) {
	if l.severity["perhaps-shadowed"] == "" {
		return
	}
	c := l.companyOf(p)
	if c == nil {
		return
	}
	matched := 0
	for _, r := range c.requests {
		mine, others := false, false
		for _, m := range c.matchers {
			if m.policy == p && m.rule == rule {
				mine = mine || m.Match(r)
			} else if !others && !gone(m.policy, m.rule) {
				others = m.Match(r)
			}
		}
		switch {
		case mine && !others:
			return
		case mine:
			matched++
		}
	}
	if matched > 0 {
		l.report(p, "perhaps-shadowed", fmt.Sprintf("spec.rules[%d]", rule), fmt.Sprintf("of %d requests tried that the rule matches, other rules match every one: it may change nothing (a search, not a proof)", matched),
			"see whether the rule is needed; waypoint authz diff with and without it shows what it does")
	}
}

// companyOf finds the policies of the same action that apply wherever p does; nil if p is alone with one rule, or they are too
// many.
func (l *linter) companyOf(p *policy) *company {
	c := &company{}
	var same []istio.Policy
	var indexes []byte
	alternatives := 0
	for i, o := range l.policies {
		if o != p && (o.action() != p.action() || o.dryRun != p.dryRun || !sameScope(p, o)) {
			continue
		}
		if alternatives += len(o.alternatives); alternatives > maxCompared {
			return nil // at once: of thousands of policies each asks
		}
		c.policies, same = append(c.policies, o), append(same, o.Policy.Policy)
		indexes = strconv.AppendInt(append(indexes, ' '), int64(i), 10)
	}
	if alternatives < 2 {
		return nil
	}
	key := string(indexes)
	if known, ok := l.companies[key]; ok {
		return known
	}
	l.companies[key] = nil // of policies that do not compile, which is reported
	found, err := witness.Of(same, witness.Options{Target: l.target(), Paths: l.paths, Limit: maxHints})
	if err != nil {
		return nil
	}
	for i := range found.Queries {
		if r, err := found.Queries[i].Request(l.paths); err == nil {
			c.requests = append(c.requests, r)
		}
	}
	for _, a := range alternative.Of(same) {
		m, err := a.Matcher(l.target())
		if err != nil {
			return nil
		}
		c.matchers = append(c.matchers, matcherOf{m, c.policies[a.Policy], a.Rule})
	}
	l.companies[key] = c
	return c
}
