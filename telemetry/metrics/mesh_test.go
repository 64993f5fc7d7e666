package metrics

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/types/known/durationpb"
	"istio.io/api/envoy/extensions/stats"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	productpage = &telemetry.Peer{Workload: "productpage-v1", Namespace: "default", CanonicalService: "productpage", CanonicalRevision: "v1", App: "productpage", Version: "v1", Cluster: "Kubernetes"}
	reviews     = &telemetry.Peer{Workload: "reviews-v1", Namespace: "default", CanonicalService: "reviews", CanonicalRevision: "v1", App: "reviews", Version: "v1", Cluster: "Kubernetes", Identity: "spiffe://cluster.local/ns/default/sa/reviews"}
	reviewsSvc  = &telemetry.Service{Host: "reviews.default.svc.cluster.local", Name: "reviews", Namespace: "default"}
	start       = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	waypointCfg = &stats.PluginConfig{DisableHostHeaderFallback: true, Reporter: stats.Reporter_SERVER_GATEWAY}
)

func httpRecord() telemetry.Record {
	return telemetry.Record{
		Start: start, Duration: telemetry.Took(12 * time.Millisecond), Protocol: telemetry.HTTP11, ResponseCode: 200,
		WireBytesReceived: 180, WireBytesSent: 1200, Source: productpage, Destination: reviews, Service: reviewsSvc,
		UpstreamCluster: "inbound-vip|9080|http|reviews.default.svc.cluster.local",
		PeerPrincipal:   "spiffe://cluster.local/ns/frontend/sa/productpage", LocalPrincipal: "spiffe://cluster.local/ns/default/sa/waypoint",
	}
}

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func chain(t *testing.T, m *Mesh, c *stats.PluginConfig) *Chain {
	t.Helper()
	ch, unhonoured := m.Chain(c)
	if len(unhonoured) > 0 {
		t.Fatalf("not honoured: %q", unhonoured)
	}
	return ch
}

func render(t *testing.T, m *Mesh) string {
	t.Helper()
	var b strings.Builder
	if err := m.WritePrometheus(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The whole output for one request of each kind and one connection. A renamed metric or label changes the file, and with it
// every dashboard of every user: do not update it without need.
func TestGolden(t *testing.T) {
	m := NewMesh(MeshOptions{Version: "1.31.4", Now: at(start)})
	c := chain(t, m, waypointCfg)

	r := httpRecord()
	c.ObserveHTTP(&r)

	r = httpRecord() // denied: nothing was sent upstream
	r.ResponseCode, r.Destination, r.Duration = 403, nil, telemetry.Took(0)
	c.ObserveHTTP(&r)

	r = httpRecord() // failed
	r.ResponseCode, r.Flags = 503, telemetry.FlagsOf(telemetry.FlagUpstreamConnectionFailure, telemetry.FlagUpstreamRetryLimitExceeded)
	c.ObserveHTTP(&r)

	r = httpRecord() // gRPC, with messages
	r.GRPC, r.GRPCStatus = true, telemetry.GRPC(0)
	c.ObserveMessages(&r, 2, 5)
	c.ObserveHTTP(&r)

	r = telemetry.Record{Start: start} // nothing known: plain text client, no route, client gone
	c.ObserveHTTP(&r)

	r = httpRecord()
	r.WireBytesReceived, r.WireBytesSent = 0, 0
	conn := c.OpenTCP(&r)
	r.WireBytesReceived, r.WireBytesSent = 10, 20
	conn.Report(&r)
	r.WireBytesReceived, r.WireBytesSent = 15, 21
	conn.Close(&r)
	conn.Close(&r) // once only

	got := render(t, m)
	const file = "testdata/istio.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("output differs from %s:\n%s", file, got)
	}
}

// Names and labels are those of the Istio waypoint, spelled out here apart from the code and the golden file, and the text
// is what a Prometheus parser accepts.
func TestNamesAndLabels(t *testing.T) {
	peers := "reporter source_workload source_canonical_service source_canonical_revision source_workload_namespace source_principal source_app source_version source_cluster " +
		"destination_workload destination_workload_namespace destination_principal destination_app destination_version destination_service destination_canonical_service " +
		"destination_canonical_revision destination_service_name destination_service_namespace destination_cluster"
	http := peers + " request_protocol response_code grpc_response_status response_flags connection_security_policy"
	tcp := peers + " request_protocol response_flags connection_security_policy"
	want := map[string]string{
		"istio_requests_total": http, "istio_request_duration_milliseconds": http, "istio_request_bytes": http, "istio_response_bytes": http,
		"istio_request_messages_total": peers, "istio_response_messages_total": peers,
		"istio_tcp_connections_opened_total": tcp, "istio_tcp_connections_closed_total": tcp, "istio_tcp_sent_bytes_total": tcp, "istio_tcp_received_bytes_total": tcp,
		"istio_build": "component tag",
	}
	text, err := os.Open("testdata/istio.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = text.Close() }()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, labels := range want {
		f := families[name]
		if f == nil {
			t.Errorf("metric %s is missing", name)
			continue
		}
		for _, metric := range f.GetMetric() {
			var got []string
			for _, l := range metric.GetLabel() {
				got = append(got, l.GetName())
			}
			if g := strings.Join(got, " "); g != labels {
				t.Errorf("%s has labels\n  %s\nwant\n  %s", name, g, labels)
			}
		}
	}
}

func BenchmarkObserveHTTP(b *testing.B) {
	m := NewMesh(MeshOptions{})
	c, _ := m.Chain(waypointCfg)
	r := httpRecord()
	b.ReportAllocs()
	for b.Loop() {
		c.ObserveHTTP(&r)
	}
}

func BenchmarkObserveHTTPParallel(b *testing.B) {
	m := NewMesh(MeshOptions{})
	c, _ := m.Chain(waypointCfg)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := httpRecord()
		for pb.Next() {
			c.ObserveHTTP(&r)
		}
	})
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	c := chain(t, NewMesh(MeshOptions{}), waypointCfg)
	r := httpRecord()
	r.Flags = telemetry.FlagsOf(telemetry.FlagUpstreamConnectionFailure, telemetry.FlagUpstreamRetryLimitExceeded)
	c.ObserveHTTP(&r)
	if n := testing.AllocsPerRun(200, func() { c.ObserveHTTP(&r) }); n != 0 {
		t.Errorf("ObserveHTTP allocates %v times", n)
	}
	if n := testing.AllocsPerRun(200, func() { c.ObserveMessages(&r, 1, 1) }); n != 0 {
		t.Errorf("ObserveMessages allocates %v times", n)
	}
	if n := testing.AllocsPerRun(200, func() { conn := c.OpenTCP(&r); conn.Close(&r) }); n != 0 {
		t.Errorf("OpenTCP and Close allocate %v times", n)
	}
}

// A peer that is described anew (another pointer, the same values) stays in its series.
func TestEqualPeersShareASeries(t *testing.T) {
	m := NewMesh(MeshOptions{Now: at(start)})
	c := chain(t, m, waypointCfg)
	for range 3 {
		r := httpRecord()
		again := *productpage
		r.Source = &again
		c.ObserveHTTP(&r)
	}
	if got := render(t, m); strings.Count(got, "istio_requests_total{") != 1 || !strings.Contains(got, "mutual_tls\"} 3\n") {
		t.Errorf("not one series with 3 requests:\n%s", got)
	}
}

// Idle series vanish; used ones, and those of open connections, stay with their counts.
func TestExpiry(t *testing.T) {
	now := start
	m := NewMesh(MeshOptions{Now: func() time.Time { return now }, Idle: 10 * time.Minute})
	c := chain(t, m, waypointCfg)
	gone, kept := httpRecord(), httpRecord()
	gone.ResponseCode = 404
	c.ObserveHTTP(&gone)
	c.ObserveHTTP(&kept)
	open := httpRecord()
	conn := c.OpenTCP(&open)
	for range 11 {
		now = now.Add(time.Minute)
		kept.Start = now
		c.ObserveHTTP(&kept)
		_ = render(t, m)
	}
	got := render(t, m)
	if strings.Contains(got, `response_code="404"`) {
		t.Error("the idle series is still there")
	}
	if !strings.Contains(got, `mutual_tls"} 12`) {
		t.Errorf("the used series has lost counts:\n%s", got)
	}
	if !strings.Contains(got, "istio_tcp_connections_opened_total") {
		t.Error("the series of an open connection is gone")
	}
	conn.Close(&open)
	now = now.Add(12 * time.Minute)
	if got = render(t, m); strings.Contains(got, "istio_requests_total") || strings.Contains(got, "istio_tcp") {
		t.Errorf("idle series are still there:\n%s", got)
	}
	now = now.Add(time.Minute)
	kept.Start = now
	c.ObserveHTTP(&kept)
	if got = render(t, m); !strings.Contains(got, `mutual_tls"} 1`) {
		t.Errorf("a series that comes back does not start anew:\n%s", got)
	}
}

// Beyond the cap requests are still counted, in a series without peers, and the overflow shows.
func TestCardinalityCap(t *testing.T) {
	m := NewMesh(MeshOptions{Now: at(start), MaxSeries: 3})
	c := chain(t, m, waypointCfg)
	for i := range 10 {
		r := httpRecord()
		r.PeerPrincipal = fmt.Sprintf("spiffe://cluster.local/ns/x/sa/%d", i)
		c.ObserveHTTP(&r)
		c.ObserveHTTP(&r)
	}
	got := render(t, m)
	if n := strings.Count(got, "istio_requests_total{"); n != 4 {
		t.Errorf("%d series, want 3 and the overflow", n)
	}
	if !strings.Contains(got, `connection_security_policy="none"} 14`) {
		t.Errorf("the 14 other requests are not in the overflow series:\n%s", got)
	}
	if !strings.Contains(got, "waypoint_telemetry_series_overflow_total 7\n") || !strings.Contains(got, "waypoint_telemetry_series 3\n") {
		t.Errorf("the overflow is not visible:\n%s", got)
	}
}

// Configured differences: drop, removed tags, constant dimensions; and what is not honoured is named.
func TestPolicy(t *testing.T) {
	m := NewMesh(MeshOptions{Now: at(start)})
	c, unhonoured := m.Chain(&stats.PluginConfig{
		DisableHostHeaderFallback: true, Reporter: stats.Reporter_SERVER_GATEWAY, TcpReportingDuration: durationpb.New(7 * time.Second),
		Metrics: []*stats.MetricConfig{
			{Name: "request_bytes", Drop: true},
			{Name: "requests_total", TagsToRemove: []string{"source_app", "response_flags"}, Dimensions: map[string]string{"team": `"blue"`, "source_cluster": "'c1'", "path": "request.path +"}},
			{Name: "response_bytes", Match: "x.lower()", Drop: true},
			{Name: "no_such", Drop: true},
		},
		Definitions: []*stats.MetricDefinition{{Name: "mine", Value: "1"}},
	})
	r := httpRecord()
	c.ObserveHTTP(&r)
	r.Source = &telemetry.Peer{Workload: "productpage-v1", Namespace: "default", CanonicalService: "productpage", CanonicalRevision: "v1", App: "other", Version: "v1"}
	c.ObserveHTTP(&r) // differs only in labels that requests_total does not show
	got := render(t, m)
	if strings.Contains(got, "istio_request_bytes") || !strings.Contains(got, "istio_response_bytes") {
		t.Errorf("drop acts on the wrong metrics")
	}
	want := `istio_requests_total{reporter="waypoint",source_workload="productpage-v1",source_canonical_service="productpage",source_canonical_revision="v1",source_workload_namespace="frontend",source_principal="spiffe://cluster.local/ns/frontend/sa/productpage",source_version="v1",source_cluster="c1",`
	if !strings.Contains(got, want) || !strings.Contains(got, `connection_security_policy="mutual_tls",path="unknown",team="blue"} 2`) {
		t.Errorf("labels are not as configured:\n%s", got)
	}
	if c.ReportingInterval() != 7*time.Second {
		t.Errorf("interval is %v", c.ReportingInterval())
	}
	all := strings.Join(unhonoured, "\n")
	for _, name := range []string{"metrics[requests_total].dimensions[path]", "metrics[response_bytes].match", "metrics[no_such]", "definitions[mine]"} {
		if !strings.Contains(all, name) {
			t.Errorf("%s is not reported; reported is %q", name, unhonoured)
		}
	}
	if _, un := m.Chain(&stats.PluginConfig{}); len(un) != 1 || !strings.Contains(un[0], "reporter") {
		t.Errorf("another reporter is reported as %q", un)
	}
}

// Destinations without a service of the control plane's.
func TestDestinationService(t *testing.T) {
	for _, c := range []struct {
		r         telemetry.Record
		fallback  bool
		host, nam string
	}{
		{telemetry.Record{Authority: "a.b:80"}, false, "", ""},
		{telemetry.Record{Authority: "a.b:80"}, true, "a.b:80", "a.b:80"},
		{telemetry.Record{UpstreamCluster: "BlackHoleCluster"}, false, "", "BlackHoleCluster"},
		{telemetry.Record{RouteName: "allow_any"}, false, "", "PassthroughCluster"},
		{telemetry.Record{Service: &telemetry.Service{Host: "x.y.svc"}}, false, "x.y.svc", "x"},
	} {
		host, name, _ := destinationService(&c.r, c.fallback)
		if host != c.host || name != c.nam {
			t.Errorf("%+v: %q %q, want %q %q", c.r.UpstreamCluster, host, name, c.host, c.nam)
		}
	}
}

// Observing, scraping and sweeping at once loses nothing.
func TestConcurrent(t *testing.T) {
	m := NewMesh(MeshOptions{})
	c := chain(t, m, waypointCfg)
	const workers, each = 8, 2000
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := httpRecord()
			r.Start = time.Now()
			for i := range each {
				r.ResponseCode = 200 + (w+i)%5
				c.ObserveHTTP(&r)
			}
		})
	}
	for range 20 {
		_ = render(t, m)
		m.mu.Lock()
		m.sweepLocked(time.Now())
		m.mu.Unlock()
	}
	wg.Wait()
	var sum uint64
	for _, s := range m.byLabels {
		sum += s.counters[0].Load()
	}
	if sum != workers*each {
		t.Errorf("counted %d of %d", sum, workers*each)
	}
}

func TestBuckets(t *testing.T) {
	m := NewMesh(MeshOptions{Now: at(start), Buckets: map[string][]float64{"": {1}, "request_duration": {10, 20}}})
	c := chain(t, m, waypointCfg)
	r := httpRecord()
	c.ObserveHTTP(&r)
	got := render(t, m)
	for _, want := range []string{`le="10"} 0`, `le="20"} 1`, `le="+Inf"} 1`, `le="1"} 0`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(got, `le="0.5"`) {
		t.Error("default bounds are still there")
	}
}

// Label values are hostile: quotes, line breaks, bytes that are not UTF-8. The scrape stays readable.
func TestHostileLabels(t *testing.T) {
	m := NewMesh(MeshOptions{Now: at(start)})
	c, _ := m.Chain(&stats.PluginConfig{Reporter: stats.Reporter_SERVER_GATEWAY}) // the Host header may become a label
	r := telemetry.Record{Start: start, Authority: "a\"b\\c\nd\xff}"}
	c.ObserveHTTP(&r)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(render(t, m)))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range families["istio_requests_total"].GetMetric()[0].GetLabel() {
		if l.GetName() == "destination_service" && l.GetValue() != "a\"b\\c\nd\uFFFD}" {
			t.Errorf("the label is %q", l.GetValue())
		}
	}
}
