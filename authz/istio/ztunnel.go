package istio

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	securityv1beta1 "istio.io/api/security/v1beta1"
)

// What a ztunnel does with a rule follows from two pieces of code: istiod turns the rule into clauses (one of its `to`, one
// of its `from`, one for each condition) of alternatives, without the attributes that need HTTP; a ztunnel wants one
// alternative of every clause, and one in which nothing is left matches nothing.

// effect is what becomes of a rule at a ztunnel.
type effect struct {
	// http are the attributes that need HTTP. An ALLOW rule with any is left out by istiod.
	http []string
	// dropped are the attributes that istiod leaves out without a word.
	dropped []string
	// never tells that what is left of the rule matches nothing.
	never bool
}

func atZtunnel(r *securityv1beta1.Rule, allow bool) effect {
	var e effect
	tos, froms := 0, 0
	for i, to := range r.GetTo() {
		o := to.GetOperation()
		e.http = append(e.http, set(fmt.Sprintf("to[%d].operation.", i), operationLists(o))...)
		if len(o.GetPorts())+len(o.GetNotPorts()) > 0 {
			tos++
		}
	}
	for i, from := range r.GetFrom() {
		s := from.GetSource()
		path := fmt.Sprintf("from[%d].source.", i)
		e.http = append(e.http, set(path, append(tokenLists(s), list{"remoteIpBlocks", s.GetRemoteIpBlocks()}, list{"notRemoteIpBlocks", s.GetNotRemoteIpBlocks()}))...)
		e.dropped = append(e.dropped, set(path, []list{{"trustDomains", s.GetTrustDomains()}, {"notTrustDomains", s.GetNotTrustDomains()}})...)
		if len(set("", clientLists(s))) > 0 {
			froms++
		}
	}
	e.never = len(r.GetTo()) > 0 && tos == 0 || len(r.GetFrom()) > 0 && froms == 0
	for i, w := range r.GetWhen() {
		switch w.GetKey() {
		case "source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port":
		default:
			e.http = append(e.http, fmt.Sprintf("when[%d]", i))
			e.never = true
		}
	}
	e.never = e.never || allow && len(e.http) > 0
	return e
}

// list is a list of a policy with its name.
type list struct {
	name   string
	values []string
}

// set names the lists that have values.
func set(path string, lists []list) (out []string) {
	for _, l := range lists {
		if len(l.values) > 0 {
			out = append(out, path+l.name)
		}
	}
	return out
}

// operationLists are what needs HTTP in an operation.
func operationLists(o *securityv1beta1.Operation) []list {
	return []list{
		{"hosts", o.GetHosts()}, {"notHosts", o.GetNotHosts()}, {"methods", o.GetMethods()}, {"notMethods", o.GetNotMethods()},
		{"paths", o.GetPaths()}, {"notPaths", o.GetNotPaths()},
	}
}

// tokenLists are what needs HTTP in a source.
func tokenLists(s *securityv1beta1.Source) []list {
	return []list{{"requestPrincipals", s.GetRequestPrincipals()}, {"notRequestPrincipals", s.GetNotRequestPrincipals()}}
}

// clientLists are what a ztunnel looks at in a source: who the client of the connection is.
func clientLists(s *securityv1beta1.Source) []list {
	return []list{
		{"principals", s.GetPrincipals()}, {"notPrincipals", s.GetNotPrincipals()}, {"namespaces", s.GetNamespaces()}, {"notNamespaces", s.GetNotNamespaces()},
		{"serviceAccounts", s.GetServiceAccounts()}, {"notServiceAccounts", s.GetNotServiceAccounts()}, {"ipBlocks", s.GetIpBlocks()}, {"notIpBlocks", s.GetNotIpBlocks()},
	}
}

// httpFields names the attributes of a rule that need HTTP, at a waypoint.
func httpFields(r *securityv1beta1.Rule) (out []string) {
	for i, to := range r.GetTo() {
		out = append(out, set(fmt.Sprintf("to[%d].operation.", i), operationLists(to.GetOperation()))...)
	}
	for i, from := range r.GetFrom() {
		out = append(out, set(fmt.Sprintf("from[%d].source.", i), tokenLists(from.GetSource()))...)
	}
	for i, w := range r.GetWhen() {
		if strings.HasPrefix(w.GetKey(), "request.") {
			out = append(out, fmt.Sprintf("when[%d]", i))
		}
	}
	return out
}

// clientFields names the attributes of a rule that say who the client is.
func clientFields(r *securityv1beta1.Rule) (out []string) {
	for i, from := range r.GetFrom() {
		out = append(out, set(fmt.Sprintf("from[%d].source.", i), clientLists(from.GetSource()))...)
	}
	for i, w := range r.GetWhen() {
		if slices.Contains([]string{"source.ip", "source.namespace", "source.principal"}, w.GetKey()) {
			out = append(out, fmt.Sprintf("when[%d]", i))
		}
	}
	return out
}

// ipFields names the attributes of a rule that are addresses of the client's connection.
func ipFields(r *securityv1beta1.Rule) (out []string) {
	for i, from := range r.GetFrom() {
		s := from.GetSource()
		out = append(out, set(fmt.Sprintf("from[%d].source.", i), []list{{"ipBlocks", s.GetIpBlocks()}, {"notIpBlocks", s.GetNotIpBlocks()}})...)
	}
	for i, w := range r.GetWhen() {
		if w.GetKey() == "source.ip" {
			out = append(out, fmt.Sprintf("when[%d]", i))
		}
	}
	return out
}

// reaches tells whether a rule may match on one of the ports.
func reaches(r *securityv1beta1.Rule, ports []uint16) bool {
	if len(r.GetTo()) == 0 {
		return true
	}
	return slices.ContainsFunc(ports, func(port uint16) bool {
		p := fmt.Sprint(port)
		return slices.ContainsFunc(r.GetTo(), func(to *securityv1beta1.Rule_To) bool {
			o := to.GetOperation()
			return (len(o.GetPorts()) == 0 || slices.Contains(o.GetPorts(), p)) && !slices.Contains(o.GetNotPorts(), p)
		})
	})
}

// mayBe tells whether a ztunnel may find that a gateway is the client that a rule is about. Of addresses, which are not
// known, it is assumed that an ALLOW rule has the right ones and a DENY rule has not.
func mayBe(r *securityv1beta1.Rule, namespace string, g *Gateway, allow bool) bool {
	ns, sa := g.identity()
	who := client{ns, sa, namespace, allow}
	for _, w := range r.GetWhen() {
		s := &securityv1beta1.Source{}
		switch w.GetKey() {
		case "source.namespace":
			s.Namespaces, s.NotNamespaces = w.GetValues(), w.GetNotValues()
		case "source.principal":
			s.Principals, s.NotPrincipals = w.GetValues(), w.GetNotValues()
		case "source.ip":
			s.IpBlocks, s.NotIpBlocks = w.GetValues(), w.GetNotValues()
		default:
			continue
		}
		if !who.is(s) {
			return false
		}
	}
	return len(r.GetFrom()) == 0 || slices.ContainsFunc(r.GetFrom(), func(f *securityv1beta1.Rule_From) bool {
		return len(set("", clientLists(f.GetSource()))) > 0 && who.is(f.GetSource())
	})
}

// client is who a ztunnel sees.
type client struct {
	namespace, account string
	policyNamespace    string // of a service account without one
	addressMatches     bool
}

func (c client) is(s *securityv1beta1.Source) bool {
	address := func(string) bool { return c.addressMatches }
	inNamespace := func(v string) bool { return matches(v, c.namespace) }
	for _, f := range []struct {
		values, not []string
		match       func(string) bool
	}{
		{s.GetPrincipals(), s.GetNotPrincipals(), c.principal},
		{s.GetNamespaces(), s.GetNotNamespaces(), inNamespace},
		{s.GetServiceAccounts(), s.GetNotServiceAccounts(), c.serviceAccount},
		{s.GetIpBlocks(), nil, address},
	} {
		if len(f.values) > 0 && !slices.ContainsFunc(f.values, f.match) || slices.ContainsFunc(f.not, f.match) {
			return false
		}
	}
	return true
}

// principal compares without regard to the trust domain: which one it is is not known here, and there may be aliases.
func (c client) principal(v string) bool {
	td, _, _ := strings.Cut(v, "/")
	if td == "" || strings.Contains(td, "*") {
		td = defaultTrustDomain
	}
	return matches(v, fmt.Sprintf("%s/ns/%s/sa/%s", td, c.namespace, c.account))
}

func (c client) serviceAccount(v string) bool {
	ns, sa, ok := strings.Cut(v, "/")
	if !ok {
		ns, sa = c.policyNamespace, v
	}
	return ns == c.namespace && sa == c.account
}

// matches compares as a ztunnel does: a wildcard stands at one end.
func matches(pattern, s string) bool {
	if x, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(s, x)
	}
	if x, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, x)
	}
	return pattern == s
}

// everywhere warns of what is a mistake whoever enforces the policy.
func (e *enquiry) everywhere() {
	atWaypoint := slices.ContainsFunc(e.out.By, func(b EnforcedBy) bool { return b.Enforcer == ByWaypoint })
	for i, r := range e.policy.Spec.GetRules() {
		path := fmt.Sprintf("rules[%d].", i)
		for j, from := range r.GetFrom() {
			s := from.GetSource()
			e.spiffe(fmt.Sprintf("%sfrom[%d].source.principals", path, j), s.GetPrincipals())
			e.spiffe(fmt.Sprintf("%sfrom[%d].source.notPrincipals", path, j), s.GetNotPrincipals())
		}
		for j, w := range r.GetWhen() {
			if w.GetKey() == "source.principal" {
				e.spiffe(fmt.Sprintf("%swhen[%d]", path, j), slices.Concat(w.GetValues(), w.GetNotValues()))
			}
		}
		if fields := ipFields(r); atWaypoint && len(fields) > 0 {
			id := trapIPDeny
			if e.allows() {
				id = trapIPAllow
			}
			e.trap(id, path+fields[0], joinNames(fields))
		}
	}
}

// spiffe warns of identities that are written as a certificate has them.
func (e *enquiry) spiffe(field string, principals []string) {
	for _, p := range principals {
		if rest, ok := strings.CutPrefix(p, spiffe); ok {
			e.trap(trapSpiffe, field, p, rest)
		} else if _, err := netip.ParseAddr(p); err == nil {
			e.trap(trapAddressAsPrincipal, field, p)
		}
	}
}
