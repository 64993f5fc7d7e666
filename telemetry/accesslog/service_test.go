package accesslog

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

// collectors is a real gRPC server of both services.
type collectors struct {
	alsv3.UnimplementedAccessLogServiceServer
	logspb.UnimplementedLogsServiceServer

	mu      sync.Mutex
	streams []*alsv3.StreamAccessLogsMessage_Identifier
	http    []*datav3.HTTPAccessLogEntry
	tcp     []*datav3.TCPAccessLogEntry
	batches int
	exports []*logspb.ExportLogsServiceRequest
	headers metadata.MD
	stall   chan struct{} // while it is open nothing is read
}

func (c *collectors) StreamAccessLogs(s alsv3.AccessLogService_StreamAccessLogsServer) error {
	for {
		if c.stall != nil {
			<-c.stall
		}
		m, err := s.Recv()
		if err != nil {
			return nil //nolint:nilerr // the client has ended the stream
		}
		c.mu.Lock()
		c.batches++
		if id := m.GetIdentifier(); id != nil {
			c.streams = append(c.streams, id)
		}
		c.http = append(c.http, m.GetHttpLogs().GetLogEntry()...)
		c.tcp = append(c.tcp, m.GetTcpLogs().GetLogEntry()...)
		c.mu.Unlock()
	}
}

func (c *collectors) Export(ctx context.Context, r *logspb.ExportLogsServiceRequest) (*logspb.ExportLogsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exports = append(c.exports, r)
	c.headers, _ = metadata.FromIncomingContext(ctx)
	return &logspb.ExportLogsServiceResponse{}, nil
}

func (c *collectors) serve(t *testing.T, l net.Listener) *grpc.Server {
	t.Helper()
	s := grpc.NewServer()
	alsv3.RegisterAccessLogServiceServer(s, c)
	logspb.RegisterLogsServiceServer(s, c)
	go func() { _ = s.Serve(l) }() // ends with Stop
	t.Cleanup(s.Stop)
	return s
}

// services dials addr whatever the cluster is called.
func services(t *testing.T, addr string, o ServiceOptions) *Services {
	t.Helper()
	o.Node = &corev3.Node{Id: "waypoint~1", Cluster: "waypoint.default", Locality: &corev3.Locality{Zone: "z1"}}
	o.Dial = func(cluster string) (Dialer, error) {
		if !strings.Contains(cluster, "logs") {
			return nil, fmt.Errorf("no such cluster")
		}
		return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", addr) }, nil
	}
	return NewServices(o)
}

const (
	toLogs = `"grpc_service":{"envoy_grpc":{"cluster_name":"outbound|9000||logs.default.svc"},"initial_metadata":[{"key":"X-Tenant","value":"blue"}]}`

	httpALS = `{"name":"envoy.access_loggers.http_grpc","typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
		"common_config":{"log_name":"http_envoy_accesslog",` + toLogs + `,"transport_api_version":"V3","buffer_flush_interval":"0.02s",
			"filter_state_objects_to_log":["downstream_peer","upstream_peer","io.istio.peer_principal","none"]},
		"additional_request_headers_to_log":["X-Team"],"additional_response_headers_to_log":["content-type"],"additional_response_trailers_to_log":["x-sum"]}}`
	tcpALS = `{"name":"envoy.tcp_grpc_access_log","typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
		"common_config":{"log_name":"tcp_envoy_accesslog",` + toLogs + `,"buffer_flush_interval":"0.02s"}}}`
	otelLog = `{"name":"envoy.access_loggers.open_telemetry","typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
		"common_config":{"log_name":"otel_envoy_accesslog",` + toLogs + `,"buffer_flush_interval":"0.02s","filter_state_objects_to_log":["upstream_peer"]},
		"body":{"string_value":"%REQ(:METHOD)% %RESPONSE_CODE% %REQ(none)%"},
		"attributes":{"values":[{"key":"path","value":{"string_value":"%REQ(:PATH)%"}},{"key":"n","value":{"int_value":"7"}},
			{"key":"peer","value":{"kvlist_value":{"values":[{"key":"name","value":{"string_value":"%FILTER_STATE(upstream_peer:FIELD:workload)%"}}]}}}]}}}`
)

type headerLines map[string]string

func (h headerLines) Get(name string) (string, bool) { v, ok := h[name]; return v, ok }
func (h headerLines) Lines(yield func(string, string) bool) {
	for k, v := range h {
		if !yield(k, v) {
			return
		}
	}
}

type ofRequest struct{}

func (ofRequest) Lookup(telemetry.MetadataSource, string, []string) *structpb.Value { return nil }
func (ofRequest) Namespaces(yield func(string, *structpb.Struct) bool) {
	yield("envoy.filters.http.rbac", &structpb.Struct{Fields: map[string]*structpb.Value{"shadow": structpb.NewStringValue("denied")}})
}

func request() telemetry.Record {
	return telemetry.Record{
		Start: time.Unix(1_700_000_000, 5), Duration: telemetry.Took(3 * time.Millisecond), Protocol: telemetry.HTTP11,
		Method: "POST", Path: "/a\xff", Authority: "reviews", RequestID: "id-1", ResponseCode: 503, ResponseCodeDetails: "via_upstream",
		RequestHeaders: headerLines{"x-team": "blue", "user-agent": "curl"}, ResponseHeaders: headerLines{"content-type": "text/plain"}, ResponseTrailers: headerLines{"x-sum": "1"},
		Flags:            telemetry.FlagsOf(telemetry.FlagUpstreamConnectionFailure, telemetry.FlagUnauthorizedExternalService),
		DownstreamRemote: netip.MustParseAddrPort("10.0.0.1:4321"), DownstreamLocal: netip.MustParseAddrPort("10.96.0.1:80"),
		UpstreamHost: "envoy://connect_originate/10.0.0.2:8080", UpstreamAddress: netip.MustParseAddrPort("10.0.0.2:8080"), UpstreamCluster: "c", Attempts: 2,
		BytesReceived: 11, BytesSent: 22, PeerPrincipal: "spiffe://x", Destination: &telemetry.Peer{Workload: "reviews-v1"},
		TraceID: "0102030405060708090a0b0c0d0e0f10", SpanID: "0102030405060708", Metadata: ofRequest{},
		Timing: telemetry.Timing{UpstreamFirstTx: telemetry.At(time.Millisecond)},
	}
}

func compiled(t *testing.T, s *Services, loggers ...string) *Logs {
	t.Helper()
	var list []*accesslogv3.AccessLog
	for _, l := range loggers {
		list = append(list, parse(t, l))
	}
	logs, unhonoured, err := Compile(list, Outputs{Services: s}, format.Options{})
	if err != nil || len(unhonoured) > 0 {
		t.Fatal(err, unhonoured)
	}
	return logs
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What an access log service gets: who logs, once per stream, and entries with Envoy's fields; HTTP and TCP on streams of their own.
func TestAccessLogService(t *testing.T) {
	l, c := listen(t), &collectors{}
	c.serve(t, l)
	s := services(t, l.Addr().String(), ServiceOptions{})
	compiled(t, s, httpALS) // a second listener with the same logger shares the stream
	logs := compiled(t, s, httpALS, tcpALS)
	r := request()
	logs.Log(&r)
	s.Close(t.Context())

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.streams) != 2 || len(c.http) != 1 || len(c.tcp) != 1 {
		t.Fatalf("%d streams, %d HTTP and %d TCP entries, want 2, 1 and 1; counts %+v", len(c.streams), len(c.http), len(c.tcp), s.Counts())
	}
	for _, id := range c.streams {
		if id.GetNode().GetId() != "waypoint~1" || !strings.HasSuffix(id.GetLogName(), "_envoy_accesslog") {
			t.Errorf("identifier %v", id)
		}
	}
	e := c.http[0]
	p := e.GetCommonProperties()
	for name, ok := range map[string]bool{
		"protocol": e.GetProtocolVersion() == datav3.HTTPAccessLogEntry_HTTP11, "method": e.GetRequest().GetRequestMethod() == corev3.RequestMethod_POST,
		"path": e.GetRequest().GetPath() == "/a\uFFFD", "authority": e.GetRequest().GetAuthority() == "reviews", "request id": e.GetRequest().GetRequestId() == "id-1",
		"user agent": e.GetRequest().GetUserAgent() == "curl", "request header": e.GetRequest().GetRequestHeaders()["x-team"] == "blue",
		"body bytes": e.GetRequest().GetRequestBodyBytes() == 11 && e.GetResponse().GetResponseBodyBytes() == 22, "header bytes": e.GetRequest().GetRequestHeadersBytes() == 24,
		"code": e.GetResponse().GetResponseCode().GetValue() == 503, "details": e.GetResponse().GetResponseCodeDetails() == "via_upstream",
		"response header": e.GetResponse().GetResponseHeaders()["content-type"] == "text/plain", "trailer": e.GetResponse().GetResponseTrailers()["x-sum"] == "1",
		"flags":    p.GetResponseFlags().GetUpstreamConnectionFailure() && p.GetResponseFlags().GetUnauthorizedDetails() != nil && !p.GetResponseFlags().GetNoRouteFound(),
		"client":   p.GetDownstreamRemoteAddress().GetSocketAddress().GetPortValue() == 4321,
		"endpoint": p.GetUpstreamRemoteAddress().GetEnvoyInternalAddress().GetEndpointId() == "10.0.0.2:8080",
		"start":    p.GetStartTime().AsTime().Equal(r.Start), "duration": p.GetDuration().AsDuration() == 3*time.Millisecond,
		"first byte": p.GetTimeToFirstUpstreamTxByte().AsDuration() == time.Millisecond && p.GetTimeToLastRxByte() == nil,
		"cluster":    p.GetUpstreamCluster() == "c" && p.GetUpstreamRequestAttemptCount() == 2,
		"metadata":   p.GetMetadata().GetFilterMetadata()["envoy.filters.http.rbac"].GetFields()["shadow"].GetStringValue() == "denied",
		"state":      len(p.GetFilterStateObjects()) == 2 && p.GetFilterStateObjects()["upstream_peer"] != nil && p.GetFilterStateObjects()["io.istio.peer_principal"] != nil,
		"log type":   p.GetAccessLogType() == datav3.AccessLogType_DownstreamEnd,
	} {
		if !ok {
			t.Errorf("%s is wrong in %v", name, e)
		}
	}
	var peer structpb.Struct
	if err := p.GetFilterStateObjects()["upstream_peer"].UnmarshalTo(&peer); err != nil || peer.Fields["workload"].GetStringValue() != "reviews-v1" {
		t.Errorf("upstream_peer is %v, %v", &peer, err)
	}
	if got := c.tcp[0].GetConnectionProperties(); got.GetReceivedBytes() != 11 || got.GetSentBytes() != 22 {
		t.Errorf("TCP: %v", got)
	}
	if got := s.Counts(); got != (ServiceCounts{Sent: 2}) {
		t.Errorf("counts %+v", got)
	}
}

// What a collector gets: body and attributes by their formats, the trace, who logs, and the headers that are configured.
func TestOpenTelemetry(t *testing.T) {
	l, c := listen(t), &collectors{}
	c.serve(t, l)
	s := services(t, l.Addr().String(), ServiceOptions{})
	r := request()
	compiled(t, s, otelLog).Log(&r)
	s.Close(t.Context())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.exports) != 1 || len(c.exports[0].GetResourceLogs()) != 1 {
		t.Fatalf("exports %v, counts %+v", c.exports, s.Counts())
	}
	rl := c.exports[0].GetResourceLogs()[0]
	rec := rl.GetScopeLogs()[0].GetLogRecords()[0]
	attrs := map[string]string{}
	for _, a := range rec.GetAttributes() {
		attrs[a.GetKey()] = a.GetValue().String()
	}
	resource := map[string]string{}
	for _, a := range rl.GetResource().GetAttributes() {
		resource[a.GetKey()] = a.GetValue().GetStringValue()
	}
	for name, ok := range map[string]bool{
		"body": rec.GetBody().GetStringValue() == "POST 503 -", "time": rec.GetTimeUnixNano() == uint64(r.Start.UnixNano()),
		"trace":    len(rec.GetTraceId()) == 16 && len(rec.GetSpanId()) == 8,
		"path":     strings.Contains(attrs["path"], "/a\uFFFD") && strings.Contains(attrs["n"], "7") && strings.Contains(attrs["peer"], "reviews-v1"),
		"state":    strings.Contains(attrs["upstream_peer"], "reviews-v1"),
		"resource": resource["log_name"] == "otel_envoy_accesslog" && resource["node_name"] == "waypoint~1" && resource["cluster_name"] == "waypoint.default" && resource["zone_name"] == "z1",
		"headers":  len(c.headers.Get("x-tenant")) == 1 && c.headers.Get(":authority")[0] == "logs.default.svc",
	} {
		if !ok {
			t.Errorf("%s is wrong in %v %v %v", name, rl, resource, c.headers)
		}
	}
}

// A service that reads nothing makes nobody wait: what does not fit is dropped and counted, and memory is bounded.
func TestStalledService(t *testing.T) {
	l, c := listen(t), &collectors{stall: make(chan struct{})}
	c.serve(t, l)
	s := services(t, l.Addr().String(), ServiceOptions{Buffer: 64 << 10, Timeout: 100 * time.Millisecond})
	logs := compiled(t, s, httpALS)
	r := request()
	const n = 1000
	for range n { // if one of them waited for the service, this would never end: it reads nothing until stall is closed
		logs.Log(&r)
	}
	if d := s.Counts().Dropped; d == 0 {
		t.Errorf("nothing was dropped of %d", n)
	}
	close(c.stall)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	s.Close(ctx)
	if got := s.Counts(); got.Sent+got.Dropped+got.Failed != n {
		t.Errorf("%+v do not add up to %d", got, n)
	}
}

// A service that is not there loses what is sent meanwhile, which is counted; when it is back entries arrive again.
func TestServiceComesBack(t *testing.T) {
	l := listen(t)
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := services(t, addr, ServiceOptions{Timeout: 200 * time.Millisecond})
	defer s.Close(t.Context())
	logs := compiled(t, s, httpALS)
	r := request()
	logs.Log(&r)
	waitFor(t, func() bool { return s.Counts().Failed == 1 })
	for range 2 {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c := &collectors{}
		server := c.serve(t, l)
		waitFor(t, func() bool {
			logs.Log(&r)
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.http) > 0 && len(c.streams) == 1
		})
		server.Stop() // and once more
	}
}

// The goroutine and the connection end when nothing is logged any more, and come back with the next entry.
func TestIdleService(t *testing.T) {
	l, c := listen(t), &collectors{}
	c.serve(t, l)
	s := services(t, l.Addr().String(), ServiceOptions{Idle: 20 * time.Millisecond})
	defer s.Close(t.Context())
	logs := compiled(t, s, httpALS)
	r := request()
	for n := 1; n <= 2; n++ {
		logs.Log(&r)
		waitFor(t, func() bool {
			for _, svc := range s.open {
				svc.mu.Lock()
				defer svc.mu.Unlock()
				if svc.running {
					return false
				}
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.http) == n && len(c.streams) == n
		})
	}
}

func TestServicesRefused(t *testing.T) {
	s := services(t, "127.0.0.1:1", ServiceOptions{})
	for _, c := range []struct{ log, want string }{
		{strings.Replace(httpALS, "logs.default.svc", "x", 1), `common_config.grpc_service: envoy_grpc.cluster_name "outbound|9000||x": no such cluster`},
		{strings.Replace(httpALS, `"envoy_grpc":{"cluster_name":"outbound|9000||logs.default.svc"}`, `"google_grpc":{"target_uri":"x","stat_prefix":"x"}`, 1), "only envoy_grpc is supported"},
		{strings.Replace(otelLog, "%REQ(:PATH)%", "%NOPE%", 1), `attributes "path": operator %NOPE%`},
	} {
		if _, _, err := Compile([]*accesslogv3.AccessLog{parse(t, c.log)}, Outputs{Services: s}, format.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error is %v, want %q in it", err, c.want)
		}
	}
	if _, _, err := Compile([]*accesslogv3.AccessLog{parse(t, httpALS)}, Outputs{}, format.Options{}); err == nil {
		t.Error("a log service without any way to it compiled")
	}
}
