package authz

import (
	"net/netip"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
)

// Request is everything a policy may ask about: one HTTP request, or one TCP connection.
//
// The zero value of a field means "not there", as each field says. Strings are not copied or kept.
type Request struct {
	// HTTP says that there is an HTTP request. When false (a TCP connection) no HTTP attribute is present,
	// whatever the fields below hold.
	HTTP bool

	Method    string // the :method pseudo-header
	Scheme    string // the :scheme pseudo-header; "" is absent
	Authority string // the :authority or Host value, with its port if it had one; there even if "": Envoy refuses requests without
	Path      string // the :path pseudo-header with its query, already normalised as the listener asks
	Headers   Headers

	// Peer is the TLS peer of the connection that the policy guards; nil without TLS. Behind an HBONE tunnel
	// the inner connection has none: there the peer's identity comes from FilterState.
	Peer *Peer

	FilterState FilterState
	Metadata    Metadata

	// SourceIP is the peer of the connection, with PROXY protocol honoured; DirectRemoteIP the physical peer;
	// RemoteIP the client as trusted forwarding headers name it. For HBONE the peer is the tunnel's.
	// An invalid address is unknown: no allow matches it and every deny does.
	SourceIP, DirectRemoteIP, RemoteIP netip.Addr

	// Destination is the address that the client dialled: for service traffic the VIP and the service's port.
	Destination netip.AddrPort

	// ServerName is the SNI of the client's TLS hello, in lower case as Envoy has it; "" when there was none.
	ServerName string
}

// Headers gives access to header values by lower-case name.
type Headers interface {
	// Header returns the i-th value (from 0) of the named header in the order received. ok is false past the
	// last. Values are as on the wire: not split at commas, and an empty value is a value.
	Header(name string, i int) (value string, ok bool)
}

// FilterState looks up an object that earlier stages left for the connection, in its string form. The peer's
// SPIFFE identity is under [PeerPrincipal].
type FilterState interface {
	FilterState(key string) (value string, ok bool)
}

// PeerPrincipal is the filter state key under which a waypoint's configuration looks for the identity of the
// client, a URI such as spiffe://cluster.local/ns/shop/sa/web.
const PeerPrincipal = "io.istio.peer_principal"

// Metadata looks up metadata by the name of the filter that wrote it, nil where there is none. JWT claims are
// dynamic metadata of envoy.filters.http.jwt_authn.
type Metadata interface {
	Metadata(source MetadataSource, filter string) *structpb.Struct
}

// MetadataSource says where metadata comes from, as envoy.config.rbac.v3.MetadataSource.
type MetadataSource uint8

// The sources of metadata.
const (
	DynamicMetadata MetadataSource = iota // written for this request by earlier filters
	RouteMetadata                         // part of the selected route's configuration
)

// Peer is the verified certificate of a TLS peer.
type Peer struct {
	URISANs []string
	DNSSANs []string
	Subject string // distinguished name in RFC 2253 form
}

// header returns the i-th value of a header or pseudo-header. A request has at most one of each pseudo-header, and
// Envoy answers for "host" with :authority.
func (r *Request) header(name string, i int) (string, bool) {
	if !r.HTTP {
		return "", false
	}
	switch name {
	case ":method":
		return r.Method, i == 0 && r.Method != ""
	case ":scheme":
		return r.Scheme, i == 0 && r.Scheme != ""
	case ":authority", "host":
		return r.Authority, i == 0
	case ":path":
		return r.Path, i == 0 && r.Path != ""
	}
	if r.Headers == nil {
		return "", false
	}
	return r.Headers.Header(name, i)
}

// pathOnly is the path without query and fragment, which is what url_path and uri_template see.
func (r *Request) pathOnly() (path string, ok bool) {
	if !r.HTTP || r.Path == "" {
		return "", false
	}
	path = r.Path
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if i := strings.IndexByte(path, '#'); i >= 0 {
		path = path[:i]
	}
	return path, true
}
