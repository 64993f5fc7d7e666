package config

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// The type URLs that [Resources] holds.
const (
	TypeListener  = "type.googleapis.com/envoy.config.listener.v3.Listener"
	TypeCluster   = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	TypeEndpoint  = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	TypeRoute     = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	TypeExtension = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
)

// Resource is one resource as it was received.
type Resource struct {
	// Raw is the serialised message, which nobody changes. Two resources are the same if their bytes are.
	Raw []byte
	// Message is Raw decoded, or nil: it is decoded when it is needed and not kept. The compiler does not change it.
	Message proto.Message
}

// Set is the resources of one type by name.
type Set map[string]Resource

// Resources is what istiod wants to be in force. The compiler reads the maps during Compile only.
type Resources struct {
	Listeners Set
	Clusters  Set
	// Endpoints are ClusterLoadAssignments by the name that they were asked for ([Compiler.EDSNames]).
	Endpoints Set
	// Extensions are TypedExtensionConfigs (ECDS).
	Extensions Set
	Routes     Set
}

// Of returns the set of a type, nil for a type that is not compiled. With create set, an absent set is made.
func (r *Resources) Of(typeURL string, create bool) Set {
	var s *Set
	switch typeURL {
	case TypeListener:
		s = &r.Listeners
	case TypeCluster:
		s = &r.Clusters
	case TypeEndpoint:
		s = &r.Endpoints
	case TypeExtension:
		s = &r.Extensions
	case TypeRoute:
		s = &r.Routes
	default:
		return nil
	}
	if *s == nil && create {
		*s = Set{}
	}
	return *s
}

// same tells whether two serialised messages are equal. Slices of one array, the usual case, are not read.
func same(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	return len(a) == 0 || &a[0] == &b[0] || bytes.Equal(a, b)
}

// decode returns the resource's message as a T.
func decode[T proto.Message](r Resource, into T) (T, error) {
	if m, ok := r.Message.(T); ok {
		return m, nil
	}
	if err := proto.Unmarshal(r.Raw, into); err != nil {
		return into, fmt.Errorf("not a valid %s: %w", into.ProtoReflect().Descriptor().FullName(), err)
	}
	return into, nil
}

func decodeCluster(r Resource) (*clusterv3.Cluster, error) { return decode(r, &clusterv3.Cluster{}) }
func decodeAssignment(r Resource) (*endpointv3.ClusterLoadAssignment, error) {
	return decode(r, &endpointv3.ClusterLoadAssignment{})
}
func decodeExtension(r Resource) (*corev3.TypedExtensionConfig, error) {
	return decode(r, &corev3.TypedExtensionConfig{})
}
func decodeRoutes(r Resource) (*routev3.RouteConfiguration, error) {
	return decode(r, &routev3.RouteConfiguration{})
}

// newMessage makes an empty message of a type URL.
func newMessage(typeURL string) proto.Message {
	switch typeURL {
	case TypeListener:
		return &listenerv3.Listener{}
	case TypeCluster:
		return &clusterv3.Cluster{}
	case TypeEndpoint:
		return &endpointv3.ClusterLoadAssignment{}
	case TypeExtension:
		return &corev3.TypedExtensionConfig{}
	case TypeRoute:
		return &routev3.RouteConfiguration{}
	}
	return nil
}
