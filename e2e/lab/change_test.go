//go:build lab

package lab

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Steps in which something changes or breaks while requests flow.

func (s *scenario) changesPolicyUnderLoad(ctx context.Context, t *testing.T) {
	load := startLoad(t, s.tunnels, s.vip)
	client := s.tunnels.HTTP(s.vip, true) // one connection, kept over all changes
	policy := policyYAML("get-only", "{kind: Service, group: '', name: helloworld}", `{to: [{operation: {methods: [GET]}}]}`)
	t.Cleanup(func() { s.remove(ctx, t, policy) })
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
	load := startLoad(t, s.tunnels, s.vip)
	s.KillIstiod()
	back := false
	defer func() {
		if !back { // the steps after this one need it
			if err := s.StartIstiod(ctx); err != nil {
				t.Error(err)
			}
		}
	}()
	time.Sleep(5 * time.Second) // long enough for several attempts to reconnect
	fresh, err := s.Direct(ctx, namespace, s.client, s.hello[0].Status.PodIP)
	if err == nil {
		fresh.Close()
		t.Error("istiod has signed a certificate after its death")
	}
	if now := s.waitReady(ctx, t, waypointPods, 1)[0]; now.Name != pod.Name {
		t.Errorf("pod %s has replaced %s", now.Name, pod.Name)
	}
	back = true
	if err := s.StartIstiod(ctx); err != nil {
		t.Fatal(err)
	}
	// Configuration flows again.
	policy := policyYAML("get-only", "{kind: Service, group: '', name: helloworld}", `{to: [{operation: {methods: [GET]}}]}`)
	client := s.tunnels.HTTP(s.vip, true)
	s.applyForNow(ctx, t, policy)
	s.waitStatus(t, client, http.MethodPost, http.StatusForbidden)
	s.remove(ctx, t, policy)
	s.waitStatus(t, client, http.MethodPost, http.StatusOK)
	load.check(t)
}

func (s *scenario) restarts(ctx context.Context, t *testing.T) {
	pod := s.waitReady(ctx, t, waypointPods, 1)[0]
	if err := s.Runner.Kill(namespace, pod.Name); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error {
		pods, err := s.WaitReady(ctx, namespace, waypointPods, 1, 0)
		if err == nil && restarts(&pods[0]) != restarts(&pod)+1 {
			err = fmt.Errorf("%d restarts, want one more than %d", restarts(&pods[0]), restarts(&pod))
		}
		return err
	})
	s.waitStatus(t, s.tunnels.HTTP(s.vip, false), http.MethodGet, http.StatusOK)
}

func (s *scenario) rollsOut(ctx context.Context, t *testing.T) {
	old := s.waitReady(ctx, t, waypointPods, 1)[0]
	s.tunnels.Close() // so that a GOAWAY can only come from the pod that is replaced
	load := startLoad(t, s.tunnels, s.vip)
	goneAway := make(chan time.Time, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for watching.Err() == nil {
			if gone, _ := s.tunnels.Draining(); gone > 0 {
				goneAway <- time.Now()
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	time.Sleep(time.Second)
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`,
		time.Now().Format(time.RFC3339)) // kubectl rollout restart
	if _, err := s.Kube.AppsV1().Deployments(namespace).Patch(ctx, waypoint, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.waitReplaced(ctx, t, old.Name)
	time.Sleep(time.Second)
	load.check(t)
	exit, ok := s.Runner.LastExit(namespace, old.Name)
	if !ok || exit.Code != 0 || exit.Asked.IsZero() {
		t.Fatalf("the old waypoint ended with %+v (known: %v), want exit code 0 after SIGTERM", exit, ok)
	}
	t.Logf("the old waypoint took %v to end", exit.Took)
	select {
	case at := <-goneAway:
		// What is pooled in ztunnels leaves by this and nothing else.
		if after := at.Sub(exit.Asked); after < 0 || after > time.Second {
			t.Errorf("GOAWAY came %v after SIGTERM, want it at once", after)
		}
	default:
		t.Error("no GOAWAY was seen")
	}
}

func (s *scenario) rotatesCertificates(ctx context.Context, t *testing.T) {
	const ttl = 30 * time.Second
	old := s.waitReady(ctx, t, waypointPods, 1)[0]
	load := startLoad(t, s.tunnels, s.vip)
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
