package admin

import (
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, file, got string) {
	t.Helper()
	file = "testdata/" + file
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

// parse reads an answer as istioctl does.
func parse[T proto.Message](t *testing.T, body string, into T) T {
	t.Helper()
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(body), into); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return into
}

func TestClusters(t *testing.T) {
	w := newWorld(t)
	for _, c := range w.clusters.All() { // figures that differ from zero
		for _, h := range c.Hosts() {
			h.Begin()
			h.Stats.ConnectTotal.Add(2)
			h.Stats.ConnectActive.Add(1)
			h.Stats.RequestsSuccess.Add(3)
		}
	}
	golden(t, "clusters.txt", w.get("/clusters"))

	all := parse(t, w.get("/clusters?format=json"), &adminv3.Clusters{})
	if len(all.GetClusterStatuses()) != len(w.clusters.All()) {
		t.Errorf("%d clusters", len(all.GetClusterStatuses()))
	}
	for _, c := range all.GetClusterStatuses() {
		if c.GetName() != "inbound-vip|5000|http|helloworld.default.svc.cluster.local" {
			continue
		}
		h := c.GetHostStatuses()[0]
		internal := h.GetAddress().GetEnvoyInternalAddress()
		if internal.GetServerListenerName() != "connect_originate" || internal.GetEndpointId() != "10.244.0.2:5000" {
			t.Errorf("address %v", h.GetAddress())
		}
		if h.GetHealthStatus().GetEdsHealthStatus() != corev3.HealthStatus_HEALTHY || h.GetWeight() != 1 || !c.GetAddedViaApi() {
			t.Errorf("%v", c)
		}
		figures := map[string]uint64{}
		for _, st := range h.GetStats() {
			figures[st.GetName()] = st.GetValue()
		}
		if figures["cx_total"] != 2 || figures["rq_active"] != 1 || figures["rq_success"] != 3 {
			t.Errorf("stats %v", figures)
		}
		return
	}
	t.Error("the cluster is not there")
}

func TestLogging(t *testing.T) {
	w := newWorld(t)
	level := w.server.src.Level
	w.wants(http.StatusMethodNotAllowed, http.MethodGet, "/logging")
	golden(t, "logging.txt", w.wants(http.StatusOK, http.MethodPost, "/logging"))

	golden(t, "logging-changed.txt", w.wants(http.StatusOK, http.MethodPost, "/logging?paths=rbac:debug,http:error"))
	if level.Level() != -4 {
		t.Errorf("with one logger at debug the level is %v", level.Level())
	}
	w.wants(http.StatusOK, http.MethodPost, "/logging?level=critical")
	if level.Level() != 12 {
		t.Errorf("with all loggers at critical the level is %v", level.Level())
	}
	if got := w.wants(http.StatusOK, http.MethodPost, "/logging?jwt=trace"); !strings.Contains(got, "\n  jwt: trace\n") || !strings.Contains(got, "\n  rbac: critical\n") {
		t.Error(got)
	}
	for _, bad := range []string{"level=loud", "nobody=debug", "paths=rbac", "paths=rbac:debug,nobody:info", "level=info&rbac=debug"} {
		if got := w.wants(http.StatusBadRequest, http.MethodPost, "/logging?"+bad); !strings.Contains(got, "usage: /logging?") {
			t.Error(got)
		}
	}
	if got := w.server.loggers.level("rbac"); got != "critical" {
		t.Errorf("a request that was refused changed rbac to %s", got)
	}
}

func TestInfoPages(t *testing.T) {
	w := newWorld(t)
	info := parse(t, w.get("/server_info"), &adminv3.ServerInfo{})
	if info.GetNode().GetId() != nodeID || !strings.HasPrefix(info.GetVersion(), "0123456789abcdef/1.2.3/") || strings.Count(info.GetVersion(), "/") != 4 {
		t.Errorf("%v", info)
	}
	var script struct{ State string }
	if err := json.Unmarshal([]byte(w.get("/server_info")), &script); err != nil || script.State != "LIVE" {
		t.Errorf("state %q, %v", script.State, err)
	}

	certs := parse(t, w.get("/certs"), &adminv3.Certificates{})
	if len(certs.GetCertificates()) != 2 {
		t.Fatalf("%v", certs)
	}
	root, leaf := certs.GetCertificates()[0].GetCaCert(), certs.GetCertificates()[1].GetCertChain()
	if len(root) != 1 || len(leaf) != 1 {
		t.Fatalf("%v", certs)
	}
	if c := leaf[0]; c.GetPath() != "default" || c.GetSerialNumber() != "abc" || c.GetDaysUntilExpiration() != 2 ||
		c.GetSubjectAltNames()[0].GetUri() != "spiffe://cluster.local/ns/ns/sa/w" || c.GetExpirationTime() == nil {
		t.Errorf("%v", c)
	}

	_, port, _ := strings.Cut(w.server.PrometheusAddr().String(), "]:")
	listeners := w.get("/listeners")
	for _, want := range []string{"connect_terminate::0.0.0.0:15008\n", "connect_terminate::[::]:15008\n", "prometheus::[::]:" + port + "\n"} {
		if !strings.Contains(listeners, want) {
			t.Errorf("no %q in %s", want, listeners)
		}
	}
	statuses := parse(t, w.get("/listeners?format=json"), &adminv3.Listeners{}).GetListenerStatuses()
	if last := statuses[len(statuses)-1]; last.GetName() != "connect_terminate" || last.GetLocalAddress().GetSocketAddress().GetPortValue() != 15008 ||
		len(last.GetAdditionalLocalAddresses()) != 1 {
		t.Errorf("%v", statuses)
	}

	if m := parse(t, w.get("/memory"), &adminv3.Memory{}); m.GetAllocated() == 0 || m.GetHeapSize() < m.GetAllocated() || m.GetTotalPhysicalBytes() < m.GetHeapSize() {
		t.Errorf("%v", m)
	}
	if got := w.get("/init_dump"); !strings.Contains(got, "secret kubernetes://never") || strings.Contains(got, "cluster ") {
		t.Error(got)
	}
	if got := w.get("/"); !strings.Contains(got, `<a href="/config_dump">`) || !strings.Contains(got, `<form method="post" action="/quitquitquit">`) {
		t.Error(got)
	}
	if got := w.get("/help"); !strings.Contains(got, "\n  /logging: ") {
		t.Error(got)
	}
	if got := w.get("/hot_restart_version"); got != "disabled\n" {
		t.Error(got)
	}
	if got := w.get("/contention"); !strings.Contains(got, "waited") {
		t.Error(got)
	}
	if !json.Valid([]byte(w.get("/runtime"))) {
		t.Error("/runtime is not JSON")
	}
}

// What bug-report fetches: one failure would cost it all eight. And the doubled slash of `istioctl x envoy-stats -o prom-merged`.
func TestBugReport(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"certs", "clusters", "config_dump?include_eds", "listeners", "memory", "server_info", "stats/prometheus", "runtime"} {
		if w.get("/"+path) == "" {
			t.Errorf("%s is empty", path)
		}
	}
	if got := w.get("//stats//prometheus"); !strings.Contains(got, "istio_build{") {
		t.Error(got)
	}
	w.wants(http.StatusNotFound, http.MethodGet, "/nothing")
	w.wants(http.StatusMethodNotAllowed, http.MethodDelete, "/clusters")
}

func TestStates(t *testing.T) {
	w := newWorld(t)
	if got := w.get("/ready"); got != "LIVE\n" {
		t.Error(got)
	}
	w.wants(http.StatusOK, http.MethodPost, "/healthcheck/fail")
	if got := w.wants(http.StatusServiceUnavailable, http.MethodGet, "/ready"); got != "DRAINING\n" {
		t.Error(got)
	}
	if got := w.get("/stats?filter=^server.(state|live)$"); got != "server.live: 0\nserver.state: 1\n" {
		t.Error(got)
	}
	w.wants(http.StatusOK, http.MethodPost, "/healthcheck/ok")
	w.wants(http.StatusOK, http.MethodGet, "/ready")
	reason := errors.New("not yet")
	w.ready.Store(&reason)
	if got := w.wants(http.StatusServiceUnavailable, http.MethodGet, "/ready"); got != "INITIALIZING\n" {
		t.Error(got)
	}
	w.draining.Store(true)
	if got := w.wants(http.StatusServiceUnavailable, http.MethodGet, "/ready"); got != "DRAINING\n" {
		t.Error(got)
	}
}

func TestMutatingPages(t *testing.T) {
	w := newWorld(t)
	for _, p := range w.server.pages() {
		if p.mutates {
			w.wants(http.StatusMethodNotAllowed, http.MethodGet, p.path)
			cross := w.ask(http.MethodPost, w.server.AdminAddr(), p.path, http.Header{"Sec-Fetch-Site": {"cross-site"}})
			if cross.status != http.StatusForbidden {
				t.Errorf("another site's page may POST %s: %d", p.path, cross.status)
			}
		}
	}
	select {
	case <-w.drained:
		t.Error("drained")
	case <-w.quit:
		t.Error("quit")
	default:
	}
	w.wants(http.StatusOK, http.MethodPost, "/drain_listeners?graceful")
	if <-w.drained {
		t.Error("skip_exit was not asked for")
	}
	w.wants(http.StatusOK, http.MethodPost, "/drain_listeners?graceful&skip_exit")
	if !<-w.drained {
		t.Error("skip_exit was asked for")
	}
	// The answer is complete although the process ends within the call.
	if a := w.do(http.MethodPost, w.server.AdminAddr(), "/quitquitquit"); a.body != "OK\n" || a.header.Get("Content-Length") != "3" {
		t.Errorf("%+v", a)
	}
	<-w.quit
	w.wants(http.StatusNotImplemented, http.MethodPost, "/reset_counters")
}

func TestStats(t *testing.T) {
	w := newWorld(t)
	got := w.get("/stats?usedonly&filter=^(cluster_manager|listener_manager|server.version|cluster.xds-grpc.upstream_cx_active|workload)")
	for _, want := range []string{
		"cluster_manager.active_clusters: 10\n", "cluster_manager.warming_clusters: 0\n",
		"cluster_manager.cds.update_success: 1\n", "cluster_manager.cds.update_rejected: 0\n",
		"listener_manager.lds.update_success: 1\n", "listener_manager.workers_started: 1\n", "listener_manager.total_listeners_active: 1\n",
		"cluster.xds-grpc.upstream_cx_active: 1\n", "workload_discovery.total: 7\n", "server.version: 74565\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	var all struct {
		Stats []struct {
			Name  string
			Value uint64
		}
	}
	if err := json.Unmarshal([]byte(w.get("/stats?format=json&filter=server.memory_heap_size")), &all); err != nil || len(all.Stats) != 1 || all.Stats[0].Value == 0 {
		t.Errorf("%v, %v", all, err)
	}
	for _, path := range []string{"/stats/prometheus?filter=xds-grpc", "/stats?format=prometheus&filter=xds-grpc"} {
		prom := w.get(path)
		if !strings.Contains(prom, "# TYPE envoy_cluster_upstream_cx_active gauge\nenvoy_cluster_upstream_cx_active{cluster_name=\"xds-grpc\"} 1\n") ||
			strings.Contains(prom, "istio_build") || strings.Contains(prom, "server_uptime") {
			t.Error(prom)
		}
	}
	w.wants(http.StatusBadRequest, http.MethodGet, "/stats?filter=(")
	w.wants(http.StatusBadRequest, http.MethodGet, "/stats/prometheus?filter=(")
	w.wants(http.StatusBadRequest, http.MethodGet, "/stats?format=html")
}

func TestCensus(t *testing.T) {
	w := newWorld(t) // without filters and routes compiled, chains are refused: a long report
	got := w.get("/census")
	for _, want := range []string{"fields set in the configuration in force:", "honoured", "parts that serve nobody: ", "Listener main_internal, filter chain", "env FOO"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	var c census
	if err := json.Unmarshal([]byte(w.get("/census?format=json")), &c); err != nil {
		t.Fatal(err)
	}
	if c.Counts["honoured"] == 0 || len(c.Refusals) == 0 || len(c.Fields) == 0 || c.Fields[0].Path == "" || c.Settings[0].Setting != "env FOO" || !c.Settings[0].Loud {
		t.Errorf("%+v", c)
	}
}
