package program

import (
	"net/netip"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry/tracing"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/route"
)

// Program is one compiled configuration.
type Program struct {
	// Version counts the Programs of this process, from 1.
	Version uint64
	// Listeners are those with a socket address: the HBONE port.
	Listeners []*Listener
	// Dispatches are the internal listeners that pick chains, by name, so that an open tunnel finds its chain again.
	Dispatches map[string]*Dispatch
	// Clusters are all clusters, those that have no endpoints yet included.
	Clusters map[string]*Cluster
}

// Listener is a port that is bound (connect_terminate).
type Listener struct {
	Name      string
	Addresses []netip.AddrPort
	Chain     *Chain
	// TLS is the downstream context; nil means plaintext, which an HBONE listener never is.
	TLS *ServerTLS
	// Logs get a record for each connection that finds no chain.
	Logs []filter.AccessLog
	// Refused says why the listener serves nobody.
	Refused error
}

// Dispatch is an internal listener (main_internal): it picks the chain for a tunnel.
type Dispatch struct {
	Name string
	// OriginalDst: listener filter original_dst is there, so the tunnel's authority becomes its local address.
	OriginalDst bool
	// Authorities is tried first when it is not nil: CONNECT authority "host:port" (multi-network).
	Authorities map[string]*PortMatch
	// Ranges is matched by longest prefix; the first listed wins among equals. See [Dispatch.Lookup].
	Ranges *Ranges
	// Else is for tunnels that neither table knows: on_no_match of the outermost matcher, default_filter_chain, or the one
	// chain of a listener that does not match. nil: they are closed (NR).
	Else *PortMatch
	// HTTPInspector: the listener filter is there; ports in HTTPInspectorDisabled are not sniffed.
	HTTPInspector         bool
	HTTPInspectorDisabled PortSet
	// TLSInspector likewise; it fills the requested server name.
	TLSInspector         bool
	TLSInspectorDisabled PortSet
	// InspectTimeout bounds the wait for the first bytes. xDS: listener_filters_timeout; Envoy's default is 15 s.
	InspectTimeout time.Duration
	// ContinueOnTimeout: a connection whose inspection timed out goes on as one of an unknown protocol, instead of being closed.
	ContinueOnTimeout bool
	// Logs get a record for each tunnel that finds no chain (flag NR).
	Logs    []filter.AccessLog
	Refused error
}

// Chain is a filter chain.
type Chain struct {
	Name string
	// Network filters before the terminal one, in order.
	Network []filter.Network
	// One of HTTP and TCP is set, unless Refused is.
	HTTP    *HTTP
	TCP     *TCP
	Refused error
}

// HTTP is an http_connection_manager.
type HTTP struct {
	StatPrefix string
	// Codec of the downstream: Auto looks for the HTTP/2 preface.
	Codec Codec

	// ServerName with ServerHeader says what the Server header of a response becomes.
	ServerName   string
	ServerHeader ServerHeader

	NormalizePath  bool
	MergeSlashes   bool
	EscapedSlashes EscapedSlashes

	UseRemoteAddress      bool
	XFFTrustedHops        uint32
	ClientCert            ClientCertMode
	ClientCertDetails     ClientCertDetails
	GenerateRequestID     bool
	PreserveRequestID     bool // an external client's x-request-id is kept
	SkipXFFAppend         bool
	AppendXForwardedPort  bool
	Proxy100Continue      bool
	AcceptHTTP10          bool
	SuppressEnvoyHeaders  bool // router: suppress_envoy_headers
	RejectUnderscores     bool // headers_with_underscores_action REJECT_REQUEST
	DropUnderscores       bool // … DROP_HEADER
	MaxRequestHeaderBytes int  // 60 KiB unless max_request_headers_kb says otherwise
	MaxRequestHeaders     int  // 100 unless max_headers_count says otherwise

	// Upgrades are the tokens that may be asked for, lower-case ("websocket", "connect").
	Upgrades []string

	StreamIdleTimeout     time.Duration // 0: none
	RequestTimeout        time.Duration
	RequestHeadersTimeout time.Duration
	IdleTimeout           time.Duration // of a connection without requests; Envoy's default is 1 h
	MaxConnectionDuration time.Duration
	MaxStreamDuration     time.Duration
	DrainTimeout          time.Duration // between the two GOAWAYs; Envoy's default is 5 s

	HTTP2 HTTP2

	// Filters in the order of the config, without the router.
	Filters []filter.HTTP
	Routes  *route.Config
	Logs    []filter.AccessLog
	Tracer  *tracing.Tracer // nil: no tracing
}

// HTTP2 holds what http2_protocol_options sets; zero means the engine's default.
type HTTP2 struct {
	MaxConcurrentStreams    uint32
	InitialStreamWindow     uint32
	InitialConnectionWindow uint32
	AllowConnect            bool
	KeepaliveInterval       time.Duration
	KeepaliveTimeout        time.Duration
}

// TCP is a tcp_proxy.
type TCP struct {
	StatPrefix string
	// Clusters has one entry with any weight, or several that share connections by weight.
	Clusters    []WeightedCluster
	TotalWeight uint32
	// IdleTimeout closes a session on which nothing moved either way; 0: none. Envoy's default is 1 h.
	IdleTimeout time.Duration
	// MaxDuration bounds a session; 0: none.
	MaxDuration  time.Duration
	HashSourceIP bool
	// Tunnel is set when each session leaves as a CONNECT of its own (tunneling_config).
	Tunnel *Tunneling
	Logs   []filter.AccessLog
}

// Tunneling is tcp_proxy.tunneling_config.
type Tunneling struct {
	Hostname string
	UsePost  bool
}

// WeightedCluster names one of several destinations.
type WeightedCluster struct {
	Name   string
	Weight uint32
}

// Codec is HttpConnectionManager.codec_type.
type Codec uint8

// The codecs.
const (
	Auto Codec = iota
	HTTP1Only
	HTTP2Only
)

// ServerHeader is HttpConnectionManager.server_header_transformation.
type ServerHeader uint8

// What becomes of a response's Server header.
const (
	OverwriteServer ServerHeader = iota
	AppendServerIfAbsent
	PassServerThrough
)

// EscapedSlashes is HttpConnectionManager.path_with_escaped_slashes_action.
type EscapedSlashes uint8

// What becomes of %2F and %5C in a path.
const (
	KeepEscapedSlashes EscapedSlashes = iota
	RejectEscapedSlashes
	RedirectUnescapedSlashes
	ForwardUnescapedSlashes
)

// ClientCertMode is HttpConnectionManager.forward_client_cert_details.
type ClientCertMode uint8

// What becomes of x-forwarded-client-cert.
const (
	SanitizeClientCert ClientCertMode = iota
	ForwardOnlyClientCert
	AppendForwardClientCert
	SanitizeSetClientCert
	AlwaysForwardOnlyClientCert
)

// ClientCertDetails is HttpConnectionManager.set_current_client_cert_details.
type ClientCertDetails struct {
	Subject, URI, DNS, Cert, Chain bool
}
