package authzcmd

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

func explainCommand() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "explain -f <files> [--source …] [--method …] [--path …]",
		Short: "Say why a request is allowed or denied, rule by rule",
		Long: `Say why a request is allowed or denied: each policy in the order in which a waypoint asks, whether it matches, which
condition kept it from matching with what was wanted and what there was, and where that stands in the file. After that, the
policies that do not count here, and who enforces each policy.

Flags and exit codes are those of check.`,
		Example: `  waypoint authz explain -f policies/ --source cluster.local/ns/shop/sa/web --method POST --path /orders
  waypoint authz explain -f policies/ --path /orders -o json | jq '.stages[].policies[] | select(.matched)'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			q.also(args)
			r, err := q.answer(cmd)
			if err != nil {
				return err
			}
			if err := q.explain(r); err != nil {
				return err
			}
			return r.finish(cmd, q.output, writeExplain)
		},
	}
	q.flags(c)
	return c
}

// explain adds the reasons to a result.
func (q *question) explain(out *result) error {
	s := q.subject
	if out.Status != 400 && out.Status != 401 {
		request, err := q.Request(s.paths)
		if err != nil {
			return err
		}
		x := s.chain.ExplainTop(request, q.rulesShown())
		for i := range x.Stages {
			out.Stages = append(out.Stages, s.stages(&x, i)...)
		}
	}
	if s.rules != nil {
		for _, k := range s.rules.Skipped {
			n := skipped{Namespace: k.Namespace, Name: k.Name, Why: k.Why}
			if p := s.set.Policy(k.Namespace, k.Name); p != nil {
				n.File, n.Line = p.At("").File, p.At("").Line
			}
			out.NotEnforced = append(out.NotEnforced, n)
		}
	}
	out.Enforcement = s.enforcements(func(*manifest.Policy) bool { return true })
	return nil
}

// stages are the one or two steps of a filter: dry run, then enforced.
func (s *subject) stages(x *authz.ChainExplanation, i int) []stageResult {
	in := &x.Stages[i]
	var out []stageResult
	add := func(e *authz.Explanation, set *authz.PolicySet, dry bool) {
		if e == nil {
			return
		}
		r := stageResult{Action: actionName(set.Action()), Provider: in.Provider, DryRun: dry, Reached: in.Reached}
		if dry && in.Provider != "" {
			r.Action, r.DryRun = "CUSTOM", false
		}
		for j := range e.Policies {
			p := s.policyResult(&e.Policies[j])
			p.Action, p.Nearest = r.Action, j == e.Nearest && (len(e.Policies) > 1 || e.Omitted > 0)
			r.Policies = append(r.Policies, p)
		}
		r.Omitted = e.Omitted
		r.Outcome = outcome(&r, e)
		out = append(out, r)
	}
	add(in.Shadow, s.chain[i].Shadow, true)
	add(in.Enforced, s.chain[i].Enforced, false)
	return out
}

func outcome(r *stageResult, e *authz.Explanation) string {
	matched := e.Decision.Policy != ""
	text := "none matches"
	if matched {
		text = "one matches"
	}
	switch {
	case r.Action == "CUSTOM" && matched:
		text += fmt.Sprintf(": extension provider %q is asked", r.Provider)
	case r.Action == "CUSTOM":
		text += ": no extension provider is asked"
	case r.DryRun && r.Action != "AUDIT":
		text += ": would " + verb(e.Decision.Allowed, r.Action)
	case r.Action == "AUDIT" && matched:
		text += ": the request is to be logged"
	case r.Action == "AUDIT":
	default:
		text += ": " + verb(e.Decision.Allowed, r.Action)
	}
	return text
}

func verb(allowed bool, action string) string {
	switch {
	case !allowed:
		return "deny"
	case action == "DENY":
		return "go on"
	}
	return "allow"
}

func writeExplain(w io.Writer, r *result) {
	fmt.Fprintf(w, "%s: %s\n", r.Verdict, r.Because)
	writeBeside(w, r)
	if r.Status != 0 {
		fmt.Fprintf(w, "  The client sees %s\n", strings.TrimSpace(fmt.Sprintf("status %d. %s", r.Status, detailsText(r.Details))))
	} else if r.Details != "" {
		fmt.Fprintf(w, "  The connection is closed. %s\n", detailsText(r.Details))
	}
	fmt.Fprintf(w, "\nFor %s\n", r.For.text())
	for _, line := range r.Request.lines() {
		fmt.Fprintf(w, "  %-16s %s\n", line[0], line[1])
	}
	for i := range r.Stages {
		writeStage(w, i+1, &r.Stages[i])
	}
	writeNotEnforced(w, r)
	writeEnforcement(w, r)
}

// writeNotEnforced lists what does not count for the target; policies for other targets by their number.
func writeNotEnforced(w io.Writer, r *result) {
	others, count := 0, map[string]int{}
	title := "\nDo not count here\n"
	for _, n := range r.NotEnforced {
		if n.Why == otherTargets {
			others++
			continue
		}
		if count[n.Why]++; count[n.Why] > 4*listed {
			continue
		}
		fmt.Fprintf(w, "%s  %s/%s (%s): %s\n", title, n.Namespace, n.Name, manifest.Place{File: n.File, Line: n.Line}, n.Why)
		title = ""
	}
	for _, why := range slices.Sorted(maps.Keys(count)) {
		if more := count[why] - 4*listed; more > 0 {
			fmt.Fprintf(w, "  %d more policies: %s\n", more, why)
		}
	}
	if others > 0 {
		fmt.Fprintf(w, "%s  policies for other targets: %d\n", title, others)
	}
}

func detailsText(details string) string {
	if details == "" {
		return ""
	}
	return "Access logs have " + details
}

func (i *subjectInfo) text() string {
	if i.Chain != "" {
		return "filter chain " + i.Chain + ", " + i.Protocol
	}
	s := i.Target
	if i.Waypoint != "" && i.Target != "Gateway/"+i.Waypoint {
		s += " at waypoint " + i.Waypoint
	}
	return s + ", " + i.Protocol
}

// lines are the request, attribute by attribute.
func (i *requestInfo) lines() [][2]string {
	var out [][2]string
	add := func(name, value string) {
		if value != "" {
			out = append(out, [2]string{name, value})
		}
	}
	source := strings.TrimPrefix(i.Source, spiffe)
	if source == "" {
		source = "none"
	}
	add("source principal", source)
	add("method", i.Method)
	add("host", i.Host)
	path := i.Path
	if i.RawPath != "" {
		path += "   (sent as " + i.RawPath + ")"
	}
	add("path", path)
	for _, h := range i.Headers {
		add("header", h)
	}
	if i.Claims != nil {
		add("token's claims", show(i.Claims))
	}
	if i.Port != 0 {
		add("port", fmt.Sprint(i.Port))
	}
	add("source IP", i.SourceIP)
	add("remote IP", i.RemoteIP)
	add("destination IP", i.DestIP)
	add("SNI", i.SNI)
	return out
}

func writeStage(w io.Writer, n int, s *stageResult) {
	name := s.Action
	if s.DryRun {
		name += " (dry run)"
	}
	fmt.Fprintf(w, "\n%d. %s policies: %s", n, name, s.Outcome)
	if !s.Reached {
		fmt.Fprint(w, " (not asked: the request is denied before)")
	}
	fmt.Fprintln(w)
	for i := range s.Policies {
		p := &s.Policies[i]
		switch {
		case p.Matched && len(p.Reasons) == 0:
			fmt.Fprintf(w, "   + %s matches every request\n", p.short())
		case p.Matched:
			fmt.Fprintf(w, "   + %s matches\n", p.short())
		case p.Nearest:
			fmt.Fprintf(w, "   - %s does not match; it comes nearest\n", p.short())
		default:
			fmt.Fprintf(w, "   - %s does not match\n", p.short())
		}
		writeReasons(w, p.Reasons, p.Matched, "       ")
	}
	if s.Omitted > 0 {
		rules := "rules that are further from matching"
		if s.Omitted == 1 {
			rules = "rule that is further from matching"
		}
		fmt.Fprintf(w, "   … and %d more %s (--nearest 0 shows all)\n", s.Omitted, rules)
	}
}

func writeReasons(w io.Writer, reasons []reason, matched bool, indent string) {
	for i := range reasons {
		r := &reasons[i]
		if r.AnyOf != nil {
			fmt.Fprintf(w, "%sone of these would be enough\n", indent)
			for _, alternative := range r.AnyOf {
				fmt.Fprintf(w, "%s* ", indent)
				var inner strings.Builder
				writeReasons(&inner, alternative, matched, indent+"  ")
				fmt.Fprint(w, strings.TrimPrefix(inner.String(), indent+"  "))
			}
			continue
		}
		switch {
		case !matched:
			fmt.Fprintf(w, "%s%s is %s, wanted %s", indent, r.Attribute, r.Got, r.Wanted)
		case r.Got == notKnown:
			fmt.Fprintf(w, "%s%s is %s and may be %s, which is enough for a policy that does not allow", indent, r.Attribute, r.Got, r.Wanted)
		case r.Got == r.Wanted:
			fmt.Fprintf(w, "%s%s is %s", indent, r.Attribute, r.Got)
		case strings.HasPrefix(r.Wanted, "not "):
			fmt.Fprintf(w, "%s%s is %s, which is %s", indent, r.Attribute, r.Got, r.Wanted)
		default:
			fmt.Fprintf(w, "%s%s is %s, which fits %s", indent, r.Attribute, r.Got, r.Wanted)
		}
		if len(r.Fields) > 0 {
			fmt.Fprintf(w, "   [%s", strings.Join(r.Fields, ", "))
			if r.Line > 0 {
				fmt.Fprintf(w, ", line %d", r.Line)
			}
			fmt.Fprint(w, "]")
		}
		fmt.Fprintln(w)
	}
}
