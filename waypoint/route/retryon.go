package route

import "strings"

// RetryOn is a set of retry_on tokens.
type RetryOn uint32

// The tokens of x-envoy-retry-on and x-envoy-retry-grpc-on.
const (
	Retry5xx RetryOn = 1 << iota
	RetryGatewayError
	RetryReset
	RetryResetBeforeRequest
	RetryConnectFailure
	RetryEnvoyRatelimited
	RetryRetriable4xx
	RetryRefusedStream
	RetryRetriableStatusCodes
	RetryRetriableHeaders
	RetryHTTP3PostConnectFailure
	RetryGRPCCancelled
	RetryGRPCDeadlineExceeded
	RetryGRPCInternal
	RetryGRPCResourceExhausted
	RetryGRPCUnavailable
)

// ParseRetryOn reads a comma-separated list of tokens, those for HTTP and those for gRPC. A token that is not known is passed
// over, as Envoy does; [Compile] reports it.
func ParseRetryOn(tokens string) RetryOn {
	var on RetryOn
	for tokens != "" {
		var t string
		t, tokens, _ = strings.Cut(tokens, ",")
		on |= retryToken(strings.TrimSpace(t))
	}
	return on
}

func retryToken(t string) RetryOn {
	switch t {
	case "5xx":
		return Retry5xx
	case "gateway-error":
		return RetryGatewayError
	case "reset":
		return RetryReset
	case "reset-before-request":
		return RetryResetBeforeRequest
	case "connect-failure":
		return RetryConnectFailure
	case "envoy-ratelimited":
		return RetryEnvoyRatelimited
	case "retriable-4xx":
		return RetryRetriable4xx
	case "refused-stream":
		return RetryRefusedStream
	case "retriable-status-codes":
		return RetryRetriableStatusCodes
	case "retriable-headers":
		return RetryRetriableHeaders
	case "http3-post-connect-failure":
		return RetryHTTP3PostConnectFailure
	case "cancelled":
		return RetryGRPCCancelled
	case "deadline-exceeded":
		return RetryGRPCDeadlineExceeded
	case "internal":
		return RetryGRPCInternal
	case "resource-exhausted":
		return RetryGRPCResourceExhausted
	case "unavailable":
		return RetryGRPCUnavailable
	}
	return 0
}
