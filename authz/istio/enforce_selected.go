package istio

import (
	"fmt"
	"slices"

	securityv1beta1 "istio.io/api/security/v1beta1"
)

const (
	customAction = securityv1beta1.AuthorizationPolicy_CUSTOM
	auditAction  = securityv1beta1.AuthorizationPolicy_AUDIT
)

// selected answers for a policy without targetRefs: for the workloads of its selector, of its namespace, or of the mesh.
func (e *enquiry) selected() {
	if s := e.policy.Spec.GetSelector(); s != nil && len(s.GetMatchLabels()) == 0 {
		e.trap(trapEmptySelector, "selector")
	}
	found := false
	var ambient, outside []*Workload
	for i := range e.mesh.Workloads {
		w := &e.mesh.Workloads[i]
		if !e.covers(w) {
			continue
		}
		found = true
		switch g := e.gatewayOf(w); {
		case g != nil && g.isWaypoint():
			if e.policy.Spec.GetSelector() != nil {
				e.trap(trapSelectsWaypoint, "selector", g.object(), g.Name)
			}
		case g != nil:
			e.by(ByGateway, g.object(), g.object(), true)
		case w.Mode == HasSidecar:
			e.by(BySidecar, w.object(), w.object(), true)
		case w.Mode == Ambient:
			ambient = append(ambient, w)
		case w.Mode == ModeUnknown:
			e.unknown(namespaceObject(w.Namespace))
		default:
			outside = append(outside, w)
		}
	}
	if e.policy.Spec.GetSelector() == nil {
		e.gatewaysInScope()
	}
	switch {
	case found:
	case e.mesh.Partial || len(e.mesh.Workloads) == 0:
		where := e.policy.Namespace
		if where == e.root {
			where = "" // it is for all of the mesh
		}
		e.unknown(Object{Kind: "Workload", Namespace: where})
	case e.policy.Spec.GetSelector() != nil:
		e.trap(trapSelectsNothing, "selector", e.policy.Namespace)
	}
	if len(outside) > 0 && e.policy.Spec.GetSelector() != nil {
		e.trap(trapNotInMesh, "selector", joinObjects(outside))
	}
	if len(ambient) > 0 {
		e.ztunnel(ambient)
	}
	e.waypointsInScope()
}

// gatewaysInScope answers for ingress and egress gateways, which take a policy of a whole namespace or mesh as any pod does.
func (e *enquiry) gatewaysInScope() {
	for i := range e.mesh.Gateways {
		g := &e.mesh.Gateways[i]
		if g.isWaypoint() || g.Class == eastWestClass || !e.inScope(g.Namespace) {
			continue
		}
		e.by(ByGateway, g.object(), g.object(), true)
		for j, r := range e.policy.Spec.GetRules() {
			if fields := clientFields(r); e.allows() && len(fields) > 0 {
				e.trap(trapGatewaysToo, fmt.Sprintf("rules[%d].%s", j, fields[0]), g.object(), g.Name)
				break
			}
		}
	}
}

// inScope tells whether the policy counts in a namespace at all.
func (e *enquiry) inScope(namespace string) bool {
	return e.policy.Namespace == namespace || e.policy.Namespace == e.root
}

// covers tells whether the policy is for a workload.
func (e *enquiry) covers(w *Workload) bool {
	if !e.inScope(w.Namespace) {
		return false
	}
	s := e.policy.Spec.GetSelector()
	// A selector without labels covers the workloads with sidecars, but none that a ztunnel is for.
	if s != nil && len(s.GetMatchLabels()) == 0 && w.Mode == Ambient {
		return false
	}
	return subset(s.GetMatchLabels(), w.Labels)
}

// gatewayOf is the gateway that a workload is a pod of; nil for any other workload.
func (e *enquiry) gatewayOf(w *Workload) *Gateway {
	name, ok := w.Labels[gatewayNameLabel]
	if !ok {
		return nil
	}
	return e.mesh.gateway(w.Namespace, name)
}

// ztunnel answers for the workloads that a ztunnel is for.
func (e *enquiry) ztunnel(workloads []*Workload) {
	if e.action() == customAction || e.action() == auditAction {
		e.trap(trapActionAtZtunnel, "action", e.action(), joinObjects(workloads))
		return
	}
	if e.dryRun() {
		if e.version.ztunnelDryRun() {
			e.trap(trapDryRunNotSent, "")
			return
		}
		e.trap(trapDryRunEnforced, "", e.version)
	}
	for _, w := range workloads {
		e.by(ByZtunnel, w.object(), w.object(), false)
	}
	for i, r := range e.policy.Spec.GetRules() {
		path := fmt.Sprintf("rules[%d]", i)
		effect := atZtunnel(r, e.allows())
		if len(effect.http) > 0 {
			id := trapL7Allow
			if !e.allows() {
				id = trapL7Deny
				if effect.never {
					id = trapL7DenyNever
				}
			}
			e.trap(id, path+"."+effect.http[0], joinNames(effect.http), joinObjects(workloads))
		}
		for _, f := range effect.dropped {
			id := trapTrustDomain
			if effect.never {
				id = trapTrustDomainNever
			}
			e.trap(id, path+"."+f)
		}
	}
}

// waypointsInScope warns of the services that the policy seems to guard and whose waypoint does not look at it. Behind the
// waypoint the workloads' ztunnels do, but what they see is the waypoint as the client.
func (e *enquiry) waypointsInScope() {
	var gateways []*Gateway
	services := map[*Gateway][]Object{}
	ambient := map[*Gateway][]*Workload{} // behind each of them
	note := func(g *Gateway, o Object) {
		if !slices.Contains(gateways, g) {
			gateways = append(gateways, g)
		}
		services[g] = append(services[g], o)
	}
	for i := range e.mesh.Services {
		s := &e.mesh.Services[i]
		g := e.mesh.waypointOf(s)
		if g == nil || !e.inScope(s.Namespace) {
			continue
		}
		covered := false
		for j := range e.mesh.Workloads {
			if w := &e.mesh.Workloads[j]; s.selects(w) && e.covers(w) {
				covered = true
				if w.Mode == Ambient {
					ambient[g] = append(ambient[g], w)
				}
			}
		}
		if covered || e.policy.Spec.GetSelector() == nil {
			note(g, s.Object)
		}
	}
	for i := range e.mesh.Workloads {
		w := &e.mesh.Workloads[i]
		if w.Waypoint == nil || !e.covers(w) {
			continue
		}
		if g := e.mesh.gateway(w.Waypoint.Namespace, w.Waypoint.Name); g != nil && g.isWaypoint() && g.takes("workload") {
			note(g, w.object())
			if w.Mode == Ambient {
				ambient[g] = append(ambient[g], w)
			}
		}
	}
	for _, g := range gateways {
		id := trapSelectorBehindWaypoint
		if e.policy.Spec.GetSelector() == nil {
			id = trapNamespaceWide
		}
		e.trap(id, "", g.object(), joinTargets(services[g]), g.Name)
		if len(ambient[g]) > 0 && e.action() != customAction && e.action() != auditAction && (!e.dryRun() || !e.version.ztunnelDryRun()) {
			e.seenAs(g, ambient[g])
		}
	}
}

// seenAs warns where the rules are about clients and the client that is seen is the waypoint.
func (e *enquiry) seenAs(g *Gateway, workloads []*Workload) {
	if e.allows() {
		if !e.admitsAnywhere(g, workloads) {
			e.trap(trapWaypointDenied, "rules", g.object(), g.principal())
		}
		return
	}
	for i, r := range e.policy.Spec.GetRules() {
		by := clientFields(r)
		if len(by) == 0 || atZtunnel(r, false).never {
			continue
		}
		field := fmt.Sprintf("rules[%d].%s", i, by[0])
		if mayBe(r, e.policy.Namespace, g, false) {
			e.trap(trapWaypointDeniedByRule, field, g.object(), g.principal())
		} else {
			e.trap(trapClientHidden, field, g.object(), g.Name)
		}
	}
}

// admits tells whether the policy may let a gateway through as a client.
func (e *enquiry) admits(g *Gateway) bool {
	return slices.ContainsFunc(e.policy.Spec.GetRules(), func(r *securityv1beta1.Rule) bool {
		return !atZtunnel(r, true).never && mayBe(r, e.policy.Namespace, g, true)
	})
}

// admitsAnywhere tells whether this policy, or another ALLOW policy for each of the workloads, lets a gateway through.
func (e *enquiry) admitsAnywhere(g *Gateway, workloads []*Workload) bool {
	if e.admits(g) {
		return true
	}
	for _, w := range workloads {
		if !slices.ContainsFunc(e.mesh.Policies, func(p Policy) bool { return e.about(&p).guards(w) && e.about(&p).admits(g) }) {
			return false
		}
	}
	return len(workloads) > 0
}

// about is the same question about another policy.
func (e *enquiry) about(p *Policy) *enquiry {
	return &enquiry{mesh: e.mesh, policy: p, version: e.version, root: e.root}
}

// guards tells whether the policy is an ALLOW policy that the ztunnel or sidecar of a workload enforces.
func (e *enquiry) guards(w *Workload) bool {
	return e.allows() && !e.dryRun() && len(targetRefs(e.policy.Spec)) == 0 && e.covers(w)
}
