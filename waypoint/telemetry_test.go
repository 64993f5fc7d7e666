package waypoint_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

// workload is a WDS workload with one address, on the wire.
func workload(uid, name, ns, sa, canonical, revision string, ip ...byte) []byte {
	var b []byte
	str := func(num protowire.Number, s string) {
		b = protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
	}
	str(20, uid)
	str(1, name+"-abc")
	str(2, ns)
	b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), ip)
	str(7, sa)
	str(10, canonical)
	str(11, revision)
	str(13, name)
	str(18, "Kubernetes")
	return b
}

const typeWorkload = "type.googleapis.com/istio.workload.Workload"

// One request is told of three times, with the same values: metric, access log line and span.
func TestMetricLogAndSpanAgree(t *testing.T) {
	spans := make(chan map[string]any, 10)
	collector := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var list []map[string]any
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
			t.Error(err)
		}
		for _, s := range list {
			spans <- s
		}
		w.WriteHeader(http.StatusAccepted)
	})
	logFile := filepath.Join(t.TempDir(), "access.log")
	m := sampleMesh(t, editHTTP(func(h *hcmv3.HttpConnectionManager) {
		zipkin, err := anypb.New(&tracev3.ZipkinConfig{CollectorCluster: "zipkin", CollectorEndpoint: "/api/v2/spans",
			CollectorEndpointVersion: tracev3.ZipkinConfig_HTTP_JSON, TraceId_128Bit: true, CollectorHostname: "zipkin.test:9411"})
		must(t, err)
		h.Tracing.Provider = &tracev3.Tracing_Http{Name: "envoy.tracers.zipkin", ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: zipkin}}
		h.Tracing.RandomSampling = &typev3.Percent{Value: 100}
		file, err := anypb.New(&filev3.FileAccessLog{Path: logFile, AccessLogFormat: &filev3.FileAccessLog_LogFormat{
			LogFormat: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
				TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: istioFormat}}}}}})
		must(t, err)
		h.AccessLog = []*accesslogv3.AccessLog{{Name: "envoy.access_loggers.file", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: file}}}
	}))
	m.ads.set("zipkin", &clusterv3.Cluster{Name: "zipkin", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: mustCLA("zipkin", "10.9.9.9", 9411)})
	m.plainPod("10.9.9.9:9411", collector)
	m.ads.setRaw("c//Pod/default/sleep", typeWorkload, workload("c//Pod/default/sleep", "sleep", "default", "sleep", "sleep", "latest", 127, 0, 0, 1))
	m.ads.setRaw("c//Pod/default/hw", typeWorkload, workload("c//Pod/default/hw", "helloworld-v1", "default", "helloworld", "helloworld", "v1", 10, 244, 0, 2))
	m.hbonePod(podV1, httpApp(hello("v1")))
	m.endpoints(httpCluster, podV1+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep").http(httpVIP)
	if s, _ := do(t, c, "GET", "http://helloworld:5000/hello?q=1", ""); s != 200 {
		t.Fatal(s)
	}
	if s, _ := do(t, c, "POST", "http://helloworld:5000/hello", "abc"); s != 403 {
		t.Fatal(s)
	}

	t.Run("metrics", func(t *testing.T) {
		var b bytes.Buffer
		must(t, m.server.Registry().WriteProxy(&b))
		if !strings.Contains(b.String(), `istio_build{component="proxy",tag="1.31.0"} 1`) {
			t.Error("istio_build does not tell the version of the node")
		}
		for _, want := range []string{`response_code="200"`, `response_code="403"`} {
			found := false
			for _, line := range strings.Split(b.String(), "\n") {
				if !strings.HasPrefix(line, "istio_requests_total{") || !strings.Contains(line, want) {
					continue
				}
				found = true
				labels := []string{`reporter="waypoint"`, `source_workload="sleep"`, `source_canonical_service="sleep"`,
					`source_principal="spiffe://cluster.local/ns/default/sa/sleep"`, `destination_service="helloworld.default.svc.cluster.local"`,
					`destination_service_name="helloworld"`, `destination_service_namespace="default"`, `request_protocol="http"`,
					`connection_security_policy="mutual_tls"`}
				if want == `response_code="200"` {
					labels = append(labels, `destination_workload="helloworld-v1"`, `destination_version="v1"`,
						`destination_principal="spiffe://cluster.local/ns/default/sa/helloworld"`)
				}
				for _, l := range labels {
					if !strings.Contains(line, l) {
						t.Errorf("no %s in %s", l, line)
					}
				}
			}
			if !found {
				t.Errorf("no istio_requests_total with %s", want)
			}
		}
	})

	t.Run("access log", func(t *testing.T) {
		var lines []string
		eventually(t, "two lines", func() error {
			b, err := os.ReadFile(logFile)
			lines = strings.Split(strings.TrimSpace(string(b)), "\n")
			if err == nil && len(lines) < 2 {
				err = fmt.Errorf("%q", b)
			}
			return err
		})
		for i, want := range []string{
			`"GET /hello?q=1 HTTP/1.1" 200 - via_upstream - "-" 0 `,
			`"POST /hello HTTP/1.1" 403 - rbac_access_denied_matched_policy[none] - "-" `,
		} {
			if !strings.Contains(lines[i], want) {
				t.Errorf("line %d: %s\nwant %s", i, lines[i], want)
			}
		}
		for _, want := range []string{`"envoy://connect_originate/10.244.0.2:5000" ` + httpCluster, " envoy://internal_client_address/ 10.96.244.186:5000 127.0.0.1:", " - default.hello.0"} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("no %q in %s", want, lines[0])
			}
		}
	})

	t.Run("span", func(t *testing.T) {
		for range 2 {
			var s map[string]any
			select {
			case s = <-spans:
			case <-time.After(15 * time.Second):
				t.Fatal("no span")
			}
			tags, _ := s["tags"].(map[string]any)
			if s["kind"] != "SERVER" || s["name"] != "helloworld.default.svc.cluster.local:5000/*" || tags["istio.source_workload"] != "sleep" ||
				tags["http.status_code"] != "200" && tags["http.status_code"] != "403" {
				t.Errorf("%v", s)
			}
		}
	})
}

// istioFormat is the default text format of Istio's access log.
const istioFormat = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% " +
	"%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% " +
	"%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" " +
	"\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% " +
	"%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"

// TCP sessions are counted, with the bytes that went each way.
func TestTCPMetrics(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.hbonePod(podV1, func(c net.Conn) { _, _ = io.Copy(c, c); _ = c.Close() })
	m.endpoints("inbound-vip|9000|tcp|helloworld.default.svc.cluster.local", podV1+":9000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(tcpVIP)
	must(t, err)
	_, err = io.WriteString(conn, "twelve bytes")
	must(t, err)
	must(t, conn.(interface{ CloseWrite() error }).CloseWrite())
	if b, _ := io.ReadAll(conn); string(b) != "twelve bytes" {
		t.Fatalf("%q", b)
	}
	eventually(t, "the session's metrics", func() error {
		var b bytes.Buffer
		must(t, m.server.Registry().WriteProxy(&b))
		for _, name := range []string{"istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total", "istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"} {
			if !strings.Contains(b.String(), name+"{") {
				return fmt.Errorf("no %s", name)
			}
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if strings.HasPrefix(line, "istio_tcp_sent_bytes_total{") && !strings.HasSuffix(line, " 12") {
				return fmt.Errorf("%s", line)
			}
		}
		return nil
	})
}
