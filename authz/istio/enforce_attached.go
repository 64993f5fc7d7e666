package istio

import (
	"fmt"
	"slices"

	typev1beta1 "istio.io/api/type/v1beta1"
)

// attached answers for a policy with targetRefs: waypoints and other gateways look at these, ztunnels and sidecars do not.
func (e *enquiry) attached() {
	if e.policy.Spec.GetSelector() != nil {
		e.trap(trapSelectorAndTargetRefs, "selector")
	}
	for i, ref := range targetRefs(e.policy.Spec) {
		path := fmt.Sprintf("targetRefs[%d]", i)
		switch {
		case !knownTarget(ref):
			e.trap(trapTargetKind, path+".kind", ref.GetKind(), ref.GetGroup())
		case ref.GetNamespace() != "" && ref.GetNamespace() != e.policy.Namespace:
			e.trap(trapTargetNamespace, path+".namespace", ref.GetNamespace(), e.policy.Namespace)
		case ref.GetKind() == "GatewayClass":
			e.class(ref, path)
		case ref.GetKind() == "Gateway":
			e.gateway(ref, path)
		default:
			e.service(ref, path)
		}
	}
	if e.action() == customAction && e.dryRun() && e.version.manyProviders() && len(e.out.By) > 0 {
		e.trap(trapDryRunCustom, "")
	}
}

// class answers for a policy of the root namespace that holds for all waypoints.
func (e *enquiry) class(ref *typev1beta1.PolicyTargetReference, path string) {
	switch {
	case !e.version.ownNamespaces():
		e.trap(trapClassVersion, path+".kind", e.version)
		return
	case ref.GetName() != WaypointClass:
		e.trap(trapClassName, path+".name", ref.GetName())
		return
	case e.policy.Namespace != e.root:
		e.trap(trapClassOutsideRoot, path, e.policy.Namespace, e.root)
		return
	}
	found := false
	for i := range e.mesh.Gateways {
		if g := &e.mesh.Gateways[i]; g.isWaypoint() {
			e.waypoint(g)
			found = true
		}
	}
	if !found && e.mesh.Partial {
		e.unknown(Object{Group: gatewayGroup, Kind: "GatewayClass", Name: WaypointClass})
	}
}

func (e *enquiry) gateway(ref *typev1beta1.PolicyTargetReference, path string) {
	want := Object{Group: gatewayGroup, Kind: "Gateway", Namespace: e.policy.Namespace, Name: ref.GetName()}
	g := e.mesh.gateway(want.Namespace, want.Name)
	if g == nil {
		for i := range e.mesh.Gateways {
			if other := &e.mesh.Gateways[i]; other.Name == want.Name {
				e.trap(trapGatewayElsewhere, path+".name", want, other.object(), other.Namespace)
				return
			}
		}
		e.missing(want, path, trapGatewayMissing)
		return
	}
	if !g.isWaypoint() {
		e.by(ByGateway, g.object(), g.object(), true)
		return
	}
	e.waypoint(g)
}

// missing says that an object is not there, as far as that is known.
func (e *enquiry) missing(o Object, path string, kind trapKind) {
	if e.mesh.Partial {
		e.unknown(o)
		return
	}
	e.trap(kind, path+".name", o)
}

// waypoint answers for a policy that holds for all that is led through a waypoint.
func (e *enquiry) waypoint(g *Gateway) {
	if g.For == "none" {
		e.trap(trapWaypointForNone, "", g.object())
		return
	}
	e.by(ByWaypoint, g.object(), g.object(), true)
	used := false
	for i := range e.mesh.Services {
		s := &e.mesh.Services[i]
		if e.mesh.waypointOf(s) != g {
			continue
		}
		used = true
		e.portsOf(s)
		e.aroundWaypoint(s, g)
	}
	for i := range e.mesh.Workloads {
		w := &e.mesh.Workloads[i]
		used = used || w.Waypoint != nil && w.Waypoint.Namespace == g.Namespace && w.Waypoint.Name == g.Name && g.takes("workload")
	}
	if !used && !e.mesh.Partial {
		e.trap(trapWaypointUnused, "", g.object(), g.Name)
	}
}

func (e *enquiry) service(ref *typev1beta1.PolicyTargetReference, path string) {
	want := Object{Group: targetGroups[ref.GetKind()], Kind: ref.GetKind(), Namespace: e.policy.Namespace, Name: ref.GetName()}
	var elsewhere *Service
	for i := range e.mesh.Services {
		s := &e.mesh.Services[i]
		if s.Kind != want.Kind || s.Name != want.Name {
			continue
		}
		if s.Namespace == want.Namespace {
			e.behind(s, path)
			return
		}
		elsewhere = s
	}
	if elsewhere != nil {
		e.trap(trapServiceElsewhere, path+".name", want, elsewhere.Object, elsewhere.Namespace)
		return
	}
	e.missing(want, path, trapServiceMissing)
}

// behind answers for one service that the policy names.
func (e *enquiry) behind(s *Service, path string) {
	if s.WaypointUnknown {
		e.unknown(namespaceObject(s.Namespace))
		return
	}
	if s.Waypoint == nil {
		if s.anyWorkload(e.mesh, HasSidecar) {
			e.trap(trapNoWaypointSidecars, path, s.Object)
		} else {
			e.trap(trapNoWaypoint, path, s.Object)
		}
		return
	}
	g := e.mesh.gateway(s.Waypoint.Namespace, s.Waypoint.Name)
	switch {
	case g == nil && e.mesh.Partial:
		e.unknown(Object{Group: gatewayGroup, Kind: "Gateway", Namespace: s.Waypoint.Namespace, Name: s.Waypoint.Name})
		return
	case g == nil:
		e.trap(trapWaypointMissing, path, s.Object, s.Waypoint.Namespace+"/"+s.Waypoint.Name)
		return
	case !g.isWaypoint():
		e.trap(trapNotAWaypoint, path, s.Object, g.object(), g.Class)
		return
	case !g.takes("service"):
		e.trap(trapWaypointFor, path, s.Object, g.object(), g.For)
		return
	}
	http, _ := s.ports()
	e.by(ByWaypoint, g.object(), s.Object, len(http) > 0)
	e.portsOf(s)
	if s.Headless {
		e.trap(trapHeadless, path, s.Object)
	}
	e.aroundWaypoint(s, g)
}

// anyWorkload tells whether a service has workloads that take part in the mesh in a way.
func (s *Service) anyWorkload(m *Mesh, mode Mode) bool {
	return slices.ContainsFunc(m.Workloads, func(w Workload) bool { return s.selects(&w) && w.Mode == mode })
}

// portsOf warns of HTTP attributes on ports where a waypoint sees none.
func (e *enquiry) portsOf(s *Service) {
	_, tcp := s.ports()
	if len(tcp) == 0 {
		return
	}
	for i, r := range e.policy.Spec.GetRules() {
		fields := httpFields(r)
		if len(fields) == 0 || !reaches(r, tcp) {
			continue
		}
		id := trapTCPPortDeny
		if e.allows() {
			id = trapTCPPortAllow
		}
		e.trap(id, fmt.Sprintf("rules[%d].%s", i, fields[0]), joinNames(fields), s.Object, joinPorts(tcp))
	}
}

// aroundWaypoint warns where nothing keeps clients from the workloads behind a waypoint.
func (e *enquiry) aroundWaypoint(s *Service, g *Gateway) {
	if e.mesh.Policies == nil {
		return
	}
	for i := range e.mesh.Workloads {
		w := &e.mesh.Workloads[i]
		if (w.Mode == Ambient || w.Mode == HasSidecar) && s.selects(w) && !e.closed(w) {
			e.trap(trapAroundWaypoint, "", s.Object, g.principal())
			return
		}
	}
}

// closed tells whether ALLOW policies say which clients may connect to a workload.
func (e *enquiry) closed(w *Workload) bool {
	guarded := false
	for i := range e.mesh.Policies {
		p := e.about(&e.mesh.Policies[i])
		if !p.guards(w) {
			continue
		}
		guarded = true
		for _, r := range p.policy.Spec.GetRules() {
			if len(clientFields(r)) == 0 && !atZtunnel(r, true).never {
				return false // for everybody
			}
		}
	}
	return guarded
}
