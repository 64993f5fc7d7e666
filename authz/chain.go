package authz

import "math"

// Stage is one authorization filter of a chain.
type Stage struct {
	// Shadow is only reported; nil is not evaluated. It comes before Enforced.
	Shadow *PolicySet
	// Enforced decides; nil enforces nothing.
	Enforced *PolicySet
	// Provider is the extension provider that a CUSTOM action hands the decision to, "" for every other action. Then a
	// request that Shadow matches is asked about: by ext_authz, outside of this package.
	Provider string
}

// Chain is the stages that a request meets one after the other, in istiod's order: CUSTOM, AUDIT, DENY, ALLOW. It passes
// when every stage lets it pass. A nil or empty chain enforces nothing. It is safe for concurrent use.
type Chain []Stage

// Verdict is what a chain says of a request. The zero Verdict denies.
type Verdict struct {
	// Decision is the one that settled it: the first denial, or else the match of the last stage that enforces. Without
	// such a stage it is Decision{Allowed: true}.
	Decision
	// Stage is the index of the stage that Decision comes from, -1 when nothing is enforced.
	Stage int `json:"stage"`
	// Custom is the match that hands the request to an extension provider: it passes only if that one agrees as well.
	// Nil: nobody is asked. Where several providers are asked it is the first; Explain has them all.
	Custom *Decision `json:"custom,omitempty"`
	// Audit is the match of an enforced AUDIT (LOG) stage; nil when none matched.
	Audit *Decision `json:"audit,omitempty"`
	// DryRunDeny and DryRunAllow are what dry-run policies would have decided; nil when there are none. A dry run never
	// changes the verdict.
	DryRunDeny  *Decision `json:"dryRunDeny,omitempty"`
	DryRunAllow *Decision `json:"dryRunAllow,omitempty"`
}

// Decide gives the verdict of the stages in turn. It does not allocate. As in Envoy, a denial ends the evaluation, so
// dry runs of later stages are then not reported.
func (c Chain) Decide(r *Request) Verdict {
	v := Verdict{Decision: Decision{Allowed: true}, Stage: -1}
	for i := range c {
		if !v.pass(i, &c[i], r) {
			break
		}
	}
	return v
}

// pass takes a request through one stage, and reports whether it goes on to the next.
func (v *Verdict) pass(i int, s *Stage, r *Request) bool {
	if s.Shadow != nil {
		d := s.Shadow.decide(r)
		switch {
		case s.Provider != "":
			if d.Policy != "" && v.Custom == nil {
				v.Custom = d
			}
		case s.Shadow.action == Allow:
			v.DryRunAllow = d
		case s.Shadow.action == Deny:
			v.DryRunDeny = d
		}
	}
	if s.Enforced == nil {
		return true
	}
	d := s.Enforced.decide(r)
	if d.Action == Log {
		if d.Policy != "" {
			v.Audit = d
		}
		return true
	}
	v.Decision, v.Stage = *d, i
	return d.Allowed
}

// ChainExplanation is a verdict with the reasons of every stage that was asked.
type ChainExplanation struct {
	Verdict Verdict            `json:"verdict"`
	Stages  []StageExplanation `json:"stages"`
}

// StageExplanation is what one stage said. A nil explanation is of a set that is not there.
type StageExplanation struct {
	Provider string       `json:"provider,omitempty"`
	Shadow   *Explanation `json:"shadow,omitempty"`
	Enforced *Explanation `json:"enforced,omitempty"`
	// Reached is false for the stages after a denial: they were not asked, and what they would have said stands here.
	Reached bool `json:"reached"`
}

// Explain gives the verdict of Decide with reasons. Stages that the request does not reach are explained too.
func (c Chain) Explain(r *Request) ChainExplanation { return c.ExplainTop(r, math.MaxInt) }

// ExplainTop is Explain with the reasons of n policies of each set only, chosen as [PolicySet.ExplainTop] does.
func (c Chain) ExplainTop(r *Request, n int) ChainExplanation {
	x := ChainExplanation{Verdict: Verdict{Decision: Decision{Allowed: true}, Stage: -1}}
	reached := true
	for i := range c {
		s := StageExplanation{Provider: c[i].Provider, Reached: reached}
		if c[i].Shadow != nil {
			e := c[i].Shadow.ExplainTop(r, n)
			s.Shadow = &e
		}
		if c[i].Enforced != nil {
			e := c[i].Enforced.ExplainTop(r, n)
			s.Enforced = &e
		}
		x.Stages = append(x.Stages, s)
		if reached {
			reached = x.Verdict.pass(i, &c[i], r)
		}
	}
	return x
}
