package cel

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// attribute finds one attribute of a group. v is nil if the record has none; known is false for a name that no record has.
type attribute func(a *activation, name string) (v ref.Val, known bool)

func text(s string, ok bool) (ref.Val, bool) {
	if !ok {
		return nil, true
	}
	return types.String(s), true
}

func ifSet(s string) (ref.Val, bool) { return text(s, s != "") }

func duration(d telemetry.Millis) (ref.Val, bool) {
	v, ok := d.Get()
	if !ok {
		return nil, true
	}
	return types.Duration{Duration: v}, true
}

func requestAttribute(a *activation, name string) (ref.Val, bool) {
	r := a.r
	header := func(name string) (ref.Val, bool) {
		v, ok := r.RequestHeader(name)
		return text(v, ok)
	}
	switch name {
	case "headers":
		return mapping{&headers{r.RequestHeaders, r.RequestHeader}}, true
	case "headers_bytes":
		return types.Int(telemetry.HeaderSize(r.RequestHeaders)), true
	case "time":
		return types.Timestamp{Time: r.Start}, true
	case "size":
		if v, ok := r.RequestHeader("content-length"); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return nil, true
			}
			return types.Int(n), true
		}
		return types.Int(r.BytesReceived), true
	case "total_size":
		return types.Int(r.BytesReceived) + types.Int(telemetry.HeaderSize(r.RequestHeaders)), true
	case "duration":
		return duration(r.Duration)
	case "protocol":
		return ifSet(string(r.Protocol))
	case "path":
		return header(":path")
	case "url_path":
		v, ok := r.RequestHeader(":path")
		v, _, _ = strings.Cut(v, "?")
		return text(v, ok || r.Protocol != "")
	case "query":
		v, ok := r.RequestHeader(":path")
		_, v, _ = strings.Cut(v, "?")
		v, _, _ = strings.Cut(v, "#")
		return text(v, ok || r.Protocol != "")
	case "host":
		return header(":authority")
	case "scheme":
		return header(":scheme")
	case "method":
		return header(":method")
	case "referer":
		return header("referer")
	case "id":
		return header("x-request-id")
	case "useragent":
		return header("user-agent")
	}
	return nil, false
}

func responseAttribute(a *activation, name string) (ref.Val, bool) {
	r := a.r
	size := telemetry.HeaderSize
	switch name {
	case "code":
		if r.ResponseCode == 0 {
			return nil, true
		}
		return types.Int(r.ResponseCode), true
	case "code_details":
		return ifSet(r.ResponseCodeDetails)
	case "size":
		return types.Int(r.BytesSent), true
	case "total_size":
		return types.Int(r.BytesSent) + types.Int(size(r.ResponseHeaders)+size(r.ResponseTrailers)), true
	case "headers":
		return mapping{&headers{r.ResponseHeaders, r.ResponseHeader}}, true
	case "headers_bytes":
		return types.Int(size(r.ResponseHeaders)), true
	case "trailers":
		return mapping{&headers{r.ResponseTrailers, r.ResponseTrailer}}, true
	case "flags":
		return types.Int(r.Flags.Bits()), true
	case "grpc_status":
		if code, ok := r.GRPCStatus.Code(); ok {
			return types.Int(code), true
		}
		if r.ResponseCode == 0 {
			return nil, true
		}
		return types.Int(telemetry.HTTPToGRPC(r.ResponseCode)), true // as Envoy, for requests that are not gRPC, too
	case "backend_latency":
		return duration(r.BackendLatency())
	}
	return nil, false
}

func connectionAttribute(a *activation, name string) (ref.Val, bool) {
	r := a.r
	switch name {
	case "mtls":
		return types.Bool(r.PeerPrincipal != "" && r.LocalPrincipal != ""), true
	case "requested_server_name":
		return text(r.RequestedServerName, true)
	case "id":
		if r.ConnectionID == 0 {
			return nil, true
		}
		return types.Uint(r.ConnectionID), true
	case "termination_details":
		return ifSet(r.ConnectionTerminationDetails)
	case "uri_san_peer_certificate":
		return ifSet(r.PeerPrincipal)
	case "uri_san_local_certificate":
		return ifSet(r.LocalPrincipal)
	}
	return nil, false
}

func upstreamAttribute(a *activation, name string) (ref.Val, bool) {
	r := a.r
	switch name {
	case "address":
		return ifSet(r.UpstreamRemote())
	case "port":
		if r.UpstreamInternal() {
			return nil, true // an address inside of Envoy has no port
		}
		return port(r.UpstreamAddress)
	case "local_address":
		if r.UpstreamLocalText != "" {
			return types.String(r.UpstreamLocalText), true
		}
		return addressText(r.UpstreamLocal)
	case "transport_failure_reason":
		return text(r.UpstreamTransportFailureReason, r.UpstreamHost != "")
	case "request_attempt_count":
		return types.Uint(r.Attempts), true
	case "locality":
		if p := r.Destination; p != nil && (p.Region != "" || p.Zone != "") {
			return localityObject(p.Region, p.Zone, ""), true
		}
		return nil, true
	case "cx_pool_ready_duration":
		return duration(r.PoolReady())
	}
	return nil, false
}

func addressText(a netip.AddrPort) (ref.Val, bool) {
	if !a.IsValid() {
		return nil, true
	}
	return types.String(a.String()), true
}

func port(a netip.AddrPort) (ref.Val, bool) {
	if !a.IsValid() {
		return nil, true
	}
	return types.Int(a.Port()), true
}

func sourceAttribute(a *activation, name string) (ref.Val, bool) {
	return peerAddress(a.r.DownstreamRemote, name)
}

func destinationAttribute(a *activation, name string) (ref.Val, bool) {
	return peerAddress(a.r.DownstreamLocal, name)
}

func peerAddress(addr netip.AddrPort, name string) (ref.Val, bool) {
	switch name {
	case "address":
		return addressText(addr)
	case "port":
		return port(addr)
	}
	return nil, false
}

func xdsAttribute(a *activation, name string) (ref.Val, bool) {
	r := a.r
	switch name {
	case "node":
		return a.env.nodeVal, true
	case "cluster_name":
		return ifSet(r.UpstreamCluster)
	case "cluster_metadata":
		return mapping{metadataMap{r, telemetry.MetadataCluster}}, true
	case "route_name":
		return text(r.RouteName, r.RouteName != "" || r.VirtualHost != "")
	case "route_metadata":
		return mapping{metadataMap{r, telemetry.MetadataRoute}}, true
	case "virtual_host_name":
		return ifSet(r.VirtualHost)
	case "virtual_host_metadata":
		return mapping{metadataMap{r, telemetry.MetadataVirtualHost}}, true
	case "upstream_host_metadata":
		return mapping{metadataMap{r, telemetry.MetadataUpstreamHost}}, true
	case "filter_chain_name":
		return text(r.FilterChain, true)
	}
	return nil, false
}
