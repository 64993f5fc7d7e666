package program

import (
	"net/netip"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/header"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Cluster is a compiled cluster. Its load-balancer state and its connections live in package cluster, under Name.
type Cluster struct {
	Name string
	Type ClusterType
	// Internal is set when the cluster's only endpoint is an internal listener that dispatches (main_internal): a tunnel that
	// is routed here goes on inside the process.
	Internal *Dispatch
	// Endpoints by priority, then in the order of the config. nil until the cluster's first assignment came (Warm is false).
	Endpoints []*Endpoint
	// Warm: the assignment has arrived (EDS), or none is needed.
	Warm bool
	// OriginalDst is set for clusters whose endpoint is the tunnel's own destination.
	OriginalDst *OriginalDst
	// DNS names to resolve, for StrictDNS and LogicalDNS.
	DNS *DNS

	ConnectTimeout time.Duration // Envoy's default is 5 s
	LB             LB
	Limits         CircuitBreakers
	Outlier        *OutlierDetection

	// Protocol of HTTP requests to the endpoints.
	Protocol    Protocol
	IdleTimeout time.Duration // of a pooled connection; Envoy's default is 1 h
	// MaxRequests per connection; 0: no limit.
	MaxRequests           uint32
	MaxConnectionDuration time.Duration
	// HTTP2 is what http2_protocol_options says of connections to the endpoints.
	HTTP2 HTTP2
	// AutoSNI: the SNI is the request's authority; AutoSANValidation: so is a name that the certificate must have.
	AutoSNI, AutoSANValidation bool

	// AltStatName is how logs and spans call the cluster, if it is not empty.
	AltStatName string
	// Service is metadata istio.services[0], for telemetry.
	Service Service
	// Subset is metadata istio.subset.
	Subset   string
	Metadata *corev3.Metadata

	Refused error
}

// Service names the service that a cluster stands for.
type Service struct{ Host, Name, Namespace string }

// ClusterType is Cluster.type.
type ClusterType uint8

// The discovery types.
const (
	Static ClusterType = iota
	EDS
	StrictDNS
	LogicalDNS
	OriginalDstType
)

// Protocol says how HTTP requests are sent upstream (HttpProtocolOptions).
type Protocol uint8

// The upstream protocols. UseDownstream: as the request came.
const (
	UpstreamHTTP1 Protocol = iota
	UpstreamHTTP2
	UseDownstream
)

// Endpoint is one place that a request can go to.
type Endpoint struct {
	// Key identifies the endpoint within its cluster across pushes; load-balancer and health state hang on it.
	Key string
	// Display is the endpoint as access logs and /clusters print it: "10.0.0.1:80" or "envoy://connect_originate/10.0.0.1:80".
	Display string
	// Address is the application's address (the pod's), for peer metadata; not valid if it is a name.
	Address  netip.AddrPort
	Health   Health
	Weight   uint32 // at least 1
	Priority uint32
	Locality Locality
	// LocalityWeight is the weight of the endpoint's locality, for LB.LocalityWeighted; 0: the locality gets nothing.
	LocalityWeight uint32
	// Hostname is Endpoint.hostname, or the name that a DNS cluster resolves.
	Hostname string
	// Hops lead to the endpoint, outermost first. Empty with Refused set.
	Hops []Hop
	// Workload is metadata istio.workload: "name;namespace;canonical name;revision;cluster".
	Workload string
	Metadata *corev3.Metadata
	Refused  error
}

// Locality is config.core.v3.Locality.
type Locality struct{ Region, Zone, SubZone string }

// Health is LbEndpoint.health_status, reduced to what load balancing does with it.
type Health uint8

// The health states: Unknown counts as healthy, Timeout as unhealthy, as in Envoy.
const (
	Healthy Health = iota
	Unhealthy
	Draining
	Degraded
)

// Hop is one layer on the way to an endpoint. One of Dial, TLS, Connect, Proxy is set.
type Hop struct {
	Dial    string // "ip:port", TCP
	TLS     *ClientTLS
	Connect *Connect
	Proxy   ProxyProtocol
	// ConnectTimeout bounds this hop; 0: that of the cluster.
	ConnectTimeout time.Duration
	// HTTP2 and IdleTimeout are those of the cluster that the hop's connection belongs to (Connect only).
	HTTP2       HTTP2
	IdleTimeout time.Duration
	// MaxRequests per connection (Connect only); 0: no limit; 1: a connection per tunnel (double HBONE).
	MaxRequests uint32
}

// Connect is an HTTP/2 CONNECT; what comes after it runs inside the tunnel.
type Connect struct {
	Authority string
	Headers   []header.Field
	UsePost   bool
	// Cluster is the name of the cluster that the tunnel's connection belongs to, for logs and stats.
	Cluster string
}

// ProxyProtocol is the PROXY header to send first.
type ProxyProtocol uint8

// The versions.
const (
	NoProxyProtocol ProxyProtocol = iota
	ProxyV1
	ProxyV2
)

// OriginalDst says how the tunnel's destination becomes an endpoint.
type OriginalDst struct {
	// PortOverride replaces the port that is dialled; 0: none.
	PortOverride uint16
	// Hops builds the hops for a destination.
	Hops func(dst netip.AddrPort) []Hop
	// Display renders it.
	Display func(dst netip.AddrPort) string
}

// DNS is what a DNS cluster resolves.
type DNS struct {
	Names       []DNSName
	RefreshRate time.Duration // Envoy's default is 5 s; istiod sends 60 s
	Family      DNSFamily
	RespectTTL  bool
}

// DNSName is an endpoint whose address is a name.
type DNSName struct {
	Host     string
	Port     uint16
	Template Endpoint // Hops holds what follows the dial
}

// DNSFamily is Cluster.dns_lookup_family.
type DNSFamily uint8

// The families.
const (
	DNSAuto DNSFamily = iota
	DNSV4Only
	DNSV6Only
	DNSV4Preferred
	DNSAll
)

// LB is the load-balancing policy.
type LB struct {
	Policy         LBPolicy
	ChoiceCount    uint32  // LEAST_REQUEST; default 2
	PanicThreshold float64 // percent; Envoy's default is 50, istiod sends 0
	MinRingSize    uint64
	MaglevTable    uint64
	// LocalityWeighted: pick a locality by weight first.
	LocalityWeighted bool
	// SlowStart is for LEAST_REQUEST and ROUND_ROBIN; nil: a new endpoint gets its full share at once.
	SlowStart *SlowStart
}

// SlowStart lets the share of a new endpoint grow: its weight counts by max(MinWeight, (age/Window)^(1/Aggression)) until it is as
// old as Window.
type SlowStart struct {
	Window     time.Duration
	Aggression float64 // more than 0; Envoy's default is 1, linear
	MinWeight  float64 // from 0 to 1; Envoy's default is 0.1
}

// LBPolicy is Cluster.lb_policy.
type LBPolicy uint8

// The policies.
const (
	LeastRequest LBPolicy = iota
	RoundRobin
	Random
	RingHash
	Maglev
	ClusterProvided
)

// CircuitBreakers is the default-priority threshold; 4294967295 means no limit, Envoy's default is 1024 (3 retries).
type CircuitBreakers struct {
	MaxConnections, MaxPending, MaxRequests, MaxRetries uint32
	// RetryBudget takes the place of MaxRetries when it is set.
	RetryBudget *RetryBudget
}

// RetryBudget bounds concurrent retries by the concurrent requests (CircuitBreakers.Thresholds.retry_budget).
type RetryBudget struct {
	Percent        float64 // Envoy's default is 20
	MinConcurrency uint32  // Envoy's default is 3
}

// OutlierDetection is Cluster.outlier_detection with Envoy's defaults filled in.
type OutlierDetection struct {
	Consecutive5xx                uint32
	EnforceConsecutive5xx         uint32 // percent
	ConsecutiveGatewayFailure     uint32
	EnforceGatewayFailure         uint32
	SplitLocalOrigin              bool
	ConsecutiveLocalOriginFailure uint32
	EnforceLocalOrigin            uint32
	Interval                      time.Duration
	BaseEjectionTime              time.Duration
	MaxEjectionTime               time.Duration
	MaxEjectionPercent            uint32
}
