package manifests

import (
	"net/netip"

	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// TrustDomain of the demo's mesh, Istio's default.
const TrustDomain = "cluster.local"

// Mesh is what the manifests say. It is not changed after Load.
type Mesh struct {
	Waypoint Waypoint
	// Services that go through the waypoint, by namespace and name.
	Services []*Service
	// Direct are Services without a waypoint, which nothing of the demo leads to.
	Direct   []*Service
	Pods     []*Pod
	Accounts []Account // all that are mentioned, sorted
	Policies []istio.Policy
	Routes   []*Route
}

// Waypoint is the Gateway.
type Waypoint struct {
	Namespace, Name string
}

// Account is a service account.
type Account struct{ Namespace, Name string }

// Principal is the identity of an account.
func (a Account) Principal() string {
	return "spiffe://" + TrustDomain + "/ns/" + a.Namespace + "/sa/" + a.Name
}

func (a Account) String() string { return a.Namespace + "/" + a.Name }

// Service is a Service with its addresses.
type Service struct {
	Namespace, Name string
	VIP             netip.Addr
	Ports           []Port
	Selector        map[string]string
}

// Host is the service's name in the mesh.
func (s *Service) Host() string { return s.Name + "." + s.Namespace + ".svc." + TrustDomain }

// Port is a TCP port of a service.
type Port struct {
	Name     string
	Number   uint16
	Protocol Protocol
	target   intOrString
}

// Target is the port of a pod that a service port leads to, 0 when the pod has none of that name.
func (p *Port) Target(pod *Pod) uint16 {
	switch {
	case p.target.text != "":
		return pod.Ports[p.target.text]
	case p.target.number != 0:
		return p.target.number
	}
	return p.Number
}

// Protocol says what a port speaks, by its appProtocol or its name (Istio's protocol selection).
type Protocol uint8

// What a port may speak.
const (
	Auto Protocol = iota // not declared: the waypoint looks at the first bytes
	TCP
	HTTP
	HTTP2 // gRPC included
)

// Pod is one pod of the demo's destination node, or a client.
type Pod struct {
	Namespace, Name string
	IP              netip.Addr
	Labels          map[string]string
	Account         Account
	Workload        string            // name of the Deployment, or of the pod
	Deployment      bool              // what Workload names
	Ports           map[string]uint16 // container ports that have a name
	HBONE           bool              // false: label istio.io/dataplane-mode: none
}

// Canonical returns the canonical service and revision, as Istio reads them off labels.
func (p *Pod) Canonical() (service, revision string) {
	return firstLabel(p.Labels, p.Workload, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app"),
		firstLabel(p.Labels, "latest", "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
}

func firstLabel(labels map[string]string, otherwise string, keys ...string) string {
	for _, k := range keys {
		if v := labels[k]; v != "" {
			return v
		}
	}
	return otherwise
}

// Endpoints are the pods that a service selects.
func (m *Mesh) Endpoints(s *Service) []*Pod {
	var out []*Pod
	for _, p := range m.Pods {
		if p.Namespace == s.Namespace && len(s.Selector) > 0 && selects(s.Selector, p.Labels) {
			out = append(out, p)
		}
	}
	return out
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// Service finds a service that goes through the waypoint; nil when there is none.
func (m *Mesh) Service(namespace, name string) *Service {
	for _, s := range m.Services {
		if s.Namespace == namespace && s.Name == name {
			return s
		}
	}
	return nil
}

// Port finds a port by number; nil when there is none.
func (s *Service) Port(number uint16) *Port {
	for i := range s.Ports {
		if s.Ports[i].Number == number {
			return &s.Ports[i]
		}
	}
	return nil
}
