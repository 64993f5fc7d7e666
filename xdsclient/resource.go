package xdsclient

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// The type URLs that a waypoint sees on its stream.
const (
	TypeCluster         = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	TypeEndpoint        = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	TypeListener        = "type.googleapis.com/envoy.config.listener.v3.Listener"
	TypeRoute           = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	TypeSecret          = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	TypeExtensionConfig = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	TypeWorkload        = "type.googleapis.com/istio.workload.Workload"
)

// pushOrder is the order in which istiod pushes; ours follows it so that a listener never precedes its clusters. Types that are not
// in the list come last. noun is what an error message calls the resource (cluster and listener are Envoy's words, which tools
// and people search for), separator what stands between two of them.
var pushOrder = []struct{ url, short, noun, separator string }{
	{TypeCluster, "CDS", "cluster", ", "},
	{TypeEndpoint, "EDS", "endpoint", ", "},
	{TypeListener, "LDS", "listener", "\n"},
	{TypeRoute, "RDS", "route", ", "},
	{TypeSecret, "SDS", "secret", ", "},
	{TypeExtensionConfig, "ECDS", "extension", ", "},
	{TypeWorkload, "WDS", "workload", ", "},
}

// ShortType returns the common abbreviation of a type URL ("CDS"), or the last part of its message name.
func ShortType(typeURL string) string {
	for _, t := range pushOrder {
		if t.url == typeURL {
			return t.short
		}
	}
	return typeURL[strings.LastIndexAny(typeURL, "./")+1:]
}

// rank returns a type's place in a push.
func rank(typeURL string) int {
	for i, t := range pushOrder {
		if t.url == typeURL {
			return i
		}
	}
	return len(pushOrder)
}

// A Resource is one xDS resource as it was received. It is immutable and may be shared between goroutines.
type Resource struct {
	TypeURL string
	Name    string // the name on the wire (Resource.name), which is the key
	Version string // empty from istiod, except for workloads
	// Value is the serialised message, byte for byte as received. It must not be modified. Nil for types that are kept as a
	// digest only ([Config].DigestOnly), except within Apply.
	Value []byte
}

// Any returns the resource as an Any that shares Value: what a config dump echoes.
func (r *Resource) Any() *anypb.Any {
	return &anypb.Any{TypeUrl: r.TypeURL, Value: r.Value}
}

// Message decodes the resource into a new message of its Go type. It decodes anew at each call and keeps nothing, so that the
// cache holds bytes only. The type must be linked into the program.
func (r *Resource) Message() (proto.Message, error) {
	m, err := r.Any().UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("not a valid %s: %w", messageName(r.TypeURL), err)
	}
	return m, nil
}

// Reject returns a rejection of this resource. field is the path within the resource, in the names of the protobuf
// (filter_chains[0].filters), or empty if the resource as a whole is meant; reason says what is wrong and what to do.
func (r *Resource) Reject(field, reason string) Rejection {
	return Rejection{Name: r.Name, Field: field, Reason: reason}
}

func messageName(typeURL string) protoreflect.FullName {
	return (&anypb.Any{TypeUrl: typeURL}).MessageName()
}

// A Rejection says that a resource is not put in force, and why. All of it goes into the NACK.
type Rejection struct {
	Name   string // of the resource
	Field  string // path of the offending field; may be empty
	Reason string
}

// String returns "name: field: reason".
func (r Rejection) String() string {
	if r.Field == "" {
		return r.Name + ": " + r.Reason
	}
	return r.Name + ": " + r.Field + ": " + r.Reason
}

// why is String without the name.
func (r Rejection) why() string {
	return strings.TrimPrefix(r.String(), r.Name+": ")
}

// An Update is what one response changed.
type Update struct {
	TypeURL string
	// Changed holds the resources that are new or whose bytes differ from those in force, in the server's order.
	Changed []*Resource
	// Removed holds the names that were in force and are no more. No name is both changed and removed.
	Removed []string
	// First says that it is the first response of this type in the life of the client. Only then both lists may be empty.
	First bool
	// SystemVersion is the response's system_version_info, istiod's name for the push; informational.
	SystemVersion string
}

// A Handler is the consumer of the resources.
type Handler interface {
	// Apply validates an update and puts what is good in force before it returns. What it rejects keeps its last good version.
	// A removal cannot be rejected. A resource may be rejected for several fields; a rejection that names no resource of the
	// update changes nothing in the cache but still makes the answer a NACK.
	//
	// Apply is never called twice at a time. While it runs, no response is read. It may call the Client's methods; the cache
	// ([Client].Get, Snapshot) does not contain the update until Apply has returned.
	Apply(*Update) []Rejection
}
