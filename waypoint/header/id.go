package header

// ID is the number of a well-known field name. [Other] means: compare the name.
type ID uint8

// The names that the proxy itself reads or writes. The order carries no meaning; a new name needs its line here and in
// [names].
const (
	Other ID = iota
	Host
	Connection
	KeepAlive
	ProxyConnection
	TransferEncoding
	ContentLength
	TE
	Trailer
	Upgrade
	Expect
	ContentType
	UserAgent
	Server
	Date
	Cookie
	Authorization
	Origin
	AccessControlRequestMethod
	AccessControlRequestHeaders
	Location
	Via
	GRPCStatus
	GRPCMessage
	GRPCTimeout
	XForwardedFor
	XForwardedProto
	XForwardedHost
	XForwardedPort
	XForwardedClientCert
	XRequestID
	XEnvoyUpstreamServiceTime
	XEnvoyExpectedRqTimeoutMs
	XEnvoyUpstreamRqTimeoutMs
	XEnvoyUpstreamRqPerTryTimeoutMs
	XEnvoyMaxRetries
	XEnvoyRetryOn
	XEnvoyRetryGRPCOn
	XEnvoyOriginalPath
	XEnvoyOriginalHost
	XEnvoyAttemptCount
	XEnvoyDecoratorOperation
	XEnvoyPeerMetadata
	XEnvoyPeerMetadataID
	XEnvoyExternalAddress
	XEnvoyInternal
	XEnvoyForceTrace
	XEnvoyRateLimited
	XEnvoyOverloaded
	XClientTraceID
	B3
	XB3TraceID
	XB3SpanID
	XB3ParentSpanID
	XB3Sampled
	XB3Flags
	Traceparent
	Tracestate
	Baggage
	Forwarded
	XForwardedNetwork
	XIstioSource

	idCount
)

var names = [idCount]string{
	Host:                            "host",
	Connection:                      "connection",
	KeepAlive:                       "keep-alive",
	ProxyConnection:                 "proxy-connection",
	TransferEncoding:                "transfer-encoding",
	ContentLength:                   "content-length",
	TE:                              "te",
	Trailer:                         "trailer",
	Upgrade:                         "upgrade",
	Expect:                          "expect",
	ContentType:                     "content-type",
	UserAgent:                       "user-agent",
	Server:                          "server",
	Date:                            "date",
	Cookie:                          "cookie",
	Authorization:                   "authorization",
	Origin:                          "origin",
	AccessControlRequestMethod:      "access-control-request-method",
	AccessControlRequestHeaders:     "access-control-request-headers",
	Location:                        "location",
	Via:                             "via",
	GRPCStatus:                      "grpc-status",
	GRPCMessage:                     "grpc-message",
	GRPCTimeout:                     "grpc-timeout",
	XForwardedFor:                   "x-forwarded-for",
	XForwardedProto:                 "x-forwarded-proto",
	XForwardedHost:                  "x-forwarded-host",
	XForwardedPort:                  "x-forwarded-port",
	XForwardedClientCert:            "x-forwarded-client-cert",
	XRequestID:                      "x-request-id",
	XEnvoyUpstreamServiceTime:       "x-envoy-upstream-service-time",
	XEnvoyExpectedRqTimeoutMs:       "x-envoy-expected-rq-timeout-ms",
	XEnvoyUpstreamRqTimeoutMs:       "x-envoy-upstream-rq-timeout-ms",
	XEnvoyUpstreamRqPerTryTimeoutMs: "x-envoy-upstream-rq-per-try-timeout-ms",
	XEnvoyMaxRetries:                "x-envoy-max-retries",
	XEnvoyRetryOn:                   "x-envoy-retry-on",
	XEnvoyRetryGRPCOn:               "x-envoy-retry-grpc-on",
	XEnvoyOriginalPath:              "x-envoy-original-path",
	XEnvoyOriginalHost:              "x-envoy-original-host",
	XEnvoyAttemptCount:              "x-envoy-attempt-count",
	XEnvoyDecoratorOperation:        "x-envoy-decorator-operation",
	XEnvoyPeerMetadata:              "x-envoy-peer-metadata",
	XEnvoyPeerMetadataID:            "x-envoy-peer-metadata-id",
	XEnvoyExternalAddress:           "x-envoy-external-address",
	XEnvoyInternal:                  "x-envoy-internal",
	XEnvoyForceTrace:                "x-envoy-force-trace",
	XEnvoyRateLimited:               "x-envoy-ratelimited",
	XEnvoyOverloaded:                "x-envoy-overloaded",
	XClientTraceID:                  "x-client-trace-id",
	B3:                              "b3",
	XB3TraceID:                      "x-b3-traceid",
	XB3SpanID:                       "x-b3-spanid",
	XB3ParentSpanID:                 "x-b3-parentspanid",
	XB3Sampled:                      "x-b3-sampled",
	XB3Flags:                        "x-b3-flags",
	Traceparent:                     "traceparent",
	Tracestate:                      "tracestate",
	Baggage:                         "baggage",
	Forwarded:                       "forwarded",
	XForwardedNetwork:               "x-forwarded-network",
	XIstioSource:                    "x-istio-source",
}

// maxNameLen is the length of the longest well-known name.
const maxNameLen = len("x-envoy-upstream-rq-per-try-timeout-ms")

// known is a name as [Lookup] compares it.
type known struct {
	name string
	last byte // of name
	id   ID
}

// byLength has the names of each length: a handful at most. Comparing those is faster than hashing, most of all for a name that
// is not well known.
var byLength = func() (t [maxNameLen + 1][]known) {
	for id, name := range names {
		if name != "" {
			t[len(name)] = append(t[len(name)], known{name, name[len(name)-1], ID(id)})
		}
	}
	return t
}()

// Lookup returns the ID of a lower-case name, or [Other].
func Lookup(name string) ID {
	if len(name) > maxNameLen {
		return Other
	}
	list := byLength[len(name)]
	for i := range list {
		// Names of one length often begin alike ("x-envoy-"), but hardly ever end alike.
		if k := &list[i]; k.last == name[len(name)-1] && k.name == name {
			return k.id
		}
	}
	return Other
}

// String returns the name that the ID stands for; "" for [Other].
func (id ID) String() string { return names[id] }
