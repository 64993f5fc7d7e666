package exchange

import (
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/route"
)

// istiod's default policy: connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes, without codes.
const istiodDefault = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"

func TestWhichResetsAreTriedAgain(t *testing.T) {
	connect := &failure{connect: true, reset: true}
	refused := &failure{refused: true, reset: true}
	reset := &failure{reset: true, flag: telemetry.FlagUpstreamRemoteReset}
	perTry := &failure{timeout: perTryTimeout, reset: true}
	whole := &failure{timeout: requestTimeout, reset: true}
	malformed := &failure{malformed: true, reset: true}
	for _, c := range []struct {
		on   string
		want map[*failure]bool
	}{
		{istiodDefault, map[*failure]bool{connect: true, refused: true}},
		{"5xx", map[*failure]bool{connect: true, refused: true, reset: true, perTry: true, malformed: true}},
		{"gateway-error", map[*failure]bool{connect: true, refused: true, reset: true, perTry: true, malformed: true}},
		{"reset", map[*failure]bool{connect: true, refused: true, reset: true, perTry: true, malformed: true}},
		{"retriable-4xx", nil},
		{"", nil},
	} {
		s := &retryState{on: route.ParseRetryOn(c.on), max: 2}
		for name, f := range map[string]*failure{"connect": connect, "refused": refused, "reset": reset, "per try": perTry, "whole": whole, "malformed": malformed} {
			if got := s.wantsReset(f); got != c.want[f] {
				t.Errorf("%q: %s: %v, want %v", c.on, name, got, c.want[f])
			}
		}
	}
}

func TestWhichAnswersAreTriedAgain(t *testing.T) {
	answer := func(status int, fields ...string) *message.Head {
		h := &message.Head{Status: status}
		for i := 0; i < len(fields); i += 2 {
			h.Fields.Append(fields[i], fields[i+1])
		}
		return h
	}
	for _, c := range []struct {
		on       string
		statuses []int
		h        *message.Head
		want     bool
	}{
		{istiodDefault, nil, answer(503), false},
		{istiodDefault, []int{503}, answer(503), true},
		{istiodDefault, nil, answer(200, "grpc-status", "14"), true},
		{istiodDefault, nil, answer(200, "grpc-status", "1"), true},
		{istiodDefault, nil, answer(200, "grpc-status", "4"), false},
		{istiodDefault, nil, answer(200), false},
		{"5xx", nil, answer(500), true},
		{"5xx", nil, answer(499), false},
		{"gateway-error", nil, answer(500), false},
		{"gateway-error", nil, answer(502), true},
		{"retriable-4xx", nil, answer(409), true},
		{"retriable-4xx", nil, answer(404), false},
		{"5xx", nil, answer(503, "x-envoy-overloaded", "true"), false},
		{"5xx", nil, answer(503, "x-envoy-ratelimited", "true"), false},
		{"envoy-ratelimited", nil, answer(429, "x-envoy-ratelimited", "true"), true},
		{"deadline-exceeded,resource-exhausted,internal", nil, answer(200, "grpc-status", "8"), true},
		{"", nil, answer(503), false},
	} {
		s := &retryState{on: route.ParseRetryOn(c.on), statuses: c.statuses, max: 2}
		if got := s.wantsAnswer(c.h); got != c.want {
			t.Errorf("%q %v: %d %v: %v", c.on, c.statuses, c.h.Status, c.h.Fields.All(), got)
		}
	}
}

func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name          string
		f             route.Forward
		grpc          bool
		headers       []string
		whole, perTry time.Duration
	}{
		{"none, istiod's default", route.Forward{}, false, nil, 0, 0},
		{"the route's", route.Forward{Timeout: 5 * time.Second, Retry: &route.Retry{PerTryTimeout: time.Second}}, false, nil, 5 * time.Second, time.Second},
		{"a per-try timeout that the whole is shorter than", route.Forward{Timeout: time.Second, Retry: &route.Retry{PerTryTimeout: 2 * time.Second}}, false, nil, time.Second, 0},
		{"the client's", route.Forward{Timeout: 5 * time.Second}, false,
			[]string{"x-envoy-upstream-rq-timeout-ms", "250", "x-envoy-upstream-rq-per-try-timeout-ms", "100"}, 250 * time.Millisecond, 100 * time.Millisecond},
		{"nonsense of the client", route.Forward{Timeout: 5 * time.Second}, false, []string{"x-envoy-upstream-rq-timeout-ms", "-1"}, 5 * time.Second, 0},
		{"grpc-timeout, bounded", route.Forward{GRPCTimeout: true, MaxGRPCTimeout: time.Second}, true, []string{"grpc-timeout", "5S"}, time.Second, 0},
		{"grpc-timeout, unbounded", route.Forward{GRPCTimeout: true}, true, []string{"grpc-timeout", "5S"}, 5 * time.Second, 0},
		{"grpc-timeout of a request that is no gRPC", route.Forward{GRPCTimeout: true}, false, []string{"grpc-timeout", "5S"}, 0, 0},
	} {
		e := &exchange{grpc: c.grpc}
		for i := 0; i < len(c.headers); i += 2 {
			e.req.Fields.Append(c.headers[i], c.headers[i+1])
		}
		whole, perTry := e.timeouts(&c.f)
		if whole != c.whole || perTry != c.perTry {
			t.Errorf("%s: %v %v, want %v %v", c.name, whole, perTry, c.whole, c.perTry)
		}
		for _, name := range []string{"x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms"} {
			if _, ok := e.req.Get(name); ok {
				t.Errorf("%s: %s reaches the backend", c.name, name)
			}
		}
	}
	for in, want := range map[string]time.Duration{"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6} {
		if got, ok := parseGRPCTimeout(in); !ok || got != want {
			t.Errorf("%s: %v %v", in, got, ok)
		}
	}
	if got, ok := parseGRPCTimeout("99999999H"); !ok || got <= 0 {
		t.Errorf("the longest: %v %v", got, ok)
	}
	for _, in := range []string{"", "1", "S", "123456789S", "-1S", "1x", "+1S"} {
		if _, ok := parseGRPCTimeout(in); ok {
			t.Errorf("%q passes for a grpc-timeout", in)
		}
	}
}

// The client may ask for retries, and how many; the headers end here.
func TestRetryHeadersOfTheClient(t *testing.T) {
	e := &exchange{}
	e.req.Fields.Append("x-envoy-retry-on", "5xx")
	e.req.Fields.Append("x-envoy-max-retries", "4")
	s := e.retryPolicy(&route.Forward{})
	if s.on&route.Retry5xx == 0 || s.max != 4 || e.req.Fields.Len() != 0 {
		t.Errorf("%+v, left over: %v", s, e.req.Fields.All())
	}
	if s := e.retryPolicy(&route.Forward{}); s.armed() {
		t.Error("nobody asked for retries")
	}
}

func TestGRPCAnswers(t *testing.T) {
	for status, want := range map[int]int{400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14, 500: 2} {
		if got := grpcCode(status); got != want {
			t.Errorf("%d: %d, want %d", status, got, want)
		}
	}
	if got := percentEncode("a%b\nü~"); got != "a%25b%0A%C3%BC~" {
		t.Errorf("%q", got)
	}
	for ct, want := range map[string]bool{"application/grpc": true, "application/grpc+proto": true, "application/grpc;x": true, "application/grpc-web": false, "text/plain": false} {
		if isGRPC(ct) != want {
			t.Errorf("%q: %v", ct, !want)
		}
	}
}
