package lint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// linter is one run of Check.
type linter struct {
	set      *manifest.Set
	policies []*policy
	severity map[string]Severity // of the rules that are on
	paths    pathnorm.Options
	findings []Finding
	// companies are by the indexes of their policies; nil for one that cannot be searched.
	companies map[string]*company
}

// policy is a policy with what is known of it.
type policy struct {
	*manifest.Policy
	refs         []istio.Object
	alternatives []alternative.Alternative
	disabled     []string
	failed       bool // an error was reported
	dryRun       bool
}

func newLinter(set *manifest.Set, o Options) *linter {
	l := &linter{set: set, severity: map[string]Severity{}, paths: pathnorm.Base, companies: map[string]*company{}}
	for _, r := range Rules() {
		if !slices.Contains(o.Disabled, r.ID) {
			l.severity[r.ID] = r.Severity
		}
	}
	if mode, err := manifest.Normalization(set.PathNormalization()); err == nil {
		l.paths = mode
	}
	all := alternative.Of(set.IstioPolicies())
	for i := range set.Policies {
		p := &policy{Policy: &set.Policies[i], refs: manifest.Refs(&set.Policies[i].Policy)}
		p.dryRun, _ = strconv.ParseBool(p.Annotations[istio.DryRun]) // anything else is reported
		for _, a := range all {
			if a.Policy == i {
				p.alternatives = append(p.alternatives, a)
			}
		}
		for name := range strings.SplitSeq(p.Annotations[DisableAnnotation], ",") {
			if name = strings.TrimSpace(name); name != "" {
				p.disabled = append(p.disabled, name)
			}
		}
		l.policies = append(l.policies, p)
	}
	return l
}

// target for compiling parts of policies: only the trust domains matter.
func (l *linter) target() istio.Target {
	return istio.Target{RootNamespace: l.set.RootNamespace(), TrustDomains: l.set.TrustDomains()}
}

// report adds a finding about a field of a policy.
func (l *linter) report(p *policy, rule, field, text, fix string) {
	severity, on := l.severity[rule]
	if on {
		l.reportAs(severity, p, rule, field, text, fix)
	}
}

// reportAs is report with another severity than the rule's usual one.
func (l *linter) reportAs(severity Severity, p *policy, rule, field, text, fix string) {
	if _, on := l.severity[rule]; !on || slices.Contains(p.disabled, rule) {
		return
	}
	p.failed = p.failed || severity == Error
	l.findings = append(l.findings, Finding{rule, severity, "AuthorizationPolicy " + p.name(), p.At(field), field, text, fix})
}

func (p *policy) name() string { return p.Namespace + "/" + p.Name }

func (p *policy) action() securityv1beta1.AuthorizationPolicy_Action { return p.Spec.GetAction() }

func (p *policy) allows() bool { return p.action() == securityv1beta1.AuthorizationPolicy_ALLOW }

func (p *policy) denies() bool { return p.action() == securityv1beta1.AuthorizationPolicy_DENY }

// consequence says what comes of a rule that never matches.
func (p *policy) consequence() string {
	if p.allows() {
		return "so it allows nothing"
	}
	if p.denies() {
		return "so it denies nothing"
	}
	return "so it has no effect"
}

// tests are those of all rules, each once.
func (p *policy) tests() []alternative.Test {
	var out []alternative.Test
	for i, r := range p.Spec.GetRules() {
		at := fmt.Sprintf("spec.rules[%d]", i)
		for j, from := range r.GetFrom() {
			out = append(out, alternative.SourceTests(fmt.Sprintf("%s.from[%d].source", at, j), from.GetSource())...)
		}
		for j, to := range r.GetTo() {
			out = append(out, alternative.OperationTests(fmt.Sprintf("%s.to[%d].operation", at, j), to.GetOperation())...)
		}
		out = append(out, alternative.ConditionTests(at, r.GetWhen())...)
	}
	return out
}

// each calls f for every value of a test with its field.
func each(t alternative.Test, f func(value, field string, not bool)) {
	for i, v := range t.Values {
		f(v, fmt.Sprintf("%s[%d]", t.Field, i), false)
	}
	for i, v := range t.Not {
		f(v, fmt.Sprintf("%s[%d]", t.NotField, i), true)
	}
}

// quoted joins values for a sentence.
func quoted(values []string) string {
	var out []string
	for _, v := range values {
		out = append(out, fmt.Sprintf("%q", v))
	}
	return strings.Join(out, ", ")
}
