// Package fault delays and aborts requests, on purpose.
//
// What it does: holds a share of the requests back for a while, then answers a share of them itself. Both are drawn for each
// request, independently.
//
// Configured by: envoy.extensions.filters.http.fault.v3.HTTPFault at the filter, and the same message at a route in its place:
// delay (fixed_delay, header_delay), abort (http_status, grpc_status, header_abort, response_body), their percentage,
// downstream_nodes, max_active_faults, filter_metadata. The request headers x-envoy-fault-delay-request (milliseconds),
// x-envoy-fault-abort-request, x-envoy-fault-abort-grpc-request and the …-percentage of both count only with header_delay and
// header_abort, and can make a percentage smaller, never larger.
//
// Refuses: headers and upstream_cluster, without which more requests would be hit than was asked for. Notes:
// response_rate_limit, and the runtime keys, since there is no runtime.
//
// Writes: response flags DI and FI; for an abort body "fault filter abort" and details fault_filter_abort; filter_metadata under
// the filter's name; counters http.fault.delays_injected, aborts_injected, faults_overflow, and gauge active_faults.
package fault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// HTTP returns the compiler. Counters go to stats.
func HTTP(stats *metrics.Stats) filter.Compiler[filter.HTTP] { return compiler(stats, rand.Uint64N) }

func compiler(stats *metrics.Stats, draw func(n uint64) uint64) filter.Compiler[filter.HTTP] {
	return filter.Compiler[filter.HTTP]{
		New: func(name string, config proto.Message) (filter.HTTP, error) {
			s, err := compile(config)
			if err != nil {
				return nil, err
			}
			return &httpFilter{
				name: name, settings: s, draw: draw,
				delays: stats.Counter("http.fault.delays_injected"), aborts: stats.Counter("http.fault.aborts_injected"),
				overflows: stats.Counter("http.fault.faults_overflow"), shown: stats.Gauge("http.fault.active_faults"),
			}, nil
		},
		NewRoute: func(config proto.Message) (any, error) {
			s, err := compile(config)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
	}
}

// settings are one configuration.
type settings struct {
	delay     *delay // nil: none
	abort     *abort
	nodes     []string // x-envoy-downstream-service-node must be one of these, unless there are none
	maxActive int64    // -1: no limit, which is Envoy's default
	metadata  *structpb.Struct
	notes     []string
}

func (s *settings) Notes() []string { return s.notes }

type delay struct {
	fixed    time.Duration
	byHeader bool
	share    share
}

type abort struct {
	status   int // HTTP; 0: see grpc
	grpc     telemetry.GRPCStatus
	byHeader bool
	body     string
	share    share
}

func compile(config proto.Message) (*settings, error) {
	c, ok := config.(*faultv3.HTTPFault)
	if !ok {
		return nil, fmt.Errorf("configuration is a %T, not a HTTPFault", config)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if len(c.GetHeaders()) > 0 {
		return nil, errors.New("headers: not supported; match them in the route")
	}
	if c.GetUpstreamCluster() != "" {
		return nil, errors.New("upstream_cluster: not supported; set the fault at the route that leads to it")
	}
	s := &settings{nodes: c.GetDownstreamNodes(), maxActive: -1, metadata: c.GetFilterMetadata()}
	if m := c.GetMaxActiveFaults(); m != nil {
		s.maxActive = int64(m.GetValue())
	}
	var err error
	if s.delay, err = compileDelay(c.GetDelay()); err != nil {
		return nil, fmt.Errorf("delay.%w", err)
	}
	if s.abort, err = compileAbort(c.GetAbort()); err != nil {
		return nil, fmt.Errorf("abort.%w", err)
	}
	if c.GetResponseRateLimit() != nil {
		s.notes = append(s.notes, "response_rate_limit: not supported; answers are not slowed down")
	}
	for _, key := range []struct{ field, value string }{
		{"delay_percent_runtime", c.GetDelayPercentRuntime()}, {"abort_percent_runtime", c.GetAbortPercentRuntime()},
		{"delay_duration_runtime", c.GetDelayDurationRuntime()}, {"abort_http_status_runtime", c.GetAbortHttpStatusRuntime()},
		{"abort_grpc_status_runtime", c.GetAbortGrpcStatusRuntime()}, {"max_active_faults_runtime", c.GetMaxActiveFaultsRuntime()},
	} {
		if key.value != "" {
			s.notes = append(s.notes, key.field+": there is no runtime")
		}
	}
	return s, nil
}

func compileDelay(c *commonv3.FaultDelay) (*delay, error) {
	switch kind := c.GetFaultDelaySecifier().(type) {
	case nil:
		if c != nil {
			return nil, errors.New("fixed_delay: neither it nor header_delay is set")
		}
		return nil, nil
	case *commonv3.FaultDelay_FixedDelay:
		return &delay{fixed: kind.FixedDelay.AsDuration(), share: newShare(c.GetPercentage())}, nil
	default:
		return &delay{byHeader: true, share: newShare(c.GetPercentage())}, nil
	}
}

func compileAbort(c *faultv3.FaultAbort) (*abort, error) {
	if c == nil {
		return nil, nil
	}
	a := &abort{share: newShare(c.GetPercentage()), body: c.GetResponseBody()}
	if a.body == "" {
		a.body = "fault filter abort"
	}
	switch kind := c.GetErrorType().(type) {
	case *faultv3.FaultAbort_HttpStatus:
		a.status = int(kind.HttpStatus)
	case *faultv3.FaultAbort_GrpcStatus:
		a.grpc = telemetry.GRPC(kind.GrpcStatus)
	case *faultv3.FaultAbort_HeaderAbort_:
		a.byHeader = true
	default:
		return nil, errors.New("error_type: neither http_status, grpc_status nor header_abort is set")
	}
	return a, nil
}

// share is a FractionalPercent.
type share struct{ numerator, denominator uint64 }

func newShare(p *typev3.FractionalPercent) share {
	s := share{uint64(p.GetNumerator()), 100}
	switch p.GetDenominator() {
	case typev3.FractionalPercent_TEN_THOUSAND:
		s.denominator = 10_000
	case typev3.FractionalPercent_MILLION:
		s.denominator = 1_000_000
	}
	return s
}

// hits draws. A header may make the share smaller.
func (s share) hits(x *filter.Exchange, header string, draw func(uint64) uint64) bool {
	n := s.numerator
	if header != "" {
		if v, ok := number(x, header, 32); ok {
			n = min(n, v)
		}
	}
	return n > 0 && (n >= s.denominator || draw(s.denominator) < n)
}

// number reads the first value of a request header as a number.
func number(x *filter.Exchange, header string, bits int) (uint64, bool) {
	v, ok := x.Request.Get(header)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(v, 10, bits)
	return n, err == nil
}

// duration is how long to hold a request back; 0: not at all.
func (d *delay) duration(x *filter.Exchange, draw func(uint64) uint64) time.Duration {
	switch {
	case d == nil:
		return 0
	case !d.byHeader:
		if !d.share.hits(x, "", draw) {
			return 0
		}
		return d.fixed.Truncate(time.Millisecond) // Envoy counts milliseconds
	}
	ms, ok := number(x, "x-envoy-fault-delay-request", 32) // 49 days are enough
	if !ok || !d.share.hits(x, "x-envoy-fault-delay-request-percentage", draw) {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// reply is the answer to give; ok is false when the request is to go on.
func (a *abort) reply(x *filter.Exchange, draw func(uint64) uint64) (r filter.Reply, ok bool) {
	if a == nil {
		return r, false
	}
	r = filter.Reply{
		Status: a.status, GRPC: a.grpc, Body: a.body,
		Details: "fault_filter_abort", Flag: telemetry.FlagFaultInjected,
	}
	percentage := ""
	if a.byHeader {
		percentage = "x-envoy-fault-abort-request-percentage"
		if code, there := number(x, "x-envoy-fault-abort-grpc-request", 31); there {
			r.GRPC = telemetry.GRPC(uint32(code))
		} else if code, there := number(x, "x-envoy-fault-abort-request", 32); there && code >= 200 && code < 600 {
			r.Status = int(code)
		} else {
			return r, false
		}
	}
	if _, grpc := r.GRPC.Code(); grpc {
		r.Status = 200 // as in Envoy, whoever asks
	}
	return r, a.share.hits(x, percentage, draw)
}

type httpFilter struct {
	name                      string
	settings                  *settings
	draw                      func(n uint64) uint64
	active                    atomic.Int64 // requests of this filter with a fault, until they are over
	delays, aborts, overflows *metrics.Counter
	shown                     *metrics.Gauge
}

func (f *httpFilter) Name() string    { return f.name }
func (f *httpFilter) Notes() []string { return f.settings.notes }

// Request delays, then aborts.
func (f *httpFilter) Request(x *filter.Exchange) filter.Action {
	s := f.settings
	if r, ok := x.PerRoute(f.name).(*settings); ok {
		s = r
	}
	if s.delay == nil && s.abort == nil {
		return filter.Continue
	}
	if s.maxActive >= 0 && f.active.Load() >= s.maxActive { // fuzzy under concurrency, as in Envoy
		f.overflows.Inc()
		return filter.Continue
	}
	if len(s.nodes) > 0 {
		if node, _ := x.Request.Get("x-envoy-downstream-service-node"); !slices.Contains(s.nodes, node) {
			return filter.Continue
		}
	}
	if d := s.delay.duration(x, f.draw); d > 0 {
		f.inject(x, s, telemetry.FlagDelayInjected, f.delays)
		if !x.Sleep(d) {
			return filter.Continue // nobody is left to answer
		}
	}
	r, ok := s.abort.reply(x, f.draw)
	if !ok {
		return filter.Continue
	}
	f.inject(x, s, telemetry.FlagFaultInjected, f.aborts)
	return x.Reply(r)
}

// inject notes a fault. Several of one request count as one that is active.
func (f *httpFilter) inject(x *filter.Exchange, s *settings, flag telemetry.Flag, count *metrics.Counter) {
	count.Inc()
	x.Record.Flags.Set(flag)
	if s.metadata != nil {
		x.Metadata.Merge(f.name, s.metadata)
	}
	if x.Local(f) == nil {
		x.SetLocal(f, true)
		f.active.Add(1)
		f.shown.Add(1)
	}
}

// Finish ends the fault.
func (f *httpFilter) Finish(x *filter.Exchange) {
	if x.Local(f) != nil {
		x.SetLocal(f, nil)
		f.active.Add(-1)
		f.shown.Add(-1)
	}
}
