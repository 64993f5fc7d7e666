package format

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

type record = telemetry.Record

// build makes the operator of one command.
func build(p part, o Options) (operator, error) {
	if op, ok := plainOperators[p.command]; ok {
		if p.hasArg {
			return nil, errors.New("takes no argument")
		}
		return limit(op, p.max), nil
	}
	newOperator, ok := argumentOperators[p.command]
	if !ok && o.Report != nil && envoyOnly[p.command] {
		o.Report("%" + p.command + "% is not supported and prints nothing")
		return func(dst []byte, _ *record) ([]byte, kind) { return dst, absent }, nil
	}
	if !ok {
		return nil, fmt.Errorf("%s is not known or not supported; remove it from the format", p.command)
	}
	op, err := newOperator(p, o)
	if err != nil {
		return nil, err
	}
	return limit(op, p.max), nil
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

// millis is a duration in whole milliseconds, cut off as Envoy does.
func millis(get func(*record) telemetry.Millis) operator {
	return func(dst []byte, r *record) ([]byte, kind) {
		d, ok := get(r).Get()
		if !ok {
			return dst, absent
		}
		return strconv.AppendInt(dst, d.Milliseconds(), 10), literal
	}
}

type addressForm uint8

const (
	withPort addressForm = iota
	withoutPort
	onlyPort
)

func address(form addressForm, get func(*record) netip.AddrPort) operator {
	return func(dst []byte, r *record) ([]byte, kind) {
		a := get(r)
		switch {
		case !a.IsValid():
			return dst, absent
		case form == withoutPort:
			return a.Addr().AppendTo(dst), text
		case form == onlyPort:
			return strconv.AppendUint(dst, uint64(a.Port()), 10), literal
		}
		return a.AppendTo(dst), text
	}
}

func directRemote(r *record) netip.AddrPort {
	if r.DownstreamDirectRemote.IsValid() {
		return r.DownstreamDirectRemote
	}
	return r.DownstreamRemote
}

// plainOperators are the commands without an argument.
var plainOperators = map[string]operator{
	"PROTOCOL":              str(func(r *record) string { return string(r.Protocol) }),
	"UPSTREAM_PROTOCOL":     str(func(r *record) string { return string(r.UpstreamProtocol) }),
	"RESPONSE_CODE":         number(func(r *record) uint64 { return uint64(r.ResponseCode) }),
	"BYTES_RECEIVED":        number(func(r *record) uint64 { return r.BytesReceived }),
	"BYTES_SENT":            number(func(r *record) uint64 { return r.BytesSent }),
	"DURATION":              millis(func(r *record) telemetry.Millis { return r.Duration }),
	"REQUEST_DURATION":      millis(func(r *record) telemetry.Millis { return r.RequestDuration }),
	"RESPONSE_DURATION":     millis(func(r *record) telemetry.Millis { return r.ResponseDuration }),
	"RESPONSE_TX_DURATION":  millis(func(r *record) telemetry.Millis { return r.ResponseTxDuration }),
	"ROUNDTRIP_DURATION":    func(dst []byte, _ *record) ([]byte, kind) { return dst, absent }, // HTTP/3 only, in Envoy too
	"CONNECTION_ID":         number(func(r *record) uint64 { return r.ConnectionID }),
	"TRACE_ID":              str(func(r *record) string { return r.TraceID }),
	"ROUTE_NAME":            str(func(r *record) string { return r.RouteName }),
	"VIRTUAL_CLUSTER_NAME":  func(dst []byte, _ *record) ([]byte, kind) { return dst, absent }, // istiod makes none
	"VIRTUAL_HOST_NAME":     str(func(r *record) string { return r.VirtualHost }),
	"FILTER_CHAIN_NAME":     str(func(r *record) string { return r.FilterChain }),
	"REQUESTED_SERVER_NAME": str(func(r *record) string { return r.RequestedServerName }),

	"CONNECTION_TERMINATION_DETAILS":    str(func(r *record) string { return r.ConnectionTerminationDetails }),
	"UPSTREAM_TRANSPORT_FAILURE_REASON": underscored(func(r *record) string { return r.UpstreamTransportFailureReason }),
	"RESPONSE_FLAGS":                    func(dst []byte, r *record) ([]byte, kind) { return r.Flags.Append(dst), text },
	"RESPONSE_FLAGS_LONG":               func(dst []byte, r *record) ([]byte, kind) { return r.Flags.AppendLong(dst), text },

	"UPSTREAM_WIRE_BYTES_RECEIVED":   number(func(r *record) uint64 { return r.UpstreamWireBytesReceived }),
	"UPSTREAM_WIRE_BYTES_SENT":       number(func(r *record) uint64 { return r.UpstreamWireBytesSent }),
	"DOWNSTREAM_WIRE_BYTES_RECEIVED": number(func(r *record) uint64 { return r.WireBytesReceived }),
	"DOWNSTREAM_WIRE_BYTES_SENT":     number(func(r *record) uint64 { return r.WireBytesSent }),
	"UPSTREAM_REQUEST_ATTEMPT_COUNT": number(func(r *record) uint64 { return uint64(r.Attempts) }),

	"UPSTREAM_HOST":        str(func(r *record) string { return r.UpstreamHost }),
	"UPSTREAM_CLUSTER_RAW": str(func(r *record) string { return r.UpstreamCluster }),
	"UPSTREAM_CLUSTER":     str(func(r *record) string { return orElse(r.UpstreamClusterAlt, r.UpstreamCluster) }),
	"UPSTREAM_LOCAL_ADDRESS": func(dst []byte, r *record) ([]byte, kind) {
		if r.UpstreamLocalText != "" {
			return append(dst, r.UpstreamLocalText...), text
		}
		return address(withPort, func(r *record) netip.AddrPort { return r.UpstreamLocal })(dst, r)
	},
	"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":  address(withoutPort, func(r *record) netip.AddrPort { return r.UpstreamLocal }),
	"UPSTREAM_LOCAL_PORT":                  address(onlyPort, func(r *record) netip.AddrPort { return r.UpstreamLocal }),
	"UPSTREAM_REMOTE_ADDRESS":              address(withPort, func(r *record) netip.AddrPort { return r.UpstreamAddress }),
	"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": address(withoutPort, func(r *record) netip.AddrPort { return r.UpstreamAddress }),
	"UPSTREAM_REMOTE_PORT":                 address(onlyPort, func(r *record) netip.AddrPort { return r.UpstreamAddress }),
	"UPSTREAM_HOST_NAME":                   str(func(r *record) string { return r.UpstreamHost }),

	"DOWNSTREAM_LOCAL_ADDRESS":                      address(withPort, func(r *record) netip.AddrPort { return r.DownstreamLocal }),
	"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":         address(withoutPort, func(r *record) netip.AddrPort { return r.DownstreamLocal }),
	"DOWNSTREAM_LOCAL_PORT":                         address(onlyPort, func(r *record) netip.AddrPort { return r.DownstreamLocal }),
	"DOWNSTREAM_REMOTE_ADDRESS":                     address(withPort, func(r *record) netip.AddrPort { return r.DownstreamRemote }),
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":        address(withoutPort, func(r *record) netip.AddrPort { return r.DownstreamRemote }),
	"DOWNSTREAM_REMOTE_PORT":                        address(onlyPort, func(r *record) netip.AddrPort { return r.DownstreamRemote }),
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":              address(withPort, directRemote),
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": address(withoutPort, directRemote),
	"DOWNSTREAM_DIRECT_REMOTE_PORT":                 address(onlyPort, directRemote),

	// Inside a tunnel there is no TLS of its own: Envoy would print "-" here. The identities are those of the HBONE
	// connection, which is what whoever asks for them wants to see.
	"DOWNSTREAM_PEER_URI_SAN":  str(func(r *record) string { return r.PeerPrincipal }),
	"DOWNSTREAM_LOCAL_URI_SAN": str(func(r *record) string { return r.LocalPrincipal }),
}

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
	"START_TIME": startTimeOperator,
	"ENVIRONMENT": func(p part, o Options) (operator, error) {
		if p.arg == "" {
			return nil, errors.New("needs the name of a variable: ENVIRONMENT(NAME)")
		}
		if o.Env == nil {
			return str(func(*record) string { return "" }), nil
		}
		v, _ := o.Env(p.arg) // constant for the life of the process, so it is read once
		return str(func(*record) string { return v }), nil
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
		COMMON_DURATION STREAM_ID UNIQUE_ID EMIT_TIME ACCESS_LOG_TYPE LOCAL_REPLY_BODY QUERY_PARAM QUERY_PARAMS
		VIRTUAL_CLUSTER_METADATA FILE_CONTENT SECRET TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT
		DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_DETECTED_CLOSE_TYPE
		DOWNSTREAM_HANDSHAKE_DURATION DOWNSTREAM_DIRECT_LOCAL_ADDRESS DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT
		DOWNSTREAM_DIRECT_LOCAL_PORT DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_REMOTE_ADDRESS_ENDPOINT_ID
		DOWNSTREAM_HEADER_BYTES_RECEIVED DOWNSTREAM_HEADER_BYTES_SENT
		DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT
		DOWNSTREAM_TLS_VERSION DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_SESSION_ID
		DOWNSTREAM_PEER_FINGERPRINT_1 DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_ISSUER
		DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_PEER_CERT_V_END
		DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_OTHERNAME_SAN
		DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1 DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256 DOWNSTREAM_PEER_CHAIN_SERIALS
		DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_IP_SAN DOWNSTREAM_LOCAL_EMAIL_SAN
		DOWNSTREAM_LOCAL_OTHERNAME_SAN
		UPSTREAM_HOST_NAME_WITHOUT_PORT UPSTREAM_CONNECTION_ID UPSTREAM_CONNECTION_POOL_READY_DURATION
		UPSTREAM_DETECTED_CLOSE_TYPE UPSTREAM_LOCAL_CLOSE_REASON UPSTREAM_HEADER_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_SENT
		UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT
		UPSTREAM_TLS_VERSION UPSTREAM_TLS_CIPHER UPSTREAM_TLS_SESSION_ID
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
