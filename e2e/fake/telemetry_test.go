package fake

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// logLine waits for the access log's line of a request.
func logLine(t *testing.T, match func(map[string]any) bool) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, "the line is in the access log", func() error {
		lines, err := accessLog()
		must(t, err)
		for _, l := range lines {
			if match(l) {
				found = l
				return nil
			}
		}
		return fmt.Errorf("not among %d", len(lines))
	})
	return found
}

const getOnly = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: get-only}
spec:
  targetRefs: [{kind: Service, group: "", name: echo-v1}]
  action: ALLOW
  rules: [{to: [{operation: {methods: [GET]}}]}]
`

func send(t *testing.T, c *http.Client, method, url, id string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	must(t, err)
	req.Header.Set("X-Request-Id", id)
	req.Header.Set("User-Agent", "telemetry-test")
	resp, err := c.Do(req)
	must(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	must(t, err)
	must(t, resp.Body.Close())
}

// The default format of the access log, field by field, for a request that was served, one that policy refused, and a TCP session
// that policy refused.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	m := Start(t, Options{Manifests: getOnly})
	c := m.Client("sleep").HTTP("10.96.0.11:80", false)
	send(t, c, "GET", "http://echo-v1/hello?x=y", "log-allowed")
	send(t, c, "POST", "http://echo-v1/hello", "log-denied")
	check := func(id string, want map[string]string) {
		t.Helper()
		l := logLine(t, func(l map[string]any) bool { return l["request_id"] == id })
		for field, w := range want {
			got := ""
			if v := l[field]; v != nil {
				got = fmt.Sprint(v)
			}
			if !regexp.MustCompile(`^(?:` + w + `)$`).MatchString(got) {
				t.Errorf("%s: %s is %q, want %q", id, field, got, w)
			}
		}
		if t.Failed() {
			t.Log(l)
		}
	}
	both := map[string]string{
		"start_time": `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`, "protocol": `HTTP/1\.1`, "authority": "echo-v1", "user_agent": "telemetry-test",
		"downstream_local_address": `10\.96\.0\.11:80`, "downstream_remote_address": `10\.244\.1\.1:\d+`, "duration": `\d+`,
		"bytes_received": "0", "x_forwarded_for": "", "requested_server_name": "", "connection_termination_details": "",
		"upstream_transport_failure_reason": "",
	}
	allowed := maps.Clone(both)
	maps.Copy(allowed, map[string]string{
		"method": "GET", "path": `/hello\?x=y`, "response_code": "200", "response_flags": "-|", "response_code_details": "via_upstream",
		"bytes_sent": fmt.Sprint(len("hello from echo-v1\n")), "upstream_service_time": `\d+`, "route_name": "default",
		"upstream_cluster": `inbound-vip\|80\|http\|echo-v1\.default\.svc\.cluster\.local;?`, "upstream_host": `.*10\.244\.0\.2:8080.*`,
	})
	check("log-allowed", allowed)
	denied := maps.Clone(both)
	maps.Copy(denied, map[string]string{
		"method": "POST", "path": "/hello", "response_code": "403", "response_flags": "-|", "bytes_sent": fmt.Sprint(len("RBAC: access denied")),
		"response_code_details": `rbac_access_denied_matched_policy\[none\]`, "upstream_host": "", "upstream_service_time": "",
	})
	check("log-denied", denied)

	conn, err := m.Client("curl").Tunnel(t.Context(), "10.96.0.11:90") // an HTTP-only ALLOW lets nobody through here
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("the session was not refused")
	}
	l := logLine(t, func(l map[string]any) bool {
		a, _ := l["downstream_local_address"].(string)
		r, _ := l["downstream_remote_address"].(string)
		return a == "10.96.0.11:90" && strings.HasPrefix(r, "10.244.1.2:")
	})
	if got := fmt.Sprint(l["connection_termination_details"]); got != "rbac_access_denied_matched_policy[none]" {
		t.Errorf("TCP: connection_termination_details is %q in %v", got, l)
	}
}

// metric returns the label sets of the samples of a metric, with their values.
func (m *Mesh) metric(name string) []map[string]string {
	var b bytes.Buffer
	must(m.T, m.Server.Registry().WriteProxy(&b))
	var out []map[string]string
	for _, line := range strings.Split(b.String(), "\n") {
		rest, ok := strings.CutPrefix(line, name+"{")
		if !ok {
			continue
		}
		i := strings.LastIndex(rest, "} ")
		labels := map[string]string{"": rest[i+2:]}
		for _, l := range regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(rest[:i], -1) {
			labels[l[1]] = l[2]
		}
		out = append(out, labels)
	}
	return out
}

// The labels of istio_requests_total for a request that was served and one that was refused, and of the TCP metrics: what
// dashboards and Kiali are made of.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := Start(t, Options{Manifests: getOnly})
	eventually(t, "peers are known", func() error {
		if n := m.Server.Workloads(); n < 5 {
			return fmt.Errorf("%d workloads", n)
		}
		return nil
	})
	c := m.Client("sleep").HTTP("10.96.0.11:80", false)
	for i := range 3 {
		send(t, c, "GET", "http://echo-v1/", fmt.Sprint("metrics-", i))
	}
	send(t, c, "POST", "http://echo-v1/", "metrics-denied")
	conn, err := m.Client("curl").Tunnel(t.Context(), "10.96.0.10:90")
	must(t, err)
	_, err = io.WriteString(conn, "0123456789")
	must(t, err)
	_, err = io.ReadFull(conn, make([]byte, len("echo-vN:")+10))
	must(t, err)
	must(t, conn.Close())

	common := map[string]string{
		"reporter": "waypoint", "source_workload": "sleep", "source_workload_namespace": "default", "source_app": "sleep",
		"source_version": "v7", "source_canonical_service": "sleep", "source_canonical_revision": "v7", "source_cluster": "Kubernetes",
		"source_principal":    "spiffe://cluster.local/ns/default/sa/sleep",
		"destination_service": "echo-v1.default.svc.cluster.local", "destination_service_name": "echo-v1",
		"destination_service_namespace": "default", "request_protocol": "http", "response_flags": "-",
		"connection_security_policy": "mutual_tls", "grpc_response_status": "",
	}
	served := maps.Clone(common)
	maps.Copy(served, map[string]string{"response_code": "200", "destination_workload": "echo-v1", "destination_workload_namespace": "default",
		"destination_app": "echo", "destination_version": "v1", "destination_canonical_service": "echo", "destination_canonical_revision": "v1",
		"destination_cluster": "Kubernetes", "": "3"})
	denied := maps.Clone(common)
	maps.Copy(denied, map[string]string{"response_code": "403", "destination_workload": "unknown", "": "1"})
	for name, want := range map[string]map[string]string{"served": served, "denied": denied} {
		eventually(t, name, func() error {
			samples := m.metric("istio_requests_total")
			var err error
			for _, s := range samples {
				if s["response_code"] != want["response_code"] {
					continue
				}
				for label, w := range want {
					if s[label] != w {
						err = fmt.Errorf("%s is %q, want %q, in %v", label, s[label], w, s)
					}
				}
				return err
			}
			return fmt.Errorf("no sample with code %s in %v", want["response_code"], samples)
		})
	}
	eventually(t, "TCP", func() error {
		for _, name := range []string{"istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total", "istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"} {
			samples := m.metric(name)
			if len(samples) != 1 {
				return fmt.Errorf("%s: %v", name, samples)
			}
			s := samples[0]
			want := map[string]string{"reporter": "waypoint", "source_workload": "curl", "request_protocol": "tcp",
				"destination_service": "echo.default.svc.cluster.local", "": map[string]string{"istio_tcp_received_bytes_total": "10", "istio_tcp_sent_bytes_total": "18"}[name]}
			if want[""] == "" {
				want[""] = "1"
			}
			for label, w := range want {
				if s[label] != w {
					return fmt.Errorf("%s: %s is %q, want %q, in %v", name, label, s[label], w, s)
				}
			}
		}
		return nil
	})
}

// A Telemetry resource adds labels, constant and by expression, takes one away, and switches a metric off, for one service only.
func TestMetricsOverrides(t *testing.T) {
	t.Parallel()
	m := Start(t, Options{Manifests: `
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: overrides}
spec:
  targetRefs: [{kind: Service, group: "", name: echo-v1}]
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: REQUEST_COUNT, mode: SERVER}
      tagOverrides:
        team: {value: '"blue"'}
        request_host: {value: request.host}
        caller: {value: filter_state.downstream_peer.workload}
        version: {value: "request.headers['x-version']"}
        source_version: {value: "response.code >= 500 ? 'bad' : 'good'"}
        source_app: {operation: REMOVE}
    - match: {metric: REQUEST_SIZE, mode: SERVER}
      disabled: true
`})
	for _, addr := range []string{"10.96.0.11:80", "10.96.0.12:80"} {
		send(t, m.Client("sleep").HTTP(addr, false), "GET", "http://host.example/", "override-"+addr)
	}
	by := func(metric, service string) (map[string]string, bool) {
		for _, s := range m.metric(metric) {
			if s["destination_service_name"] == service {
				return s, true
			}
		}
		return nil, false
	}
	eventually(t, "both services have a count", func() error {
		_, one := by("istio_requests_total", "echo-v1")
		_, two := by("istio_requests_total", "echo-v2")
		if !one || !two {
			return fmt.Errorf("%v %v", one, two)
		}
		return nil
	})
	one, _ := by("istio_requests_total", "echo-v1")
	two, _ := by("istio_requests_total", "echo-v2")
	if _, has := one["source_app"]; has || one["team"] != "blue" {
		t.Errorf("echo-v1: %v", one)
	}
	for label, want := range map[string]string{"request_host": "host.example", "caller": "sleep", "version": "unknown", "source_version": "good"} {
		if one[label] != want {
			t.Errorf("echo-v1: %s is %q, want %q", label, one[label], want)
		}
	}
	if _, has := two["team"]; has || two["source_app"] != "sleep" {
		t.Errorf("echo-v2: %v", two)
	}
	if s, ok := by("istio_request_bytes_count", "echo-v1"); ok {
		t.Errorf("a metric that is switched off: %v", s)
	}
	if _, ok := by("istio_request_bytes_count", "echo-v2"); !ok {
		t.Error("the other service has lost its metric")
	}
	for _, p := range census(m.Server.Report()) {
		t.Error(p)
	}
}
