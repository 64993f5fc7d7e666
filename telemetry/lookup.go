package telemetry

import (
	"net/netip"
	"strconv"
	"strings"
)

// HeaderLines is a [Headers] that can also be gone through. Only who needs sizes or all names asks for it, so it is not part of
// Headers itself.
type HeaderLines interface {
	Headers
	// Lines calls yield with each line, pseudo-headers included, until yield returns false. It is a range-over-func iterator.
	Lines(yield func(name, value string) bool)
}

// HeaderSize is the number of bytes of all names and values, which is how Envoy counts a header block; 0 for a block that cannot
// be gone through.
func HeaderSize(h Headers) int {
	lines, ok := h.(HeaderLines)
	if !ok {
		return 0
	}
	n := 0
	for name, value := range lines.Lines {
		n += len(name) + len(value)
	}
	return n
}

// RequestHeader looks a request header up, by its name in lower case. The pseudo-headers come from the record, so that a log says
// the same as the metrics and the span.
func (r *Record) RequestHeader(name string) (string, bool) {
	var v string
	switch name {
	case ":method":
		v = r.Method
	case ":path":
		v = r.Path
	case ":authority", "host":
		v = r.Authority
	case ":scheme":
		v = r.Scheme
	case "x-request-id":
		v = r.RequestID
	}
	if v != "" {
		return v, true
	}
	return getHeader(r.RequestHeaders, name)
}

// ResponseHeader looks a response header up; ":status" is the code.
func (r *Record) ResponseHeader(name string) (string, bool) {
	if name == ":status" {
		if r.ResponseCode <= 0 || r.ResponseCode >= len(statusText) {
			return "", false
		}
		return statusText[r.ResponseCode], true
	}
	v, ok := getHeader(r.ResponseHeaders, name)
	if !ok && name == "x-envoy-upstream-service-time" {
		// The proxy adds this header itself, perhaps only while it writes the head.
		if d, known := r.UpstreamServiceTime.Get(); known {
			return strconv.FormatInt(d.Milliseconds(), 10), true
		}
	}
	return v, ok
}

// ResponseTrailer looks a response trailer up.
func (r *Record) ResponseTrailer(name string) (string, bool) {
	return getHeader(r.ResponseTrailers, name)
}

func getHeader(h Headers, name string) (string, bool) {
	if h == nil {
		return "", false
	}
	return h.Get(name)
}

// statusText are the status codes as text, so that %RESP(:STATUS)% does not allocate.
var statusText = func() (t [600]string) {
	for i := range t {
		t[i] = strconv.Itoa(i)
	}
	return
}()

// The principals as filter state, by the keys that istiod's configuration writes and reads.
const (
	peerPrincipalKey  = "io.istio.peer_principal"
	localPrincipalKey = "io.istio.local_principal"
)

// StateText is a filter state object as text. The principals come from the record, where a filter has put them.
func (r *Record) StateText(key string) (string, bool) {
	switch {
	case key == peerPrincipalKey && r.PeerPrincipal != "":
		return r.PeerPrincipal, true
	case key == localPrincipalKey && r.LocalPrincipal != "":
		return r.LocalPrincipal, true
	case r.FilterState != nil:
		return r.FilterState.Plain(key)
	}
	return "", false
}

// stateAddress reads a filter state object that is an address.
func (r *Record) stateAddress(key string) (netip.AddrPort, bool) {
	if !StateIsAddress(key) {
		return netip.AddrPort{}, false
	}
	v, _ := r.StateText(key)
	a, err := netip.ParseAddrPort(v)
	return a, err == nil
}

// StateIsAddress tells whether a filter state key holds an address: an object with the fields ip and port, which has a text, and no
// protobuf form for %FILTER_STATE(key:TYPED)%.
func StateIsAddress(key string) bool {
	switch key {
	case "envoy.filters.listener.original_dst.local_ip", "envoy.filters.listener.original_dst.remote_ip",
		"envoy.network.transport_socket.original_dst_address":
		return true
	}
	return false
}

// StateField is a field of a filter state object: %FILTER_STATE(key:FIELD:name)%. The peers' are found by [PeerFieldGetter].
func (r *Record) StateField(key, name string) (string, bool) {
	if a, ok := r.stateAddress(key); ok {
		switch name {
		case "ip":
			return a.Addr().String(), true
		case "port":
			return strconv.Itoa(int(a.Port())), true
		}
		return "", false
	}
	if r.FilterState == nil {
		return "", false
	}
	return r.FilterState.Field(key, name)
}

// StatePeer is the peer that a filter state key stands for: the client's workload for the downstream keys, the endpoint's for the
// upstream ones. isPeer is false for any other key; the peer may be nil, when it is not known.
func (r *Record) StatePeer(key string) (peer *Peer, isPeer bool) {
	switch key {
	case "downstream_peer", "downstream_peer_obj", "wasm.downstream_peer": // the last one up to Istio 1.24
		return r.Source, true
	case "upstream_peer", "upstream_peer_obj", "wasm.upstream_peer":
		return r.Destination, true
	}
	return nil, false
}

// HTTPToGRPC is the mapping of the gRPC specification ("HTTP to gRPC Status Code Mapping").
func HTTPToGRPC(code int) int {
	switch code {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	}
	return 2
}

// internalPrefix begins the address of an endpoint that Envoy reaches through itself, as it does those behind HBONE.
const internalPrefix = "envoy://"

// UpstreamInternal tells whether the endpoint's address is one inside of Envoy: it has an endpoint id and no port.
func (r *Record) UpstreamInternal() bool { return strings.HasPrefix(r.UpstreamHost, internalPrefix) }

// UpstreamRemote is the upstream connection's remote address as Envoy prints it; empty without one.
func (r *Record) UpstreamRemote() string {
	switch {
	case r.UpstreamInternal():
		return r.UpstreamHost
	case r.UpstreamAddress.IsValid():
		return r.UpstreamAddress.String()
	}
	return ""
}
