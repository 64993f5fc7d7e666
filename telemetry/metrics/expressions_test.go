package metrics

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"istio.io/api/envoy/extensions/stats"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/cel"
)

// Labels by CEL expression: a value per request, "unknown" where there is none, and one series per value.
func TestExpressions(t *testing.T) {
	m := NewMesh(MeshOptions{Now: at(start), CEL: cel.NewEnv(&corev3.Node{Id: "waypoint~1"})})
	c := chain(t, m, &stats.PluginConfig{Reporter: stats.Reporter_SERVER_GATEWAY, Metrics: []*stats.MetricConfig{
		{Name: "requests_total", Dimensions: map[string]string{
			"request_host": "request.host", "app": "downstream_peer.labels['app'].value", "peer": "filter_state.upstream_peer.workload",
			"node": "node.id", "source_version": "request.headers['x-version']", "class": "response.code >= 500 ? 'bad' : 'good'",
		}},
	}})
	for i, host := range []string{"a", "a", "b", ""} {
		r := httpRecord()
		r.Authority, r.ResponseCode = host, 200+100*i
		c.ObserveHTTP(&r)
	}
	got := render(t, m)
	for _, want := range []string{
		`response_code="200",grpc_response_status="",response_flags="-",connection_security_policy="mutual_tls",app="productpage",class="good",node="waypoint~1",peer="reviews-v1",request_host="a"} 1`,
		`response_code="500",grpc_response_status="",response_flags="-",connection_security_policy="mutual_tls",app="productpage",class="bad",node="waypoint~1",peer="reviews-v1",request_host="unknown"} 1`,
		`request_host="b"} 1`, `source_version="unknown"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	_, sizes, _ := strings.Cut(got, "# TYPE istio_request_bytes histogram")
	sizes, _, _ = strings.Cut(sizes, "# TYPE")
	if sizes == "" || strings.Contains(sizes, ",app=") {
		t.Errorf("a label of one metric is on another:\n%s", sizes)
	}
}

// match restricts an override to the requests for which it is true; one that makes no sense leaves the override out.
func TestMatch(t *testing.T) {
	m := NewMesh(MeshOptions{Now: at(start)})
	c, unhonoured := m.Chain(&stats.PluginConfig{Reporter: stats.Reporter_SERVER_GATEWAY, Metrics: []*stats.MetricConfig{
		{Name: "requests_total", Match: "request.path == '/healthz'", Drop: true},
		{Match: "response.code >= 500", Dimensions: map[string]string{"path": "request.path"}},
		{Name: "response_bytes", Match: "request.path ==", Drop: true},
		{Name: "request_bytes", Match: "request.pth == '/'", Drop: true},
	}})
	if all := strings.Join(unhonoured, "\n"); len(unhonoured) != 2 || !strings.Contains(all, "metrics[response_bytes].match") || !strings.Contains(all, "metrics[request_bytes].match: the attribute request.pth") {
		t.Errorf("reported %q", unhonoured)
	}
	for _, r := range []telemetry.Record{
		{Path: "/healthz", ResponseCode: 200}, {Path: "/a", ResponseCode: 200}, {Path: "/b", ResponseCode: 200}, {Path: "/c", ResponseCode: 503},
	} {
		r.Start = start
		c.ObserveHTTP(&r)
	}
	got := render(t, m)
	for _, want := range []string{`response_code="200",grpc_response_status="",response_flags="-",connection_security_policy="none"} 2`, `connection_security_policy="none",path="/c"} 1`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "istio_requests_total{"); n != 2 {
		t.Errorf("%d series of istio_requests_total, want 2", n)
	}
	if n := strings.Count(got, "istio_response_bytes_count{"); n != 2 {
		t.Errorf("%d series of istio_response_bytes, want 2: it is not dropped", n)
	}
}

// Values are bounded, and no value can pass for two.
func TestHostileValues(t *testing.T) {
	m := NewMesh(MeshOptions{Now: at(start)})
	c := chain(t, m, &stats.PluginConfig{Reporter: stats.Reporter_SERVER_GATEWAY, Metrics: []*stats.MetricConfig{
		{Dimensions: map[string]string{"a": "request.path", "b": "request.method"}},
	}})
	r := telemetry.Record{Start: start, Path: "/\x00x", Method: strings.Repeat("é", 1000)}
	c.ObserveHTTP(&r)
	got := render(t, m)
	if !strings.Contains(got, `,a="/?x",b="`+strings.Repeat("é", maxValue/2)+`"} 1`) {
		t.Errorf("labels are\n%s", got)
	}
}

func BenchmarkObserveWithExpressions(b *testing.B) {
	m := NewMesh(MeshOptions{})
	c, _ := m.Chain(&stats.PluginConfig{Reporter: stats.Reporter_SERVER_GATEWAY, Metrics: []*stats.MetricConfig{
		{Name: "requests_total", Dimensions: map[string]string{"host": "request.host", "method": "request.method"}},
	}})
	r := httpRecord()
	r.Authority, r.Method = "reviews", "GET"
	b.ReportAllocs()
	for b.Loop() {
		c.ObserveHTTP(&r)
	}
}
