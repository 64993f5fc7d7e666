package telemetry

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
)

// Headers gives read access to one header block. Names are asked for in lower case; HTTP/2 pseudo-headers are asked for by
// their name (":path"). Several lines of one name are one value, joined by a comma (RFC 9110 section 5.3), or the first
// one: the implementation decides, and Envoy's access log does the former.
type Headers interface {
	Get(name string) (value string, ok bool)
}

// MetadataSource names the place in which %METADATA(SOURCE:namespace:key…)% looks.
type MetadataSource uint8

// The places that have Envoy metadata.
const (
	MetadataRequest      MetadataSource = iota // dynamic metadata, as filters wrote it: JWT claims, RBAC shadow results
	MetadataRoute                              // of the route entry
	MetadataCluster                            // of the upstream cluster
	MetadataUpstreamHost                       // of the endpoint
	MetadataListener
	MetadataListenerFilterChain
	MetadataVirtualHost
)

// Metadata gives read access to the metadata of one exchange.
type Metadata interface {
	// Lookup walks path inside the namespace's struct. An empty path asks for the whole struct. nil means absent.
	Lookup(source MetadataSource, namespace string, path []string) *structpb.Value
}

// MetadataNamespaces is a [Metadata] whose namespaces can be gone through, for logs that send all of them.
type MetadataNamespaces interface {
	Metadata
	// Namespaces calls yield with each namespace of the request's own metadata until yield returns false. The structs are not to be
	// changed, nor kept.
	Namespaces(yield func(namespace string, s *structpb.Struct) bool)
}

// FilterState gives read access to the named objects that filters left for each other. The peers (downstream_peer_obj …)
// need not be in it: the formats take them from the Record.
type FilterState interface {
	// Plain is the object as text: %FILTER_STATE(key:PLAIN)%.
	Plain(key string) (string, bool)
	// Field is one field of the object: %FILTER_STATE(key:FIELD:name)%.
	Field(key, name string) (string, bool)
}

// Protocol is the HTTP version of the downstream message, as %PROTOCOL% prints it. Empty for TCP.
type Protocol string

// The protocols that a waypoint serves.
const (
	HTTP10 Protocol = "HTTP/1.0"
	HTTP11 Protocol = "HTTP/1.1"
	HTTP2  Protocol = "HTTP/2"
)

// GRPCStatus is a gRPC status code plus one, so that the zero value means that there is none.
type GRPCStatus int32

// GRPC is the status with the given code.
func GRPC(code uint32) GRPCStatus { return GRPCStatus(code) + 1 }

// Code is the gRPC status code; ok is false when there is none.
func (s GRPCStatus) Code() (code int, ok bool) { return int(s) - 1, s > 0 }

// Millis is a duration that may be absent: the zero value is absent. Envoy's durations in logs are whole milliseconds.
type Millis struct {
	d  time.Duration
	ok bool
}

// Took is the duration d, present.
func Took(d time.Duration) Millis { return Millis{max(d, 0), true} }

// Get is the duration and whether it is known.
func (m Millis) Get() (time.Duration, bool) { return m.d, m.ok }

// Record tells everything about one finished HTTP request or TCP connection.
//
// A zero field means "not known" unless its comment says otherwise. A Record lives in a struct that its owner reuses:
// set it to Record{} and fill it again; nothing of it is kept after the calls that it is handed to have returned, save the
// Peer and Service pointers, which must therefore point to values that never change.
type Record struct {
	// Start is when the first byte of the request or connection came.
	Start time.Time
	// Duration is from Start to the last byte sent downstream. Absent while the exchange is not complete; metrics then
	// leave out the duration histogram.
	Duration Millis
	// UpstreamServiceTime is what x-envoy-upstream-service-time says: from the request sent to the response's head. Absent
	// when that header was not sent (suppress_envoy_headers), because logs then show none either.
	UpstreamServiceTime Millis

	// Timing has the moments in between.
	Timing Timing

	// Protocol is the version of the downstream request. Empty for TCP.
	Protocol Protocol
	// UpstreamProtocol is the version used towards the upstream. Empty without one.
	UpstreamProtocol Protocol
	// GRPC is true when the request's content-type is application/grpc, with or without a suffix.
	GRPC bool
	// HealthCheck is true for a request that a health check filter answered.
	HealthCheck bool

	// Method, Scheme, Authority and Path are the request's pseudo-headers as they were sent upstream (after normalisation
	// and rewriting). The path that the client sent is in x-envoy-original-path when it was rewritten.
	Method, Scheme, Authority, Path string
	// RequestHeaders, ResponseHeaders and ResponseTrailers are nil when there are none.
	RequestHeaders, ResponseHeaders, ResponseTrailers Headers
	// RequestID is x-request-id.
	RequestID string

	// ResponseCode is the HTTP status sent downstream, 0 when none was sent.
	ResponseCode int
	// ResponseCodeDetails says who set the code and why: "via_upstream", "rbac_access_denied_matched_policy[none]".
	ResponseCodeDetails string
	// Flags are the response flags, in the order of being set.
	Flags Flags
	// GRPCStatus is the grpc-status of the answer, from trailers or headers.
	GRPCStatus GRPCStatus
	// GRPCMessage is the grpc-message of the answer.
	GRPCMessage string
	// ConnectionTerminationDetails says why the proxy closed the downstream connection.
	ConnectionTerminationDetails string
	// UpstreamTransportFailureReason is the error of the failed upstream connection.
	UpstreamTransportFailureReason string
	// Policy is the authorization policy that decided, as authz names it. Empty if none took part.
	Policy string

	// BytesReceived and BytesSent count body bytes from and to the client (for TCP: payload).
	BytesReceived, BytesSent uint64
	// WireBytesReceived and WireBytesSent count downstream bytes with headers and framing. The size metrics use them.
	WireBytesReceived, WireBytesSent uint64
	// UpstreamWireBytesReceived and UpstreamWireBytesSent are the same towards the upstream.
	UpstreamWireBytesReceived, UpstreamWireBytesSent uint64
	// HeaderBytesReceived and HeaderBytesSent count the header lines among the downstream bytes, as they look in HTTP/1.1 (so
	// before compression), and the next two the same towards the upstream.
	HeaderBytesReceived, HeaderBytesSent                 uint64
	UpstreamHeaderBytesReceived, UpstreamHeaderBytesSent uint64
	// RequestMessages and ResponseMessages count gRPC messages, since the start of the stream.
	RequestMessages, ResponseMessages uint64
	// Attempts is how often the request was sent upstream: 1 without a retry, 0 when it never was.
	Attempts int

	// DownstreamRemote is the client pod's address (the peer of the HBONE connection), DownstreamLocal the tunnel's
	// target (service VIP and port).
	DownstreamRemote, DownstreamLocal netip.AddrPort
	// DownstreamDirectRemote is the peer of the transport connection; invalid means the same as DownstreamRemote.
	DownstreamDirectRemote netip.AddrPort
	// ConnectionID numbers downstream connections from 1.
	ConnectionID uint64
	// RequestedServerName is the SNI of the downstream connection.
	RequestedServerName string

	// UpstreamHost is the endpoint as Envoy prints it: "10.1.2.3:8080", or "envoy://connect_originate/10.1.2.3:8080"
	// when it is reached through HBONE. Empty if none was picked.
	UpstreamHost string
	// UpstreamAddress is the endpoint's address, UpstreamLocal our side of the connection to it.
	UpstreamAddress, UpstreamLocal netip.AddrPort
	// UpstreamLocalText replaces UpstreamLocal where that is no socket address: "envoy://internal_client_address/".
	UpstreamLocalText string
	// EarlierHosts are the endpoints of the attempts before the last one, as UpstreamHost, joined by commas.
	EarlierHosts string
	// UpstreamCluster is the cluster's name, UpstreamClusterAlt its alt_stat_name (observability name) if it has one.
	UpstreamCluster, UpstreamClusterAlt string
	// RouteName is the name of the route entry; VirtualHost the name of the virtual host, FilterChain that of the chain.
	RouteName, VirtualHost, FilterChain string

	// PeerPrincipal is the client's SPIFFE id (filter state io.istio.peer_principal), LocalPrincipal ours.
	PeerPrincipal, LocalPrincipal string
	// Source is the client's workload, Destination that of the endpoint. Each is nil while unknown, and is never changed
	// once a Record points to it: metrics use the pointer as a key.
	Source, Destination *Peer
	// Service is the destination service, from the cluster's metadata (istio.services[0]). Immutable, like the peers.
	Service *Service

	// Metadata and FilterState are nil when there is none.
	Metadata    Metadata
	FilterState FilterState

	// TLS is what the handshake of this very downstream connection proved; nil inside a tunnel, and without TLS.
	TLS *TLS

	// TraceID and SpanID are those of the request's span, in hex. Set by the tracer at the start of the span.
	TraceID, SpanID string
	// NoChain marks the record of a connection for which the listener found no filter chain: the listener's own log.
	NoChain bool
}

// Service is a destination service.
type Service struct {
	Host      string // "reviews.default.svc.cluster.local"
	Name      string // "reviews"
	Namespace string // "default"
}

// Peer describes a workload: the client's, or the endpoint's. The fields are those of the workload metadata object that
// Istio keeps in filter state (downstream_peer_obj, upstream_peer_obj). Empty means not known.
type Peer struct {
	Namespace         string
	Cluster           string
	CanonicalService  string
	CanonicalRevision string
	App               string // workload discovery has no app label: the canonical service
	Version           string // likewise the canonical revision
	Workload          string
	Type              string // "deployment", "pod", "job", "cronjob"
	Name              string // of the instance: the pod
	Identity          string // "spiffe://cluster.local/ns/default/sa/reviews"
	Region, Zone      string
}

// peerFields are the names under which filter state shows a Peer, in the order of its text form.
var peerFields = []struct {
	name string
	get  func(*Peer) string
}{
	{"type", func(p *Peer) string { return p.Type }},
	{"workload", func(p *Peer) string { return p.Workload }},
	{"name", func(p *Peer) string { return p.Name }},
	{"cluster", func(p *Peer) string { return p.Cluster }},
	{"namespace", func(p *Peer) string { return p.Namespace }},
	{"service", func(p *Peer) string { return p.CanonicalService }},
	{"revision", func(p *Peer) string { return p.CanonicalRevision }},
	{"app", func(p *Peer) string { return p.App }},
	{"version", func(p *Peer) string { return p.Version }},
	{"region", func(p *Peer) string { return p.Region }},
	{"availability_zone", func(p *Peer) string { return p.Zone }},
	{"identity", func(p *Peer) string { return p.Identity }},
}

// PeerFieldGetter finds the accessor of a field by the name that filter state gives it ("workload", "service", …), once,
// when a format is compiled. ok is false for a name that is no field.
func PeerFieldGetter(name string) (get func(*Peer) string, ok bool) {
	for _, f := range peerFields {
		if f.name == name {
			return f.get, true
		}
	}
	return nil, false
}

// AppendText adds the peer as Istio prints the object in %FILTER_STATE(downstream_peer_obj:PLAIN)%: name=value pairs of
// what is known, joined by commas. The identity is no part of that form.
func (p *Peer) AppendText(dst []byte) []byte {
	first := true
	for _, f := range peerFields {
		v := f.get(p)
		if v == "" || f.name == "identity" {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(append(dst, f.name...), '='), v...)
	}
	return dst
}

// Struct is the peer as the struct in filter state "downstream_peer", without the fields that are not known.
func (p *Peer) Struct() *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for _, f := range peerFields {
		if v := f.get(p); v != "" {
			s.Fields[f.name] = structpb.NewStringValue(v)
		}
	}
	return s
}
