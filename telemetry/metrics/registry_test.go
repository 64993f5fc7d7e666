package metrics

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestStats(t *testing.T) {
	s := NewStats()
	s.Counter("cluster_manager.cds.update_success").Inc()
	s.Gauge("cluster.{cluster_name}.upstream_cx_active", "xds-grpc").Set(2)
	s.Gauge("cluster.{cluster_name}.upstream_cx_active", "inbound-vip|80|http|a.b.svc").Add(-3)
	s.Counter("http.{http_conn_manager_prefix}.rbac.allowed", "inbound_0.0.0.0:80").Add(7)
	s.GaugeFunc(func() uint64 { return 0 }, "server.state")
	s.GaugeFunc(func() uint64 { return 42 }, "server.uptime")

	var text, prom, js strings.Builder
	for _, err := range []error{s.WriteText(&text, nil), s.WritePrometheus(&prom), s.WriteJSON(&js, func(n string) bool { return n == "server.uptime" })} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, want := text.String(), `cluster.inbound-vip|80|http|a.b.svc.upstream_cx_active: 0
cluster.xds-grpc.upstream_cx_active: 2
cluster_manager.cds.update_success: 1
http.inbound_0.0.0.0_80.rbac.allowed: 7
server.state: 0
server.uptime: 42
`; got != want {
		t.Errorf("text:\n%s\nwant:\n%s", got, want)
	}
	if got, want := prom.String(), `# TYPE envoy_cluster_manager_cds_update_success counter
envoy_cluster_manager_cds_update_success{} 1
# TYPE envoy_cluster_upstream_cx_active gauge
envoy_cluster_upstream_cx_active{cluster_name="inbound-vip|80|http|a.b.svc"} 0
envoy_cluster_upstream_cx_active{cluster_name="xds-grpc"} 2
# TYPE envoy_http_rbac_allowed counter
envoy_http_rbac_allowed{http_conn_manager_prefix="inbound_0.0.0.0:80"} 7
# TYPE envoy_server_state gauge
envoy_server_state{} 0
# TYPE envoy_server_uptime gauge
envoy_server_uptime{} 42
`; got != want {
		t.Errorf("prometheus:\n%s\nwant:\n%s", got, want)
	}
	var parsed struct {
		Stats []struct {
			Name  string
			Value int
		}
	}
	if err := json.Unmarshal([]byte(js.String()), &parsed); err != nil || len(parsed.Stats) != 1 || parsed.Stats[0].Value != 42 {
		t.Errorf("JSON %s: %v", js.String(), err)
	}
	if v, ok := s.Lookup("server.uptime"); !ok || v != 42 {
		t.Errorf("Lookup = %d, %v", v, ok)
	}
	s.Remove("cluster_name", "xds-grpc")
	if _, ok := s.Lookup("cluster.xds-grpc.upstream_cx_active"); ok {
		t.Error("a removed stat is still shown")
	}
}

func scrape(t *testing.T, h http.Handler, encoding string) string {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	req, err := http.NewRequest(http.MethodGet, srv.URL+"/stats/prometheus", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("status %d, content type %q", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	body := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			t.Fatal(err)
		}
	} else if encoding == "gzip" {
		t.Error("not compressed")
	}
	out, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// 15090 shows the proxy, 15020 the agent and then the proxy; both are what a Prometheus parser reads.
func TestHandlers(t *testing.T) {
	r := NewRegistry(MeshOptions{Version: "1.31.4"}, nil)
	r.Stats.Counter("cluster_manager.cds.update_success").Inc()
	r.Agent.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "istiod_connection_failures", Help: "x"}))
	r.Proxy.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "waypoint_config_age_seconds", Help: "x"}))
	rec := httpRecord()
	chain(t, r.Mesh, waypointCfg).ObserveHTTP(&rec)

	proxy := scrape(t, r.ProxyHandler(), "identity")
	for _, want := range []string{"istio_requests_total{", `istio_build{component="proxy",tag="1.31.4"} 1`, "envoy_cluster_manager_cds_update_success{} 1", "waypoint_config_age_seconds 0"} {
		if !strings.Contains(proxy, want) {
			t.Errorf("15090 lacks %s", want)
		}
	}
	if strings.Contains(proxy, AgentPrefix) || strings.Contains(proxy, "# HELP istio_") {
		t.Error("15090 shows agent metrics, or HELP lines")
	}
	merged := scrape(t, r.MergedHandler(), "gzip")
	for _, want := range []string{"istio_agent_go_goroutines ", "istio_agent_process_cpu_seconds_total ", "istio_agent_istiod_connection_failures 0", "istio_agent_scrapes_total 1", "istio_requests_total{"} {
		if !strings.Contains(merged, want) {
			t.Errorf("15020 lacks %s", want)
		}
	}
	if strings.Index(merged, "istio_agent_go_goroutines") > strings.Index(merged, "istio_requests_total") {
		t.Error("the agent's metrics are not first")
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(merged)); err != nil {
		t.Errorf("not the Prometheus text format: %v", err)
	}
}

type broken struct{ prometheus.Collector }

func (broken) Describe(ch chan<- *prometheus.Desc) { ch <- desc }
func (broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(desc, errors.New("cannot read"))
}

var desc = prometheus.NewDesc("waypoint_broken", "x", nil, nil)

// A collector that fails spoils neither the answer nor the other metrics, and is counted.
func TestFailingCollector(t *testing.T) {
	r := NewRegistry(MeshOptions{}, nil)
	r.Proxy.MustRegister(broken{})
	if got := scrape(t, r.ProxyHandler(), "identity"); !strings.Contains(got, "istio_build{") {
		t.Error("the other metrics are missing")
	}
	if got := scrape(t, r.MergedHandler(), "identity"); !strings.Contains(got, `istio_agent_scrape_failures_total{type="envoy"} 1`) {
		t.Errorf("the failure is not counted:\n%s", got)
	}
}
