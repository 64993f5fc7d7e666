package authz

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// Properties of large sets and of chains of them, so of what an index decides.

func eachTown(t *testing.T, rounds uint64, check func(w town) string) {
	t.Helper()
	for seed := range rounds {
		w := town{world{Rand: rand.New(rand.NewPCG(seed, 4)), repeat: true, vague: true}}
		if problem := check(w); problem != "" {
			t.Fatalf("seed %d: %s", seed, problem)
		}
	}
}

func (w town) policies() []Policy {
	var all []Policy
	for _, r := range w.rules() {
		all = append(all, r.Policy)
	}
	return all
}

// maybe is a set, or none.
func (w town) maybe(action Action) *PolicySet {
	if w.IntN(3) == 0 {
		return nil
	}
	return compiled(action, w.policies()...)
}

// chain has every kind of stage that istiod makes: CUSTOM, AUDIT, DENY and ALLOW, the last two with dry runs.
func (w town) chain() Chain {
	c := Chain{
		{Shadow: w.maybe(Deny), Provider: "p"}, {Enforced: w.maybe(Log)},
		{Shadow: w.maybe(Deny), Enforced: w.maybe(Deny)}, {Shadow: w.maybe(Allow), Enforced: w.maybe(Allow)},
	}
	return c[w.IntN(2):]
}

func TestChainExplainAgreesWithDecide(t *testing.T) {
	eachTown(t, 200, func(w town) string {
		c, r := w.chain(), w.request()
		v, n := c.Decide(r), w.IntN(4)
		x, top := c.Explain(r), c.ExplainTop(r, n)
		if !reflect.DeepEqual(v, x.Verdict) || !reflect.DeepEqual(v, top.Verdict) {
			return fmt.Sprintf("Decide says %+v, Explain %+v, ExplainTop %+v", v, x.Verdict, top.Verdict)
		}
		for i, s := range x.Stages {
			if s.Enforced == nil {
				continue
			}
			all, some := s.Enforced, top.Stages[i].Enforced
			if d := c[i].Enforced.Decide(r); d != all.Decision || d != some.Decision {
				return fmt.Sprintf("stage %d decides %+v, explained as %+v", i, d, all.Decision)
			}
			first := slices.IndexFunc(all.Policies, func(p PolicyExplanation) bool { return p.Matched })
			if first >= 0 && all.Policies[first].Policy != all.Decision.Policy || first < 0 && all.Decision.Policy != "" {
				return fmt.Sprintf("stage %d: %q decides, but policy %d is the first that matched", i, all.Decision.Policy, first)
			}
			if len(some.Policies) != min(n, len(all.Policies)) || some.Omitted != len(all.Policies)-len(some.Policies) {
				return fmt.Sprintf("stage %d: asked for %d policies of %d, got %d and %d omitted", i, n, len(all.Policies), len(some.Policies), some.Omitted)
			}
			if n == 0 || len(all.Policies) == 0 {
				continue
			}
			if first >= 0 && !hasPolicy(some.Policies, all.Policies[first]) {
				return fmt.Sprintf("stage %d: the policy that decided is omitted", i)
			}
			if first < 0 && !reflect.DeepEqual(some.Policies[some.Nearest], all.Policies[all.Nearest]) {
				return fmt.Sprintf("stage %d: the nearest policy is omitted", i)
			}
		}
		return ""
	})
}

func hasPolicy(list []PolicyExplanation, x PolicyExplanation) bool {
	return slices.ContainsFunc(list, func(y PolicyExplanation) bool { return reflect.DeepEqual(x, y) })
}

// One more DENY policy never lets more pass; one more ALLOW policy never less, unless it is the first.
func TestMorePoliciesInChains(t *testing.T) {
	first := 0
	eachTown(t, 500, func(w town) string {
		deny, allow, r := w.policies(), w.policies(), w.request()
		more := Policy{"more", w.side(), w.side()}
		chain := func(deny, allow []Policy) Chain {
			c := Chain{{Enforced: compiled(Deny, deny...)}}
			if len(allow) > 0 { // istiod sends no ALLOW stage without policies
				c = append(c, Stage{Enforced: compiled(Allow, allow...)})
			}
			return c
		}
		before := chain(deny, allow).Decide(r).Allowed
		if after := chain(append(slices.Clone(deny), more), allow).Decide(r).Allowed; after && !before {
			return "one more DENY policy allows more"
		}
		after := chain(deny, append(slices.Clone(allow), more)).Decide(r).Allowed
		switch {
		case after && !before && len(allow) == 0:
			return "the first ALLOW policy allows more"
		case before && !after && len(allow) == 0:
			first++
		case before && !after:
			return "one more ALLOW policy allows less"
		}
		return ""
	})
	if first == 0 {
		t.Error("the first ALLOW policy never denied anything: the test shows little")
	}
}

// What is only watched changes no verdict.
func TestShadowsDecideNothing(t *testing.T) {
	eachTown(t, 500, func(w town) string {
		c, r := w.chain(), w.request()
		bare := slices.Clone(c)
		for i := range bare {
			if bare[i].Shadow = nil; bare[i].Enforced.Action() == Log {
				bare[i].Enforced = nil
			}
		}
		if with, without := c.Decide(r), bare.Decide(r); with.Allowed != without.Allowed || with.Policy != without.Policy {
			return fmt.Sprintf("with shadows %+v, without %+v", with.Decision, without.Decision)
		}
		return ""
	})
}
