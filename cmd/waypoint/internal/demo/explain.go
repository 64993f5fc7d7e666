package demo

import (
	"fmt"
	"net/netip"
	"net/textproto"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// explain says which policy let a request pass, or why none did. It asks package authz with the policies of the manifests and
// the request as the client sent it; the verdict itself is the waypoint's.
func (s *stack) explain(x *exchange) string {
	mesh := s.mesh.Load()
	rules, err := istio.Compile(mesh.Policies, istio.Target{
		Gateway: istio.Object{Namespace: mesh.Waypoint.Namespace, Name: mesh.Waypoint.Name},
		Objects: []istio.Object{{Kind: "Service", Namespace: x.service.Namespace, Name: x.service.Name}},
	})
	if err != nil {
		return err.Error()
	}
	chain, err := rules.Chain()
	if err != nil {
		return err.Error()
	}
	if len(chain) == 0 {
		return "no policy applies to " + x.service.Name
	}
	req := x.request()
	var b strings.Builder
	for _, f := range chain {
		if f.Enforced != nil {
			d := f.Enforced.Explain(req)
			writeExplanation(&b, d)
			if !d.Decision.Allowed {
				break
			}
		}
		if f.Shadow != nil {
			if d := f.Shadow.Decide(req); d.Policy != "" {
				fmt.Fprintf(&b, "dry run: %s policy %s would match\n", f.Shadow.Action(), policyName(d.Policy))
			}
		}
	}
	return b.String()
}

func writeExplanation(b *strings.Builder, x authz.Explanation) {
	d := x.Decision
	switch {
	case d.Policy != "" && d.Action == authz.Log:
		fmt.Fprintf(b, "audited by %s\n", policyName(d.Policy))
	case d.Policy != "" && d.Allowed:
		fmt.Fprintf(b, "allowed by %s\n", policyName(d.Policy))
	case d.Policy != "":
		fmt.Fprintf(b, "denied by %s\n", policyName(d.Policy))
	case !d.Allowed:
		b.WriteString("no ALLOW policy matches:\n")
		for _, p := range x.Policies {
			for _, f := range p.Reasons {
				fmt.Fprintf(b, "  %s: %s\n", policyName(p.Policy), f)
			}
		}
	}
}

// policyName shortens ns[default]-policy[allow-get]-rule[0] to "allow-get rule 0".
func policyName(key string) string {
	src, ok := authz.ParseSource(key)
	if !ok {
		return key
	}
	return fmt.Sprintf("%s rule %d", src.Name, src.Rule)
}

// request is the exchange in authz's terms.
func (x *exchange) request() *authz.Request {
	return &authz.Request{
		HTTP: true, Method: x.method, Scheme: "http", Authority: x.host, Path: x.uri, Headers: headers(x.header),
		FilterState: principal(x.as.Account.Principal()), SourceIP: x.as.IP, DirectRemoteIP: x.as.IP, RemoteIP: x.as.IP,
		Destination: netip.AddrPortFrom(x.service.VIP, x.port),
	}
}

type headers map[string][]string

func (h headers) Header(name string, i int) (string, bool) {
	values := h[textproto.CanonicalMIMEHeaderKey(name)]
	if i >= len(values) {
		return "", false
	}
	return values[i], true
}

type principal string

func (p principal) FilterState(key string) (string, bool) {
	return string(p), key == authz.PeerPrincipal
}
