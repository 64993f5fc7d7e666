package istio

import (
	"fmt"
	"slices"
	"strconv"

	securityv1beta1 "istio.io/api/security/v1beta1"
)

// gatewayNameLabel is on the pods of a Gateway, of whatever class.
const gatewayNameLabel = "gateway.networking.k8s.io/gateway-name"

// eastWestClass is that of gateways between clusters, which look at no policy of a namespace.
const eastWestClass = "istio-east-west"

// WhoEnforces tells who enforces a policy, and what is likely not meant. It does not check the policy itself: Compile does.
//
// It takes istiod's settings as they are by default. With ENABLE_LAYERED_WAYPOINT_AUTHORIZATION_POLICIES a waypoint also
// enforces, for connections to itself and without HTTP attributes, the policies that select its pod.
func (m *Mesh) WhoEnforces(p *Policy) Enforcement {
	e := &enquiry{mesh: m, policy: p, version: m.Version.resolve(), root: m.RootNamespace}
	if e.root == "" {
		e.root = "istio-system"
	}
	e.out.Policy = Object{Group: "security.istio.io", Kind: "AuthorizationPolicy", Namespace: p.Namespace, Name: p.Name}
	if len(targetRefs(p.Spec)) > 0 {
		e.attached()
	} else {
		e.selected()
	}
	e.everywhere()
	slices.SortStableFunc(e.out.Traps, func(a, b Trap) int { return slices.Index(gravity, a.ID) - slices.Index(gravity, b.ID) })
	return e.out
}

// enquiry is the question about one policy.
type enquiry struct {
	mesh    *Mesh
	policy  *Policy
	version Version
	root    string
	out     Enforcement
}

func (e *enquiry) action() securityv1beta1.AuthorizationPolicy_Action {
	return e.policy.Spec.GetAction()
}

func (e *enquiry) allows() bool { return e.action() == securityv1beta1.AuthorizationPolicy_ALLOW }

// dryRun tells whether the policy is only to be evaluated.
func (e *enquiry) dryRun() bool {
	dry, _ := strconv.ParseBool(e.policy.Annotations[DryRun]) // anything else counts as false
	return dry
}

func (e *enquiry) by(who Enforcer, name, guards Object, l7 bool) {
	b := EnforcedBy{Enforcer: who, Name: name, Guards: guards, L7: l7}
	if !slices.Contains(e.out.By, b) {
		e.out.By = append(e.out.By, b)
	}
}

func (e *enquiry) unknown(o Object) {
	if !slices.Contains(e.out.Unknown, o) {
		e.out.Unknown = append(e.out.Unknown, o)
	}
}

func namespaceObject(name string) Object { return Object{Kind: "Namespace", Name: name} }

func (g *Gateway) object() Object {
	return Object{Group: gatewayGroup, Kind: "Gateway", Namespace: g.Namespace, Name: g.Name}
}

func (w *Workload) object() Object {
	return Object{Kind: "Workload", Namespace: w.Namespace, Name: w.Name}
}

func (g *Gateway) isWaypoint() bool { return g.Class == "" || g.Class == WaypointClass }

// takes tells whether a waypoint is for traffic of a kind: service or workload.
func (g *Gateway) takes(traffic string) bool {
	switch g.For {
	case "", "service":
		return traffic == "service"
	case "all":
		return true
	}
	return g.For == traffic
}

// identity is the SPIFFE identity of a gateway, without its trust domain.
func (g *Gateway) identity() (namespace, account string) {
	if g.ServiceAccount == "" {
		return g.Namespace, g.Name
	}
	return g.Namespace, g.ServiceAccount
}

// principal is the identity as a policy writes it in a mesh whose trust domain has no other name.
func (g *Gateway) principal() string {
	ns, sa := g.identity()
	return fmt.Sprintf("cluster.local/ns/%s/sa/%s", ns, sa)
}

func (m *Mesh) gateway(namespace, name string) *Gateway {
	for i := range m.Gateways {
		if g := &m.Gateways[i]; g.Namespace == namespace && g.Name == name {
			return g
		}
	}
	return nil
}

// waypointOf is the waypoint that a service's traffic is led through; nil where it is not.
func (m *Mesh) waypointOf(s *Service) *Gateway {
	if s.Waypoint == nil {
		return nil
	}
	g := m.gateway(s.Waypoint.Namespace, s.Waypoint.Name)
	if g == nil || !g.isWaypoint() || !g.takes("service") {
		return nil
	}
	return g
}

// selects tells whether a service picks a workload.
func (s *Service) selects(w *Workload) bool {
	return s.Namespace == w.Namespace && len(s.Selector) > 0 && subset(s.Selector, w.Labels)
}

// subset tells whether the labels have all that the selector wants.
func subset(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// ports sorts a service's ports by what a waypoint sees on them.
func (s *Service) ports() (http, tcp []uint16) {
	for _, p := range s.Ports {
		if p.HTTP {
			http = append(http, p.Number)
		} else {
			tcp = append(tcp, p.Number)
		}
	}
	return http, tcp
}
