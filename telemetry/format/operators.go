package format

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

type record = telemetry.Record

// built is the operator of one command, for the two places where it may stand.
type built struct {
	text operator // in text, and in JSON beside other text
	json operator // alone in a JSON value: structured values are not cut there
}

// build makes the operator of one command.
func build(p part, o Options) (built, error) {
	var op operator
	if plain, ok := plainOperators[p.command]; ok {
		if p.hasArg {
			return built{}, errors.New("takes no argument")
		}
		op = plain
	} else if p.command == "COALESCE" { // not in the table, which it reads
		var err error
		if op, err = coalesce(p, o); err != nil {
			return built{}, err
		}
	} else if newOperator, ok := argumentOperators[p.command]; ok {
		var err error
		if op, err = newOperator(p, o); err != nil {
			return built{}, err
		}
	} else if o.Report != nil && envoyOnly[p.command] {
		o.Report("%" + p.command + "% is not supported and prints nothing")
		op = nothing
	} else {
		return built{}, fmt.Errorf("%s is not known or not supported; remove it from the format", p.command)
	}
	cut := limit(op, p.max)
	if structured[p.command] {
		return built{cut, op}, nil
	}
	return built{cut, cut}, nil
}

// structured are the operators whose length limit does not count in JSON.
var structured = map[string]bool{
	"DYNAMIC_METADATA": true, "CLUSTER_METADATA": true, "UPSTREAM_METADATA": true, "METADATA": true,
}

// limit cuts an operator's output to max bytes (:LENGTH). A number that is cut is printed as text in JSON.
func limit(op operator, max int) operator {
	if max < 0 {
		return op
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		start := len(dst)
		dst, k := op(dst, r)
		if len(dst)-start > max {
			dst, k = dst[:start+max], text
		}
		return dst, k
	}
}

// str makes an operator of a text field; empty is absent.
func str(get func(*record) string) operator {
	return func(dst []byte, r *record) ([]byte, kind) {
		s := get(r)
		if s == "" {
			return dst, absent
		}
		return append(dst, s...), text
	}
}

// underscored is str with blanks replaced, so that a reason stays one field of a text log.
func underscored(get func(*record) string) operator {
	return func(dst []byte, r *record) ([]byte, kind) {
		s := get(r)
		if s == "" {
			return dst, absent
		}
		for i := range len(s) {
			switch c := s[i]; c {
			case ' ', '\t', '\n', '\v', '\f', '\r':
				dst = append(dst, '_')
			default:
				dst = append(dst, c)
			}
		}
		return dst, text
	}
}

func number(get func(*record) uint64) operator {
	return func(dst []byte, r *record) ([]byte, kind) { return strconv.AppendUint(dst, get(r), 10), literal }
}

// plainOperators are the commands without an argument.
var plainOperators = map[string]operator{
	"PROTOCOL":                                str(func(r *record) string { return string(r.Protocol) }),
	"UPSTREAM_PROTOCOL":                       str(func(r *record) string { return string(r.UpstreamProtocol) }),
	"RESPONSE_CODE":                           number(func(r *record) uint64 { return uint64(r.ResponseCode) }),
	"BYTES_RECEIVED":                          number(func(r *record) uint64 { return r.BytesReceived }),
	"BYTES_SENT":                              number(func(r *record) uint64 { return r.BytesSent }),
	"DURATION":                                millis(func(r *record) telemetry.Millis { return r.Duration }),
	"REQUEST_DURATION":                        since(func(t *telemetry.Timing) telemetry.Moment { return t.DownstreamLastRx }),
	"REQUEST_TX_DURATION":                     since(func(t *telemetry.Timing) telemetry.Moment { return t.UpstreamLastTx }),
	"RESPONSE_DURATION":                       since(func(t *telemetry.Timing) telemetry.Moment { return t.UpstreamFirstRx }),
	"RESPONSE_TX_DURATION":                    millis(func(r *record) telemetry.Millis { return r.Timing.DownstreamLastTx.After(r.Timing.UpstreamFirstRx) }),
	"ROUNDTRIP_DURATION":                      nothing, // HTTP/3 only, in Envoy too
	"BYTES_RETRANSMITTED":                     zero,    // likewise
	"PACKETS_RETRANSMITTED":                   zero,
	"DOWNSTREAM_CX_RTT":                       nothing, // likewise
	"DOWNSTREAM_HANDSHAKE_DURATION":           nothing, // of TCP sessions on a TLS listener, which a waypoint has not
	"UPSTREAM_CONNECTION_POOL_READY_DURATION": millis((*record).PoolReady),
	"CONNECTION_ID":                           number(func(r *record) uint64 { return r.ConnectionID }),
	"TRACE_ID":                                str(func(r *record) string { return r.TraceID }),
	"ROUTE_NAME":                              str(func(r *record) string { return r.RouteName }),
	"SPAN_ID":                                 str(func(r *record) string { return r.SpanID }),
	"STREAM_ID":                               streamID,
	"UNIQUE_ID":                               uniqueID,
	"ACCESS_LOG_TYPE":                         logType,
	"CUSTOM_FLAGS":                            empty,   // no filter sets any
	"LOCAL_REPLY_BODY":                        empty,   // in access logs, as in Envoy: the body is only there for local reply formats
	"VIRTUAL_CLUSTER_NAME":                    nothing, // istiod makes none
	"VIRTUAL_HOST_NAME":                       str(func(r *record) string { return r.VirtualHost }),
	"FILTER_CHAIN_NAME":                       str(func(r *record) string { return r.FilterChain }),

	"CONNECTION_TERMINATION_DETAILS":    str(func(r *record) string { return r.ConnectionTerminationDetails }),
	"UPSTREAM_TRANSPORT_FAILURE_REASON": underscored(func(r *record) string { return r.UpstreamTransportFailureReason }),
	"RESPONSE_FLAGS":                    func(dst []byte, r *record) ([]byte, kind) { return r.Flags.Append(dst), text },
	"RESPONSE_FLAGS_LONG":               func(dst []byte, r *record) ([]byte, kind) { return r.Flags.AppendLong(dst), text },

	"UPSTREAM_WIRE_BYTES_RECEIVED":   number(func(r *record) uint64 { return r.UpstreamWireBytesReceived }),
	"UPSTREAM_WIRE_BYTES_SENT":       number(func(r *record) uint64 { return r.UpstreamWireBytesSent }),
	"DOWNSTREAM_WIRE_BYTES_RECEIVED": number(func(r *record) uint64 { return r.WireBytesReceived }),
	"DOWNSTREAM_WIRE_BYTES_SENT":     number(func(r *record) uint64 { return r.WireBytesSent }),
	"UPSTREAM_REQUEST_ATTEMPT_COUNT": number(func(r *record) uint64 { return uint64(r.Attempts) }),

	"REQUEST_HEADERS_BYTES":                         number(func(r *record) uint64 { return uint64(telemetry.HeaderSize(r.RequestHeaders)) }),
	"RESPONSE_HEADERS_BYTES":                        number(func(r *record) uint64 { return uint64(telemetry.HeaderSize(r.ResponseHeaders)) }),
	"RESPONSE_TRAILERS_BYTES":                       number(func(r *record) uint64 { return uint64(telemetry.HeaderSize(r.ResponseTrailers)) }),
	"DOWNSTREAM_HEADER_BYTES_RECEIVED":              number(headerBytesReceived),
	"DOWNSTREAM_HEADER_BYTES_SENT":                  number(headerBytesSent),
	"DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED": number(headerBytesReceived),
	"DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT":     number(headerBytesSent),
	"UPSTREAM_HEADER_BYTES_RECEIVED":                number(upstreamHeaderBytesReceived),
	"UPSTREAM_HEADER_BYTES_SENT":                    number(upstreamHeaderBytesSent),
	"UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED":   number(upstreamHeaderBytesReceived),
	"UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT":       number(upstreamHeaderBytesSent),

	"DOWNSTREAM_DETECTED_CLOSE_TYPE": closeType(func(*record) bool { return true }),
	"UPSTREAM_DETECTED_CLOSE_TYPE":   closeType(func(r *record) bool { return r.UpstreamHost != "" }),

	"UPSTREAM_HOST":                              str(func(r *record) string { return r.UpstreamHost }),
	"UPSTREAM_HOST_NAME":                         str(func(r *record) string { return r.UpstreamHost }),
	"UPSTREAM_HOST_NAME_WITHOUT_PORT":            hostWithoutPort,
	"UPSTREAM_HOSTS_ATTEMPTED":                   attempted(asIs),
	"UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT":      attempted(ipWithoutPort),
	"UPSTREAM_HOST_NAMES_ATTEMPTED":              attempted(asIs),
	"UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT": attempted(stripPort),
	"UPSTREAM_CLUSTER_RAW":                       str(func(r *record) string { return r.UpstreamCluster }),
	"UPSTREAM_CLUSTER":                           str(func(r *record) string { return orElse(r.UpstreamClusterAlt, r.UpstreamCluster) }),
	"UPSTREAM_LOCAL_ADDRESS": func(dst []byte, r *record) ([]byte, kind) {
		if r.UpstreamLocalText != "" {
			return append(dst, r.UpstreamLocalText...), text
		}
		return address(withPort, upstreamLocal)(dst, r)
	},
	"UPSTREAM_LOCAL_PORT":                 address(onlyPort, upstreamLocal),
	"UPSTREAM_REMOTE_ADDRESS":             str((*record).UpstreamRemote),
	"UPSTREAM_REMOTE_PORT":                upstreamRemotePort,
	"UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID": endpointID,

	"DOWNSTREAM_LOCAL_ADDRESS":  address(withPort, downstreamLocal),
	"DOWNSTREAM_LOCAL_PORT":     address(onlyPort, downstreamLocal),
	"DOWNSTREAM_REMOTE_ADDRESS": address(withPort, downstreamRemote),
	"DOWNSTREAM_REMOTE_PORT":    address(onlyPort, downstreamRemote),
	// Inside a tunnel Envoy prints envoy://internal_client_address/ and envoy://main_internal/ here, which tells nobody anything.
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":            address(withPort, directRemote),
	"DOWNSTREAM_DIRECT_REMOTE_PORT":               address(onlyPort, directRemote),
	"DOWNSTREAM_DIRECT_LOCAL_ADDRESS":             address(withPort, downstreamLocal),
	"DOWNSTREAM_DIRECT_LOCAL_PORT":                address(onlyPort, downstreamLocal),
	"DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID":        empty, // of IP addresses, which these always are
	"DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID": empty,

	// Inside a tunnel there is no TLS of its own: Envoy prints "-" for all of these. The identities are those of the HBONE
	// connection, which is what whoever asks for them wants to see.
	"DOWNSTREAM_PEER_URI_SAN":  peerURISAN(),
	"DOWNSTREAM_LOCAL_URI_SAN": str(func(r *record) string { return r.LocalPrincipal }),

	"DOWNSTREAM_TLS_VERSION":                 handshake((*telemetry.TLS).Version),
	"DOWNSTREAM_TLS_CIPHER":                  handshake(cipher),
	"DOWNSTREAM_TLS_GROUP":                   handshake(group),
	"DOWNSTREAM_TLS_SESSION_ID":              nothing, // TLS 1.3 has none
	"DOWNSTREAM_PEER_SUBJECT":                ofPeer(subject),
	"DOWNSTREAM_PEER_ISSUER":                 ofPeer(issuer),
	"DOWNSTREAM_PEER_SERIAL":                 ofPeer(serial),
	"DOWNSTREAM_PEER_DNS_SAN":                ofPeer(dns),
	"DOWNSTREAM_PEER_IP_SAN":                 ofPeer(ips),
	"DOWNSTREAM_PEER_EMAIL_SAN":              ofPeer(emails),
	"DOWNSTREAM_PEER_CERT":                   ofPeer(telemetry.PEMText),
	"DOWNSTREAM_PEER_FINGERPRINT_256":        ofPeer(telemetry.SHA256Text),
	"DOWNSTREAM_PEER_FINGERPRINT_1":          ofPeer(telemetry.SHA1Text),
	"DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256": ofChain(telemetry.SHA256Text),
	"DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1":   ofChain(telemetry.SHA1Text),
	"DOWNSTREAM_PEER_CHAIN_SERIALS":          ofChain(serial),
}

// closeType is how a connection ended. Of a request it is "Normal", since its line is written while the connections go on; of a TCP
// session it is not known.
func closeType(there func(*record) bool) operator {
	return func(dst []byte, r *record) ([]byte, kind) {
		if r.Protocol == "" || !there(r) {
			return dst, absent
		}
		return append(dst, "Normal"...), text
	}
}

func headerBytesReceived(r *record) uint64         { return r.HeaderBytesReceived }
func headerBytesSent(r *record) uint64             { return r.HeaderBytesSent }
func upstreamHeaderBytesReceived(r *record) uint64 { return r.UpstreamHeaderBytesReceived }
func upstreamHeaderBytesSent(r *record) uint64     { return r.UpstreamHeaderBytesSent }

// argumentOperators are the commands that need an argument, or may have one.
var argumentOperators = map[string]func(part, Options) (operator, error){
	"REQ":     func(p part, _ Options) (operator, error) { return header(p, (*record).RequestHeader) },
	"RESP":    func(p part, _ Options) (operator, error) { return header(p, (*record).ResponseHeader) },
	"TRAILER": func(p part, _ Options) (operator, error) { return header(p, (*record).ResponseTrailer) },
	"REQ_WITHOUT_QUERY": func(p part, _ Options) (operator, error) {
		return header(p, func(r *record, name string) (string, bool) {
			v, ok := r.RequestHeader(name)
			v, _, _ = strings.Cut(v, "?")
			return v, ok
		})
	},
	"PATH":                  pathOperator,
	"RESPONSE_CODE_DETAILS": detailsOperator,
	"GRPC_STATUS":           grpcStatusOperator,
	"GRPC_STATUS_NUMBER": func(p part, o Options) (operator, error) {
		p.arg, p.hasArg = "NUMBER", true
		return grpcStatusOperator(p, o)
	},
	"REQUEST_HEADER":                                func(p part, _ Options) (operator, error) { return header(p, (*record).RequestHeader) },
	"RESPONSE_HEADER":                               func(p part, _ Options) (operator, error) { return header(p, (*record).ResponseHeader) },
	"RESPONSE_TRAILER":                              func(p part, _ Options) (operator, error) { return header(p, (*record).ResponseTrailer) },
	"START_TIME":                                    timeOperator(false, started),
	"START_TIME_LOCAL":                              timeOperator(true, started),
	"EMIT_TIME":                                     timeOperator(false, now),
	"EMIT_TIME_LOCAL":                               timeOperator(true, now),
	"COMMON_DURATION":                               commonDuration,
	"QUERY_PARAM":                                   queryParam,
	"QUERY_PARAMS":                                  queryParams,
	"REQUESTED_SERVER_NAME":                         serverName,
	"DOWNSTREAM_PEER_CERT_V_START":                  validity(func(c *x509.Certificate) time.Time { return c.NotBefore }),
	"DOWNSTREAM_PEER_CERT_V_END":                    validity(func(c *x509.Certificate) time.Time { return c.NotAfter }),
	"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":           masked(upstreamLocal, upstreamLocalInternal),
	"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":          masked(upstreamRemote, upstreamInternal),
	"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":         masked(downstreamLocal, noInternal),
	"DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT":  masked(downstreamLocal, noInternal),
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":        masked(downstreamRemote, noInternal),
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": masked(directRemote, noInternal),
	"ENVIRONMENT": func(p part, o Options) (operator, error) {
		if p.arg == "" {
			return nil, errors.New("needs the name of a variable: ENVIRONMENT(NAME)")
		}
		v := "-" // Envoy's value of a variable that is not set, in JSON and with omit_empty_values, too
		if o.Env != nil {
			if set, ok := o.Env(p.arg); ok {
				v = set // constant for the life of the process, so it is read once
			}
		}
		return constant(v), nil
	},
	"HOSTNAME": func(p part, o Options) (operator, error) {
		if p.hasArg {
			return nil, errors.New("takes no argument")
		}
		return str(func(*record) string { return o.Hostname }), nil
	},
	"DYNAMIC_METADATA": func(p part, _ Options) (operator, error) { return metadataOperator(telemetry.MetadataRequest, p.arg) },
	"CLUSTER_METADATA": func(p part, _ Options) (operator, error) { return metadataOperator(telemetry.MetadataCluster, p.arg) },
	"UPSTREAM_METADATA": func(p part, _ Options) (operator, error) {
		return metadataOperator(telemetry.MetadataUpstreamHost, p.arg)
	},
	"METADATA":              anyMetadataOperator,
	"CEL":                   func(p part, o Options) (operator, error) { return celOperator(p, o, false) },
	"TYPED_CEL":             func(p part, o Options) (operator, error) { return celOperator(p, o, true) },
	"FILTER_STATE":          filterStateOperator,
	"UPSTREAM_FILTER_STATE": filterStateOperator,
}

// envoyOnly are the operators of Envoy 1.40 that are not built here.
var envoyOnly = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(`
		VIRTUAL_CLUSTER_METADATA FILE_CONTENT SECRET TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT
		DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256 DOWNSTREAM_PEER_ISSUER_SERIAL
		DOWNSTREAM_PEER_OTHERNAME_SAN DOWNSTREAM_LOCAL_OTHERNAME_SAN DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_DNS_SAN
		DOWNSTREAM_LOCAL_IP_SAN DOWNSTREAM_LOCAL_EMAIL_SAN
		UPSTREAM_CONNECTION_ID UPSTREAM_CONNECTION_IDS_ATTEMPTED UPSTREAM_LOCAL_CLOSE_REASON
		UPSTREAM_SERVER_NAME UPSTREAM_TLS_VERSION UPSTREAM_TLS_CIPHER UPSTREAM_TLS_GROUP UPSTREAM_TLS_SESSION_ID
		UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_ISSUER UPSTREAM_PEER_CERT UPSTREAM_PEER_CERT_V_START UPSTREAM_PEER_CERT_V_END
		UPSTREAM_PEER_URI_SAN UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN
		UPSTREAM_LOCAL_SUBJECT UPSTREAM_LOCAL_URI_SAN UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN`) {
		m[name] = true
	}
	return m
}()

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func pathOperator(p part, _ Options) (operator, error) {
	query, source := "WQ", "ORIG_OR_PATH"
	if p.hasArg {
		q, s, found := strings.Cut(p.arg, ":")
		query = q
		if found {
			source = s
		}
	}
	if query != "WQ" && query != "NQ" {
		return nil, fmt.Errorf("argument %q: wanted WQ or NQ", query)
	}
	var name, alt string
	switch source {
	case "ORIG":
		name = "x-envoy-original-path"
	case "PATH":
		name = ":path"
	case "ORIG_OR_PATH":
		name, alt = "x-envoy-original-path", ":path"
	default:
		return nil, fmt.Errorf("argument %q: wanted ORIG, PATH or ORIG_OR_PATH", source)
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		v, ok := r.RequestHeader(name)
		if !ok && alt != "" {
			v, ok = r.RequestHeader(alt)
		}
		if !ok {
			return dst, absent
		}
		if query == "NQ" {
			v, _, _ = strings.Cut(v, "?")
		}
		return append(dst, v...), text
	}, nil
}

func detailsOperator(p part, _ Options) (operator, error) {
	get := func(r *record) string { return r.ResponseCodeDetails }
	switch {
	case !p.hasArg:
		return underscored(get), nil
	case p.arg == "ALLOW_WHITESPACES":
		return str(get), nil
	}
	return nil, fmt.Errorf("argument %q: wanted ALLOW_WHITESPACES", p.arg)
}

// grpcNames are the status names in the three forms that GRPC_STATUS can print.
var grpcNames = [...]struct{ camel, snake string }{
	{"OK", "OK"}, {"Canceled", "CANCELLED"}, {"Unknown", "UNKNOWN"}, {"InvalidArgument", "INVALID_ARGUMENT"},
	{"DeadlineExceeded", "DEADLINE_EXCEEDED"}, {"NotFound", "NOT_FOUND"}, {"AlreadyExists", "ALREADY_EXISTS"},
	{"PermissionDenied", "PERMISSION_DENIED"}, {"ResourceExhausted", "RESOURCE_EXHAUSTED"},
	{"FailedPrecondition", "FAILED_PRECONDITION"}, {"Aborted", "ABORTED"}, {"OutOfRange", "OUT_OF_RANGE"},
	{"Unimplemented", "UNIMPLEMENTED"}, {"Internal", "INTERNAL"}, {"Unavailable", "UNAVAILABLE"},
	{"DataLoss", "DATA_LOSS"}, {"Unauthenticated", "UNAUTHENTICATED"},
}

func grpcStatusOperator(p part, _ Options) (operator, error) {
	form := p.arg
	switch form {
	case "":
		form = "CAMEL_STRING"
	case "CAMEL_STRING", "SNAKE_STRING", "NUMBER":
	default:
		return nil, fmt.Errorf("argument %q: wanted CAMEL_STRING, SNAKE_STRING or NUMBER", form)
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		code, ok := r.GRPCStatus.Code()
		switch {
		case !ok || !r.GRPC:
			return dst, absent
		case form == "NUMBER":
			return strconv.AppendInt(dst, int64(code), 10), literal
		case code >= len(grpcNames):
			return strconv.AppendInt(dst, int64(code), 10), text // no name; Envoy prints the number
		case form == "SNAKE_STRING":
			return append(dst, grpcNames[code].snake...), text
		}
		return append(dst, grpcNames[code].camel...), text
	}, nil
}
