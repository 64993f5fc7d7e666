//go:build lab

package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gowaypoint/gowaypoint/e2e/lab/ztun"
)

// methods are those that the GET-only policy is tried with: GET, and what it forbids.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead}

// scenario is what the steps hand on to each other.
type scenario struct {
	*Lab
	hello         []corev1.Pod // v1 and v2
	client, other string       // pods to send from, each with a service account of its name
	vip           string       // of helloworld, with the HTTP port
	tcp, grpc     string       // of helloworld, with its other ports
	tunnels       *ztun.Pool   // from client through the waypoint
}

// deployment writes a Deployment of one replica with a service account of its own.
func deployment(name, app, version, image string, args ...string) string {
	probe := "readinessProbe: {httpGet: {path: /hello, port: 5000}, periodSeconds: 1}"
	if len(args) > 0 {
		probe = ""
	}
	return fmt.Sprintf(`---
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[1]s, namespace: default}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: %[2]s, version: %[3]s}}
  template:
    metadata: {labels: {app: %[2]s, version: %[3]s, serves: hello}}
    spec:
      serviceAccountName: %[1]s
      containers:
      - name: main
        image: %[4]s
        args: [%[5]s]
        securityContext: {runAsUser: 1000, runAsGroup: 1000, readOnlyRootFilesystem: true}
        %[6]s
`, name, app, version, image, strings.Join(args, ", "), probe)
}

// policyYAML writes an ALLOW policy with one rule.
func policyYAML(name, target, rule string) string {
	return fmt.Sprintf(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: %s, namespace: default}
spec:
  targetRefs: [%s]
  action: ALLOW
  rules: [%s]
`, name, target, rule)
}

// getOnly is the policy that most steps try.
var getOnly = policyYAML("get-only", "{kind: Service, group: '', name: helloworld}", getRule)

const getRule = `{to: [{operation: {methods: [GET]}}]}`

func (s *scenario) apply(ctx context.Context, t *testing.T, yaml string) {
	t.Helper()
	if err := s.Apply(ctx, yaml); err != nil {
		t.Fatal(err)
	}
}

// applyForNow applies YAML that is gone when the step is over, if it has not
// been removed before.
func (s *scenario) applyForNow(ctx context.Context, t *testing.T, yaml string) {
	t.Helper()
	t.Cleanup(func() { s.remove(ctx, t, yaml) })
	s.apply(ctx, t, yaml)
}

func (s *scenario) remove(ctx context.Context, t *testing.T, yaml string) {
	t.Helper()
	if err := s.Delete(ctx, yaml); err != nil {
		t.Error(err)
	}
}

// eventually repeats f until it succeeds.
func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	if err := poll(context.Background(), limit, f); err != nil {
		t.Fatalf("after %v: %v", limit, err)
	}
}

func (s *scenario) waitReady(ctx context.Context, t *testing.T, selector string, n int) []corev1.Pod {
	t.Helper()
	pods, err := s.WaitReady(ctx, namespace, selector, n, 90*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

// waitReplaced waits until the one ready waypoint pod is another than old.
func (s *scenario) waitReplaced(ctx context.Context, t *testing.T, old string) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		pods, err := s.WaitReady(ctx, namespace, waypointPods, 1, 0)
		if err == nil && pods[0].Name == old {
			err = fmt.Errorf("pod %s has not been replaced", old)
		}
		return err
	})
}

// connect opens the tunnels that most steps use.
func (s *scenario) connect(ctx context.Context, t *testing.T) {
	t.Helper()
	var err error
	if s.tunnels, err = s.Via(ctx, namespace, s.client, waypoint); err != nil {
		t.Fatal(err)
	}
	s.waitStatus(t, s.tunnels.HTTP(s.vip, false), http.MethodGet, http.StatusOK)
}

func (s *scenario) annotateGateway(ctx context.Context, t *testing.T, key, value string) {
	t.Helper()
	resource, err := s.manifests.resource(ctx, object("Gateway", waypoint))
	if err != nil {
		t.Fatal(err)
	}
	patch := fmt.Appendf(nil, annotationPatch, key, value)
	if _, err := resource.Patch(ctx, waypoint, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func object(kind, name string) *unstructured.Unstructured {
	version := map[string]string{"Gateway": "gateway.networking.k8s.io/v1", "Service": "v1"}[kind]
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": version, "kind": kind, "metadata": map[string]any{"name": name, "namespace": namespace},
	}}
}

// condition is nil if the condition of the object is True.
func (s *scenario) condition(ctx context.Context, kind, name, condition string) error {
	resource, err := s.manifests.resource(ctx, object(kind, name))
	if err != nil {
		return err
	}
	o, err := resource.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	if err != nil {
		return err
	}
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == condition && c["status"] == "True" {
			return nil
		}
	}
	return fmt.Errorf("%s %s is not %s: %v", kind, name, condition, conditions)
}

// answer is what came back for a request.
type answer struct {
	status  int
	version string // of helloworld, if it answered
	body    string
	kept    bool // the connection had been used before
	err     error
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %q", a.status, a.body)
}

// send makes one request to helloworld; its URL names the service as a client
// in the mesh would. Headers are names and values in turn.
func send(client *http.Client, method string, headers ...string) answer {
	return sendTo(client, method, "/hello", headers...)
}

func sendTo(client *http.Client, method, path string, headers ...string) answer {
	r, err := http.NewRequest(method, "http://helloworld.default.svc.cluster.local:5000"+path, nil)
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	kept := false
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { kept = c.Reused },
	}))
	response, err := client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // read, or broken, to its end
	a := answer{status: response.StatusCode, body: string(body), kept: kept, err: err}
	if rest, ok := strings.CutPrefix(a.body, "Hello version: "); ok {
		a.version, _, _ = strings.Cut(rest, ",")
	}
	return a
}

func request(t *testing.T, client *http.Client, method string) answer {
	t.Helper()
	a := send(client, method)
	if a.err != nil {
		t.Fatalf("%s: %v", method, a.err)
	}
	return a
}

// waitStatus repeats a request until it is answered with the status: a change
// has to travel from the API server over istiod to the waypoint.
func (s *scenario) waitStatus(t *testing.T, client *http.Client, method string, status int) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if a := send(client, method); a.err != nil || a.status != status {
			return fmt.Errorf("%s: %s, want %d", method, a, status)
		}
		return nil
	})
}

// explain shows what the parts have said, after a failure.
func (s *scenario) explain(t *testing.T) {
	pods, err := s.Kube.CoreV1().Pods(namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Log(err)
		return
	}
	for _, p := range pods.Items {
		t.Logf("pod %s: %s, ready %v, restarts %d, %s", p.Name, p.Status.Phase, ready(&p), restarts(&p), p.Status.Message)
		if log, err := s.PodLog(namespace, p.Name); err == nil && strings.HasPrefix(p.Name, waypoint) {
			t.Logf("its log:\n%s", last(log, 6000))
		}
	}
	t.Logf("istiod:\n%s", s.IstiodLog())
}

func restarts(p *corev1.Pod) (n int32) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

func last(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}
