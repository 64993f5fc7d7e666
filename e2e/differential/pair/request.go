package pair

import (
	"encoding/base64"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
)

// Names of headers that carry to Envoy what a request does not have of itself. The reference's first filters read them.
const (
	SetHeader       = "x-set"       // which set of policies
	PrincipalHeader = "x-principal" // becomes filter state io.istio.peer_principal
	AddressHeader   = "x-address"   // becomes filter state AddressKey
	ClaimsHeader    = "x-claims"    // becomes the metadata of envoy.filters.http.jwt_authn, and is removed
	OtherHeader     = "x-other"     // becomes the metadata of OtherNamespace, and is removed
)

// Where the values of those headers end up.
const (
	JWTNamespace   = "envoy.filters.http.jwt_authn"
	JWTPayload     = "payload"
	OtherNamespace = "differential.other"
	OtherKey       = "value"
	RouteNamespace = "differential.route"
	AddressKey     = "differential.address"
)

// RouteMetadata is the metadata of every route of the reference.
func RouteMetadata() map[string]*structpb.Struct {
	return map[string]*structpb.Struct{RouteNamespace: {Fields: map[string]*structpb.Value{
		"tier": structpb.NewStringValue("gold"), "level": structpb.NewNumberValue(3), "on": structpb.NewBoolValue(true),
		"tags": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("a"), structpb.NewNumberValue(1)}}),
	}}}
}

// Line is a header line.
type Line struct{ Name, Value string }

// Request is an HTTP/1.1 request without a body, or with HTTP false a TCP session.
type Request struct {
	HTTP           bool
	Method, Target string
	Host           string
	Lines          []Line
	// Principal is the peer's identity in filter state; "" is none.
	Principal string
	// Address is an address in filter state, under AddressKey; "" is none.
	Address string
	// Claims is the JWT payload, Other a value in the metadata of another filter; nil is none.
	Claims, Other *structpb.Value
}

// AppendWire appends the request's bytes, for the set of a name.
func (r *Request) AppendWire(b []byte, set string) []byte {
	b = append(append(append(b, r.Method...), ' '), r.Target...)
	b = append(b, " HTTP/1.1\r\n"...)
	line := func(name, value string) {
		b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
	}
	line("host", r.Host)
	line(SetHeader, set)
	if r.Principal != "" {
		line(PrincipalHeader, r.Principal)
	}
	if r.Address != "" {
		line(AddressHeader, r.Address)
	}
	if r.Claims != nil {
		line(ClaimsHeader, encode(r.Claims))
	}
	if r.Other != nil {
		line(OtherHeader, encode(r.Other))
	}
	for _, l := range r.Lines {
		line(l.Name, l.Value)
	}
	return append(b, "\r\n"...)
}

// encode writes a value as the filter header_to_metadata reads it.
func encode(v *structpb.Value) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(v)
	if err != nil {
		panic(err) // a value without a kind, which the generators do not make
	}
	return base64.StdEncoding.EncodeToString(b)
}

// View returns what the filters behind the connection see of the request; ok is false when the path cannot be normalised,
// which is answered 400 before any filter runs. listenPort is the port of the connection's listener.
func (r *Request) View(c *Conn, listenPort uint16) (view *authz.Request, ok bool) {
	v := &authz.Request{
		SourceIP: c.peer(), DirectRemoteIP: c.Source, RemoteIP: c.peer(), Destination: c.destination(listenPort),
		FilterState: (*state)(r), ServerName: strings.ToLower(c.ServerName),
	}
	if !r.HTTP {
		return v, true
	}
	path, _, ok := pathnorm.Normalize(pathnorm.StripFragment(r.Target), c.Listener.Mode)
	v.HTTP, v.Method, v.Scheme, v.Authority, v.Path = true, r.Method, "http", r.Host, path
	v.Headers, v.Metadata = (*headers)(r), (*metadata)(r)
	if c.Listener.Pipe {
		v.Destination = netip.AddrPort{} // not even the port
	}
	if c.Listener.TLS {
		v.Scheme, v.Peer = "https", c.Client
	}
	v.RemoteIP = remoteIP(c, r.values("x-forwarded-for"))
	return v, ok
}

func (r *Request) values(name string) []string {
	var all []string
	for _, l := range r.Lines {
		if strings.EqualFold(l.Name, name) {
			all = append(all, l.Value)
		}
	}
	return all
}

// remoteIP is the client's address as Envoy's connection manager finds it.
func remoteIP(c *Conn, forwardedFor []string) netip.Addr {
	list := strings.Split(strings.Join(forwardedFor, ","), ",")
	hops := c.Listener.TrustedHops
	if c.Listener.UseRemoteAddress {
		if hops == 0 {
			return c.peer()
		}
		hops-- // the peer is the last of the trusted
	}
	if hops >= len(list) {
		return c.peer()
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(list[len(list)-1-hops]))
	if err != nil || addr.Zone() != "" {
		return c.peer()
	}
	return addr
}

// headers gives header lines as they were received.
type headers Request

func (h *headers) Header(name string, i int) (string, bool) {
	own := func(v string) (string, bool) { return v, i == 0 && v != "" }
	switch name {
	case PrincipalHeader:
		return own(h.Principal)
	case AddressHeader:
		return own(h.Address)
	}
	for k := range h.Lines {
		if !strings.EqualFold(h.Lines[k].Name, name) {
			continue
		}
		if i == 0 {
			return h.Lines[k].Value, true
		}
		i--
	}
	return "", false
}

type state Request

func (s *state) FilterState(key string) (string, bool) {
	switch key {
	case authz.PeerPrincipal:
		return s.Principal, s.Principal != ""
	case AddressKey:
		return s.Address, s.Address != ""
	}
	return "", false
}

type metadata Request

var routeMetadata = RouteMetadata()

func (m *metadata) Metadata(source authz.MetadataSource, filter string) *structpb.Struct {
	if source == authz.RouteMetadata {
		return routeMetadata[filter]
	}
	switch {
	case filter == JWTNamespace && m.Claims != nil:
		return &structpb.Struct{Fields: map[string]*structpb.Value{JWTPayload: m.Claims}}
	case filter == OtherNamespace && m.Other != nil:
		return &structpb.Struct{Fields: map[string]*structpb.Value{OtherKey: m.Other}}
	}
	return nil
}
