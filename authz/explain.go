package authz

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
)

// Explanation is a verdict with the reason from each policy. It quotes attributes of the request, headers among them,
// so treat it as confidential as the request itself.
type Explanation struct {
	Decision Decision
	// Policies is in the order in which they are tried. All of them are there, also those after the one that decided.
	Policies []PolicyExplanation
}

// PolicyExplanation says whether one policy matched, and if not, why not.
type PolicyExplanation struct {
	Policy  string
	Matched bool
	Failed  []Failure // what kept it from matching; empty when it matched
}

// Failure is one clause that did not hold.
type Failure struct {
	Attribute string // such as "header :method"
	Wanted    string // such as `"GET" or "HEAD"`
	Got       string // such as `"POST"`, or "absent"
}

func (f Failure) String() string {
	return f.Attribute + ": wanted " + f.Wanted + ", got " + f.Got
}

// Explain gives the same verdict as Decide, with reasons. It allocates, and goes through all policies.
func (s *PolicySet) Explain(r *Request) Explanation {
	if s == nil {
		return Explanation{Decision: s.Decide(r)}
	}
	x := Explanation{Decision: s.onMiss}
	e := s.evaluate(r)
	decided := false
	for i := range s.policies {
		p := &s.policies[i]
		report := PolicyExplanation{Policy: p.name, Matched: e.matches(p, s.reading)}
		switch {
		case !report.Matched:
			report.Failed = e.blame(And{p.permissions, p.principals}, s.reading, true)
		case !decided:
			x.Decision, decided = p.onMatch, true
		}
		x.Policies = append(x.Policies, report)
	}
	return x
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
	for _, p := range x.Policies {
		if p.Matched {
			fmt.Fprintf(&b, "  %s matched\n", p.Policy)
			continue
		}
		fmt.Fprintf(&b, "  %s did not match\n", p.Policy)
		for _, f := range p.Failed {
			fmt.Fprintf(&b, "    %s\n", f)
		}
	}
	return b.String()
}

// blame lists the leaves that made a clause come out otherwise than wanted.
func (e *evaluation) blame(c Clause, r reading, want bool) []Failure {
	switch c := c.(type) {
	case And:
		return e.blameParts(c, r, want, "and")
	case Or:
		if len(c) == 0 {
			return []Failure{{"policy", "one alternative at least", "none"}}
		}
		return e.blameParts(c, r, want, "or")
	case *Not:
		return e.blame(c.Clause, r.opposite(), !want)
	}
	f := e.describe(c)
	if !want {
		f.Wanted = "not " + f.Wanted
	}
	if e.holds(c, certainly) != e.holds(c, possibly) {
		f.Got += " (not one certain value)"
	}
	return []Failure{f}
}

// blameParts joins what the guilty parts say. Parts about one attribute share a line.
func (e *evaluation) blameParts(parts []Clause, r reading, want bool, joiner string) []Failure {
	if !want { // the parts that hold are guilty, and all of them should have failed
		joiner = "and"
	}
	var all []Failure
	for _, part := range parts {
		if e.holds(part, r) == want {
			continue
		}
		for _, f := range e.blame(part, r, want) {
			at := slices.IndexFunc(all, func(g Failure) bool { return g.Attribute == f.Attribute && g.Got == f.Got })
			switch {
			case at < 0:
				all = append(all, f)
			case all[at].Wanted != f.Wanted:
				all[at].Wanted += " " + joiner + " " + f.Wanted
			}
		}
	}
	return all
}

// describe says what a leaf wants and what there is.
func (e *evaluation) describe(c Clause) Failure {
	switch c := c.(type) {
	case Always:
		return Failure{"any", "anything", "a request"}
	case *Header:
		return Failure{"header " + c.Name, c.wanted(), e.headerValues(c.Name)}
	case *Path:
		return Failure{"path", c.Pattern.String(), quoteIf(e.path, e.hasPath)}
	case *URITemplate:
		return Failure{"path", "template " + c.Template.String(), quoteIf(e.path, e.hasPath)}
	case *IP:
		name := [...]string{SourceIP: "source", DirectRemoteIP: "direct remote", RemoteIP: "remote", DestinationIP: "destination"}[c.Of]
		got := "unknown"
		if addr := e.address(c.Of); addr.IsValid() {
			got = addr.Unmap().String()
		}
		return Failure{name + " address", c.Range.String(), got}
	case *DestinationPort:
		wanted := strconv.FormatUint(uint64(c.From), 10)
		if c.To != c.From+1 {
			wanted = fmt.Sprintf("from %d to below %d", c.From, c.To)
		}
		got := "unknown"
		if e.request.Destination.Addr().IsValid() {
			got = strconv.Itoa(int(e.request.Destination.Port()))
		}
		return Failure{"destination port", wanted, got}
	case *ServerName:
		return Failure{"server name", c.Pattern.String(), strconv.Quote(e.request.ServerName)}
	case *Authenticated:
		return e.describePeer(c)
	case *FilterStateIs:
		v, ok := e.filterState(c.Key)
		return Failure{"filter state " + c.Key, c.Pattern.String(), quoteIf(v, ok)}
	case *FilterStateIP:
		v, ok := e.filterState(c.Key)
		wanted := fmt.Sprint("in ", c.Ranges)
		if c.Invert {
			wanted = "not " + wanted
		}
		return Failure{"filter state " + c.Key, wanted, quoteIf(v, ok)}
	case *MetadataIs:
		wanted := wantedValue(c.Value)
		if c.Invert {
			wanted = "not " + wanted
		}
		return Failure{"metadata " + c.Filter + " " + strings.Join(c.Path, "."), wanted, valueString(e.metadataValue(c))}
	}
	return Failure{fmt.Sprintf("%T", c), "a known clause", "an unknown one"}
}

func (e *evaluation) describePeer(c *Authenticated) Failure {
	f := Failure{"TLS peer", "any certificate", "none"}
	if c.Pattern != nil {
		f.Wanted = c.Pattern.String()
	}
	if peer := e.request.Peer; peer != nil {
		f.Got = fmt.Sprintf("%q", append(slices.Concat(peer.URISANs, peer.DNSSANs), peer.Subject))
	}
	return f
}

func (e *evaluation) headerValues(name string) string {
	var all []string
	for i := 0; ; i++ {
		v, ok := e.request.header(name, i)
		if !ok {
			break
		}
		all = append(all, strconv.Quote(v))
	}
	if all == nil {
		return "absent"
	}
	return strings.Join(all, " and ")
}

func (h *Header) wanted() string {
	var s string
	switch h.Test {
	case HeaderPresent:
		if h.Present != h.Invert {
			return "present"
		}
		return "absent"
	case HeaderInRange:
		s = fmt.Sprintf("from %d to below %d", h.From, h.To)
	default:
		s = h.Pattern.String()
	}
	if h.Invert {
		s = "present and not " + s
	}
	return s
}

func wantedValue(t ValueTest) string {
	switch t := t.(type) {
	case *ValueString:
		return t.Pattern.String()
	case *ValueNumber:
		return fmt.Sprintf("from %v to below %v", t.From, t.To)
	case ValueNumberExact:
		return fmt.Sprint(float64(t))
	case ValueBool:
		return fmt.Sprint(bool(t))
	case ValueNull:
		return "null"
	case ValuePresent:
		return "present"
	case *ValueListHas:
		return "a list with " + wantedValue(t.Element)
	case ValueAnyOf:
		var all []string
		for _, test := range t {
			all = append(all, wantedValue(test))
		}
		return strings.Join(all, " or ")
	}
	return "a known test"
}

// valueString renders a metadata value in one line of JSON-like text that does not change between runs, as protojson's
// spacing does.
func valueString(v *structpb.Value) string {
	if v.GetKind() == nil {
		return "absent"
	}
	if s, ok := v.GetKind().(*structpb.Value_StringValue); ok {
		return strconv.Quote(s.StringValue)
	}
	return fmt.Sprint(v.AsInterface())
}

func quoteIf(s string, ok bool) string {
	if !ok {
		return "absent"
	}
	return strconv.Quote(s)
}
