package lint

import (
	"fmt"
	"slices"
	"strings"

	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
)

// structure looks at how the rules of each policy are put together.
func (l *linter) structure() {
	for _, p := range l.policies {
		rules := p.Spec.GetRules()
		if len(rules) == 0 && !p.allows() {
			l.report(p, "deny-without-rules", "spec", fmt.Sprintf("%s without rules matches nothing", p.action()), "write rules: [{}] to match every request")
		}
		l.action(p)
		l.dashes(p)
		for i := range rules {
			l.onlyExceptions(p, i)
		}
		l.contradictions(p)
	}
	l.addUp()
}

// action looks at a policy that says one thing by its name and another by its action.
func (l *linter) action(p *policy) {
	switch {
	case p.action() == securityv1beta1.AuthorizationPolicy_AUDIT:
		l.report(p, "audit-alone", "spec.action", "AUDIT neither allows nor denies; it marks requests for the access log, and that needs an access log with a filter that reads the mark", "use the annotation istio.io/dry-run to try a policy out")
	case p.allows() && len(p.Spec.GetRules()) > 0 && !p.Has("spec.action"):
		for _, word := range []string{"deny", "block", "forbid", "reject"} {
			if slices.Contains(strings.FieldsFunc(p.Name, func(r rune) bool { return r == '-' || r == '.' || r == '_' }), word) {
				l.report(p, "name-says-deny", "spec", "there is no action, so it is ALLOW: what the rules match is allowed, and everything else denied", "write action: DENY, or rename the policy")
				return
			}
		}
	}
}

// dashes looks for a rule that fell apart: neighbours that have no part in common.
func (l *linter) dashes(p *policy) {
	rules := p.Spec.GetRules()
	for i := 0; i+1 < len(rules); i++ {
		first, second := parts(rules[i]), parts(rules[i+1])
		if first == "" || second == "" || slices.ContainsFunc(strings.Fields(second), func(part string) bool { return slices.Contains(strings.Fields(first), part) }) {
			continue
		}
		l.report(p, "rules-or-trap", fmt.Sprintf("spec.rules[%d]", i+1),
			fmt.Sprintf("rules are alternatives, and either of these is enough: rules[%d] %s; rules[%d] %s", i, p.alone(first), i+1, p.alone(second)),
			fmt.Sprintf("if both have to hold, take away the dash before %s, so that it belongs to rules[%d]; if either is enough, write two policies", strings.Fields(second)[0], i))
	}
}

// alone says what a rule of these parts does.
func (p *policy) alone(parts string) string {
	verb := map[bool]string{true: "allows", false: "denies"}[p.allows()]
	if !p.allows() && !p.denies() {
		verb = "is for"
	}
	switch parts {
	case "from":
		return "has only from and " + verb + " these clients whatever they ask for"
	case "to":
		return "has only to and " + verb + " these operations whoever asks"
	case "when":
		return "has only when and " + verb + " everything under these conditions"
	case "from to":
		return "has from and to and " + verb + " that under any condition"
	}
	return "has only " + strings.ReplaceAll(parts, " ", " and ") + " and " + verb + " that from or to anything else"
}

// parts says which of from, to and when a rule has.
func parts(r *securityv1beta1.Rule) string {
	var out []string
	if len(r.GetFrom()) > 0 {
		out = append(out, "from")
	}
	if len(r.GetTo()) > 0 {
		out = append(out, "to")
	}
	if len(r.GetWhen()) > 0 {
		out = append(out, "when")
	}
	return strings.Join(out, " ")
}

// onlyExceptions looks for an alternative of an ALLOW that names nothing that it allows.
func (l *linter) onlyExceptions(p *policy, i int) {
	if !p.allows() {
		return
	}
	for _, a := range p.alternatives {
		if a.Rule != i || len(a.Tests) == 0 || slices.ContainsFunc(a.Tests, func(t alternative.Test) bool { return len(t.Values) > 0 }) {
			continue
		}
		var names []string
		for _, t := range a.Tests {
			name := t.NotField[strings.LastIndexByte(t.NotField, '.')+1:]
			if name == "notValues" {
				name += " of " + t.Name
			}
			names = append(names, name)
		}
		l.report(p, "only-exceptions", a.Tests[0].NotField, fmt.Sprintf("the rule says only what it does not allow (%s), and allows everything else to everybody else", strings.Join(names, ", ")),
			"say what is allowed, or make it a DENY of what must not be")
		return
	}
}

// contradictions looks for alternatives that no request matches.
func (l *linter) contradictions(p *policy) {
	pr := newProver(l.target())
	for i := range p.alternatives {
		a := &p.alternatives[i]
		if why, field := pr.contradiction(a); why != "" {
			l.report(p, "matches-nothing", field, fmt.Sprintf("%s: %s, %s", a.Part(), why, p.consequence()), "remove one of the two, or the rule")
		}
	}
}

// contradiction says why nothing can match.
func (pr prover) contradiction(a *alternative.Alternative) (why, field string) {
	for i := range a.Tests {
		t := &a.Tests[i]
		if len(t.Values) == 0 {
			continue
		}
		for j := range a.Tests {
			o := &a.Tests[j]
			if o.Dimension != t.Dimension {
				continue
			}
			excluded := all(t.Values, func(v string) bool {
				return some(o.Not, func(n string) bool {
					return sameForm(t, o, a, a) && pr.covers(o, n, t, v, a.Object().Namespace) || pr.excluded(t, o, a, n, v)
				})
			})
			if excluded && (single(t.Dimension) || i == j) && len(o.Not) > 0 {
				return fmt.Sprintf("every value of %s (%s) is excluded by %s", t.Name, quoted(t.Values), notName(o)), o.NotField
			}
			if j > i && len(o.Values) > 0 && single(t.Dimension) && pr.apart(t, o, a) {
				return fmt.Sprintf("no client matches both %s (%s) and %s (%s)", t.Name, quoted(t.Values), o.Name, quoted(o.Values)), o.Field
			}
		}
	}
	return "", ""
}

func notName(t *alternative.Test) string {
	return t.NotField[strings.LastIndexByte(t.NotField, '.')+1:]
}

// excluded reports whether the one identity v is excluded by n of another form: a principal by its namespace.
func (pr prover) excluded(t, o *alternative.Test, a *alternative.Alternative, n, v string) bool {
	r := pr.concrete(t, v)
	if r == nil {
		return false
	}
	only := *o
	only.Values, only.Not = []string{n}, nil
	return pr.matches(only, a, r) == len(r)
}

// apart reports whether no value passes both tests.
func (pr prover) apart(t, o *alternative.Test, a *alternative.Alternative) bool {
	return all(t.Values, func(v string) bool {
		return all(o.Values, func(w string) bool {
			if r := pr.concrete(t, v); r != nil {
				return pr.matches(alternative.Test{Name: o.Name, Dimension: o.Dimension, Values: []string{w}}, a, r) == 0
			}
			if r := pr.concrete(o, w); r != nil {
				return pr.matches(alternative.Test{Name: t.Name, Dimension: t.Dimension, Values: []string{v}}, a, r) == 0
			}
			return sameForm(t, o, a, a) && pr.disjoint(t, v, o, w, a.Object().Namespace)
		})
	})
}

// duplicates looks for values that others of their list cover.
func (l *linter) duplicates(p *policy, d alternative.Dimension, values []string, field string) {
	for i, v := range values {
		for j, o := range values {
			if i == j || !covers(d, o, v) || covers(d, v, o) && i < j {
				continue
			}
			text := fmt.Sprintf("%q is covered by %q", v, o)
			if v == o {
				text = fmt.Sprintf("%q stands here twice", v)
			}
			l.report(p, "duplicate-value", fmt.Sprintf("%s[%d]", field, i), text, "remove it")
			break
		}
	}
}

// addUp looks for ALLOW policies of one target of which one says only who and another only what.
func (l *linter) addUp() {
	for i, p := range l.policies {
		for _, o := range l.policies[:i] {
			if !p.allows() || !o.allows() || p.dryRun || o.dryRun || !sameScope(p, o) {
				continue
			}
			mine, theirs := p.only(), o.only()
			if mine == "" || theirs == "" || mine == theirs {
				continue
			}
			l.report(p, "allow-policies-add-up", "spec.rules[0]", fmt.Sprintf("policies are alternatives: this one %s, and %s %s", p.alone(mine), o.name(), p.alone(theirs)),
				"put both into one rule if both have to hold")
		}
	}
}

// only says that all rules have from alone or to alone.
func (p *policy) only() string {
	out := ""
	for _, r := range p.Spec.GetRules() {
		switch has := parts(r); {
		case has != "from" && has != "to", out != "" && out != has:
			return ""
		default:
			out = has
		}
	}
	return out
}
