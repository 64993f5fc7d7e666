//go:build lab

package lab

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
  selector: {app: helloworld}
  ports: [{name: http, port: 5000}]
`+deployment("helloworld-v1", "helloworld", "v1", HelloV1Image)+
		deployment("helloworld-v2", "helloworld", "v2", HelloV2Image)+
		deployment("client", "client", "v1", HelloV1Image, "pause")+
		deployment("other", "other", "v1", HelloV1Image, "pause"))
	s.hello = s.waitReady(ctx, t, "app=helloworld", 2)
	s.client = s.waitReady(ctx, t, "app=client", 1)[0].Name
	s.other = s.waitReady(ctx, t, "app=other", 1)[0].Name
	vip, err := s.VIP(ctx, namespace, "helloworld", 5000)
	if err != nil {
		t.Fatal(err)
	}
	s.vip = vip
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

func (s *scenario) isListedBySyncStatus(ctx context.Context, t *testing.T) {
	pod := s.waitReady(ctx, t, waypointPods, 1)[0].Name
	eventually(t, time.Minute, func() error {
		out, err := s.Istioctl(ctx, "proxy-status", "-o", "json")
		if err != nil {
			return err
		}
		table, err := s.Istioctl(ctx, "proxy-status", "-v", "1")
		if err != nil {
			return err
		}
		for _, line := range strings.Split(table, "\n") {
			if strings.HasPrefix(line, pod+".") {
				if strings.Contains(line, "STALE") || strings.Contains(line, "ERROR") || !strings.Contains(line, "SYNCED") {
					return fmt.Errorf("not in sync: %s", line)
				}
				t.Log(line)
				return nil
			}
		}
		return fmt.Errorf("%s is not listed in:\n%s\n%s", pod, table, out)
	})
	// The path that all tools take: port-forward to the admin port.
	for _, what := range []string{"cluster", "listener", "endpoint"} {
		out, err := s.Istioctl(ctx, "proxy-config", what, pod+"."+namespace)
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(out, "helloworld") && what != "listener" {
			t.Errorf("istioctl proxy-config %s does not show the service:\n%s", what, out)
		}
	}
	out, err := s.Istioctl(ctx, "proxy-status", pod+"."+namespace)
	if err != nil || !strings.Contains(out, "Clusters Match") || !strings.Contains(out, "Listeners Match") {
		t.Errorf("what the proxy shows is not what istiod sent: %v\n%s", err, out)
	}
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

func (s *scenario) enforcesServicePolicy(ctx context.Context, t *testing.T) {
	s.enforcesGetOnly(ctx, t, "{kind: Service, group: '', name: helloworld}")
}

func (s *scenario) enforcesGatewayPolicy(ctx context.Context, t *testing.T) {
	s.enforcesGetOnly(ctx, t, "{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}")
}

// enforcesGetOnly attaches a policy, sees it at work, and takes it away.
func (s *scenario) enforcesGetOnly(ctx context.Context, t *testing.T, target string) {
	policy := policyYAML("get-only", target, `{to: [{operation: {methods: [GET]}}]}`)
	s.apply(ctx, t, policy)
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
	// A denial says in the log which policy matched: for an ALLOW set, none.
	pod := s.waitReady(ctx, t, waypointPods, 1)[0].Name
	eventually(t, 15*time.Second, func() error { // log lines may be flushed late
		log, err := s.PodLog(namespace, pod)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(log, "\n") {
			if strings.Contains(line, `"POST /hello HTTP/1.1" 403`) && strings.Contains(line, "rbac_access_denied_matched_policy[none]") {
				return nil
			}
		}
		return fmt.Errorf("no such line in the access log:\n%s", last(log, 2000))
	})
	s.remove(ctx, t, policy)
	for _, method := range methods {
		s.waitStatus(t, client, method, http.StatusOK)
	}
}

func (s *scenario) enforcesPrincipal(ctx context.Context, t *testing.T) {
	policy := policyYAML("client-only", "{kind: Service, group: '', name: helloworld}",
		`{from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]}`)
	s.apply(ctx, t, policy)
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

func (s *scenario) changesPolicyUnderLoad(ctx context.Context, t *testing.T) {
	load := startLoad(s.tunnels, s.vip)
	client := s.tunnels.HTTP(s.vip, true) // one connection, kept over all changes
	policy := policyYAML("get-only", "{kind: Service, group: '', name: helloworld}", `{to: [{operation: {methods: [GET]}}]}`)
	for range 5 {
		s.apply(ctx, t, policy)
		s.waitStatus(t, client, http.MethodPost, http.StatusForbidden)
		s.remove(ctx, t, policy)
		s.waitStatus(t, client, http.MethodPost, http.StatusOK)
	}
	load.check(t)
}

func (s *scenario) survivesIstiod(ctx context.Context, t *testing.T) {
	pod := s.waitReady(ctx, t, waypointPods, 1)[0]
	load := startLoad(s.tunnels, s.vip)
	s.KillIstiod()
	time.Sleep(5 * time.Second) // long enough for several attempts to reconnect
	fresh, err := s.Direct(ctx, namespace, s.client, s.hello[0].Status.PodIP)
	if err == nil {
		fresh.Close()
		t.Error("istiod has signed a certificate after its death")
	}
	if now := s.waitReady(ctx, t, waypointPods, 1)[0]; now.Name != pod.Name {
		t.Errorf("pod %s has replaced %s", now.Name, pod.Name)
	}
	if err := s.StartIstiod(ctx); err != nil {
		t.Fatal(err)
	}
	// Configuration flows again.
	policy := policyYAML("get-only", "{kind: Service, group: '', name: helloworld}", `{to: [{operation: {methods: [GET]}}]}`)
	client := s.tunnels.HTTP(s.vip, true)
	s.apply(ctx, t, policy)
	s.waitStatus(t, client, http.MethodPost, http.StatusForbidden)
	s.remove(ctx, t, policy)
	s.waitStatus(t, client, http.MethodPost, http.StatusOK)
	load.check(t)
}

func (s *scenario) rollsOut(ctx context.Context, t *testing.T) {
	old := s.waitReady(ctx, t, waypointPods, 1)[0]
	load := startLoad(s.tunnels, s.vip)
	time.Sleep(time.Second)
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`,
		time.Now().Format(time.RFC3339)) // kubectl rollout restart
	if _, err := s.Kube.AppsV1().Deployments(namespace).Patch(ctx, waypoint, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.waitReplaced(ctx, t, old.Name)
	time.Sleep(time.Second)
	load.check(t)
	if gone, all := s.tunnels.Draining(); gone == 0 {
		t.Errorf("no GOAWAY on %d connections", all)
	}
	exit, ok := s.Runner.LastExit(namespace, old.Name)
	if !ok || exit.Code != 0 || !exit.Stopping {
		t.Errorf("the old waypoint ended with %+v (known: %v), want exit code 0 after SIGTERM", exit, ok)
	}
	t.Logf("the old waypoint took %v to end", exit.Took)
}

func (s *scenario) rotatesCertificates(ctx context.Context, t *testing.T) {
	const ttl = 30 * time.Second
	old := s.waitReady(ctx, t, waypointPods, 1)[0]
	load := startLoad(s.tunnels, s.vip)
	s.apply(ctx, t, fmt.Sprintf(`
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: short-lived, namespace: default}
spec:
  selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: waypoint}}
  environmentVariables: {SECRET_TTL: %s}
`, ttl))
	// istiod looks at ProxyConfig when it renders the Gateway.
	s.annotateGateway(ctx, t, "gowaypoint.lab/changed", time.Now().Format(time.RFC3339))
	s.waitReplaced(ctx, t, old.Name)
	seen := map[string]bool{}
	began := time.Now()
	for time.Since(began) < 2*ttl {
		s.tunnels.Reset() // a handshake
		if a := request(t, s.tunnels.HTTP(s.vip, false), http.MethodGet); a.status != http.StatusOK {
			t.Fatalf("GET: %s", a)
		}
		leaf := s.tunnels.Certificate()
		if life := leaf.NotAfter.Sub(leaf.NotBefore); life > ttl+5*time.Minute { // istiod back-dates against clock skew
			t.Fatalf("the certificate is valid for %v", life)
		}
		if left := time.Until(leaf.NotAfter); left <= 0 {
			t.Errorf("the certificate has expired %v ago", -left)
		}
		seen[leaf.SerialNumber.String()] = true
		time.Sleep(time.Second)
	}
	if len(seen) < 3 {
		t.Errorf("%d certificates in %v with a life of %v each, want at least 3", len(seen), 2*ttl, ttl)
	}
	load.check(t)
}
