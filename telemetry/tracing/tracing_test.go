package tracing

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/openzipkin/zipkin-go/model"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

// headers is a Carrier.
type headers map[string]string

func (h headers) Get(name string) (string, bool) { v, ok := h[name]; return v, ok }
func (h headers) Set(name, value string)         { h[name] = value }
func (h headers) Del(name string)                { delete(h, name) }

const id = "00000001-0b1c-4f3a-8f7e-1c2b3a4d5e6f" // stands for the number 1 of 10,000

func dialTo(addr string) func(string) (Dialer, error) {
	return func(cluster string) (Dialer, error) {
		if cluster == "" {
			return nil, fmt.Errorf("no such cluster")
		}
		return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", addr) }, nil
	}
}

func options(dial func(string) (Dialer, error)) Options {
	return Options{
		Dial: dial, ServiceName: "waypoint.default", NodeID: "waypoint~10.1.1.1~w.default~default.svc.cluster.local", LocalAddress: netip.MustParseAddr("10.1.1.1"),
		Format: format.Options{Env: func(name string) (string, bool) {
			v, ok := map[string]string{"POD": "w-1", "OTEL_RESOURCE_ATTRIBUTES": "team=blue, tier = gold"}[name]
			return v, ok
		}},
	}
}

func parseTracing(t *testing.T, src string) *hcmv3.HttpConnectionManager_Tracing {
	t.Helper()
	c := &hcmv3.HttpConnectionManager_Tracing{}
	if err := protojson.Unmarshal([]byte(src), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func newTracer(t *testing.T, p *Provider, src string) *Tracer {
	t.Helper()
	tr, unhonoured, err := p.Tracer(parseTracing(t, src), DefaultRequestID)
	if err != nil || len(unhonoured) > 0 {
		t.Fatalf("error %v, not honoured %q", err, unhonoured)
	}
	return tr
}

const sampling = `"client_sampling":{"value":100},"random_sampling":{"value":100},"overall_sampling":{"value":100}`

// istioTags are custom tags of each kind, as istiod sends them.
const istioTags = `,"custom_tags":[
 {"tag":"istio.canonical_revision","literal":{"value":"latest"}},
 {"tag":"istio.source_workload","value":"%FILTER_STATE(downstream_peer_obj:FIELD:workload)%"},
 {"tag":"istio.destination_workload","value":"%FILTER_STATE(upstream_peer_obj:FIELD:workload)%"},
 {"tag":"pod","environment":{"name":"POD"}},{"tag":"nope","environment":{"name":"NOPE","default_value":"dflt"}},
 {"tag":"user","request_header":{"name":"X-User"}},{"tag":"lang","request_header":{"name":"accept-language","default_value":"none"}},{"tag":"gone","request_header":{"name":"x-gone"}},
 {"tag":"istio.authorization.dry_run.allow_policy.result","metadata":{"kind":{"request":{}},"metadata_key":{"key":"envoy.filters.http.rbac","path":[{"key":"istio_dry_run_allow_shadow_engine_result"}]}}},
 {"tag":"code","value":"%RESPONSE_CODE%","value_type":"INT"}]`

func zipkinConfig(extra string) string {
	return `{` + sampling + `,"provider":{"name":"envoy.tracers.zipkin","typed_config":{"@type":"type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
	"collector_cluster":"outbound|9411||zipkin.istio-system.svc.cluster.local","collector_endpoint":"/api/v2/spans","collector_endpoint_version":"HTTP_JSON",
	"trace_id_128bit":true,"shared_span_context":false` + extra + `}}` + istioTags + `}`
}

type rbacResult struct{}

func (rbacResult) Lookup(s telemetry.MetadataSource, namespace string, path []string) *structpb.Value {
	if s == telemetry.MetadataRequest && namespace == "envoy.filters.http.rbac" && strings.Join(path, ".") == "istio_dry_run_allow_shadow_engine_result" {
		return structpb.NewStringValue("denied")
	}
	return nil
}

func record() *telemetry.Record {
	return &telemetry.Record{
		Start: time.Now().Add(-time.Second), Duration: telemetry.Took(15 * time.Millisecond), Protocol: telemetry.HTTP11,
		Method: "GET", Scheme: "http", Authority: "reviews:8000", Path: "/reviews/1", RequestID: id, ResponseCode: 200,
		RequestHeaders: headers{"user-agent": "curl/8", "x-user": "alice"}, BytesReceived: 3, BytesSent: 357,
		DownstreamRemote: netip.MustParseAddrPort("10.244.0.5:41522"), UpstreamHost: "10.244.1.7:8000", UpstreamAddress: netip.MustParseAddrPort("10.244.1.7:8000"),
		UpstreamCluster: "inbound-vip|8000|http|reviews.default.svc.cluster.local", UpstreamClusterAlt: "reviews",
		Source: &telemetry.Peer{Workload: "curl"}, Metadata: rbacResult{},
	}
}

var wantTags = map[string]string{
	"node_id": "waypoint~10.1.1.1~w.default~default.svc.cluster.local", "guid:x-request-id": id, "http.url": "http://reviews:8000/reviews/1",
	"http.method": "GET", "downstream_cluster": "-", "user_agent": "curl/8", "http.protocol": "HTTP/1.1", "peer.address": "10.244.0.5",
	"request_size": "3", "response_size": "357", "component": "proxy", "upstream_cluster": "inbound-vip|8000|http|reviews.default.svc.cluster.local",
	"upstream_cluster.name": "reviews", "upstream_address": "10.244.1.7:8000", "http.status_code": "200", "response_flags": "-",
	"istio.canonical_revision": "latest", "istio.source_workload": "curl", "pod": "w-1", "nope": "dflt", "user": "alice", "lang": "none",
	"istio.authorization.dry_run.allow_policy.result": "denied", "code": "200",
}

func compareTags(t *testing.T, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("tag %s = %q, want %q", k, got[k], v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("tag %s = %q is not wanted", k, got[k])
		}
	}
}

// zipkinServer takes spans over real HTTP with Zipkin's own model.
type zipkinServer struct {
	*httptest.Server
	mu    sync.Mutex
	spans []model.SpanModel
	reqs  []*http.Request
	code  int
}

func startZipkin(t *testing.T) *zipkinServer {
	z := &zipkinServer{code: http.StatusAccepted}
	z.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var spans []model.SpanModel
		if err := json.NewDecoder(r.Body).Decode(&spans); err != nil {
			t.Error(err)
		}
		z.mu.Lock()
		defer z.mu.Unlock()
		z.spans = append(z.spans, spans...)
		z.reqs = append(z.reqs, r)
		w.WriteHeader(z.code)
	}))
	t.Cleanup(z.Close)
	return z
}

func closeProvider(t *testing.T, p *Provider) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	p.Close(ctx)
}

// A request with a B3 parent: one SERVER span with all tags, at the path and with the Host that the configuration says.
func TestZipkin(t *testing.T) {
	z := startZipkin(t)
	p := NewProvider(options(dialTo(z.Listener.Addr().String())))
	tr := newTracer(t, p, zipkinConfig(`,"collector_hostname":"zipkin.istio-system"`))

	in := headers{"x-b3-traceid": "463ac35c9f6413ad48485a3953bb6124", "x-b3-spanid": "a2fb4a1d1a96d312", "x-b3-sampled": "1", "b3": ""}
	span := tr.Start(in, NotTraced) // the caller's decision holds
	out := headers{}
	span.Inject(out)
	if out["x-b3-traceid"] != "463ac35c9f6413ad48485a3953bb6124" || out["x-b3-parentspanid"] != "a2fb4a1d1a96d312" || out["x-b3-sampled"] != "1" ||
		len(out["x-b3-spanid"]) != 16 || out["x-b3-spanid"] == "a2fb4a1d1a96d312" || out["traceparent"] != "" {
		t.Errorf("injected %v", out)
	}
	span.Finish(record(), "reviews.default.svc.cluster.local:8000/*")
	r := record()
	r.ResponseCode = 503
	rootSpan := tr.Start(headers{}, Sampled)
	rootSpan.Finish(r, "")
	notSampled := tr.Start(headers{"x-b3-sampled": "0"}, Sampled)
	notSampled.Finish(record(), "x")
	closeProvider(t, p)

	if len(z.spans) != 2 {
		t.Fatalf("%d spans, want 2", len(z.spans))
	}
	s := z.spans[0]
	if s.TraceID.String() != "463ac35c9f6413ad48485a3953bb6124" || s.ID.String() != out["x-b3-spanid"] || s.ParentID.String() != "a2fb4a1d1a96d312" {
		t.Errorf("ids %v %v %v", s.TraceID, s.ID, s.ParentID)
	}
	if s.Kind != model.Server || s.Name != "reviews.default.svc.cluster.local:8000/*" || s.Shared || s.Duration != 15*time.Millisecond ||
		s.LocalEndpoint.ServiceName != "waypoint.default" || s.LocalEndpoint.IPv4.String() != "10.1.1.1" {
		t.Errorf("span %+v %+v", s, s.LocalEndpoint)
	}
	compareTags(t, s.Tags, wantTags)
	if s = z.spans[1]; s.ParentID != nil || s.Tags["error"] != "true" || s.Name != "ingress" || s.TraceID.High == 0 {
		t.Errorf("root span of a failed request: %+v", s)
	}
	if q := z.reqs[0]; q.Host != "zipkin.istio-system" || q.URL.Path != "/api/v2/spans" || q.Header.Get("Content-Type") != "application/json" {
		t.Errorf("request to %s%s, %v", q.Host, q.URL, q.Header)
	}
	if c := p.Counts(); c != (Counts{Sent: 2}) {
		t.Errorf("counts %+v", c)
	}
}

// collector_service, as istiod sends it since 1.29: full URI, headers, a path of its own; and a Host that is no cluster name.
func TestZipkinCollectorService(t *testing.T) {
	z := startZipkin(t)
	p := NewProvider(options(dialTo(z.Listener.Addr().String())))
	tr := newTracer(t, p, zipkinConfig(`,"collector_service":{"http_uri":{"uri":"https://zipkin.example.com/custom?x=1","cluster":"c","timeout":"2s"},
		"request_headers_to_add":[{"header":{"key":"X-Token","value":"%ENVIRONMENT(POD)%"}}]}`))
	plain := newTracer(t, p, zipkinConfig(""))
	for _, tracer := range []*Tracer{tr, plain} {
		span := tracer.Start(headers{}, Sampled)
		span.Finish(record(), "op")
		tracer.Close() // the last user lets go: the exporter sends what it has
	}
	closeProvider(t, p)
	got := map[string]string{}
	for _, q := range z.reqs {
		got[q.Host+q.URL.String()] = q.Header.Get("X-Token")
	}
	if v, ok := got["zipkin.example.com/custom?x=1"]; !ok || v != "w-1" {
		t.Errorf("requests %v", got)
	}
	if _, ok := got["zipkin.istio-system.svc.cluster.local:9411/api/v2/spans"]; !ok {
		t.Errorf("requests %v", got)
	}
}

func otelConfig(service string) string {
	return `{` + sampling + `,"provider":{"name":"envoy.tracers.opentelemetry","typed_config":{"@type":"type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
	"service_name":"waypoint.default","resource_detectors":[{"name":"envoy.tracers.opentelemetry.resource_detectors.environment"}],` + service + `}}` + istioTags + `}`
}

func checkOTLP(t *testing.T, req *coltracepb.ExportTraceServiceRequest, out headers) {
	t.Helper()
	if req == nil || len(req.ResourceSpans) != 1 || len(req.ResourceSpans[0].ScopeSpans) != 1 || len(req.ResourceSpans[0].ScopeSpans[0].Spans) != 2 {
		t.Fatalf("request %v", req)
	}
	res := map[string]string{}
	for _, a := range req.ResourceSpans[0].Resource.Attributes {
		res[a.Key] = a.Value.GetStringValue()
	}
	if res["service.name"] != "waypoint.default" || res["team"] != "blue" || res["tier"] != "gold" || res["telemetry.sdk.language"] != "go" {
		t.Errorf("resource %v", res)
	}
	s := req.ResourceSpans[0].ScopeSpans[0].Spans[0]
	if got := fmt.Sprintf("00-%x-%x-01", s.TraceId, s.SpanId); got != out["traceparent"] {
		t.Errorf("span %s, but injected was %s", got, out["traceparent"])
	}
	if s.Kind != tracepb.Span_SPAN_KIND_SERVER || s.Name != "op" || fmt.Sprintf("%x", s.ParentSpanId) != "00f067aa0ba902b7" || s.TraceState != "a=1" ||
		s.EndTimeUnixNano-s.StartTimeUnixNano != 15e6 || s.Status.GetCode() != tracepb.Status_STATUS_CODE_UNSET {
		t.Errorf("span %v", s)
	}
	tags := map[string]string{}
	for _, a := range s.Attributes {
		if tags[a.Key] = a.Value.GetStringValue(); a.Key == "code" {
			tags[a.Key] = fmt.Sprint(a.Value.GetIntValue()) // asked for as a number
		}
	}
	compareTags(t, tags, wantTags)
	if bad := req.ResourceSpans[0].ScopeSpans[0].Spans[1]; bad.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR || len(bad.ParentSpanId) != 0 {
		t.Errorf("root span of a failed request: %v", bad)
	}
}

func traceTwo(t *testing.T, tr *Tracer) headers {
	t.Helper()
	span := tr.Start(headers{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1"}, NotTraced)
	out := headers{}
	span.Inject(out)
	if !strings.HasPrefix(out["traceparent"], "00-4bf92f3577b34da6a3ce929d0e0e4736-") || out["tracestate"] != "a=1" || span.TraceID() != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("injected %v", out)
	}
	span.Finish(record(), "op")
	failed := record()
	failed.ResponseCode = 500
	root := tr.Start(headers{}, Sampled)
	root.Finish(failed, "op2")
	return out
}

type otlpServer struct {
	coltracepb.UnimplementedTraceServiceServer
	got chan *coltracepb.ExportTraceServiceRequest
	md  chan metadata.MD
}

func (s *otlpServer) Export(ctx context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.md <- md
	s.got <- r
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// Spans over real gRPC.
func TestOTLPGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, recv := grpc.NewServer(), &otlpServer{got: make(chan *coltracepb.ExportTraceServiceRequest, 4), md: make(chan metadata.MD, 4)}
	coltracepb.RegisterTraceServiceServer(srv, recv)
	go func() { _ = srv.Serve(l) }()
	defer srv.Stop()

	p := NewProvider(options(dialTo(l.Addr().String())))
	tr := newTracer(t, p, otelConfig(`"grpc_service":{"envoy_grpc":{"cluster_name":"outbound|4317||otel.obs.svc.cluster.local"},"initial_metadata":[{"key":"X-Key","value":"k"}]}`))
	out := traceTwo(t, tr)
	closeProvider(t, p)
	if c := p.Counts(); c != (Counts{Sent: 2}) {
		t.Fatalf("counts %+v", c)
	}
	md := <-recv.md
	if a := md.Get(":authority"); len(a) != 1 || a[0] != "otel.obs.svc.cluster.local:4317" || len(md.Get("x-key")) != 1 {
		t.Errorf("metadata %v", md)
	}
	checkOTLP(t, <-recv.got, out)
}

// Spans over real HTTP.
func TestOTLPHTTP(t *testing.T) {
	got := make(chan *coltracepb.ExportTraceServiceRequest, 4)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		msg := &coltracepb.ExportTraceServiceRequest{}
		if err == nil {
			err = proto.Unmarshal(body, msg)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Host != "otel.example.com" || r.Header.Get("X-Key") != "k" {
			t.Errorf("request %s %s %v: %v", r.Host, r.URL, r.Header, err)
		}
		got <- msg
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer srv.Close()
	p := NewProvider(options(dialTo(srv.Listener.Addr().String())))
	tr := newTracer(t, p, otelConfig(`"http_service":{"http_uri":{"uri":"http://otel.example.com/v1/traces","cluster":"c","timeout":"3s"},"request_headers_to_add":[{"header":{"key":"X-Key","value":"k"}}]}`))
	out := traceTwo(t, tr)
	closeProvider(t, p)
	if c := p.Counts(); c != (Counts{Sent: 2}) {
		t.Fatalf("counts %+v", c)
	}
	checkOTLP(t, <-got, out)
}

// A collector that does not answer costs spans, counted, and no time; one that refuses is counted as failed.
func TestCollectorFaults(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts by the kernel and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	o := options(dialTo(l.Addr().String()))
	o.Queue = 10
	p := NewProvider(o)
	tr := newTracer(t, p, zipkinConfig(""))
	begin := time.Now()
	const spans = 500
	for range spans {
		s := tr.Start(headers{}, Sampled)
		s.Finish(record(), "op")
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("%d spans took %v", spans, d)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	p.Close(ctx)
	c := p.Counts()
	if c.Sent != 0 || c.Dropped == 0 || c.Failed == 0 || c.Dropped+c.Failed != spans {
		t.Errorf("counts %+v of %d", c, spans)
	}
	late := tr.Start(headers{}, Sampled)
	late.Finish(record(), "op")
	if p.Counts().Dropped != c.Dropped+1 {
		t.Error("a span after Close is not counted as dropped")
	}

	z := startZipkin(t)
	z.code = http.StatusServiceUnavailable
	p = NewProvider(options(dialTo(z.Listener.Addr().String())))
	s := newTracer(t, p, zipkinConfig("")).Start(headers{}, Sampled)
	s.Finish(record(), "op")
	closeProvider(t, p)
	if c := p.Counts(); c != (Counts{Failed: 1}) {
		t.Errorf("counts %+v", c)
	}
}

// What istiod sends by default: a decision, no span, no header.
func TestNoProvider(t *testing.T) {
	p := NewProvider(Options{})
	tr := newTracer(t, p, `{`+sampling+`}`)
	newID, reason := tr.Decide(headers{}, id)
	if reason != Sampled || newID[reasonPosition] != '9' {
		t.Errorf("%s %v", newID, reason)
	}
	span := tr.Start(headers{}, reason)
	out := headers{"b3": "1"}
	span.Inject(out)
	span.Finish(record(), "op")
	if len(out) != 1 || span.TraceID() != "" || p.Counts() != (Counts{}) {
		t.Errorf("headers %v", out)
	}
	var none *Tracer
	if got, r := none.Decide(headers{}, id); got != id || r != NotTraced {
		t.Error("a nil tracer decides")
	}
	none.Close()
}

// What is not supported is an error or a report, by name.
func TestRefusedAndReported(t *testing.T) {
	p := NewProvider(options(dialTo("127.0.0.1:1")))
	defer closeProvider(t, p)
	for _, c := range []struct{ config, want string }{
		{`{"provider":{"name":"envoy.tracers.datadog","typed_config":{"@type":"type.googleapis.com/envoy.config.trace.v3.DatadogConfig"}}}`, "envoy.tracers.datadog: type type.googleapis.com/envoy.config.trace.v3.DatadogConfig is not supported"},
		{`{"provider":{"name":"envoy.tracers.skywalking","typed_config":{"@type":"type.googleapis.com/envoy.config.trace.v3.SkyWalkingConfig"}}}`, "SkyWalkingConfig is not supported"},
		{`{"custom_tags":[{"tag":"x","value":"%NOPE%"}]}`, "tracing.custom_tags[x]: operator %NOPE%"},
		{`{"operation":"%NOPE%"}`, "tracing.operation: operator %NOPE%"},
		{otelConfig(`"max_cache_size":null`), "neither grpc_service nor http_service"},
		{otelConfig(`"grpc_service":{"google_grpc":{"target_uri":"x"}}`), "google_grpc is not supported"},
		{strings.Replace(zipkinConfig(""), "outbound|9411||zipkin.istio-system.svc.cluster.local", "", 1), "collector_cluster is empty"},
	} {
		if _, _, err := p.Tracer(parseTracing(t, c.config), DefaultRequestID); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q in it", err, c.want)
		}
	}
	tr, unhonoured, err := p.Tracer(parseTracing(t, `{"verbose":true,"spawn_upstream_span":true,"provider":{"name":"otel","typed_config":{"@type":"type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
		"grpc_service":{"envoy_grpc":{"cluster_name":"c"}},"sampler":{"name":"dynatrace"},"resource_detectors":[{"name":"envoy.tracers.opentelemetry.resource_detectors.dynatrace"}]}}}`), DefaultRequestID)
	if err != nil {
		t.Fatal(err)
	}
	tr.Close()
	all := strings.Join(unhonoured, "\n")
	for _, want := range []string{"tracing.verbose", "tracing.spawn_upstream_span", "tracing.provider otel.sampler dynatrace", "resource_detectors.dynatrace"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not reported: %q", want, unhonoured)
		}
	}
}

// Tracers with one configuration share an exporter; it ends with the last of them.
func TestExportersAreShared(t *testing.T) {
	z := startZipkin(t)
	p := NewProvider(options(dialTo(z.Listener.Addr().String())))
	a, b := newTracer(t, p, zipkinConfig("")), newTracer(t, p, zipkinConfig(""))
	if a.exporter != b.exporter || len(p.exporters) != 1 {
		t.Error("not shared")
	}
	a.Close()
	s := b.Start(headers{}, Sampled)
	s.Finish(record(), "op")
	b.Close()
	if len(p.exporters) != 0 {
		t.Error("the exporter outlives its users")
	}
	closeProvider(t, p)
	if c := p.Counts(); c.Sent != 1 {
		t.Errorf("counts %+v", c)
	}
}

// The tracing blocks of a real istiod compile without anything left unhonoured.
func TestRealConfig(t *testing.T) {
	b, err := os.ReadFile("testdata/istiod.json")
	if err != nil {
		t.Fatal(err)
	}
	p := NewProvider(Options{})
	tr := newTracer(t, p, string(bytes.TrimSpace(b)))
	if tr.random != 100 || tr.client != 10000 || len(tr.tags) < 20 {
		t.Errorf("random %d, client %d, %d tags", tr.random, tr.client, len(tr.tags))
	}
}
