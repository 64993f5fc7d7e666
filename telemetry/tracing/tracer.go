package tracing

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

// propagation is the header format of a provider.
type propagation uint8

const (
	propagateNone propagation = iota
	propagateB3
	propagateB3AndW3C
	propagateW3C
)

// Tracer traces the requests of one HTTP connection manager. It is immutable and may be used by any number of goroutines;
// nil decides nothing and makes no spans.
type Tracer struct {
	provider *Provider
	exporter *sharedExporter // nil: no provider is configured

	client, random, overall uint64 // out of 10,000
	requestID               RequestIDConfig
	maxPath                 int
	operation               *format.Format
	tags                    []customTag

	propagation propagation
	noInject    bool
	wide        bool // 128-bit trace ids
	timestamped bool // trace ids begin with the time
	shareSpan   bool
}

// Tracer compiles HttpConnectionManager.tracing; nil gives a nil Tracer. The request id configuration is the one of the same
// connection manager. unhonoured names the fields whose effect is missing. The error names a provider that is not supported
// or a field that is wrong. Close the tracer when its configuration is replaced, after the new one was compiled: exporters
// with equal configuration are one.
func (p *Provider) Tracer(c *hcmv3.HttpConnectionManager_Tracing, id RequestIDConfig) (t *Tracer, unhonoured []string, err error) {
	if c == nil {
		return nil, nil, nil
	}
	report := func(f string, args ...any) { unhonoured = append(unhonoured, "tracing."+fmt.Sprintf(f, args...)) }
	t = &Tracer{
		provider: p, requestID: id,
		client: percent(c.GetClientSampling()), random: percent(c.GetRandomSampling()), overall: percent(c.GetOverallSampling()),
		maxPath: 256, noInject: c.GetNoContextPropagation(), // 256: Envoy's default
	}
	if v := c.GetMaxPathTagLength(); v != nil {
		t.maxPath = int(v.GetValue())
	}
	if c.GetVerbose() {
		report("verbose: spans have no timing events")
	}
	if c.GetSpawnUpstreamSpan().GetValue() {
		report("spawn_upstream_span: there is one span per request")
	}
	if c.GetUpstreamOperation() != "" {
		report("upstream_operation: there is one span per request")
	}
	o := p.opts.Format
	o.OmitEmpty = true
	if op := c.GetOperation(); op != "" {
		if t.operation, err = format.Compile(op, o); err != nil {
			return nil, unhonoured, fmt.Errorf("tracing.operation: %w", err)
		}
	}
	if t.tags, err = compileTags(c.GetCustomTags(), o, report); err != nil {
		return nil, unhonoured, fmt.Errorf("tracing.%w", err)
	}
	if provider := c.GetProvider(); provider != nil {
		if err = t.setProvider(provider, report); err != nil {
			return nil, unhonoured, fmt.Errorf("tracing.provider %s: %w", provider.GetName(), err)
		}
	}
	return t, unhonoured, nil
}

func (t *Tracer) setProvider(c *tracev3.Tracing_Http, report func(string, ...any)) error {
	config := c.GetTypedConfig()
	switch {
	case config.MessageIs((*tracev3.ZipkinConfig)(nil)):
		z := &tracev3.ZipkinConfig{}
		if err := config.UnmarshalTo(z); err != nil {
			return err
		}
		t.propagation = propagateB3
		if z.GetTraceContextOption() == tracev3.ZipkinConfig_USE_B3_WITH_W3C_PROPAGATION {
			t.propagation = propagateB3AndW3C
		}
		t.wide, t.timestamped = z.GetTraceId_128Bit(), z.GetTimestampTraceIds()
		t.shareSpan = z.GetSharedSpanContext() == nil || z.GetSharedSpanContext().GetValue() // Envoy's default is true
		if z.GetSplitSpansForRequest() {
			report("provider %s.split_spans_for_request: there is one span per request", c.GetName())
		}
		var err error
		t.exporter, err = t.provider.acquire(config, func() (exporter, error) { return newZipkin(z, &t.provider.opts) })
		return err
	case config.MessageIs((*tracev3.OpenTelemetryConfig)(nil)):
		o := &tracev3.OpenTelemetryConfig{}
		if err := config.UnmarshalTo(o); err != nil {
			return err
		}
		t.propagation, t.wide = propagateW3C, true
		reportOTel(o, func(f string, args ...any) { report("provider "+c.GetName()+"."+f, args...) })
		var err error
		t.exporter, err = t.provider.acquire(config, func() (exporter, error) { return newOTLP(o, &t.provider.opts) })
		return err
	}
	return fmt.Errorf("type %s is not supported; use zipkin or opentelemetry", config.GetTypeUrl())
}

// Close lets go of the exporter, which sends what it still has when nobody else uses it.
func (t *Tracer) Close() {
	if t != nil && t.exporter != nil {
		t.provider.release(t.exporter)
	}
}

// percent is in hundredths of a percent; absent is everything.
func percent(p *typev3.Percent) uint64 {
	if p == nil {
		return 10000
	}
	return uint64(min(max(p.GetValue(), 0), 100) * 100)
}

// Decide says whether and why the request is traced, and returns the request id with that written into it. It is called once
// per request, before filters run, with the id that the request has or was given.
func (t *Tracer) Decide(h telemetry.Headers, id string) (string, Reason) {
	if t == nil {
		return id, NotTraced
	}
	n, ok := sample(id)
	if !t.requestID.UseForSampling {
		n, ok = rand.Uint64N(10000), true
	}
	if !ok {
		return id, NotTraced // an id that gives no number: not ours to decide on, as in Envoy
	}
	reason := ReasonOf(id)
	if reason == NotTraced {
		_, client := h.Get("x-client-trace-id")
		_, forced := h.Get("x-envoy-force-trace")
		switch {
		case client && n < t.client:
			reason = ClientForced
		case forced:
			reason = ServiceForced
		case n < t.random:
			reason = Sampled
		}
	}
	if n >= t.overall {
		reason = NotTraced
	}
	if t.requestID.PackReason {
		id = WithReason(id, reason)
	}
	return id, reason
}

// Span is the span of one request. The zero Span is none: its methods do nothing.
type Span struct {
	tracer *Tracer
	ctx    spanContext
}

// Start begins the span, as a child of what the request's headers name, if they do. What the caller decided about sampling
// holds; otherwise the reason decides.
func (t *Tracer) Start(h telemetry.Headers, reason Reason) Span {
	if t == nil || t.exporter == nil {
		return Span{}
	}
	var in incoming
	switch t.propagation {
	case propagateB3, propagateB3AndW3C:
		in = extractB3(h)
		if !in.ok && in.sampled == nil && t.propagation == propagateB3AndW3C {
			in = extractW3C(h)
		}
	case propagateW3C:
		in = extractW3C(h)
	}
	s := Span{tracer: t}
	switch {
	case in.ok && t.shareSpan:
		s.ctx = in.parent
		s.ctx.shared = true
	case in.ok:
		s.ctx = spanContext{traceHigh: in.parent.traceHigh, traceLow: in.parent.traceLow, parent: in.parent.span, span: random64(), state: in.parent.state}
	default:
		s.ctx = t.root()
	}
	s.ctx.sampled = reason != NotTraced
	if in.sampled != nil {
		s.ctx.sampled = *in.sampled
	}
	return s
}

func (t *Tracer) root() spanContext {
	c := spanContext{traceLow: random64()}
	c.span = c.traceLow // as Envoy's Zipkin tracer
	if t.propagation == propagateW3C {
		c.span = random64()
	}
	if t.wide {
		c.traceHigh = random64()
	}
	if t.timestamped {
		stamp := uint64(time.Now().Unix()) << 32
		if t.wide {
			c.traceHigh = stamp | c.traceHigh&0xffffffff
		} else {
			c.traceLow = stamp | c.traceLow&0xffffffff
			c.span = c.traceLow
		}
	}
	return c
}

// Inject writes the span into the headers that go upstream, unless the configuration says no_context_propagation.
func (s *Span) Inject(c Carrier) {
	if s.tracer == nil || s.tracer.noInject {
		return
	}
	switch s.tracer.propagation {
	case propagateB3, propagateB3AndW3C:
		injectB3(c, &s.ctx)
		if s.tracer.propagation == propagateB3AndW3C {
			injectW3C(c, &s.ctx)
		}
	case propagateW3C:
		injectW3C(c, &s.ctx)
	}
}

// TraceID is the trace's id in hex, for Record.TraceID; empty without a span.
func (s *Span) TraceID() string {
	if s.tracer == nil {
		return ""
	}
	return s.ctx.traceID()
}

// SpanID is the span's id in hex, for Record.SpanID; empty without a span.
func (s *Span) SpanID() string {
	if s.tracer == nil {
		return ""
	}
	return hex64(s.ctx.span)
}

// Sampled tells whether Finish will export the span.
func (s *Span) Sampled() bool { return s.tracer != nil && s.ctx.sampled }

// Finish ends the span and queues it for export if it is sampled. operation is the route's decorator operation; empty gives
// Envoy's name for an incoming request, "ingress". A health check has no span.
func (s *Span) Finish(r *telemetry.Record, operation string) {
	if !s.Sampled() || r.HealthCheck {
		return
	}
	t := s.tracer
	if t.operation != nil {
		if v, ok := t.operation.Value(r); ok {
			operation = v
		}
	}
	if operation == "" {
		operation = "ingress"
	}
	d, _ := r.Duration.Get()
	f := finished{ctx: s.ctx, name: operation, start: r.Start, duration: max(d, 0), tags: t.makeTags(r), failed: r.ResponseCode >= 500}
	t.exporter.put(f)
}

// finished is a span on its way to an exporter.
type finished struct {
	ctx      spanContext
	name     string
	start    time.Time
	duration time.Duration
	tags     []tag
	failed   bool // 5xx: the status of an OpenTelemetry span
}

// localEndpoint is how Zipkin names us.
type localEndpoint struct {
	service string
	addr    netip.Addr
}
