package route

import (
	"regexp"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry/format"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Config is a compiled RouteConfiguration. [Compile] makes it.
type Config struct {
	Name  string
	hosts hostTable
	// VirtualHosts in the order of the config, for those who explain it; Match looks into a table.
	VirtualHosts []*VirtualHost
	// MaxDirectBody is max_direct_response_body_size_bytes; Envoy's default is 4096. A longer body is accepted all the same
	// (Envoy refuses the listener, although Istio's own validation admits 1 MiB).
	MaxDirectBody int

	RequestHeaders                  HeaderOps
	ResponseHeaders                 HeaderOps
	FilterConfigs                   map[string]any
	MostSpecificHeaderMutationsWins bool
	// OriginalHeaders: a rewrite leaves x-envoy-original-path and x-envoy-original-host, as in Envoy unless the router has
	// suppress_envoy_headers.
	OriginalHeaders bool

	// ignoreParameters is ignore_path_parameters_in_path_matching.
	ignoreParameters bool
}

// VirtualHost is a set of domains and their routes.
type VirtualHost struct {
	Name            string
	Domains         []string
	Routes          []*Route
	RequestHeaders  HeaderOps
	ResponseHeaders HeaderOps
	FilterConfigs   map[string]any
	Metadata        *corev3.Metadata
	Config          *Config

	// toTLS answers what did not come over TLS (require_tls); nil: everything is served.
	toTLS *Route
	// externalOnly: toTLS is for requests that are not internal.
	externalOnly bool
}

// Route is a match and what follows from it. One of Forward, Redirect, Direct is set, unless Refused is.
type Route struct {
	Name  string
	Match Match

	Forward  *Forward
	Redirect *Redirect
	Direct   *Direct

	RequestHeaders  HeaderOps
	ResponseHeaders HeaderOps
	// FilterConfigs is typed_per_filter_config, compiled by the filters it names.
	FilterConfigs map[string]any
	// Operation is decorator.operation: the span's name.
	Operation string
	// PropagateOperation is decorator.propagate: send x-envoy-decorator-operation. Default true.
	PropagateOperation bool
	Metadata           *corev3.Metadata

	Host *VirtualHost
	// Refused: the route holds something that may not be passed over; requests that match it get a 500.
	Refused error
}

// FilterConfig returns the most specific per-route config of a filter instance, by the filter's name in the chain:
// weighted cluster, then route, virtual host, route configuration. nil if there is none.
func (r *Route) FilterConfig(name string, choice *WeightedCluster) any {
	if choice != nil {
		if c, ok := choice.FilterConfigs[name]; ok {
			return c
		}
	}
	if c, ok := r.FilterConfigs[name]; ok {
		return c
	}
	if c, ok := r.Host.FilterConfigs[name]; ok {
		return c
	}
	return r.Host.Config.FilterConfigs[name]
}

// Forward sends the request to a cluster (envoy.config.route.v3.RouteAction).
type Forward struct {
	// Clusters has one entry, or several that share requests by weight.
	Clusters    []WeightedCluster
	TotalWeight uint32
	// ClusterHeader names the cluster in a request header, instead of Clusters. Lower-case.
	ClusterHeader string
	// NotFoundStatus answers when the cluster does not exist: 503, or 500 for the Gateway API.
	NotFoundStatus int
	// Connect: upgrade_configs has CONNECT with connect_config: the payload goes on as TCP.
	Connect bool
	// Upgrades overrides the HCM's list per token (lower-case); see RouteAction.upgrade_configs.
	Upgrades map[string]bool

	Timeout        time.Duration // the whole request, 0: none. Envoy's default is 15 s
	IdleTimeout    time.Duration // 0: the HCM's stream_idle_timeout; negative: none
	MaxGRPCTimeout time.Duration // with GRPCTimeout set
	GRPCTimeout    bool          // grpc-timeout is honoured up to MaxGRPCTimeout (0: unbounded)
	Retry          *Retry

	// At most one of PrefixRewrite, RegexRewrite and PathFormat is set. The query stays as it is.
	PrefixRewrite string         // takes the place of the part of the path that the route matched
	RegexRewrite  *RegexRewrite  // of the path before the query
	PathFormat    *format.Format // path_rewrite: all of the path before the query; an empty result changes nothing
	HostRewrite   string         // host_rewrite_literal
	AutoHost      bool           // auto_host_rewrite: the endpoint's DNS name
	HostHeader    string         // host_rewrite_header; lower-case
	HostPathRegex *RegexRewrite  // host_rewrite_path_regex
	HostFormat    *format.Format // host_rewrite, with operators
	AppendXFH     bool           // append_x_forwarded_host

	// HashPolicies are hash_policy; see [Forward.Hash].
	HashPolicies []HashPolicy
	Mirrors      []Mirror

	// matched is how many bytes of a path PrefixRewrite replaces; -1: all before the query.
	matched int
}

// WeightedCluster is one destination.
type WeightedCluster struct {
	Name            string
	Weight          uint32
	HostRewrite     string
	RequestHeaders  HeaderOps
	ResponseHeaders HeaderOps
	FilterConfigs   map[string]any
}

// Redirect answers with a Location (RedirectAction).
type Redirect struct {
	Status int
	Scheme string // "" keeps the request's
	HTTPS  bool   // https_redirect: the scheme is https
	Host   string
	Port   uint32
	// At most one of Path, PrefixRewrite and RegexRewrite is set; see [Forward] for the latter two.
	Path          string
	PrefixRewrite string
	RegexRewrite  *RegexRewrite
	StripQuery    bool

	matched int
}

// Direct answers without an upstream (DirectResponseAction).
type Direct struct {
	Status int
	Body   string
}

// RegexRewrite replaces every match; Substitution is in Go's ${n} form.
type RegexRewrite struct {
	Pattern      *regexp.Regexp
	Substitution string
}

// Retry is RetryPolicy.
type Retry struct {
	On                RetryOn
	Statuses          []int // retriable_status_codes
	Max               uint32
	PerTryTimeout     time.Duration // 0: none
	PerTryIdleTimeout time.Duration // 0: none
	// SkipPrevious: predicate previous_hosts; HostAttempts bounds the picks.
	SkipPrevious bool
	HostAttempts int
	// PreviousPriorities: retry_priority previous_priorities.
	PreviousPriorities bool
	BackoffBase        time.Duration // Envoy's default is 25 ms
	BackoffMax         time.Duration // default 10 × base
	RetriableHeaders   []HeaderMatch
}

// HashPolicy is one source of a request's hash.
type HashPolicy struct {
	Header        string // lower-case
	HeaderRewrite *RegexRewrite
	Query         string
	SourceIP      bool
	Cookie        string
	CookieTTL     *time.Duration // not nil: make the cookie when it is absent; 0: a session cookie
	CookiePath    string
	// CookieAttributes are appended to the Set-Cookie field, as "; name" or "; name=value".
	CookieAttributes string
	Terminal         bool
}

// Mirror sends a copy of the request elsewhere and forgets the answer.
type Mirror struct {
	Cluster     string
	Numerator   uint32
	Denominator uint32
	// HostSuffix: "-shadow" is appended to the authority, unless disable_shadow_host_suffix_append.
	HostSuffix bool
	// TraceSampled is trace_sampled; nil: as the request itself.
	TraceSampled *bool
}

// Picks tells whether a request with this random number is copied.
func (m *Mirror) Picks(random uint64) bool { return random%uint64(m.Denominator) < uint64(m.Numerator) }

// HeaderOps is what a level of the route configuration does to a head.
type HeaderOps struct {
	Add    []HeaderAdd
	Remove []string // lower-case
}

// HeaderAdd is one HeaderValueOption.
type HeaderAdd struct {
	Name   string // lower-case; never a pseudo-header, nor host
	Action AppendAction
	// Value may hold %operators%; a constant has none and costs nothing.
	Value     *format.Format
	KeepEmpty bool
}

// AppendAction is HeaderValueOption.append_action.
type AppendAction uint8

// The actions.
const (
	AppendOrAdd AppendAction = iota
	AddIfAbsent
	OverwriteOrAdd
	OverwriteIfExists
)
