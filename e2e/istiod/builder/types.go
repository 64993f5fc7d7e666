package builder

// Request is a set of objects and the questions about them. Cases refer to objects by their index, so that thousands of
// combinations of a few hundred policies are parsed once.
type Request struct {
	// Objects are Kubernetes objects in YAML, one each: AuthorizationPolicy and RequestAuthentication, oldest first.
	Objects []string
	Cases   []Case
	// Unvalidated has objects taken that the API server would refuse, as istiod does when its webhook is not in place.
	Unvalidated bool
}

// Case is one chain of one waypoint in one mesh.
type Case struct {
	// Objects are indexes of Request.Objects: what the cluster holds.
	Objects []int
	// Mesh is MeshConfig in YAML, on top of Istio's defaults and not validated: trust domains, root namespace, extension
	// providers.
	Mesh string
	// MultipleProviders is the feature flag PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS; older lines do not have it.
	MultipleProviders bool
	// Gateway is the waypoint.
	Gateway Gateway
	// Service behind the chain; nil for a chain of workload traffic.
	Service *Service
}

// Gateway names a waypoint.
type Gateway struct{ Namespace, Name string }

// Service is a Service or, if External, a ServiceEntry.
type Service struct {
	Namespace, Name, Hostname string
	External                  bool
}

// Response answers a Request.
type Response struct {
	// Refused says why istiod does not accept an object, by its index: a field that this line's API does not have, or what
	// its validation says. A case with such an object has no answer.
	Refused map[int]string
	// Chains answer the cases, in their order.
	Chains []Chain
}

// Chain is what istiod puts into the HTTP and into the TCP chain of a service, in the order of the chain.
type Chain struct {
	HTTP, TCP []Filter
	// Panic is what istiod died of, "" if it lived: there are objects for which that happens, should they get past its
	// validation.
	Panic string
}

// Filter is a filter of a chain. Config is the serialised google.protobuf.Any.
type Filter struct {
	Name   string
	Config []byte
}
