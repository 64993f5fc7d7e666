//go:build lab

package lab

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Steps in which something changes or breaks while requests flow.

// changesUnderLoad makes 100 changes of policy and endpoints through the API
// server while requests flow that are allowed before and after each of them.
func (s *scenario) changesUnderLoad(ctx context.Context, t *testing.T) {
	load := startLoad(t, s.tunnels, s.vip, 2000)
	kept := make([]*http.Client, 4) // one connection each, kept over all changes
	for i := range kept {
		kept[i] = s.tunnels.HTTP(s.vip, true)
		request(t, kept[i], http.MethodGet)
	}
	t.Cleanup(func() {
		s.remove(ctx, t, getOnly)
		s.serve(ctx, t, s.hello[1].Name, true)
	})
	began := time.Now()
	for range 25 {
		s.apply(ctx, t, getOnly)
		s.waitVerdict(t, kept, http.StatusForbidden)
		s.serve(ctx, t, s.hello[1].Name, false)
		s.waitVersions(t, s.hello[0].Labels["version"])
		s.remove(ctx, t, getOnly)
		s.waitVerdict(t, kept, http.StatusOK)
		s.serve(ctx, t, s.hello[1].Name, true)
		s.waitVersions(t, "v1", "v2")
	}
	t.Logf("100 changes took %v to be made and seen", time.Since(began).Round(time.Millisecond))
	load.check(t)
}

// waitVerdict waits until a POST over a fresh tunnel is answered with the
// status. Then the change is in force, and the very next request of each
// connection that has been open all the time has to follow it.
func (s *scenario) waitVerdict(t *testing.T, kept []*http.Client, status int) {
	t.Helper()
	s.waitStatus(t, s.tunnels.HTTP(s.vip, false), http.MethodPost, status)
	for _, client := range kept {
		if a := request(t, client, http.MethodPost); a.status != status || !a.kept {
			t.Errorf("next request of a kept connection (really kept: %v): %s, want %d", a.kept, a, status)
		}
	}
}

// serve puts a pod into the Service helloworld or takes it out; the pod itself
// goes on.
func (s *scenario) serve(ctx context.Context, t *testing.T, pod string, in bool) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{"serves":%q}}}`, map[bool]string{true: "hello", false: "nothing"}[in])
	if _, err := s.Kube.CoreV1().Pods(namespace).Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
}

// waitVersions waits until exactly these versions answer.
func (s *scenario) waitVersions(t *testing.T, want ...string) {
	t.Helper()
	client := s.tunnels.HTTP(s.vip, true)
	defer client.CloseIdleConnections()
	eventually(t, 30*time.Second, func() error {
		seen := map[string]bool{}
		for range 20 { // two that take turns, or are drawn by lot, both show up: 1 in 500,000 does not
			a := send(client, http.MethodGet)
			if a.err != nil || a.status != http.StatusOK {
				return fmt.Errorf("GET: %s", a)
			}
			seen[a.version] = true
		}
		if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
			return fmt.Errorf("answers come from %q, want %q", got, want)
		}
		return nil
	})
}

func (s *scenario) survivesIstiod(ctx context.Context, t *testing.T) {
	pod := s.waitReady(ctx, t, waypointPods, 1)[0]
	load := startLoad(t, s.tunnels, s.vip, calm)
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
	client := s.tunnels.HTTP(s.vip, true)
	s.applyForNow(ctx, t, getOnly)
	s.waitStatus(t, client, http.MethodPost, http.StatusForbidden)
	s.remove(ctx, t, getOnly)
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
	load := startLoad(t, s.tunnels, s.vip, calm)
	// There is always one whose answer has begun when SIGTERM comes.
	slow := startLoadOn(t, s.tunnels, s.vip, "/hello?wait=3s", 4)
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
	slow.check(t)
	exit, ok := s.Runner.LastExit(namespace, old.Name)
	if !ok || exit.Code != 0 || exit.Asked.IsZero() {
		t.Fatalf("the old waypoint ended with %+v (known: %v), want exit code 0 after SIGTERM", exit, ok)
	}
	t.Logf("the old waypoint took %v to end", exit.Took)
	select {
	case at := <-goneAway:
		// What is pooled in ztunnels leaves by this and nothing else.
		if after := at.Sub(exit.Asked); after < 0 || after > 2*time.Second { // of 5: a slow machine, not the end of the drain
			t.Errorf("GOAWAY came %v after SIGTERM, want it at once", after)
		}
	default:
		t.Error("no GOAWAY was seen")
	}
}

func (s *scenario) rotatesCertificates(ctx context.Context, t *testing.T) {
	const ttl = 30 * time.Second
	old := s.waitReady(ctx, t, waypointPods, 1)[0]
	load := startLoad(t, s.tunnels, s.vip, calm)
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

// answersNoErrors reads the access logs of all waypoints there have been: what
// a client has not noticed because it was tried again shows here.
func (s *scenario) answersNoErrors(_ context.Context, t *testing.T) {
	files, err := filepath.Glob(s.Runner.Log(namespace, waypoint+"-*"))
	if err != nil || len(files) < 3 { // the first, its successor, and the one with short-lived certificates
		t.Fatalf("logs of waypoints: %q, %v", files, err)
	}
	requests, errors := 0, 0
	answer := regexp.MustCompile(`^\[[^]]+\] "[^"]*" (\d+) (\S+) `)
	for _, file := range files {
		log, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(log)) {
			found := answer.FindStringSubmatch(line)
			if found == nil {
				continue
			}
			requests++
			// DC is a client that leaves what has no end: a stream, a WebSocket.
			if code, flags := found[1], found[2]; code >= "500" || flags != "-" && flags != "DC" {
				if errors++; errors <= 5 {
					t.Errorf("%s: %s", filepath.Base(file), line)
				}
			}
		}
	}
	t.Logf("%d lines in %d access logs, %d errors", requests, len(files), errors)
}
