package authz

import (
	"fmt"
	"math"
	"strings"
)

// Explanation is a verdict with the reason from each policy. It quotes attributes of the request, headers among them,
// so treat it as confidential as the request itself.
type Explanation struct {
	Decision Decision `json:"decision"`
	// Policies is in the order in which they are tried. All of them are there, also those after the one that decided.
	Policies []PolicyExplanation `json:"policies"`
	// Nearest is the index in Policies of the one that the request came nearest to: the fewest clauses kept it from matching.
	// It is -1 when a policy matched, and when there are none.
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
func (s *PolicySet) Explain(r *Request) Explanation {
	x := Explanation{Decision: s.Decide(r), Nearest: -1}
	if s == nil {
		return x
	}
	e := s.evaluate(r)
	nearest := math.MaxInt
	for i := range s.policies {
		p := &s.policies[i]
		report := PolicyExplanation{Policy: p.name, Source: p.onMatch.Source, Action: p.onMatch.Action, Matched: e.matches(p)}
		if whole := (And{p.permissions, p.principals}); report.Matched {
			report.Reasons = e.evidence(whole, p.reading, true)
		} else {
			report.Reasons = e.blame(whole, p.reading, true)
			if d := distance(report.Reasons); d < nearest {
				nearest, x.Nearest = d, i
			}
		}
		x.Policies = append(x.Policies, report)
	}
	if x.Decision.Policy != "" {
		x.Nearest = -1
	}
	x.Values = e.values(s.policies)
	return x
}

// values lists every attribute that the policies ask about, once.
func (e *evaluation) values(policies []policy) []Value {
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
	for i := range policies {
		walk(policies[i].permissions)
		walk(policies[i].principals)
	}
	return all
}

// String renders the explanation as indented lines.
func (x Explanation) String() string {
	if len(x.Policies) == 0 && x.Decision == (Decision{Allowed: true}) {
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
		case i == x.Nearest && len(x.Policies) > 1:
			fmt.Fprintf(&b, "  %s did not match (nearest)\n", name)
		default:
			fmt.Fprintf(&b, "  %s did not match\n", name)
		}
		writeReasons(&b, p.Reasons, p.Matched, "    ")
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
