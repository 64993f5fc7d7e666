package istio

// Mesh is what is known around the policies: enough to tell who enforces them.
type Mesh struct {
	// RootNamespace of the mesh; default istio-system.
	RootNamespace string
	Waypoints     []Waypoint
	Services      []Service
	Workloads     []Workload
}

// Waypoint is a Gateway of a waypoint class.
type Waypoint struct {
	Namespace, Name string
	// Class is spec.gatewayClassName; default istio-waypoint.
	Class string
	// For is the label istio.io/waypoint-for: service (default), workload, all or none.
	For string
}

// Service is a Service or ServiceEntry.
type Service struct {
	Object
	// Selector picks its workloads by label.
	Selector map[string]string
	// Ports by number.
	Ports []Port
	// Waypoint that its traffic is led through; nil for none. Its own label istio.io/use-waypoint counts, else its namespace's.
	Waypoint *Object
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
	Waypoint        *Object // for workload traffic
}

// Mode is how a workload takes part in the mesh.
type Mode uint8

// The modes of a workload.
const (
	NotInMesh  Mode = iota // neither sidecar nor ztunnel
	Ambient                // its node's ztunnel enforces what it can
	HasSidecar             // its sidecar enforces
)

// Enforcer is what enforces a policy.
type Enforcer uint8

// The enforcers.
const (
	ByNobody   Enforcer = iota
	ByZtunnel           // L4 attributes only
	ByWaypoint          // L4 and L7
	BySidecar           // L4 and L7
)

// Enforcement says who enforces a policy.
type Enforcement struct {
	Policy Object // Kind AuthorizationPolicy
	// By is every enforcer with what it guards; empty when nobody enforces the policy.
	By []EnforcedBy
	// Traps are what is likely not meant.
	Traps []Trap
}

// EnforcedBy is one enforcer.
type EnforcedBy struct {
	Enforcer Enforcer
	Name     Object // the waypoint; or the workload whose ztunnel or sidecar it is
	Guards   Object // the Service, ServiceEntry or workload
}

// Trap is a known mistake. ID is stable, such as "selector-behind-waypoint".
type Trap struct{ ID, Text, Fix string }
