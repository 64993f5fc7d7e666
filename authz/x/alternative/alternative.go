// Package alternative takes AuthorizationPolicies apart. A rule is a choice: any of its from entries, with any of its to
// entries, under all of its conditions. Each such pair is an [Alternative], and all of its [Test] values have to hold.
//
//	for _, a := range alternative.Of(policies) {
//		fmt.Println(a.Where(), a.Tests)
//	}
//
// Tests about one attribute of a request, however they are written (principals, namespaces, a condition on
// source.principal), share a dimension. Dimensions are independent of each other, so that an alternative can match a
// request if and only if each of its dimensions can: this is what witnesses, coverage and lint rest on.
package alternative

import (
	"fmt"
	"slices"
	"strings"

	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// Alternative is one from and one to entry of a rule with the rule's conditions.
type Alternative struct {
	Policy   int // index of the policy
	Rule     int // index into spec.rules
	From, To int // index of the entries; -1 where the rule has none
	Tests    []Test

	policy *istio.Policy
	rule   *securityv1beta1.Rule // of this alternative alone
}

// Test is what an alternative asks of one attribute: one of Values if there are any, and none of Not.
type Test struct {
	// Name is the API's: the field of a source or operation in its positive form (principals), or the key of a condition.
	Name string
	// Dimension is the attribute of a request that the test is about.
	Dimension Dimension
	// Field and NotField lead to Values and Not in the policy: spec.rules[0].from[0].source.principals.
	Field, NotField string
	Values, Not     []string
	// HTTP says that a TCP connection does not have the attribute.
	HTTP bool
}

// Of takes policies apart, in their order. A policy without rules has no alternative.
func Of(policies []istio.Policy) []Alternative {
	var out []Alternative
	for i := range policies {
		for j, rule := range policies[i].Spec.GetRules() {
			for _, from := range entries(len(rule.GetFrom())) {
				for _, to := range entries(len(rule.GetTo())) {
					a := Alternative{Policy: i, Rule: j, From: from, To: to, policy: &policies[i], rule: &securityv1beta1.Rule{When: rule.GetWhen()}}
					at := fmt.Sprintf("spec.rules[%d]", j)
					if from >= 0 {
						a.rule.From = rule.GetFrom()[from : from+1]
						a.Tests = append(a.Tests, SourceTests(fmt.Sprintf("%s.from[%d].source", at, from), rule.GetFrom()[from].GetSource())...)
					}
					if to >= 0 {
						a.rule.To = rule.GetTo()[to : to+1]
						a.Tests = append(a.Tests, OperationTests(fmt.Sprintf("%s.to[%d].operation", at, to), rule.GetTo()[to].GetOperation())...)
					}
					a.Tests = append(a.Tests, ConditionTests(at, rule.GetWhen())...)
					out = append(out, a)
				}
			}
		}
	}
	return out
}

// entries are the indexes of a list, or -1 for one that is empty.
func entries(n int) []int {
	if n == 0 {
		return []int{-1}
	}
	var out []int
	for i := range n {
		out = append(out, i)
	}
	return out
}

// Action of the policy.
func (a *Alternative) Action() securityv1beta1.AuthorizationPolicy_Action {
	return a.policy.Spec.GetAction()
}

// Object is the policy.
func (a *Alternative) Object() *istio.Policy { return a.policy }

// Where says which part of which policy it is: shop/readers rules[0] from[1] to[0].
func (a *Alternative) Where() string {
	return a.policy.Namespace + "/" + a.policy.Name + " " + a.Part()
}

// Part is Where without the policy.
func (a *Alternative) Part() string {
	s := fmt.Sprintf("rules[%d]", a.Rule)
	if a.From >= 0 {
		s += fmt.Sprintf(" from[%d]", a.From)
	}
	if a.To >= 0 {
		s += fmt.Sprintf(" to[%d]", a.To)
	}
	return s
}

// Key is equal for two alternatives with the same action, namespace and tests.
func (a *Alternative) Key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\x00%s", a.Action(), a.policy.Namespace)
	for _, t := range a.Tests {
		fmt.Fprintf(&b, "\x00%s %q not %q", t.Name, t.Values, t.Not)
	}
	return b.String()
}

// Dimensions lists what the alternative asks about, once each.
func (a *Alternative) Dimensions() []Dimension {
	var out []Dimension
	for _, t := range a.Tests {
		if !slices.Contains(out, t.Dimension) {
			out = append(out, t.Dimension)
		}
	}
	return out
}

// Matcher tells whether requests match. It is immutable.
type Matcher struct{ set *authz.PolicySet }

// Match reports whether a request matches.
func (m Matcher) Match(r *authz.Request) bool { return m.set.Decide(r).Policy != "" }

// Matcher compiles the alternative alone, as its policy's action reads attributes that are not certain.
func (a *Alternative) Matcher(t istio.Target) (Matcher, error) {
	return matcher(a.policy.Namespace, a.rule, a.Action(), t)
}

// matcher compiles a rule as the only one of a policy that applies to the target. Every action but ALLOW matches as DENY does.
func matcher(namespace string, rule *securityv1beta1.Rule, action securityv1beta1.AuthorizationPolicy_Action, t istio.Target) (Matcher, error) {
	const name = "alternative"
	if action != securityv1beta1.AuthorizationPolicy_ALLOW {
		action = securityv1beta1.AuthorizationPolicy_DENY
	}
	only := istio.Policy{Namespace: namespace, Name: name, Spec: &securityv1beta1.AuthorizationPolicy{
		TargetRefs: targetService(name), Action: action, Rules: []*securityv1beta1.Rule{rule},
	}}
	t.Objects = []istio.Object{{Kind: "Service", Namespace: namespace, Name: name}}
	rules, err := istio.Compile([]istio.Policy{only}, t)
	if err != nil {
		return Matcher{}, err
	}
	chain, err := rules.Chain()
	if err != nil || len(chain) == 0 { // on a TCP port nothing is left of an ALLOW rule with HTTP attributes
		return Matcher{}, err
	}
	return Matcher{chain[0].Enforced}, nil
}
