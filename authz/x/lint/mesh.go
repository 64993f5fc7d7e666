package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
)

const gatewayGroup = "gateway.networking.k8s.io"

// mesh looks at policies beside what they are for.
func (l *linter) mesh() {
	m := l.set.Mesh
	m.Policies = l.set.IstioPolicies()
	var unplaced []*policy
	for _, p := range l.policies {
		l.targets(p)
		e := m.WhoEnforces(&p.Policy.Policy)
		l.traps(p, e.Traps)
		if l.unplaced(p, &e) {
			unplaced = append(unplaced, p)
		}
		l.services(p)
		l.addresses(p)
		l.custom(p)
	}
	l.notAtWaypoint(unplaced)
}

// traps reports what is known of who enforces the policy.
func (l *linter) traps(p *policy, traps []istio.Trap) {
	for _, t := range traps {
		field := "spec"
		if t.Field != "" {
			field += "." + t.Field
		}
		switch t.ID {
		case "target-without-waypoint", "waypoint-missing", "selects-nothing", "not-in-mesh":
			if l.set.Mesh.Partial {
				l.reportAs(Info, p, t.ID, field, "As far as the input tells: "+t.Text, t.Fix)
			} else {
				l.report(p, t.ID, field, t.Text, t.Fix)
			}
		case "selector-behind-waypoint":
			if !l.guardsWaypoint(p) {
				l.report(p, t.ID, field, t.Text, t.Fix)
			}
		case "target-kind", "spiffe-prefix", "address-as-principal": // said of the value
		case "target-missing", "gateway-missing":
			if !l.reported(p, "target-missing") {
				l.report(p, t.ID, field, t.Text, t.Fix)
			}
		default:
			l.report(p, t.ID, field, t.Text, t.Fix)
		}
	}
}

// unplaced tells whether waypoints do not look at a policy, and the input does not tell who does. The labels of gateways give
// away a policy that is for one of these.
func (l *linter) unplaced(p *policy, e *istio.Enforcement) bool {
	if len(p.refs) > 0 || len(e.Unknown) == 0 || len(e.By) > 0 || len(e.Traps) > 0 || slices.Contains(p.disabled, "not-at-waypoint") {
		return false
	}
	for _, label := range []string{"istio", gatewayGroup + "/gateway-name"} {
		if _, ok := p.Spec.GetSelector().GetMatchLabels()[label]; ok {
			return false
		}
	}
	return true
}

// notAtWaypoint reports the unplaced policies in one note: a folder for sidecars would be full of them.
func (l *linter) notAtWaypoint(unplaced []*policy) {
	if len(unplaced) == 0 {
		return
	}
	const listed = 5 // enough to recognise which are meant
	var names []string
	http := ""
	for i, p := range unplaced {
		if i < listed {
			names = append(names, p.name())
		}
		for _, t := range p.tests() {
			if t.HTTP && http == "" {
				http = fmt.Sprintf(". In ambient mode that leaves ztunnel, which sees no HTTP: a rule such as that of %s, with %s, does not do there what it says (an ALLOW rule allows nothing)", p.name(), t.Name)
			}
		}
	}
	if more := len(unplaced) - listed; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	l.report(unplaced[0], "not-at-waypoint", "spec", "a waypoint looks at no policy without targetRefs, be it for a selector or for a whole namespace, and the input does not tell "+
		"who enforces "+strings.Join(names, ", ")+http,
		"for a waypoint, name the Service or the Gateway in targetRefs; with Namespaces, Services, Gateways and workloads in the input more can be said")
}

// guardsWaypoint tells whether a policy by selector does what one behind a waypoint is for: it lets nobody in but waypoints.
func (l *linter) guardsWaypoint(p *policy) bool {
	if !p.allows() || len(p.alternatives) == 0 {
		return false
	}
	var accounts []string
	for _, g := range l.set.Mesh.Gateways {
		accounts = append(accounts, "/ns/"+g.Namespace+"/sa/"+cmp.Or(g.ServiceAccount, g.Name))
	}
	for i := range p.alternatives {
		if !slices.ContainsFunc(p.alternatives[i].Tests, func(t alternative.Test) bool {
			return form(&t) == "principals" && len(t.Values) > 0 && all(t.Values, func(v string) bool {
				return slices.ContainsFunc(accounts, func(a string) bool { return strings.HasSuffix(v, a) })
			})
		}) {
			return false
		}
	}
	return true
}

// reported tells whether a rule has a finding about the policy.
func (l *linter) reported(p *policy, rule string) bool {
	return slices.ContainsFunc(l.findings, func(f Finding) bool { return f.Rule == rule && f.Object == "AuthorizationPolicy "+p.name() })
}

// targets looks at what targetRefs lead to.
func (l *linter) targets(p *policy) {
	refs, base := p.Spec.GetTargetRefs(), "spec.targetRefs"
	if ref := p.Spec.GetTargetRef(); ref != nil && len(refs) == 0 {
		refs, base = []*typev1beta1.PolicyTargetReference{ref}, ""
	}
	for i, ref := range refs {
		field := fmt.Sprintf("%s[%d]", base, i)
		if base == "" {
			field = "spec.targetRef"
		}
		o := istio.Object{Group: ref.GetGroup(), Kind: ref.GetKind(), Namespace: p.Namespace, Name: ref.GetName()}
		groups := map[string]string{"Service": "", "ServiceEntry": "networking.istio.io", "Gateway": gatewayGroup, "GatewayClass": gatewayGroup}
		group, known := groups[o.Kind]
		switch {
		case !known:
			l.report(p, "target-kind", field+".kind", fmt.Sprintf("%q is not a kind that a policy can target", o.Kind), "name a Service, a ServiceEntry or a Gateway; a Deployment or Pod is reached through its Service")
		case o.Group != group && (o.Kind != "Service" || o.Group != "core"):
			l.report(p, "target-kind", field+".group", fmt.Sprintf("%s is of group %q, and %q is written: nothing is found", o.Kind, group, o.Group), fmt.Sprintf("write group: %q", group))
		default:
			l.targetThere(p, o, field)
		}
	}
}

// targetThere reports a target that the input does not have, if the input has any of its kind.
func (l *linter) targetThere(p *policy, o istio.Object, field string) {
	var there []string
	found := false
	add := func(other istio.Object) {
		if other.Kind == o.Kind {
			there = append(there, other.Namespace+"/"+other.Name)
			found = found || other.Namespace == o.Namespace && other.Name == o.Name
		}
	}
	for _, s := range l.set.Mesh.Services {
		add(s.Object)
	}
	for _, g := range l.set.Mesh.Gateways {
		add(istio.Object{Kind: "Gateway", Namespace: g.Namespace, Name: g.Name})
	}
	if found || len(there) == 0 {
		return
	}
	fix := "check its name; the input has " + strings.Join(there, ", ")
	for _, name := range there {
		if strings.HasSuffix(name, "/"+o.Name) {
			fix = fmt.Sprintf("there is one in another namespace (%s): a policy targets only its own namespace, so put the policy there", name)
		}
	}
	l.report(p, "target-missing", field+".name", fmt.Sprintf("there is no %s %s/%s, so that the policy applies to nothing", o.Kind, o.Namespace, o.Name), fix)
}

// services looks at the ports of the Services that a policy targets.
func (l *linter) services(p *policy) {
	for _, s := range l.set.Mesh.Services {
		if !slices.Contains(p.refs, s.Object) {
			continue
		}
		l.portsOf(p, &s)
		if !l.reported(p, "l7-on-tcp-port") {
			l.httpOnTCP(p, &s)
		}
	}
}

// portsOf reports ports that the Service does not have.
func (l *linter) portsOf(p *policy, s *istio.Service) {
	if len(p.refs) != 1 || len(s.Ports) == 0 {
		return
	}
	var there []string
	for _, port := range s.Ports {
		there = append(there, strconv.Itoa(int(port.Number)))
	}
	for _, t := range p.tests() {
		if t.Dimension.Kind != alternative.Port {
			continue
		}
		each(t, func(v, field string, not bool) {
			if _, err := strconv.Atoi(v); err == nil && !slices.Contains(there, v) {
				x := at{p, v, field, not}
				x.report(l, "port-not-of-service", fmt.Sprintf("%s %s/%s has no port %s (it has %s): a waypoint sees the port that clients dial, not the container's, %s", s.Kind, s.Namespace, s.Name, v, strings.Join(there, ", "), x.consequence()),
					"write the Service's port")
			}
		})
	}
}

// httpOnTCP reports rules with HTTP attributes that also stand for ports of the Service that are not HTTP.
func (l *linter) httpOnTCP(p *policy, s *istio.Service) {
	for i := range p.alternatives {
		a := &p.alternatives[i]
		http := slices.IndexFunc(a.Tests, func(t alternative.Test) bool { return t.HTTP })
		if http < 0 {
			continue
		}
		var tcp []string
		for _, port := range s.Ports {
			if n := strconv.Itoa(int(port.Number)); !port.HTTP && forPort(a, n) {
				tcp = append(tcp, n)
			}
		}
		if len(tcp) == 0 {
			continue
		}
		t := &a.Tests[http]
		field := t.Field
		if len(t.Values) == 0 {
			field = t.NotField
		}
		on := fmt.Sprintf("port %s of %s %s/%s is not HTTP, where %s is not seen", strings.Join(tcp, " and "), s.Kind, s.Namespace, s.Name, t.Name)
		if p.allows() {
			l.report(p, "l7-on-tcp-port", field, on+": there the rule allows nothing, and a connection that no other policy allows is closed", "declare the port as HTTP (appProtocol: http) if it is, or allow the port in a rule of its own without HTTP attributes")
		} else {
			l.report(p, "l7-on-tcp-port", field, fmt.Sprintf("%s: there the rule holds without it, and %s", on, map[bool]string{true: "denies every connection", false: "matches every connection"}[p.denies() && len(a.Tests) == 1]),
				"add ports: the HTTP ports of the Service, or declare the port as HTTP (appProtocol: http) if it is")
		}
		return
	}
}

// forPort reports whether an alternative can match on a port.
func forPort(a *alternative.Alternative, port string) bool {
	for _, t := range a.Tests {
		if t.Dimension.Kind == alternative.Port && (len(t.Values) > 0 && !slices.Contains(t.Values, port) || slices.Contains(t.Not, port)) {
			return false
		}
	}
	return true
}

// addresses looks at the client's address, of which a waypoint knows little.
func (l *linter) addresses(p *policy) {
	if len(p.refs) == 0 {
		return // ztunnel and sidecars see it
	}
	said := l.reported(p, "ip-at-waypoint")
	for _, t := range p.tests() {
		field := t.Field
		if len(t.Values) == 0 {
			field = t.NotField
		}
		switch t.Dimension.Kind {
		case alternative.SourceIP:
			if said {
				continue
			}
			what := "the rule matches nobody, and allows nothing"
			if !p.allows() {
				what = "the rule matches nobody, and everybody passes"
			}
			if len(t.Values) == 0 {
				what = "the exception never holds"
			}
			l.report(p, "ip-at-waypoint", field, fmt.Sprintf("%s in a waypoint: Envoy sees its own internal connection there, not the client's address (istio/istio#46982), so that %s; gowaypoint compares the address of the pod that dials", t.Name, what),
				"go by identity (principals, namespaces, serviceAccounts); for addresses write a policy with a selector, which ztunnel enforces")
		case alternative.RemoteIP:
			l.report(p, "forwarded-address", field, fmt.Sprintf("%s is taken from X-Forwarded-For, which a client inside the mesh can send as it likes, unless a gateway that replaces it is the only way in", t.Name),
				"use it only together with the gateway's identity (principals) in the same source")
		}
	}
}

// custom looks at action CUSTOM.
func (l *linter) custom(p *policy) {
	if p.action() != securityv1beta1.AuthorizationPolicy_CUSTOM {
		return
	}
	name := p.Spec.GetProvider().GetName()
	if l.set.MeshConfig != nil && name != "" {
		var there []string
		ok := false
		for _, provider := range l.set.MeshConfig.GetExtensionProviders() {
			if provider.GetEnvoyExtAuthzHttp() != nil || provider.GetEnvoyExtAuthzGrpc() != nil {
				there = append(there, provider.GetName())
				ok = ok || provider.GetName() == name
			}
		}
		if !ok {
			fix := "MeshConfig.extensionProviders has no envoyExtAuthzHttp or envoyExtAuthzGrpc; add one of this name"
			if len(there) > 0 {
				fix = "write one of " + strings.Join(there, ", ") + ", or add it to MeshConfig.extensionProviders"
			}
			l.report(p, "custom-provider", "spec.provider.name", fmt.Sprintf("there is no external authorizer %q: whatever the rules match is denied", name), fix)
		}
	}
	for _, t := range p.tests() {
		if k := t.Dimension.Kind; k == alternative.Source || k == alternative.Token || k == alternative.Claim {
			field := t.Field
			if len(t.Values) == 0 {
				field = t.NotField
			}
			l.report(p, "custom-field", field, fmt.Sprintf("%s is not supported with CUSTOM, which is decided before clients' identities and tokens are looked at", t.Name),
				"match by operation, address or header, and let the provider look at the identity")
		}
	}
}

// invalid compiles each policy for what it targets, as istiod would.
func (l *linter) invalid() {
	for _, p := range l.policies {
		if text, dry := p.Annotations[istio.DryRun]; dry {
			if _, err := strconv.ParseBool(text); err != nil {
				l.report(p, "dry-run-value", "metadata.annotations["+istio.DryRun+"]", fmt.Sprintf("%q is neither true nor false: istiod enforces the policy", text), `write "true" or "false", in quotes`)
			}
		}
		known := Rules()
		for _, name := range p.disabled {
			if !slices.ContainsFunc(known, func(r Rule) bool { return r.ID == name }) {
				l.report(p, "disable-value", "metadata.annotations["+DisableAnnotation+"]", fmt.Sprintf("there is no rule %q", name), "waypoint authz lint --rules lists them")
			}
		}
		if p.failed {
			continue // said in better words
		}
		one := p.Policy.Policy
		t := l.target()
		t.Gateway = istio.Object{Namespace: p.Namespace, Name: "waypoint"}
		if len(p.refs) == 0 && one.Spec != nil { // enforced by others, but the same rules of the API hold
			spec := &securityv1beta1.AuthorizationPolicy{Action: one.Spec.GetAction(), ActionDetail: one.Spec.GetActionDetail(), Rules: one.Spec.GetRules()}
			spec.TargetRefs = []*typev1beta1.PolicyTargetReference{{Kind: "Service", Name: "any"}}
			one.Spec = spec
			t.Objects = []istio.Object{{Kind: "Service", Namespace: p.Namespace, Name: "any"}}
		} else if len(p.refs) > 0 {
			switch ref := p.refs[0]; ref.Kind {
			case "Gateway":
				t.Gateway = ref
			default:
				t.Objects = []istio.Object{ref}
			}
		}
		if l.set.MeshConfig != nil {
			t.Providers = l.set.MeshConfig.GetExtensionProviders()
		}
		if _, err := istio.Compile([]istio.Policy{one}, t); err != nil {
			for text := range strings.SplitSeq(err.Error(), "\n") {
				text = strings.TrimPrefix(text, "AuthorizationPolicy "+p.name()+": ")
				field, _, _ := strings.Cut(text, ": ")
				l.report(p, "invalid", "spec."+field, text, "istiod refuses the policy as it is; correct the field")
			}
		}
	}
}
