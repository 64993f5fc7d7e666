package istio

// Mesh is what is known around the policies: enough to tell who enforces them. Package authz/x/manifest fills it from the
// objects of a cluster.
type Mesh struct {
	// RootNamespace of the mesh; default istio-system.
	RootNamespace string
	// Version of istiod; default the newest.
	Version Version
	// Partial says that there may be more objects than are listed here: what a policy names and the mesh does not list is
	// then reported as Enforcement.Unknown and not as a mistake. Without it, what is not listed does not exist.
	Partial  bool
	Gateways []Gateway
	Services []Service
	// Workloads of the mesh. Without any, what they are is unknown, also in a mesh that is not Partial.
	Workloads []Workload
	// Policies are all policies of the mesh. With them it can be told whether a waypoint can be gone around; nil leaves
	// that question out.
	Policies []Policy
}

// Gateway is a Gateway object: a waypoint, or an ingress or egress gateway.
type Gateway struct {
	Namespace, Name string
	// Class is spec.gatewayClassName; default istio-waypoint. A gateway of any other class is not a waypoint.
	Class string
	// For is the label istio.io/waypoint-for of a waypoint: service (default), workload, all or none.
	For string
	// ServiceAccount that the gateway runs as; default Name.
	ServiceAccount string
}

// Service is a Service or ServiceEntry.
type Service struct {
	Object
	// Selector picks its workloads by label; a ServiceEntry's workloadSelector.
	Selector map[string]string
	// Ports by number.
	Ports []Port
	// Headless is true for clusterIP: None. Its clients dial the addresses of pods.
	Headless bool
	// Waypoint that its traffic is led through; nil for none. Its own label istio.io/use-waypoint counts, else its
	// namespace's.
	Waypoint *Object
	// WaypointUnknown says that the labels which decide, those of its namespace, are not known. Waypoint is then nil.
	WaypointUnknown bool
}

// Port of a Service.
type Port struct {
	Number uint16
	// HTTP is true where the protocol is declared as HTTP, HTTP/2 or gRPC, or is sniffed.
	HTTP bool
}

// Workload is a pod, or the pods of a Deployment.
type Workload struct {
	Namespace, Name string
	Labels          map[string]string
	ServiceAccount  string
	Mode            Mode
	// Waypoint that traffic to its own address is led through; nil for none. Its own label istio.io/use-waypoint counts,
	// else its namespace's; and only a waypoint that is for workloads.
	Waypoint *Object
}

// Mode is how a workload takes part in the mesh.
type Mode uint8

// The modes of a workload.
const (
	NotInMesh   Mode = iota // neither sidecar nor ztunnel
	Ambient                 // its node's ztunnel enforces what it can
	HasSidecar              // its sidecar enforces
	ModeUnknown             // the labels of its namespace, which decide, are not known
)

// Enforcer is what enforces a policy.
type Enforcer uint8

// The enforcers.
const (
	ByNobody   Enforcer = iota
	ByZtunnel           // L4 attributes only
	ByWaypoint          // L4 and L7
	BySidecar           // L4 and L7
	ByGateway           // an ingress or egress gateway; L4 and L7
)

// String gives ztunnel, waypoint, sidecar, gateway or nobody.
func (e Enforcer) String() string {
	return [...]string{"nobody", "ztunnel", "waypoint", "sidecar", "gateway"}[e]
}

// Enforcement says who enforces a policy.
type Enforcement struct {
	Policy Object // Kind AuthorizationPolicy
	// By is every enforcer with what it guards; empty when nobody enforces the policy.
	By []EnforcedBy
	// Unknown is what the answer depends on and the mesh does not say. A Workload without a name stands for all workloads of
	// its namespace, or without a namespace for those of the mesh.
	Unknown []Object
	// Traps are what is likely not meant, the gravest first.
	Traps []Trap
}

// EnforcedBy is one enforcer.
type EnforcedBy struct {
	Enforcer Enforcer
	Name     Object // the gateway; or the workload whose ztunnel or sidecar it is
	Guards   Object // the Service, ServiceEntry or workload; the gateway itself for everything behind it
	// L7 tells whether the enforcer sees HTTP attributes on at least one port. On other ports a rule with HTTP attributes
	// allows nothing (ALLOW) or holds without them (DENY, AUDIT, CUSTOM).
	L7 bool
}

// Trap is a known mistake.
type Trap struct {
	// ID is stable, such as "selector-behind-waypoint".
	ID string
	// Field of the policy that it is about, such as "rules[0].to[0].operation.methods"; "" for the policy as a whole.
	Field string
	// Text says what happens, Fix what to write instead. Both are sentences for somebody who does not know Envoy.
	Text, Fix string
}
