package policytest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

var zeroPaths = pathnorm.None

// Resolve finds the target of a case. It may complete the case's query: by the port that is dialled, and by TCP where that is
// not HTTP.
type Resolve func(c *Case) (istio.Target, error)

// Result is what came out of a run.
type Result struct {
	Outcomes []Outcome
	Coverage Coverage
}

// Outcome is what came out of one case.
type Outcome struct {
	Case Case
	// Err says why it could not be decided. Then the case has failed.
	Err error
	// Got is the verdict, By who decided.
	Got Verdict
	By  string
	// Why are the reasons of a failure, the nearest first; empty when the case passed.
	Why    []string
	Passed bool
}

// Failed counts the cases that failed.
func (r *Result) Failed() int {
	n := 0
	for _, o := range r.Outcomes {
		if !o.Passed {
			n++
		}
	}
	return n
}

// Options of Run.
type Options struct {
	Resolve Resolve // required
	// Refuse says why a request is refused before any policy is asked, such as for its token; "" when it is not. It may change
	// the query into what policies see of it. Nil refuses nothing.
	Refuse func(c *Case) string
	// Paths is the mesh's normalisation; the zero value is NONE.
	Paths pathnorm.Options
	// Words puts a reason without alternatives into words that readers know; nil takes plain ones.
	Words func(authz.Reason) authz.Reason
}

// Run decides every case. An error is one of compiling the policies; a case whose target is not found has failed.
func Run(cases []Case, policies []istio.Policy, o Options) (*Result, error) {
	if o.Words == nil {
		o.Words = plain
	}
	r := &runner{policies: policies, options: o, targets: map[string]*compiled{}, cover: newCover(policies)}
	out := &Result{}
	for _, c := range cases {
		o, err := r.run(c)
		if err != nil {
			return nil, err
		}
		out.Outcomes = append(out.Outcomes, o)
	}
	out.Coverage = r.cover.result()
	return out, nil
}

type runner struct {
	policies []istio.Policy
	options  Options
	targets  map[string]*compiled
	cover    cover
}

// compiled is what cases of one target have in common.
type compiled struct {
	target istio.Target
	chain  authz.Chain
	err    error // of finding the target
	asks   []asked
}

func (r *runner) compiled(c *Case) (*compiled, error) {
	target, err := r.options.Resolve(c)
	if err != nil {
		return &compiled{err: err}, nil //nolint:nilerr // an outcome of the case, not of the run
	}
	key := fmt.Sprint(c.For, " ", c.Query.TCP)
	if known := r.targets[key]; known != nil {
		return known, nil
	}
	out := &compiled{target: target}
	r.targets[key] = out
	rules, err := istio.Compile(r.policies, target)
	if err != nil {
		return nil, err
	}
	if out.chain, err = rules.Chain(); err != nil {
		return nil, err
	}
	out.asks, err = r.cover.asksOf(r.policies, target)
	return out, err
}

func (r *runner) run(c Case) (Outcome, error) {
	t, err := r.compiled(&c)
	if err != nil {
		return Outcome{}, err
	}
	o := Outcome{Case: c}
	if t.err != nil {
		o.Err = t.err
		return o, nil //nolint:nilerr // an outcome of the case, not of the run
	}
	if r.options.Refuse != nil {
		if why := r.options.Refuse(&o.Case); why != "" {
			o.Got, o.By = Denied, "none: "+why
			o.Passed = c.Expect.Verdict == Denied && (c.Expect.By == "" || c.Expect.By == "none")
			return o, nil
		}
	}
	request, err := o.Case.Query.Request(r.options.Paths)
	if err != nil {
		o.Err = err
		return o, nil //nolint:nilerr // an outcome of the case, not of the run
	}
	v := t.chain.Decide(request)
	decision := v.Decision
	switch o.Got = Denied; {
	case v.Allowed && v.Custom != nil:
		o.Got, decision = Asked, *v.Custom
	case v.Allowed:
		o.Got = Allowed
	}
	o.By = by(decision, v)
	o.Passed = o.Got == c.Expect.Verdict && matchesBy(c.Expect.By, decision)
	if !o.Passed {
		o.Why = r.reasons(t.chain.Explain(request), c.Expect)
	}
	for _, a := range t.asks {
		a.ask(request, &v)
	}
	return o, nil
}

// by says who decided, in the form that Case.by has where a policy did.
func by(d authz.Decision, v authz.Verdict) string {
	switch {
	case !d.Source.IsZero():
		return fmt.Sprintf("%s/%s[%d]", d.Source.Namespace, d.Source.Name, d.Source.Rule)
	case d.Policy != "":
		return d.Policy
	case !d.Allowed:
		return "none: no ALLOW policy matches"
	case v.Stage < 0:
		return "none: no policy applies"
	}
	return "none: no DENY policy matches, and there is no ALLOW policy"
}

func matchesBy(want string, d authz.Decision) bool {
	policy, rule, _ := splitBy(want)
	switch want {
	case "":
		return true
	case "none":
		return d.Policy == ""
	}
	return policy == d.Source.Namespace+"/"+d.Source.Name && (rule < 0 || rule == d.Source.Rule)
}

// reasons explain a failure: why what decided matched, or why what was expected to match did not.
func (r *runner) reasons(x authz.ChainExplanation, want Expectation) []string {
	var out []string
	policy, rule, _ := splitBy(want.By)
	for _, s := range x.Stages {
		for _, e := range []*authz.Explanation{s.Enforced, s.Shadow} {
			if e == nil || e == s.Shadow && s.Provider == "" {
				continue
			}
			for i, p := range e.Policies {
				expected := want.By != "" && p.Source.Namespace+"/"+p.Source.Name == policy && (rule < 0 || rule == p.Source.Rule)
				// Without a name, the nearest ALLOW rule is what was most likely meant to match.
				nearest := want.By == "" && want.Verdict == Allowed && e.Decision.Action == authz.Allow && i == e.Nearest
				decided := p.Matched && s.Reached && p.Policy == e.Decision.Policy && want.Verdict != Allowed == (p.Action == authz.Allow)
				if p.Matched && (decided || s.Reached && p.Action == authz.Deny) {
					out = append(out, fmt.Sprintf("%s matches: %s", ruleName(p), r.evidence(p.Reasons)))
				} else if !p.Matched && (expected || nearest) {
					out = append(out, fmt.Sprintf("%s does not match: %s", ruleName(p), r.wanted(p.Reasons)))
				}
			}
		}
	}
	if len(out) == 0 && want.By != "" && want.By != "none" && !slices.ContainsFunc(x.Stages, func(s authz.StageExplanation) bool { return has(s, policy) }) {
		out = append(out, want.By+" does not apply to this target")
	}
	return out
}

func has(s authz.StageExplanation, policy string) bool {
	for _, e := range []*authz.Explanation{s.Enforced, s.Shadow} {
		if e != nil && slices.ContainsFunc(e.Policies, func(p authz.PolicyExplanation) bool { return p.Source.Namespace+"/"+p.Source.Name == policy }) {
			return true
		}
	}
	return false
}

func ruleName(p authz.PolicyExplanation) string {
	if p.Source.IsZero() {
		return p.Policy
	}
	return fmt.Sprintf("%s/%s[%d]", p.Source.Namespace, p.Source.Name, p.Source.Rule)
}

func plain(r authz.Reason) authz.Reason {
	r.Attribute = query.Attribute(r.Attribute)
	return r
}

func (r *runner) evidence(reasons []authz.Reason) string {
	if len(reasons) == 0 {
		return "it holds for every request"
	}
	var parts []string
	for _, x := range reasons {
		x = r.options.Words(x)
		parts = append(parts, x.Attribute+" "+x.Got)
	}
	return strings.Join(parts, ", ")
}

func (r *runner) wanted(reasons []authz.Reason) string {
	var parts []string
	for _, x := range reasons {
		if x.AnyOf == nil {
			parts = append(parts, r.options.Words(x).String())
			continue
		}
		var any []string
		for _, alternative := range x.AnyOf {
			any = append(any, r.wanted(alternative))
		}
		parts = append(parts, "one of ("+strings.Join(any, ") or (")+")")
	}
	return strings.Join(parts, "; ")
}
