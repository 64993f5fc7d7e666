package authz

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Explanation is a verdict with the reason from each policy. It quotes attributes of the request, headers among them,
// so treat it as confidential as the request itself.
type Explanation struct {
	Decision Decision `json:"decision"`
	// Policies is in the order in which they are tried. All of them are there, also those after the one that decided, save what
	// ExplainTop leaves out.
	Policies []PolicyExplanation `json:"policies"`
	// Omitted is how many policies ExplainTop has left out.
	Omitted int `json:"omitted,omitempty"`
	// Nearest is the index in Policies of the one that the request came nearest to: the fewest clauses kept it from matching.
	// It is -1 when a policy matched, and when there are none, or it is left out.
	Nearest int `json:"nearest"`
	// Values are the attributes that the policies ask about, as they see them, in the order in which they are asked for.
	Values []Value `json:"values"`
}

// Value is an attribute of a request as the policies see it: "path" without its query, "header :authority" with its port.
type Value struct {
	Attribute string `json:"attribute"`
	Value     string `json:"value"` // quoted if it is text; or "absent", "unknown"
}

// PolicyExplanation says whether one policy matched, and why.
type PolicyExplanation struct {
	Policy  string `json:"policy"`
	Source  Source `json:"source,omitzero"`
	Action  Action `json:"action"`
	Matched bool   `json:"matched"`
	// Reasons are what kept it from matching: each of them had to come out otherwise. When it matched, they are what made it
	// match. A policy that holds for every request has none.
	Reasons []Reason `json:"reasons,omitempty"`
}

// Reason is one clause with what it asked for and what there was, or a choice of clauses.
type Reason struct {
	Attribute string `json:"attribute,omitempty"` // such as "header :method"
	Wanted    string `json:"wanted,omitempty"`    // such as `"GET" or "HEAD"`
	Got       string `json:"got,omitempty"`       // such as `"POST"`, or "absent"
	// AnyOf, when not nil, is in place of the three: it would have been enough that all of one of these came out otherwise.
	AnyOf [][]Reason `json:"anyOf,omitempty"`
}

// String says why a clause did not match.
func (r Reason) String() string {
	if r.AnyOf == nil {
		return r.Attribute + ": wanted " + r.Wanted + ", got " + r.Got
	}
	var all []string
	for _, alternative := range r.AnyOf {
		var parts []string
		for _, part := range alternative {
			parts = append(parts, part.String())
		}
		all = append(all, strings.Join(parts, "; "))
	}
	return "one of (" + strings.Join(all, ") or (") + ")"
}

// distance is how many clauses had to come out otherwise.
func distance(reasons []Reason) int {
	n := 0
	for _, r := range reasons {
		if r.AnyOf == nil {
			n++
			continue
		}
		least := math.MaxInt32
		for _, alternative := range r.AnyOf {
			least = min(least, distance(alternative))
		}
		n += least
	}
	return n
}

// Explain gives the same verdict as Decide, with reasons. It allocates, and goes through all policies.
func (s *PolicySet) Explain(r *Request) Explanation { return s.ExplainTop(r, s.Len()) }

// ExplainTop is Explain with the reasons of n policies only: the one that decided, the others that match, then those that the
// request came nearest to. It still goes through all policies, to find out which are near, but does not keep what it finds: for
// sets of which nobody would read all.
func (s *PolicySet) ExplainTop(r *Request, n int) Explanation {
	if s == nil {
		return Explanation{Decision: Decision{Allowed: true}, Nearest: -1}
	}
	first := s.first(r)
	x := Explanation{Decision: s.onMiss, Nearest: -1}
	if first < len(s.policies) {
		x.Decision = s.policies[first].onMatch
	}
	e := s.evaluate(r)
	defer e.release()
	top, nearest := e.top(s.policies, first, n)
	for _, at := range top {
		if at == nearest {
			x.Nearest = len(x.Policies)
		}
		x.Policies = append(x.Policies, e.explain(&s.policies[at]))
	}
	x.Omitted = len(s.policies) - len(top)
	x.Values = e.values(s.policies, top)
	return x
}

// top chooses policies to explain, in their order. It also says which is the nearest, -1 if the first is one that matches.
func (e *evaluation) top(policies []policy, first, n int) (top []int, nearest int) {
	type place struct{ at, distance int }
	places := make([]place, len(policies))
	for i := range policies {
		places[i] = place{at: i}
		switch p := &policies[i]; {
		case i == first:
			places[i].distance = -1
		case !e.matches(p):
			places[i].distance = 1 + distance(e.blame(And{p.permissions, p.principals}, p.reading, true))
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.distance, b.distance) })
	nearest = -1
	if first == len(policies) && len(places) > 0 {
		nearest = places[0].at
	}
	for _, p := range places[:min(max(n, 0), len(places))] {
		top = append(top, p.at)
	}
	slices.Sort(top)
	return top, nearest
}

func (e *evaluation) explain(p *policy) PolicyExplanation {
	x := PolicyExplanation{Policy: p.name, Source: p.onMatch.Source, Action: p.onMatch.Action, Matched: e.matches(p)}
	if whole := (And{p.permissions, p.principals}); x.Matched {
		x.Reasons = e.evidence(whole, p.reading, true)
	} else {
		x.Reasons = e.blame(whole, p.reading, true)
	}
	return x
}

// values lists every attribute that some of the policies ask about, once.
func (e *evaluation) values(policies []policy, some []int) []Value {
	var all []Value
	seen := map[string]bool{}
	var walk func(Clause)
	walk = func(c Clause) {
		switch c := c.(type) {
		case And:
			for _, part := range c {
				walk(part)
			}
		case Or:
			for _, part := range c {
				walk(part)
			}
		case *indexedOr:
			walk(c.Or)
		case *Not:
			walk(c.Clause)
		case Always:
		default:
			if r := e.describe(c); !seen[r.Attribute] {
				seen[r.Attribute] = true
				all = append(all, Value{r.Attribute, r.Got})
			}
		}
	}
	for _, i := range some {
		walk(policies[i].permissions)
		walk(policies[i].principals)
	}
	return all
}

// String renders the explanation as indented lines.
func (x Explanation) String() string {
	if len(x.Policies)+x.Omitted == 0 && x.Decision == (Decision{Allowed: true}) {
		return "allowed: nothing is enforced\n"
	}
	var b strings.Builder
	verdict := "denied"
	if x.Decision.Allowed {
		verdict = "allowed"
	}
	fmt.Fprintf(&b, "%s by %s set", verdict, x.Decision.Action)
	if x.Decision.Policy != "" {
		fmt.Fprintf(&b, ": policy %s matched", x.Decision.Policy)
	} else {
		b.WriteString(": no policy matched")
	}
	b.WriteByte('\n')
	for i, p := range x.Policies {
		name := p.Policy
		if name == "" { // see CompileOrdered
			name = "a denial without a name"
		}
		switch {
		case p.Matched:
			fmt.Fprintf(&b, "  %s matched\n", name)
		case i == x.Nearest && len(x.Policies)+x.Omitted > 1:
			fmt.Fprintf(&b, "  %s did not match (nearest)\n", name)
		default:
			fmt.Fprintf(&b, "  %s did not match\n", name)
		}
		writeReasons(&b, p.Reasons, p.Matched, "    ")
	}
	if x.Omitted > 0 {
		fmt.Fprintf(&b, "  and %d others\n", x.Omitted)
	}
	return b.String()
}

func writeReasons(b *strings.Builder, reasons []Reason, matched bool, indent string) {
	for _, r := range reasons {
		switch {
		case r.AnyOf != nil:
			fmt.Fprintf(b, "%sone of these\n", indent)
			for _, alternative := range r.AnyOf {
				fmt.Fprintf(b, "%s- ", indent)
				var inner strings.Builder
				writeReasons(&inner, alternative, matched, indent+"  ")
				b.WriteString(strings.TrimPrefix(inner.String(), indent+"  "))
			}
		case matched:
			fmt.Fprintf(b, "%s%s: %s matches %s\n", indent, r.Attribute, r.Got, r.Wanted)
		default:
			fmt.Fprintf(b, "%s%s\n", indent, r)
		}
	}
}
