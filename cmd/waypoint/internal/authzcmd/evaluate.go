package authzcmd

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// question is what check and explain have in common: the input, what to decide for, and what is asked.
type question struct {
	input
	subjectFlags
	requestFlags
	output  string
	nearest int  // rules to explain in each step, 0 for all
	chosen  bool // nearest was asked for, and so counts for small sets too
	set     *manifest.Set
	subject *subject
}

func (q *question) flags(c *cobra.Command) {
	q.input.flags(c)
	q.subjectFlags.flags(c)
	q.requestFlags.flags(c)
	c.Flags().StringVarP(&q.output, "output", "o", "text", "text or json")
	c.Flags().IntVar(&q.nearest, "nearest", fewNearest, "rules to explain in each step: those that match, then those that come nearest; 0 for all; by default all of up to 20")
}

// A step with more rules than anybody would read is cut down to a few.
const (
	manyRules  = 20 // about two screens
	fewNearest = 5
)

// rulesShown is how many rules of a step to give reasons for.
func (q *question) rulesShown() int {
	most := 0
	for i := range q.subject.chain {
		most = max(most, q.subject.chain[i].Shadow.Len(), q.subject.chain[i].Enforced.Len())
	}
	if q.nearest == 0 || most <= manyRules && !q.chosen {
		return math.MaxInt
	}
	return q.nearest
}

// answer reads the input and decides.
func (q *question) answer(c *cobra.Command) (*result, error) {
	if q.output != "text" && q.output != "json" {
		return nil, fmt.Errorf("--output: %q; want text or json", q.output)
	}
	q.chosen = c.Flags().Changed("nearest")
	if q.nearest < 0 {
		return nil, fmt.Errorf("--nearest: %d; want 1 at least, or 0 for all", q.nearest)
	}
	if err := q.read(c, q.subjectFlags.TCP); err != nil {
		return nil, err
	}
	q.subjectFlags.http = slices.ContainsFunc(httpFlags, c.Flags().Changed)
	var err error
	if q.set, err = q.load(c); err != nil {
		return nil, err
	}
	if q.subject, err = q.find(q.set, q.Port); err != nil {
		return nil, err
	}
	s := q.subject
	q.Port = s.port
	q.TCP = s.tcp
	out := &result{For: s.info(), Notes: s.notes, Warnings: q.oddities()}
	if s.target != nil && q.Port != 0 {
		out.Notes = append(out.Notes, s.unknownPort(q.Port)...)
	}
	refused, err := q.authenticate(out)
	if err != nil {
		return nil, err
	}
	request, err := q.Request(s.paths)
	switch {
	case errors.Is(err, query.ErrPath):
		out.refuse(400, "the path holds a NUL, which a waypoint refuses before it asks any policy")
		return out, nil
	case err != nil:
		return nil, err
	}
	out.Request = q.info(request)
	if refused {
		return out, nil
	}
	x := s.chain.ExplainTop(request, q.rulesShown())
	s.fill(out, &x)
	q.pathWarnings(out)
	out.Notes = append(out.Notes, q.missing(c, &x)...)
	out.Warnings = append(out.Warnings, hints(&x)...)
	return out, nil
}

func (out *result) refuse(status int, because string) {
	out.Verdict, out.Status, out.Because = "DENY", status, because
}

// authenticate does the JWT filter's part. It reports whether the request was refused.
func (q *question) authenticate(out *result) (refused bool, err error) {
	if q.token == "" {
		return false, nil
	}
	t, err := readToken(q.token)
	if err != nil {
		return false, err
	}
	var rules []jwtRule
	if q.subject.target != nil {
		rules = jwtRules(q.set, q.subject.target)
	}
	if t.bad != nil && len(rules) == 0 {
		return false, fmt.Errorf("--jwt: the token cannot be decoded: %w", t.bad)
	}
	if t.signed {
		out.Notes = append(out.Notes, "the token's signature was not verified")
	}
	if len(rules) == 0 {
		out.Notes = append(out.Notes, "no RequestAuthentication for this target is in the input: its claims are taken as verified; without one in the mesh, policies would see no token at all")
	}
	claims, status, why := authenticate(t, rules, time.Now())
	if status != 0 {
		out.refuse(status, why+"; the request is refused before any policy is asked")
		return true, nil
	}
	if rule, ok := find(rules, claims["iss"]); ok && rule.header {
		out.Notes = append(out.Notes, rule.from+" copies claims to headers: give those with --header if a policy looks at them")
	}
	q.Claims = claims
	return false, nil
}

func (s *subject) info() subjectInfo {
	i := subjectInfo{Protocol: "HTTP", Paths: s.mode}
	if s.tcp {
		i.Protocol, i.Paths = "TCP", ""
	}
	if s.dumped != nil {
		i.Chain = s.dumped.String()
		return i
	}
	i.Target = manifest.ObjectName(s.target.Object)
	if g := s.target.Gateway; g.Name != "" {
		i.Waypoint = g.Namespace + "/" + g.Name
	}
	return i
}

func (q *question) info(r *authz.Request) requestInfo {
	i := requestInfo{Source: q.Identity(), Port: q.Port, SNI: q.ServerName}
	if r.SourceIP.IsValid() {
		i.SourceIP = r.SourceIP.String()
	}
	if r.RemoteIP.IsValid() && r.RemoteIP != r.SourceIP {
		i.RemoteIP = r.RemoteIP.String()
	}
	if q.DestinationIP.IsValid() {
		i.DestIP = q.DestinationIP.String()
	}
	if !r.HTTP {
		return i
	}
	i.Method, i.Host, i.Path, i.Scheme, i.Claims = r.Method, r.Authority, r.Path, r.Scheme, q.Claims
	if q.Path != r.Path {
		i.RawPath = q.Path
	}
	for _, h := range q.Headers {
		i.Headers = append(i.Headers, h.Name+": "+h.Value)
	}
	return i
}

// fill says what the chain decided.
func (s *subject) fill(out *result, x *authz.ChainExplanation) {
	v := &x.Verdict
	out.Verdict, out.Details = "ALLOW", v.Details
	if !v.Allowed {
		out.Verdict = "DENY"
		if !s.tcp {
			out.Status = 403
		}
	}
	if v.Policy != "" {
		out.Policy = s.ref(v.Policy, v.Source, actionName(v.Action))
	}
	if c := v.Custom; c != nil {
		out.Custom = s.ref(c.Policy, c.Source, "CUSTOM")
		for _, stage := range x.Stages { // rules of istiod before 1.30 do not name the provider; the stage may
			if out.Custom.Provider == "" && stage.Provider != "" && stage.Shadow != nil && stage.Shadow.Decision.Policy == c.Policy {
				out.Custom.Provider = stage.Provider
			}
		}
	}
	if a := v.Audit; a != nil {
		out.Audit = s.ref(a.Policy, a.Source, "AUDIT")
	}
	out.DryRunDeny, out.DryRunAllow = s.dryRun(v.DryRunDeny), s.dryRun(v.DryRunAllow)
	var rules int
	if v.Stage >= 0 {
		rules = s.chain[v.Stage].Enforced.Len()
		out.Nearest = s.nearest(x.Stages[v.Stage].Enforced)
	}
	out.Because = because(out, v, rules)
}

func because(out *result, v *authz.Verdict, rules int) string {
	switch {
	case v.Policy != "" && strings.HasSuffix(v.Policy, "-deny-due-to-bad-CUSTOM-action"):
		out.Policy.Action = "CUSTOM"
		return out.Policy.String() + " matches, and its extension provider cannot be asked, so it denies"
	case v.Policy != "":
		return "policy " + out.Policy.short() + " matches"
	case v.Stage < 0:
		return "no policy is in force for " + out.For.text() + ": there every request is allowed"
	case v.Allowed:
		return "no DENY policy matches, and there is no ALLOW policy"
	case rules == 0:
		return "there is an ALLOW policy, and it has no rule that this connection can match"
	case rules == 1:
		return "the only rule of an ALLOW policy does not match"
	}
	return fmt.Sprintf("none of the %d rules of ALLOW policies matches", rules)
}

func (s *subject) dryRun(d *authz.Decision) *dryRun {
	if d == nil {
		return nil
	}
	out := &dryRun{Verdict: "ALLOW"}
	if !d.Allowed {
		out.Verdict = "DENY"
	}
	if d.Policy != "" {
		out.Policy = s.ref(d.Policy, d.Source, actionName(d.Action))
	}
	return out
}

func (s *subject) nearest(x *authz.Explanation) *policyResult {
	if x == nil || x.Nearest < 0 || x.Decision.Allowed {
		return nil
	}
	r := s.policyResult(&x.Policies[x.Nearest])
	return &r
}

func (s *subject) policyResult(p *authz.PolicyExplanation) policyResult {
	return policyResult{policyRef: *s.ref(p.Policy, p.Source, actionName(p.Action)), Matched: p.Matched, Reasons: s.reasons(p.Source, p.Reasons)}
}

// unknownPort says that a Service does not have the port.
func (s *subject) unknownPort(port uint16) []string {
	if _, known := portOf(s.set, s.target.Object, port); known {
		return nil
	}
	for _, svc := range s.set.Mesh.Services {
		if svc.Object == s.target.Object && len(svc.Ports) > 0 {
			return []string{fmt.Sprintf("%s has no port %d: clients cannot reach it there", manifest.ObjectName(svc.Object), port)}
		}
	}
	return nil
}

// missing names the attributes that policies ask about and that were not given.
func (q *question) missing(c *cobra.Command, x *authz.ChainExplanation) []string {
	var names, flags []string
	unknown := false
	note := func(e *authz.Explanation) {
		if e == nil {
			return
		}
		for _, v := range e.Values {
			flag := flagOf(v.Attribute)
			if v.Value != "absent" && v.Value != "unknown" && v.Value != `""` || flag == "" || slices.Contains(flags, flag) ||
				c.Flags().Changed(strings.TrimPrefix(flag, "--")) {
				continue
			}
			names, flags = append(names, attribute(v.Attribute)), append(flags, flag)
			unknown = unknown || v.Value == "unknown"
		}
	}
	for i := range x.Stages {
		note(x.Stages[i].Shadow)
		note(x.Stages[i].Enforced)
	}
	if len(names) == 0 {
		return nil
	}
	text := fmt.Sprintf("policies look at the %s, not given here (%s): the verdict is that of a request without", strings.Join(names, ", "), strings.Join(flags, ", "))
	if unknown {
		text += "; an address or a port that is not known matches no ALLOW, and every DENY"
	}
	return []string{text}
}

// notCounted names the policies that were read and that nobody would expect to be passed over.
func (s *subject) notCounted() []string {
	if s.rules == nil {
		return nil
	}
	var out []string
	others, count := 0, map[string]int{}
	for _, k := range s.rules.Skipped {
		if k.Why == otherTargets {
			others++
			continue
		}
		if count[k.Why]++; count[k.Why] > listed {
			continue
		}
		text := s.policyName(k.Namespace, k.Name) + ": " + k.Why
		if by := s.besideWaypoint(k.Namespace, k.Name); by != "" {
			text += "; " + by + " enforces it besides, on what the waypoint sends on (waypoint authz explain says how)"
		}
		out = append(out, text)
	}
	for _, why := range slices.Sorted(maps.Keys(count)) {
		if more := count[why] - listed; more > 0 {
			out = append(out, fmt.Sprintf("%d more policies: %s", more, strings.TrimSuffix(why, "; name the Service or the Gateway in targetRefs")))
		}
	}
	if others > 0 && len(s.chain) == 0 {
		out = append(out, fmt.Sprintf("none of the input's policies is for %s (for other targets%s: %d)", manifest.ObjectName(s.target.Object), s.otherTargets(), others))
	}
	return out
}

// otherTargets names what the policies of the input are for, for who mistyped a name.
func (s *subject) otherTargets() string {
	var names []string
	for _, o := range s.set.Candidates() {
		if o != s.target.Object {
			names = append(names, manifest.ObjectName(o))
		}
	}
	if len(names) > listed {
		names = append(names[:listed], fmt.Sprintf("%d more", len(names)-listed))
	}
	if len(names) == 0 {
		return ""
	}
	return ", such as " + strings.Join(names, ", ")
}

// besideWaypoint names the ztunnels and sidecars of the target's own pods that enforce a policy.
func (s *subject) besideWaypoint(namespace, name string) string {
	var names []string
	for _, e := range s.enforcements(func(p *manifest.Policy) bool { return p.Namespace == namespace && p.Name == name }) {
		for _, by := range e.By {
			if by.Kind == "ztunnel" || by.Kind == "sidecar" {
				names = append(names, "the "+by.Kind+" of "+by.Name)
			}
		}
	}
	if len(names) > 3 {
		names = append(names[:3], fmt.Sprintf("%d more", len(names)-3))
	}
	return strings.Join(names, ", ")
}

// policyName is a policy with its place.
func (s *subject) policyName(namespace, name string) string {
	text := "policy " + namespace + "/" + name
	if p := s.set.Policy(namespace, name); p != nil {
		text += " (" + p.At("").String() + ")"
	}
	return text
}
