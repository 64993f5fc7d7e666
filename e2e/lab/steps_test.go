//go:build lab

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	namespace    = "default"
	waypoint     = "waypoint" // istioctl's default name for the Gateway
	waypointPods = "gateway.networking.k8s.io/gateway-name=" + waypoint
)

func (s *scenario) deploysHelloworld(ctx context.Context, t *testing.T) {
	s.apply(ctx, t, `
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Service
metadata: {name: helloworld, namespace: default}
spec:
  selector: {app: helloworld, serves: hello}
  ports: [{name: http, port: 5000}, {name: tcp, port: 5001}, {name: grpc, port: 5002}]
`+deployment("helloworld-v1", "helloworld", "v1", HelloV1Image)+
		deployment("helloworld-v2", "helloworld", "v2", HelloV2Image)+
		deployment("client", "client", "v1", HelloV1Image, "pause")+
		deployment("other", "other", "v1", HelloV1Image, "pause"))
	s.hello = s.waitReady(ctx, t, "app=helloworld", 2)
	s.client = s.waitReady(ctx, t, "app=client", 1)[0].Name
	s.other = s.waitReady(ctx, t, "app=other", 1)[0].Name
	for port, vip := range map[uint16]*string{5000: &s.vip, 5001: &s.tcp, 5002: &s.grpc} {
		var err error
		if *vip, err = s.VIP(ctx, namespace, "helloworld", port); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *scenario) reachesPodsDirectly(ctx context.Context, t *testing.T) {
	for _, pod := range s.hello {
		if pod.Annotations[redirection] != "enabled" {
			t.Errorf("pod %s is not marked as an HBONE endpoint", pod.Name)
		}
		pool, err := s.Direct(ctx, namespace, s.client, pod.Status.PodIP)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		a := request(t, pool.HTTP(pod.Status.PodIP+":5000", true), http.MethodGet)
		if a.status != http.StatusOK || a.version != pod.Labels["version"] {
			t.Errorf("pod %s: %s", pod.Name, a)
		}
		if peers := s.Peers(pod.Status.PodIP); !slices.Equal(peers, []string{SPIFFE(namespace, "client")}) {
			t.Errorf("pod %s saw %q as its peers", pod.Name, peers)
		}
	}
}

// looksIntoPods goes the ways that kubectl and istioctl go: API server, then
// the runner's kubelet API.
func (s *scenario) looksIntoPods(ctx context.Context, t *testing.T) {
	pod := s.hello[0]
	version := pod.Labels["version"]
	out, err := s.Exec(ctx, namespace, pod.Name, "/helloworld", "version")
	if err != nil || strings.TrimSpace(out) != version {
		t.Errorf("exec: %q, %v", out, err)
	}
	if _, err := s.Exec(ctx, namespace, pod.Name, "/helloworld", "nonsense"); err == nil || !strings.Contains(err.Error(), "exit code 1") {
		t.Errorf("exec of a command that fails: %v", err)
	}
	if _, err := s.Exec(ctx, namespace, pod.Name, "curl"); err == nil {
		t.Error("exec of a command that is not there succeeded")
	}
	logs, err := s.Kube.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
	if err != nil || !strings.Contains(string(logs), "version "+version+" serves") {
		t.Errorf("logs: %q, %v", logs, err)
	}
	// istioctl asks istiod through a forwarded port, that of its mirror pod.
	out, err = s.Istioctl(ctx, "proxy-status")
	if err != nil {
		t.Errorf("proxy-status: %v", err)
	}
	t.Log(out)
	out, err = s.Istioctl(ctx, "version")
	if err != nil || !strings.Contains(out, "control plane version: 1.") {
		t.Errorf("version: %q, %v", out, err)
	}
}

func (s *scenario) appliesWaypoint(ctx context.Context, t *testing.T) {
	out, err := s.Istioctl(ctx, "waypoint", "apply", "-n", namespace, "--for", "all", "--enroll-namespace")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	eventually(t, time.Minute, func() error {
		d, err := s.Kube.AppsV1().Deployments(namespace).Get(ctx, waypoint, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("istiod's Deployment: %w", err)
		}
		if image := d.Spec.Template.Spec.Containers[0].Image; image == WaypointImage {
			return fmt.Errorf("the image is ours already: %s", image)
		}
		if _, err := s.Kube.CoreV1().ServiceAccounts(namespace).Get(ctx, waypoint, metav1.GetOptions{}); err != nil {
			return fmt.Errorf("istiod's ServiceAccount: %w", err)
		}
		_, err = s.Kube.CoreV1().Services(namespace).Get(ctx, waypoint, metav1.GetOptions{})
		return err
	})
}

func (s *scenario) swapsImage(ctx context.Context, t *testing.T) {
	s.annotateGateway(ctx, t, "sidecar.istio.io/proxyImage", WaypointImage)
	s.waitReady(ctx, t, waypointPods, 1)
	eventually(t, time.Minute, func() error {
		return s.condition(ctx, "Gateway", waypoint, "Programmed")
	})
	eventually(t, time.Minute, func() error {
		return s.condition(ctx, "Service", "helloworld", "istio.io/WaypointBound")
	})
	s.connect(ctx, t)
}

func (s *scenario) passesEverything(ctx context.Context, t *testing.T) {
	versions := map[string]int{}
	client := s.tunnels.HTTP(s.vip, false)
	for i := 0; i < 200 && len(versions) < 2; i++ {
		a := request(t, client, http.MethodGet)
		if a.status != http.StatusOK {
			t.Fatalf("GET: %s", a)
		}
		versions[a.version]++
	}
	if versions["v1"] == 0 || versions["v2"] == 0 {
		t.Errorf("answers by version: %v, want both", versions)
	}
	for _, method := range methods {
		if a := request(t, client, method); a.status != http.StatusOK {
			t.Errorf("%s: %s", method, a)
		}
	}
	// The destination's tunnel ends at the waypoint, not at the client.
	for _, pod := range s.hello {
		if peers := s.Peers(pod.Status.PodIP); !slices.Contains(peers, SPIFFE(namespace, waypoint)) {
			t.Errorf("pod %s saw %q as its peers, want the waypoint", pod.Name, peers)
		}
	}
}

// reachesPodsThroughWaypoint sends what ztunnel sends for a workload that has a
// waypoint: CONNECT to the pod's own address.
func (s *scenario) reachesPodsThroughWaypoint(_ context.Context, t *testing.T) {
	for _, pod := range s.hello {
		for range 3 { // not by luck
			a := request(t, s.tunnels.HTTP(pod.Status.PodIP+":5000", false), http.MethodGet)
			if a.status != http.StatusOK || a.version != pod.Labels["version"] {
				t.Errorf("pod %s: %s", pod.Name, a)
			}
		}
	}
}

func (s *scenario) routes(ctx context.Context, t *testing.T) {
	rules := `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: by-header, namespace: default}
spec:
  parentRefs: [{kind: Service, group: '', name: helloworld, port: 5000}]
  rules:
  - matches: [{headers: [{name: x-want, value: v2}]}]
    backendRefs: [{name: helloworld-v2, port: 5000}]
  - backendRefs: [{name: helloworld-v1, port: 5000}]
`
	services := ""
	for _, version := range []string{"v1", "v2"} {
		services += fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: helloworld-%[1]s, namespace: default}
spec:
  selector: {app: helloworld, version: %[1]s}
  ports: [{name: http, port: 5000}]
`, version)
	}
	s.applyForNow(ctx, t, services)
	s.applyForNow(ctx, t, rules)
	client := s.tunnels.HTTP(s.vip, true)
	eventually(t, 30*time.Second, func() error {
		for range 5 {
			for want, headers := range map[string][]string{"v1": nil, "v2": {"x-want", "v2"}} {
				if a := send(client, http.MethodGet, headers...); a.status != http.StatusOK || a.version != want {
					return fmt.Errorf("with headers %q: %s, want version %s", headers, a, want)
				}
			}
		}
		return nil
	})
	s.remove(ctx, t, rules)
	s.remove(ctx, t, services)
	eventually(t, 30*time.Second, func() error {
		for range 20 {
			if send(client, http.MethodGet).version == "v2" {
				return nil
			}
		}
		return errors.New("requests still go to v1 alone")
	})
}

func (s *scenario) enforcesServicePolicy(ctx context.Context, t *testing.T) {
	s.enforcesGetOnly(ctx, t, getOnly)
}

func (s *scenario) enforcesGatewayPolicy(ctx context.Context, t *testing.T) {
	s.enforcesGetOnly(ctx, t, policyYAML("get-only-gateway", "{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}", getRule))
}

// enforcesGetOnly attaches a policy, sees it at work, and takes it away.
func (s *scenario) enforcesGetOnly(ctx context.Context, t *testing.T, policy string) {
	pod := s.waitReady(ctx, t, waypointPods, 1)[0].Name
	old, err := s.PodLog(namespace, pod)
	if err != nil {
		t.Fatal(err)
	}
	s.applyForNow(ctx, t, policy)
	client := s.tunnels.HTTP(s.vip, true)
	s.waitStatus(t, client, http.MethodPost, http.StatusForbidden)
	for _, method := range methods {
		a := request(t, client, method)
		switch {
		case method == http.MethodGet:
			if a.status != http.StatusOK {
				t.Errorf("GET: %s", a)
			}
		case a.status != http.StatusForbidden:
			t.Errorf("%s: %s, want 403", method, a)
		case method != http.MethodHead && a.body != "RBAC: access denied":
			t.Errorf("%s: body %q", method, a.body)
		}
	}
	s.waitVersions(t, "v1", "v2")
	// A denial says in the log which policy matched: for an ALLOW set, none.
	eventually(t, 15*time.Second, func() error { // log lines may be flushed late
		log, err := s.PodLog(namespace, pod)
		if err != nil {
			return err
		}
		for _, method := range methods[1:] {
			if line := `"` + method + ` /hello HTTP/1.1" 403 - rbac_access_denied_matched_policy[none] `; !strings.Contains(log[len(old):], line) {
				return fmt.Errorf("no %s in the access log:\n%s", line, last(log, 2000))
			}
		}
		return nil
	})
	s.remove(ctx, t, policy)
	for _, method := range methods {
		s.waitStatus(t, client, method, http.StatusOK)
	}
}

func (s *scenario) enforcesPrincipal(ctx context.Context, t *testing.T) {
	policy := policyYAML("client-only", "{kind: Service, group: '', name: helloworld}",
		`{from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]}`)
	s.applyForNow(ctx, t, policy)
	other, err := s.Via(ctx, namespace, s.other, waypoint)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s.waitStatus(t, other.HTTP(s.vip, true), http.MethodGet, http.StatusForbidden)
	if a := request(t, s.tunnels.HTTP(s.vip, true), http.MethodGet); a.status != http.StatusOK {
		t.Errorf("the principal that is allowed: %s", a)
	}
	s.remove(ctx, t, policy)
	s.waitStatus(t, other.HTTP(s.vip, true), http.MethodGet, http.StatusOK)
}
