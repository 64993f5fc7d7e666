package tracing

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	environmentDetector = "envoy.tracers.opentelemetry.resource_detectors.environment"
	scopeName           = "gowaypoint"
)

// reportOTel names the fields of an OpenTelemetryConfig that have no effect here.
func reportOTel(c *tracev3.OpenTelemetryConfig, report func(string, ...any)) {
	if c.GetSampler() != nil {
		report("sampler %s: Envoy's own sampling decides", c.GetSampler().GetName())
	}
	for _, d := range c.GetResourceDetectors() {
		if d.GetName() != environmentDetector {
			report("resource_detectors %s", d.GetName())
		}
	}
	if c.GetMaxCacheSize() != nil {
		report("max_cache_size: the queue has the process' size")
	}
}

// otlpExporter sends spans with OpenTelemetry's own exporters. The SDK's tracer only serves to make the SDK's span type: it
// is given ids, times and attributes that are known already.
type otlpExporter struct {
	out      *otlptrace.Exporter
	timeout  time.Duration
	tracer   trace.Tracer
	provider *sdktrace.TracerProvider
	done     collected // what the tracer has ended, until export takes it
	cleanup  func()
}

func newOTLP(c *tracev3.OpenTelemetryConfig, o *Options) (exporter, error) {
	res, err := otelResource(c, o)
	if err != nil {
		return nil, err
	}
	e := &otlpExporter{timeout: collectorTimeout, cleanup: func() {}}
	switch {
	case c.GetGrpcService() != nil:
		err = e.useGRPC(c.GetGrpcService(), o)
	case c.GetHttpService() != nil:
		err = e.useHTTP(c.GetHttpService(), o)
	default:
		err = errors.New("neither grpc_service nor http_service is set; name a collector")
	}
	if err != nil {
		return nil, err
	}
	e.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // sampling is decided; what comes here is exported
		sdktrace.WithIDGenerator(givenIDs{}), sdktrace.WithResource(res), sdktrace.WithSpanProcessor(&e.done),
	)
	scope := scopeName
	if v := c.GetSetInstrumentationScope(); v != nil && !v.GetValue() {
		scope = ""
	}
	e.tracer = e.provider.Tracer(scope)
	return e, nil
}

// otelResource is what we are: service.name, the SDK, and OTEL_RESOURCE_ATTRIBUTES if the environment detector is on.
func otelResource(c *tracev3.OpenTelemetryConfig, o *Options) (*resource.Resource, error) {
	var attrs []attribute.KeyValue
	if enabled(c.GetSetTelemetrySdkResourceAttributes()) {
		sdk, err := resource.New(context.Background(), resource.WithTelemetrySDK())
		if err != nil {
			return nil, err
		}
		attrs = sdk.Attributes()
	}
	if enabled(c.GetSetServiceNameResourceAttribute()) {
		attrs = append(attrs, attribute.String("service.name", or(c.GetServiceName(), "unknown_service:envoy"))) // Envoy's default
	}
	for _, d := range c.GetResourceDetectors() {
		if d.GetName() != environmentDetector || o.Format.Env == nil {
			continue
		}
		list, _ := o.Format.Env("OTEL_RESOURCE_ATTRIBUTES")
		for pair := range strings.SplitSeq(list, ",") {
			if k, v, ok := strings.Cut(pair, "="); ok {
				attrs = append(attrs, attribute.String(strings.TrimSpace(k), strings.TrimSpace(v)))
			}
		}
	}
	return resource.NewSchemaless(attrs...), nil
}

// enabled reads a BoolValue whose absence means true.
func enabled(v *wrapperspb.BoolValue) bool { return v == nil || v.GetValue() }

func (e *otlpExporter) useGRPC(s *corev3.GrpcService, o *Options) error {
	g := s.GetEnvoyGrpc()
	if g == nil {
		return errors.New("grpc_service.google_grpc is not supported; use envoy_grpc")
	}
	if o.Dial == nil {
		return errors.New("no dialer for collectors")
	}
	dial, err := o.Dial(g.GetClusterName())
	if err != nil {
		return fmt.Errorf("grpc_service.envoy_grpc.cluster_name %q: %w", g.GetClusterName(), err)
	}
	conn, err := grpc.NewClient("passthrough:///collector",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // TLS is the dialer's
		grpc.WithAuthority(or(g.GetAuthority(), hostOr(g.GetClusterName()))),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return fmt.Errorf("grpc_service: %w", err)
	}
	if d := s.GetTimeout().AsDuration(); d > 0 {
		e.timeout = d
	}
	headers := map[string]string{}
	for _, h := range s.GetInitialMetadata() {
		headers[strings.ToLower(h.GetKey())] = h.GetValue()
	}
	e.out = otlptrace.NewUnstarted(otlptracegrpc.NewClient(otlptracegrpc.WithGRPCConn(conn), otlptracegrpc.WithHeaders(headers),
		otlptracegrpc.WithTimeout(e.timeout),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}))) // while it retried, the queue would overflow
	e.cleanup = func() { _ = conn.Close() } // nothing is on it any more
	return e.out.Start(context.Background())
}

func (e *otlpExporter) useHTTP(s *corev3.HttpService, o *Options) error {
	c, err := newCollector(s, o)
	if err != nil {
		return fmt.Errorf("http_service.%w", err)
	}
	e.timeout = c.timeout
	headers := map[string]string{}
	for k := range c.headers {
		headers[k] = c.headers.Get(k)
	}
	e.out = otlptrace.NewUnstarted(otlptracehttp.NewClient(
		otlptracehttp.WithHTTPClient(&http.Client{Transport: hostTransport{c.client.Transport, c.host}}),
		otlptracehttp.WithEndpointURL(c.url), otlptracehttp.WithHeaders(headers), otlptracehttp.WithTimeout(c.timeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false})))
	e.cleanup = c.client.CloseIdleConnections
	return e.out.Start(context.Background())
}

// hostTransport sets the Host header, which the exporter takes from the URL.
type hostTransport struct {
	http.RoundTripper
	host string
}

func (h hostTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context()) // a RoundTripper must not change its request
	r.Host = h.host
	return h.RoundTripper.RoundTrip(r)
}

func (e *otlpExporter) export(ctx context.Context, batch []finished) error {
	for i := range batch {
		e.record(&batch[i])
	}
	spans := e.done.spans
	e.done.spans = nil
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	return e.out.ExportSpans(ctx, spans)
}

func (e *otlpExporter) record(f *finished) {
	ids := givenIDs{span: otelSpanID(f.ctx.span)}
	binary.BigEndian.PutUint64(ids.trace[:8], f.ctx.traceHigh)
	binary.BigEndian.PutUint64(ids.trace[8:], f.ctx.traceLow)
	ctx := context.WithValue(context.Background(), idsKey{}, ids)
	if f.ctx.parent != 0 {
		state, _ := trace.ParseTraceState(f.ctx.state) // a bad one is not exported
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: ids.trace, SpanID: otelSpanID(f.ctx.parent), TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true,
		}))
	}
	attrs := make([]attribute.KeyValue, 0, len(f.tags))
	for _, t := range f.tags {
		attrs = append(attrs, otelAttribute(t))
	}
	_, span := e.tracer.Start(ctx, f.name, trace.WithTimestamp(f.start), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attrs...))
	if f.failed {
		span.SetStatus(codes.Error, "") // for servers only 5xx is an error (OpenTelemetry semantic conventions for HTTP)
	}
	span.End(trace.WithTimestamp(f.start.Add(f.duration)))
}

// otelAttribute keeps the type that the configuration asks for; a value that is not of that type stays text.
func otelAttribute(t tag) attribute.KeyValue {
	switch t.typed {
	case tracingv3.CustomTag_INT:
		if v, err := strconv.ParseInt(t.value, 10, 64); err == nil {
			return attribute.Int64(t.name, v)
		}
	case tracingv3.CustomTag_DOUBLE:
		if v, err := strconv.ParseFloat(t.value, 64); err == nil {
			return attribute.Float64(t.name, v)
		}
	case tracingv3.CustomTag_BOOL:
		if v, err := strconv.ParseBool(t.value); err == nil {
			return attribute.Bool(t.name, v)
		}
	}
	return attribute.String(t.name, strings.ToValidUTF8(t.value, "\uFFFD")) // protobuf refuses other bytes
}

func (e *otlpExporter) close(ctx context.Context) {
	_ = e.out.Shutdown(ctx) // nothing is left to be lost
	_ = e.provider.Shutdown(ctx)
	e.cleanup()
}

// givenIDs hands the SDK the ids that were propagated long before the span is made.
type givenIDs struct {
	trace trace.TraceID
	span  trace.SpanID
}

type idsKey struct{}

func (givenIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	ids, _ := ctx.Value(idsKey{}).(givenIDs)
	return ids.trace, ids.span
}

func (g givenIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	_, id := g.NewIDs(ctx)
	return id
}

func otelSpanID(v uint64) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], v)
	return id
}

// collected is the SDK's span processor: it keeps ended spans for the export that follows in the same goroutine.
type collected struct{ spans []sdktrace.ReadOnlySpan }

func (c *collected) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (c *collected) OnEnd(s sdktrace.ReadOnlySpan)                   { c.spans = append(c.spans, s) }
func (c *collected) Shutdown(context.Context) error                  { return nil }
func (c *collected) ForceFlush(context.Context) error                { return nil }
