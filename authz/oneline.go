package authz

import (
	"slices"
	"strings"
)

// oneLine are the headers of which Envoy 1.40 appends a further line to the first, after a comma, when it reads a request. Of
// every other header, cookie included, the lines stay apart.
var oneLine = []string{
	"accept", "accept-encoding", "access-control-request-headers", "access-control-request-method",
	"access-control-request-private-network", "authentication", "authorization", "cache-control", "content-encoding",
	"content-type", "expect", "grpc-accept-encoding", "grpc-timeout", "if-match", "if-modified-since", "if-none-match",
	"if-range", "if-unmodified-since", "origin", "pragma", "referer", "user-agent", "via", "x-client-trace-id",
	"x-envoy-attempt-count", "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster",
	"x-envoy-downstream-service-node", "x-envoy-external-address", "x-envoy-is-timeout-retry", "x-envoy-original-host",
	"x-envoy-original-path", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-request-id",
}

// OneLine reports whether Envoy keeps a header on one line, joined with commas. It matters to what an allow needs of a header
// that was sent on several: see the package comment.
func OneLine(name string) bool { return slices.Contains(oneLine, strings.ToLower(name)) }
