package admin

import (
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
)

func TestHealthPort(t *testing.T) {
	w := newWorld(t)
	health := w.server.HealthAddr()
	if a := w.do(http.MethodGet, health, "/healthz/ready"); a.status != http.StatusOK || a.body != "" {
		t.Errorf("%+v", a)
	}
	for _, path := range []string{"/", "/ready", "/config_dump", "/stats/prometheus", "/healthz"} {
		if a := w.do(http.MethodGet, health, path); a.status != http.StatusNotFound {
			t.Errorf("%s: %+v", path, a)
		}
	}
	reason := errors.New("config not received from XDS server (is Istiod running?): cds updates: 0 successful")
	w.ready.Store(&reason)
	for range 3 {
		if a := w.do(http.MethodGet, health, "/healthz/ready"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "is Istiod running?") {
			t.Errorf("%+v", a)
		}
	}
	if n := strings.Count(w.log.String(), "Envoy proxy is NOT ready: config not received"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, w.log)
	}
}

func TestStatusPort(t *testing.T) {
	w := newWorld(t)
	status := w.server.StatusAddr()
	if a := w.do(http.MethodGet, status, "/healthz/ready"); a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
	for _, path := range []string{"/stats/prometheus", "/metrics"} {
		a := w.do(http.MethodGet, status, path)
		agent, proxy := strings.Index(a.body, "istio_agent_startup_duration_seconds"), strings.Index(a.body, "envoy_server_live")
		if a.status != http.StatusOK || agent < 0 || proxy < agent || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain; version=0.0.4") {
			t.Errorf("%s: %+v", path, a)
		}
		for _, want := range []string{`istio_agent_cert_expiry_seconds{resource_name="ROOTCA"}`, `istio_agent_cert_expiry_seconds{resource_name="default"}`, "istio_agent_xds_proxy_responses", "istio_agent_go_goroutines"} {
			if !strings.Contains(a.body, want) {
				t.Errorf("%s: no %s", path, want)
			}
		}
	}
	zipped := w.ask(http.MethodGet, status, "/metrics", http.Header{"Accept-Encoding": {"gzip"}})
	z, err := gzip.NewReader(strings.NewReader(zipped.body))
	if err != nil || zipped.header.Get("Content-Encoding") != "gzip" {
		t.Fatal(err, zipped.header)
	}
	if text, err := io.ReadAll(z); err != nil || !strings.Contains(string(text), "istio_build{") {
		t.Errorf("%s, %v", text, err)
	}

	for path, want := range map[string]int{
		"/app-health/app/livez": http.StatusBadRequest, "/app-lifecycle/app/prestopz": http.StatusBadRequest, "/debug/ndsz": http.StatusNotFound,
		"/": http.StatusNotFound, "/config_dump": http.StatusNotFound, "/quitquitquit": http.StatusMethodNotAllowed, "/drain": http.StatusMethodNotAllowed,
		"/debug/pprof/goroutine?debug=1": http.StatusOK, "/debug/pprof/": http.StatusOK, "/app-health": http.StatusBadRequest,
	} {
		if a := w.do(http.MethodGet, status, path); a.status != want {
			t.Errorf("%s: %d %s, want %d", path, a.status, a.body, want)
		}
	}
	if a := w.do(http.MethodPost, status, "/drain"); a.status != http.StatusOK || !<-w.drained {
		t.Errorf("%+v", a)
	}
	if a := w.do(http.MethodPost, status, "/quitquitquit"); a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
	<-w.quit
}

// From another machine there is readiness and metrics, and nothing that tells or does more.
func TestStatusPortFromOutside(t *testing.T) {
	w := newWorld(t)
	h := w.server.statusHandler()
	for _, remote := range []string{"10.0.0.9:40000", "[fd00::9]:40000", "[::ffff:10.0.0.9]:40000", "nonsense", ""} {
		for _, r := range []*http.Request{
			httptest.NewRequest(http.MethodGet, "/debug/pprof/heap", nil), httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil),
			httptest.NewRequest(http.MethodGet, "//debug/pprof/cmdline", nil), httptest.NewRequest(http.MethodGet, "/debug/ndsz", nil),
			httptest.NewRequest(http.MethodPost, "/quitquitquit", nil), httptest.NewRequest(http.MethodPost, "/drain", nil),
		} {
			r.RemoteAddr = remote
			r.Header.Set("X-Forwarded-For", "127.0.0.1")
			out := httptest.NewRecorder()
			if h.ServeHTTP(out, r); out.Code != http.StatusForbidden {
				t.Errorf("%s from %q: %d", r.URL, remote, out.Code)
			}
		}
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = remote
		out := httptest.NewRecorder()
		if h.ServeHTTP(out, r); out.Code != http.StatusOK {
			t.Errorf("metrics from %q: %d", remote, out.Code)
		}
	}
	select {
	case <-w.drained:
		t.Error("drained")
	case <-w.quit:
		t.Error("quit")
	default:
	}
	for _, local := range []string{"127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"} {
		r := httptest.NewRequest(http.MethodGet, "/debug/pprof/cmdline", nil)
		r.RemoteAddr = local
		out := httptest.NewRecorder()
		if h.ServeHTTP(out, r); out.Code != http.StatusOK {
			t.Errorf("pprof from %s: %d", local, out.Code)
		}
	}
}

func TestPrometheusPort(t *testing.T) {
	w := newWorld(t)
	a := w.do(http.MethodGet, w.server.PrometheusAddr(), "/stats/prometheus")
	if a.status != http.StatusOK || !strings.Contains(a.body, `istio_build{component="proxy",tag="1.31.0"} 1`) || strings.Contains(a.body, "istio_agent_") {
		t.Errorf("%+v", a)
	}
	for _, path := range []string{"/", "/metrics", "/config_dump", "/stats"} {
		if a := w.do(http.MethodGet, w.server.PrometheusAddr(), path); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

func TestAddresses(t *testing.T) {
	w := newWorld(t)
	src := w.sources()
	if err := New(src, Options{AdminAddr: "0.0.0.0:0"}).Listen(); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("the admin port may be bound to all addresses: %v", err)
	}
	src.Registry = metrics.NewRegistry(metrics.MeshOptions{}, nil)
	taken := New(src, Options{StatusAddr: w.server.StatusAddr().String(), HealthAddr: "127.0.0.1:0"})
	var op *net.OpError
	if err := taken.Run(t.Context()); !errors.As(err, &op) || !strings.Contains(err.Error(), "status port") {
		t.Errorf("an address in use: %v", err)
	}
	src.Registry = metrics.NewRegistry(metrics.MeshOptions{}, nil)
	none := New(src, Options{HealthAddr: "127.0.0.1:0"})
	if err := none.Listen(); err != nil || none.AdminAddr() != nil || none.HealthAddr() == nil {
		t.Errorf("%v %v %v", err, none.AdminAddr(), none.HealthAddr())
	}
	none.Close()
	none.Close()
}
