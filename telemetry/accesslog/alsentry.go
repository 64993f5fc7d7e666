package accesslog

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	grpcv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// httpEntry is a request as Envoy sends it to an access log service.
func httpEntry(r *telemetry.Record, c *grpcv3.HttpGrpcAccessLogConfig) *datav3.HTTPAccessLogEntry {
	header := func(name string) string { v, _ := r.RequestHeader(name); return v }
	e := &datav3.HTTPAccessLogEntry{
		CommonProperties: commonProperties(r, c.GetCommonConfig()),
		Request: &datav3.HTTPRequestProperties{
			RequestMethod: methodOf(header(":method")), Scheme: utf8(header(":scheme")), Authority: utf8(header(":authority")),
			Path: utf8(header(":path")), UserAgent: utf8(header("user-agent")), Referer: utf8(header("referer")),
			ForwardedFor: utf8(header("x-forwarded-for")), RequestId: utf8(header("x-request-id")), OriginalPath: utf8(header("x-envoy-original-path")),
			RequestHeadersBytes: uint64(telemetry.HeaderSize(r.RequestHeaders)), RequestBodyBytes: r.BytesReceived,
			RequestHeaders:          pick(c.GetAdditionalRequestHeadersToLog(), r.RequestHeader),
			UpstreamHeaderBytesSent: r.UpstreamHeaderBytesSent, DownstreamHeaderBytesReceived: r.HeaderBytesReceived,
		},
		Response: &datav3.HTTPResponseProperties{
			ResponseHeadersBytes: uint64(telemetry.HeaderSize(r.ResponseHeaders)), ResponseBodyBytes: r.BytesSent,
			ResponseHeaders:             pick(c.GetAdditionalResponseHeadersToLog(), r.ResponseHeader),
			ResponseTrailers:            pick(c.GetAdditionalResponseTrailersToLog(), r.ResponseTrailer),
			ResponseCodeDetails:         utf8(r.ResponseCodeDetails),
			UpstreamHeaderBytesReceived: r.UpstreamHeaderBytesReceived, DownstreamHeaderBytesSent: r.HeaderBytesSent,
		},
	}
	switch r.Protocol {
	case telemetry.HTTP10:
		e.ProtocolVersion = datav3.HTTPAccessLogEntry_HTTP10
	case telemetry.HTTP11:
		e.ProtocolVersion = datav3.HTTPAccessLogEntry_HTTP11
	case telemetry.HTTP2:
		e.ProtocolVersion = datav3.HTTPAccessLogEntry_HTTP2
	}
	if r.ResponseCode != 0 {
		e.Response.ResponseCode = wrapperspb.UInt32(uint32(r.ResponseCode))
	}
	return e
}

// tcpEntry is a session as Envoy sends it.
func tcpEntry(r *telemetry.Record, c *grpcv3.CommonGrpcAccessLogConfig) *datav3.TCPAccessLogEntry {
	return &datav3.TCPAccessLogEntry{
		CommonProperties:     commonProperties(r, c),
		ConnectionProperties: &datav3.ConnectionProperties{ReceivedBytes: r.BytesReceived, SentBytes: r.BytesSent},
	}
}

func commonProperties(r *telemetry.Record, c *grpcv3.CommonGrpcAccessLogConfig) *datav3.AccessLogCommon {
	p := &datav3.AccessLogCommon{
		DownstreamRemoteAddress: addressOf(r.DownstreamRemote), DownstreamLocalAddress: addressOf(r.DownstreamLocal),
		DownstreamDirectRemoteAddress: addressOf(r.DownstreamRemote), TlsProperties: tlsProperties(r),
		StartTime: timestamppb.New(r.Start), Duration: durationOf(r.Duration),
		UpstreamRemoteAddress: upstreamAddress(r), UpstreamLocalAddress: addressOf(r.UpstreamLocal), UpstreamCluster: r.UpstreamCluster,
		ResponseFlags: flagsOf(r.Flags), Metadata: metadataOf(r), RouteName: r.RouteName,
		UpstreamTransportFailureReason: utf8(r.UpstreamTransportFailureReason), UpstreamRequestAttemptCount: uint32(r.Attempts),
		ConnectionTerminationDetails: r.ConnectionTerminationDetails, StreamId: utf8(r.RequestID),
		FilterStateObjects:      stateObjects(r, c.GetFilterStateObjectsToLog()),
		DownstreamWireBytesSent: r.WireBytesSent, DownstreamWireBytesReceived: r.WireBytesReceived,
		UpstreamWireBytesSent: r.UpstreamWireBytesSent, UpstreamWireBytesReceived: r.UpstreamWireBytesReceived,
		AccessLogType: logType(r),
	}
	if r.DownstreamDirectRemote.IsValid() {
		p.DownstreamDirectRemoteAddress = addressOf(r.DownstreamDirectRemote)
	}
	if r.UpstreamLocalText != "" {
		p.UpstreamLocalAddress = internalAddress(r.UpstreamLocalText)
	}
	t := &r.Timing
	p.TimeToLastRxByte = durationOf(t.DownstreamLastRx.SinceStart())
	p.TimeToFirstUpstreamTxByte = durationOf(t.UpstreamFirstTx.SinceStart())
	p.TimeToLastUpstreamTxByte = durationOf(t.UpstreamLastTx.SinceStart())
	p.TimeToFirstUpstreamRxByte = durationOf(t.UpstreamFirstRx.SinceStart())
	p.TimeToLastUpstreamRxByte = durationOf(t.UpstreamLastRx.SinceStart())
	p.TimeToFirstDownstreamTxByte = durationOf(t.DownstreamFirstTx.SinceStart())
	p.TimeToLastDownstreamTxByte = durationOf(t.DownstreamLastTx.SinceStart())
	return p
}

func logType(r *telemetry.Record) datav3.AccessLogType {
	switch {
	case r.NoChain:
		return datav3.AccessLogType_NotSet
	case r.Protocol == "":
		return datav3.AccessLogType_TcpConnectionEnd
	}
	return datav3.AccessLogType_DownstreamEnd
}

// utf8 makes s what protobuf takes as a string.
func utf8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func pick(names []string, get func(string) (string, bool)) map[string]string {
	if len(names) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, n := range names {
		if v, ok := get(strings.ToLower(n)); ok {
			out[strings.ToLower(n)] = utf8(v)
		}
	}
	return out
}

func durationOf(m telemetry.Millis) *durationpb.Duration {
	d, ok := m.Get()
	if !ok {
		return nil
	}
	return durationpb.New(max(d, time.Nanosecond)) // one of 0 is not the same as none
}

func addressOf(a netip.AddrPort) *corev3.Address {
	if !a.IsValid() {
		return nil
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func upstreamAddress(r *telemetry.Record) *corev3.Address {
	if r.UpstreamInternal() {
		return internalAddress(r.UpstreamHost)
	}
	return addressOf(r.UpstreamAddress)
}

// internalAddress is envoy://listener/endpoint-id.
func internalAddress(text string) *corev3.Address {
	listener, id, _ := strings.Cut(strings.TrimPrefix(text, "envoy://"), "/")
	return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener}, EndpointId: id,
	}}}
}

func tlsProperties(r *telemetry.Record) *datav3.TLSProperties {
	if r.TLS == nil || r.TLS.State == nil {
		if r.RequestedServerName == "" {
			return nil
		}
		return &datav3.TLSProperties{TlsSniHostname: utf8(r.RequestedServerName)}
	}
	p := &datav3.TLSProperties{
		TlsSniHostname: utf8(r.RequestedServerName), TlsCipherSuite: wrapperspb.UInt32(uint32(r.TLS.State.CipherSuite)),
		PeerCertificateProperties: &datav3.TLSProperties_CertificateProperties{},
	}
	switch r.TLS.State.Version {
	case tls.VersionTLS12:
		p.TlsVersion = datav3.TLSProperties_TLSv1_2
	case tls.VersionTLS13:
		p.TlsVersion = datav3.TLSProperties_TLSv1_3
	}
	if r.LocalPrincipal != "" {
		p.LocalCertificateProperties = &datav3.TLSProperties_CertificateProperties{SubjectAltName: []*datav3.TLSProperties_CertificateProperties_SubjectAltName{uriSAN(r.LocalPrincipal)}}
	}
	if c := r.TLS.Peer(); c != nil {
		p.PeerCertificateProperties.Subject = c.Subject.String()
		for _, u := range c.URIs {
			p.PeerCertificateProperties.SubjectAltName = append(p.PeerCertificateProperties.SubjectAltName, uriSAN(u.String()))
		}
	}
	return p
}

func uriSAN(uri string) *datav3.TLSProperties_CertificateProperties_SubjectAltName {
	return &datav3.TLSProperties_CertificateProperties_SubjectAltName{
		San: &datav3.TLSProperties_CertificateProperties_SubjectAltName_Uri{Uri: uri},
	}
}

func metadataOf(r *telemetry.Record) *corev3.Metadata {
	list, ok := r.Metadata.(telemetry.MetadataNamespaces)
	if !ok {
		return nil
	}
	m := &corev3.Metadata{}
	for name, s := range list.Namespaces {
		if m.FilterMetadata == nil {
			m.FilterMetadata = map[string]*structpb.Struct{}
		}
		m.FilterMetadata[name] = proto.Clone(s).(*structpb.Struct) // it is used again for the next request
	}
	if m.FilterMetadata == nil {
		return nil
	}
	return m
}

// stateObjects are filter state objects in their protobuf form: a peer as a struct, text as a string. What has none is left out, as
// in Envoy.
func stateObjects(r *telemetry.Record, keys []string) map[string]*anypb.Any {
	out := map[string]*anypb.Any{}
	for _, key := range keys {
		m := stateObject(r, key)
		if m == nil {
			continue
		}
		if a, err := anypb.New(m); err == nil {
			out[key] = a
		}
	}
	return out
}

// stateObject is nil if there is none.
func stateObject(r *telemetry.Record, key string) proto.Message {
	if p, isPeer := r.StatePeer(key); isPeer {
		if p == nil {
			return nil
		}
		return p.Struct()
	}
	if telemetry.StateIsAddress(key) {
		return nil
	}
	if v, ok := r.StateText(key); ok {
		return wrapperspb.String(utf8(v))
	}
	return nil
}

func flagsOf(s telemetry.Flags) *datav3.ResponseFlags {
	if s == 0 {
		return nil
	}
	f := &datav3.ResponseFlags{
		FailedLocalHealthcheck: s.Has(telemetry.FlagFailedLocalHealthCheck), NoHealthyUpstream: s.Has(telemetry.FlagNoHealthyUpstream),
		UpstreamRequestTimeout: s.Has(telemetry.FlagUpstreamRequestTimeout), LocalReset: s.Has(telemetry.FlagLocalReset),
		UpstreamRemoteReset: s.Has(telemetry.FlagUpstreamRemoteReset), UpstreamConnectionFailure: s.Has(telemetry.FlagUpstreamConnectionFailure),
		UpstreamConnectionTermination: s.Has(telemetry.FlagUpstreamConnectionTermination), UpstreamOverflow: s.Has(telemetry.FlagUpstreamOverflow),
		NoRouteFound: s.Has(telemetry.FlagNoRouteFound), DelayInjected: s.Has(telemetry.FlagDelayInjected),
		FaultInjected: s.Has(telemetry.FlagFaultInjected), RateLimited: s.Has(telemetry.FlagRateLimited),
		RateLimitServiceError:           s.Has(telemetry.FlagRateLimitServiceError),
		DownstreamConnectionTermination: s.Has(telemetry.FlagDownstreamConnectionTermination),
		UpstreamRetryLimitExceeded:      s.Has(telemetry.FlagUpstreamRetryLimitExceeded), StreamIdleTimeout: s.Has(telemetry.FlagStreamIdleTimeout),
		InvalidEnvoyRequestHeaders:       s.Has(telemetry.FlagInvalidEnvoyRequestHeaders),
		DownstreamProtocolError:          s.Has(telemetry.FlagDownstreamProtocolError),
		UpstreamMaxStreamDurationReached: s.Has(telemetry.FlagUpstreamMaxStreamDurationReached),
		ResponseFromCacheFilter:          s.Has(telemetry.FlagResponseFromCacheFilter), NoFilterConfigFound: s.Has(telemetry.FlagNoFilterConfigFound),
		DurationTimeout: s.Has(telemetry.FlagDurationTimeout), UpstreamProtocolError: s.Has(telemetry.FlagUpstreamProtocolError),
		NoClusterFound: s.Has(telemetry.FlagNoClusterFound), OverloadManager: s.Has(telemetry.FlagOverloadManagerTerminated),
		DnsResolutionFailure: s.Has(telemetry.FlagDNSResolutionFailed), DownstreamRemoteReset: s.Has(telemetry.FlagDownstreamRemoteReset),
	}
	if s.Has(telemetry.FlagUnauthorizedExternalService) {
		f.UnauthorizedDetails = &datav3.ResponseFlags_Unauthorized{Reason: datav3.ResponseFlags_Unauthorized_EXTERNAL_SERVICE}
	}
	return f
}
