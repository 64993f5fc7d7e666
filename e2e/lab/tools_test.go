//go:build lab

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Steps in which tools look at the waypoint: istioctl, pilot-agent, Prometheus.

// isInSync reads istiod's own opinion: every type that the proxy has asked for
// is answered, and the answer has been accepted.
func (s *scenario) isInSync(ctx context.Context, t *testing.T) {
	pod := s.waitReady(ctx, t, waypointPods, 1)[0].Name
	eventually(t, time.Minute, func() error {
		table, err := s.Istioctl(ctx, "proxy-status", "-v", "1")
		if err != nil {
			return err
		}
		row, err := syncRow(table, pod+"."+namespace)
		if err != nil {
			return err
		}
		for _, kind := range []string{"CDS", "LDS", "EDS", "WDS"} {
			if !strings.HasPrefix(row[kind], "SYNCED") {
				return fmt.Errorf("%s is %q in:\n%s", kind, row[kind], table)
			}
		}
		for kind, state := range row {
			if strings.Contains(state, "STALE") || strings.Contains(state, "ERROR") || strings.Contains(state, "NOT SENT") {
				return fmt.Errorf("%s is %q in:\n%s", kind, state, table)
			}
		}
		t.Log(row)
		return nil
	})
	out, err := s.Istioctl(ctx, "proxy-status", pod+"."+namespace)
	for _, want := range []string{"Clusters Match", "Listeners Match", "Routes Match"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("what the proxy shows is not what istiod sent: %v, no %q in\n%s", err, want, out)
		}
	}
}

// syncRow reads one proxy's line of proxy-status, by column. Columns are
// separated by two blanks at least.
func syncRow(table, proxy string) (map[string]string, error) {
	split := func(line string) []string {
		return slices.DeleteFunc(strings.Split(line, "  "), func(cell string) bool { return strings.TrimSpace(cell) == "" })
	}
	all := strings.Split(strings.TrimSpace(table), "\n")
	names := split(all[0])
	for _, line := range all[1:] {
		cells := split(line)
		if cells[0] != proxy {
			continue
		}
		if len(cells) != len(names) {
			return nil, fmt.Errorf("%d cells under %d names:\n%s", len(cells), len(names), table)
		}
		row := map[string]string{}
		for i, cell := range cells {
			row[strings.TrimSpace(names[i])] = strings.TrimSpace(cell)
		}
		return row, nil
	}
	return nil, fmt.Errorf("%s is not listed in:\n%s", proxy, table)
}

// showsItsConfiguration goes the way that all tools take: a forwarded port to
// the admin port.
func (s *scenario) showsItsConfiguration(ctx context.Context, t *testing.T) {
	proxy := s.waitReady(ctx, t, waypointPods, 1)[0].Name + "." + namespace
	for _, c := range []struct{ command, want string }{
		{"proxy-config cluster PROXY", "helloworld.default.svc.cluster.local"},
		{"proxy-config endpoint PROXY", "envoy://connect_originate/" + s.hello[0].Status.PodIP + ":5000"},
		{"proxy-config listener PROXY", "15008"},
		{"proxy-config route PROXY", "inbound-vip|5000|http|helloworld.default.svc.cluster.local"},
		{"proxy-config secret PROXY", "ROOTCA"},
		{"proxy-config bootstrap PROXY", waypoint},
		{"proxy-config eds PROXY", "helloworld"},
		{"proxy-config all PROXY", "connect_terminate"},
		{"proxy-config log PROXY", "rbac"},
		{"proxy-config log PROXY --level rbac:debug", "rbac: debug"},
		{"proxy-config log PROXY --reset", "rbac: warning"},
		{"experimental envoy-stats PROXY", "server.state"},
		{"experimental envoy-stats PROXY -o prom", "istio_build"},
		{"experimental describe pod PROXY", "Pod: "},
	} {
		out, err := s.Istioctl(ctx, strings.Fields(strings.Replace(c.command, "PROXY", proxy, 1))...)
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(out, c.want) {
			t.Errorf("istioctl %s does not show %q:\n%s", c.command, c.want, last(out, 3000))
		}
	}
}

// showsPolicies lists the policies that the proxy has, by what it shows.
func (s *scenario) showsPolicies(ctx context.Context, t *testing.T) {
	s.applyForNow(ctx, t, getOnly)
	s.waitStatus(t, s.tunnels.HTTP(s.vip, false), http.MethodPost, http.StatusForbidden)
	pod := s.waitReady(ctx, t, waypointPods, 1)[0].Name
	out, err := s.Istioctl(ctx, "experimental", "authz", "check", pod+"."+namespace)
	if err != nil || !strings.Contains(out, "get-only."+namespace) || !strings.Contains(out, "ALLOW") {
		t.Errorf("authz check: %v\n%s", err, out)
	}
	s.remove(ctx, t, getOnly)
	s.waitStatus(t, s.tunnels.HTTP(s.vip, false), http.MethodPost, http.StatusOK)
}

// honoursAll reads the census: nothing that istiod has sent so far is left
// without its effect, and no part of it is refused.
func (s *scenario) honoursAll(ctx context.Context, t *testing.T) {
	pod := s.waitReady(ctx, t, waypointPods, 1)[0].Name
	out, err := s.Exec(ctx, namespace, pod, "pilot-agent", "request", "GET", "census?format=json")
	if err != nil {
		t.Fatal(err)
	}
	var census struct {
		Counts                    map[string]int
		Fields                    []struct{ Class, Path, Why, Resource, Example string }
		Refusals, Notes, Settings []map[string]any
	}
	if err := json.Unmarshal([]byte(out), &census); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if census.Counts["honoured"] < 100 {
		t.Errorf("only %v fields: is there a configuration?", census.Counts)
	}
	for _, f := range census.Fields {
		switch {
		case f.Class != "inert":
			t.Errorf("%s: %s = %s is %s: %s", f.Resource, f.Path, f.Example, f.Class, f.Why)
		case f.Why == "":
			t.Errorf("%s is inert, and nobody says why", f.Path)
		}
	}
	for _, r := range census.Refusals {
		t.Errorf("refused: %v", r)
	}
	t.Logf("fields by class: %v, notes: %v, settings: %v", census.Counts, census.Notes, census.Settings)
}

// answersPilotAgentRequest does what runbooks tell people to do.
func (s *scenario) answersPilotAgentRequest(ctx context.Context, t *testing.T) {
	pod := s.waitReady(ctx, t, waypointPods, 1)[0].Name
	for path, want := range map[string]string{"server_info": "LIVE", "clusters": "helloworld", "stats/prometheus": "istio_build", "config_dump": "configs"} {
		out, err := s.Exec(ctx, namespace, pod, "pilot-agent", "request", "GET", path)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("pilot-agent request GET %s: %v, no %q in %q", path, err, want, last(out, 500))
		}
	}
}

// countsRequests scrapes the waypoint as Prometheus would, by the annotations
// of its pod, and looks for what the steps before have sent: with every label
// that dashboards group by.
func (s *scenario) countsRequests(ctx context.Context, t *testing.T) {
	pod := s.waitReady(ctx, t, waypointPods, 1)[0]
	url := "http://" + pod.Status.PodIP + ":" + pod.Annotations["prometheus.io/port"] + pod.Annotations["prometheus.io/path"]
	common := []string{
		`reporter="waypoint"`, `connection_security_policy="mutual_tls"`, `response_flags="-"`,
		`source_workload="client"`, `source_workload_namespace="default"`, `source_principal="` + SPIFFE(namespace, "client") + `"`,
		`source_canonical_service="client"`, `source_canonical_revision="v1"`, `source_app="client"`, `source_version="v1"`, `source_cluster="Kubernetes"`,
		`destination_service="helloworld.default.svc.cluster.local"`, `destination_service_name="helloworld"`, `destination_service_namespace="default"`,
	}
	endpoint := []string{ // of what has reached one
		`destination_workload="helloworld-v1"`, `destination_workload_namespace="default"`, `destination_principal="` + SPIFFE(namespace, "helloworld-v1") + `"`,
		`destination_canonical_service="helloworld"`, `destination_canonical_revision="v1"`, `destination_app="helloworld"`, `destination_version="v1"`, `destination_cluster="Kubernetes"`,
	}
	nobody := []string{`destination_workload="unknown"`, `destination_principal="unknown"`}
	eventually(t, 15*time.Second, func() error { // TCP is reported every 5 seconds
		answer, err := http.Get(url)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // read to its end
		if err != nil {
			return err
		}
		for _, want := range []struct {
			name   string
			labels []string
			target []string
		}{
			{"istio_requests_total", []string{`request_protocol="http"`, `response_code="200"`}, endpoint},
			{"istio_requests_total", []string{`request_protocol="http"`, `response_code="403"`}, nobody},
			{"istio_requests_total", []string{`request_protocol="grpc"`, `response_code="200"`, `grpc_response_status="0"`}, nil},
			{"istio_requests_total", []string{`request_protocol="grpc"`, `grpc_response_status="7"`}, nobody},
			{"istio_request_duration_milliseconds_bucket", []string{`response_code="200"`, `le="10000"`}, endpoint},
			{"istio_request_bytes_count", []string{`response_code="200"`}, endpoint},
			{"istio_response_bytes_sum", []string{`response_code="200"`}, endpoint},
			{"istio_tcp_connections_opened_total", []string{`request_protocol="tcp"`}, nil},
			{"istio_tcp_received_bytes_total", []string{`request_protocol="tcp"`}, nil},
		} {
			labels := slices.Concat(common, want.labels, want.target)
			if !hasSeries(string(text), want.name, labels) {
				return fmt.Errorf("%s has no %s with %s, only\n%s", url, want.name, labels, lines(string(text), want.name+"{"))
			}
		}
		return nil
	})
}

// lines picks those that begin with prefix.
func lines(text, prefix string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return !strings.HasPrefix(l, prefix) }), "\n")
}

// hasSeries tells whether a scrape has a series with the labels.
func hasSeries(text, name string, labels []string) bool {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, name+"{") && !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(line, l) }) {
			return true
		}
	}
	return false
}
