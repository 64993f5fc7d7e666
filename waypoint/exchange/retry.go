package exchange

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/route"
)

// retryState is the retry policy of one request: the route's, changed by the request's x-envoy-* headers as Envoy allows.
type retryState struct {
	on           route.RetryOn
	statuses     []int
	max          uint32
	skipPrevious bool
	hostAttempts int
	base, limit  time.Duration
	headers      []route.HeaderMatch
	staleRetried bool
}

// defaultBackoff is Envoy's base interval of retries; the longest is ten times as much.
const defaultBackoff = 25 * time.Millisecond

// retryPolicy fills in e.retry, which is the exchange's own so that none is allocated.
func (e *exchange) retryPolicy(f *route.Forward) *retryState {
	s := &e.retry
	*s = retryState{}
	if r := f.Retry; r != nil {
		*s = retryState{on: r.On, statuses: r.Statuses, max: r.Max, skipPrevious: r.SkipPrevious, hostAttempts: r.HostAttempts,
			base: r.BackoffBase, limit: r.BackoffMax, headers: r.RetriableHeaders}
	}
	h := &e.req.Fields
	if v := h.Value(header.XEnvoyRetryOn); v != "" {
		s.on |= route.ParseRetryOn(v)
		s.max = max(s.max, 1)
	}
	if v := h.Value(header.XEnvoyRetryGRPCOn); v != "" {
		s.on |= route.ParseRetryOn(v)
		s.max = max(s.max, 1)
	}
	if v := h.Value(header.XEnvoyMaxRetries); v != "" && s.on != 0 { // nearly always absent, and its parser's error allocates
		if n, err := strconv.ParseUint(v, 10, 32); err == nil {
			s.max = uint32(n)
		}
	}
	h.Del(header.XEnvoyRetryOn)
	h.Del(header.XEnvoyRetryGRPCOn)
	h.Del(header.XEnvoyMaxRetries)
	if s.base <= 0 {
		s.base = defaultBackoff
	}
	if s.limit <= 0 {
		s.limit = 10 * s.base
	}
	return s
}

// armed tells whether the policy may ever try again, so that the body is worth keeping.
func (s *retryState) armed() bool { return s.on != 0 && s.max > 0 }

// wantsReset tells whether a reset may be tried again (Envoy: wouldRetryFromReset).
func (s *retryState) wantsReset(f *failure) bool {
	switch {
	case f.malformed:
		return s.on&(route.Retry5xx|route.RetryGatewayError|route.RetryReset) != 0
	case f.timeout == perTryTimeout: // before the head; later it is no longer running
		return s.on&(route.Retry5xx|route.RetryGatewayError|route.RetryReset) != 0
	case f.timeout != noTimeout || !f.reset:
		return false
	case f.connect:
		return s.on&(route.RetryConnectFailure|route.Retry5xx|route.RetryGatewayError|route.RetryReset|route.RetryResetBeforeRequest) != 0
	case f.refused:
		return s.on&(route.RetryRefusedStream|route.Retry5xx|route.RetryGatewayError|route.RetryReset) != 0
	default:
		return s.on&(route.Retry5xx|route.RetryGatewayError|route.RetryReset) != 0
	}
}

// wantsAnswer tells whether an answer may be tried again (Envoy: wouldRetryFromHeaders). gRPC statuses count when they are in
// the head, that is in an answer that consists of trailers only.
func (s *retryState) wantsAnswer(h *message.Head) bool {
	if s.on == 0 || h.Fields.Has(header.XEnvoyOverloaded) {
		return false
	}
	if h.Fields.Has(header.XEnvoyRateLimited) {
		return s.on&route.RetryEnvoyRatelimited != 0
	}
	st := h.Status
	switch {
	case s.on&route.Retry5xx != 0 && st >= 500 && st < 600,
		s.on&route.RetryGatewayError != 0 && (st == 502 || st == 503 || st == 504),
		s.on&route.RetryRetriable4xx != 0 && st == http.StatusConflict,
		s.on&route.RetryRetriableStatusCodes != 0 && slices.Contains(s.statuses, st):
		return true
	}
	if s.on&route.RetryRetriableHeaders != 0 {
		for i := range s.headers {
			if s.headers[i].Match(h) {
				return true
			}
		}
	}
	const grpcTokens = route.RetryGRPCCancelled | route.RetryGRPCDeadlineExceeded | route.RetryGRPCInternal |
		route.RetryGRPCResourceExhausted | route.RetryGRPCUnavailable
	if s.on&grpcTokens == 0 {
		return false
	}
	switch h.Fields.Value(header.GRPCStatus) {
	case "1":
		return s.on&route.RetryGRPCCancelled != 0
	case "4":
		return s.on&route.RetryGRPCDeadlineExceeded != 0
	case "8":
		return s.on&route.RetryGRPCResourceExhausted != 0
	case "13":
		return s.on&route.RetryGRPCInternal != 0
	case "14":
		return s.on&route.RetryGRPCUnavailable != 0
	}
	return false
}

// again tells whether another attempt follows a failure, and waits as long as the policy says before it.
//
// Beyond Envoy's rules there is one: a kept connection on which the backend closed while the request was on its way
// (RFC 9112, 9.3.1). If the method is idempotent and no byte of an answer came, the request is sent again, once, without
// counting as a retry; Envoy answers 503.
func (e *exchange) again(s *retryState, f *failure, attempt uint32) bool {
	if f.answer { // decided when the answer was there
		e.backoff(s, attempt)
		return !e.clientGone()
	}
	if e.clientGone() || e.headSent || f.timeout != noTimeout && f.timeout != perTryTimeout || !e.body.replayable() {
		return false
	}
	if f.stale && !s.staleRetried && idempotent(e.req.Method) {
		s.staleRetried = true
		e.countRetry()
		return true
	}
	if !s.wantsReset(f) {
		return false
	}
	if attempt >= s.max {
		if s.max > 0 {
			e.rec.Flags.Set(telemetry.FlagUpstreamRetryLimitExceeded)
		}
		return false
	}
	if !e.retryBudget() {
		return false
	}
	e.backoff(s, attempt)
	kind := e.timedOutKind()
	return !e.clientGone() && (kind == noTimeout || kind == perTryTimeout)
}

// retryBudget asks the cluster's circuit breaker for another attempt: max_retries, or a share of the requests. What it gives is
// given back when that attempt ends; see proxy.
func (e *exchange) retryBudget() bool {
	if !e.cluster.TryRetry() {
		e.rec.Flags.Set(telemetry.FlagUpstreamOverflow)
		return false
	}
	e.retrying = true
	return true
}

func (e *exchange) countRetry() { e.env.Stats.Retries.Add(1) }

// backoff waits a random time below base × 2^attempt, as Envoy's jittered exponential back-off.
func (e *exchange) backoff(s *retryState, attempt uint32) {
	e.countRetry()
	longest := min(s.base<<min(attempt, 16), s.limit)
	time.Sleep(time.Duration(rand.Int64N(int64(longest))))
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// timeouts are the request's and each attempt's; x-envoy-upstream-rq-timeout-ms and …-per-try-timeout-ms of the client count
// (Envoy honours them when use_remote_address is false), and so does grpc-timeout where the route says so.
func (e *exchange) timeouts(f *route.Forward) (whole, perTry time.Duration) {
	h := &e.req.Fields
	whole = f.Timeout
	if f.Retry != nil {
		perTry = f.Retry.PerTryTimeout
	}
	if f.GRPCTimeout && e.grpc {
		if t, ok := parseGRPCTimeout(h.Value(header.GRPCTimeout)); ok {
			whole = t
			if f.MaxGRPCTimeout > 0 && (t > f.MaxGRPCTimeout || t == 0) {
				whole = f.MaxGRPCTimeout
			}
		} else {
			whole = f.MaxGRPCTimeout
		}
	}
	if ms, ok := millis(h.Value(header.XEnvoyUpstreamRqTimeoutMs)); ok {
		whole = ms
	}
	if ms, ok := millis(h.Value(header.XEnvoyUpstreamRqPerTryTimeoutMs)); ok {
		perTry = ms
	}
	h.Del(header.XEnvoyUpstreamRqTimeoutMs)
	h.Del(header.XEnvoyUpstreamRqPerTryTimeoutMs)
	if whole > 0 && perTry >= whole {
		perTry = 0 // Envoy: the whole is shorter anyway
	}
	return whole, perTry
}

func millis(v string) (time.Duration, bool) {
	if v == "" {
		return 0, false // nearly always, and the parser's error allocates
	}
	n, err := strconv.ParseUint(v, 10, 31)
	return time.Duration(n) * time.Millisecond, err == nil
}

// parseGRPCTimeout reads "grpc-timeout": at most eight digits and a unit.
func parseGRPCTimeout(v string) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	units := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': 1}
	unit, ok := units[v[len(v)-1]]
	if ok && n > uint64(math.MaxInt64/unit) {
		return math.MaxInt64, true // 99999999H is more than a Duration holds, and must not become less than nothing
	}
	return time.Duration(n) * unit, ok && !strings.HasPrefix(v, "+")
}
