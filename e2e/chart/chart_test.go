package chart

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/gowaypoint/gowaypoint/charts"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden.yaml")

const (
	release = "demo"
	ns      = "shop"
)

// examples are the values that users are shown, and the defaults.
func examples(t *testing.T) map[string]string {
	t.Helper()
	files, err := fs.Glob(charts.Waypoint(), "examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("the chart has no examples", err)
	}
	out := map[string]string{"default": ""}
	for _, file := range files {
		raw, err := fs.ReadFile(charts.Waypoint(), file)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".yaml")] = string(raw)
	}
	return out
}

func mustRender(t *testing.T, values string) (Rendered, Objects) {
	t.Helper()
	r, err := Render(charts.Waypoint(), release, ns, values)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Decode(r.Manifests)
	if err != nil {
		t.Fatal(err)
	}
	return r, objects
}

// Every example is what an API server would take, fits together, and is what it was when somebody last looked at it.
func TestExamples(t *testing.T) {
	for name, values := range examples(t) {
		t.Run(name, func(t *testing.T) {
			r, objects := mustRender(t, values)
			fitsTogether(t, objects)
			got := strings.Join(r.Manifests, "\n---\n") + "\n---\n# NOTES\n" + regexp.MustCompile(`(?m)^`).ReplaceAllString(strings.TrimSpace(r.Notes), "# ") + "\n"
			golden := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs; look at it and run with -update. Got\n%s", golden, got)
			}
		})
	}
}

func fitsTogether(t *testing.T, o Objects) {
	t.Helper()
	if len(o.Deployments) == 0 || len(o.Services) != len(o.Deployments) || len(o.Gateways) != len(o.Deployments) {
		t.Fatalf("%d Deployments, %d Services, %d Gateways: want one of each per waypoint", len(o.Deployments), len(o.Services), len(o.Gateways))
	}
	for key, d := range o.Deployments {
		pod := labels.Set(d.Spec.Template.Labels)
		selects := func(what string, selector *metav1.LabelSelector) {
			s, err := metav1.LabelSelectorAsSelector(selector)
			if err != nil || s.Empty() || !s.Matches(pod) {
				t.Errorf("%s: %s does not select the pods: %v %v", key, what, selector, err)
			}
			for other, od := range o.Deployments {
				if other != key && od.Namespace == d.Namespace && s.Matches(labels.Set(od.Spec.Template.Labels)) {
					t.Errorf("%s: %s selects the pods of %s", key, what, other)
				}
			}
		}
		selects("the Deployment", d.Spec.Selector)
		selects("the Service", &metav1.LabelSelector{MatchLabels: o.Services[key].Spec.Selector})
		for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
			selects("a topologySpreadConstraint", c.LabelSelector)
		}
		if h, ok := o.Autoscalers[key]; ok {
			if h.Spec.ScaleTargetRef.Kind != d.Kind || h.Spec.ScaleTargetRef.Name != d.Name || h.Spec.ScaleTargetRef.APIVersion != d.APIVersion {
				t.Errorf("%s: the HPA scales %+v", key, h.Spec.ScaleTargetRef)
			}
			if d.Spec.Replicas != nil {
				t.Errorf("%s: replicas are set although an HPA sets them: every upgrade would undo its work", key)
			}
			down := h.Spec.Behavior.ScaleDown.Policies
			for _, p := range down {
				if int64(p.PeriodSeconds) < *d.Spec.Template.Spec.TerminationGracePeriodSeconds {
					t.Errorf("%s: a pod may go every %d s, before the one before it has drained (%d s)", key, p.PeriodSeconds, *d.Spec.Template.Spec.TerminationGracePeriodSeconds)
				}
			}
		}
		if b, ok := o.Budgets[key]; ok {
			selects("the PDB", b.Spec.Selector)
			if (b.Spec.MinAvailable == nil) == (b.Spec.MaxUnavailable == nil) {
				t.Errorf("%s: the PDB has %v and %v", key, b.Spec.MinAvailable, b.Spec.MaxUnavailable)
			}
		}
		namedOnce(t, key, d.Spec.Template.Spec)
		gatewayNamesService(t, o.Gateways[key], o.Services[key])
	}
}

// namedOnce: strict decoding does not see two entries of one name in a list that is a map by name.
func namedOnce(t *testing.T, key string, pod corev1.PodSpec) {
	t.Helper()
	seen := map[string]bool{}
	once := func(kind, name string) {
		if seen[kind+name] {
			t.Errorf("%s: %s %s is there twice", key, kind, name)
		}
		seen[kind+name] = true
	}
	for _, v := range pod.Volumes {
		once("volume", v.Name)
	}
	for _, c := range pod.Containers {
		for _, e := range c.Env {
			once("env", e.Name)
		}
		for _, m := range c.VolumeMounts {
			once("mount path", m.MountPath)
			if !seen["volume"+m.Name] {
				t.Errorf("%s: mount %s has no volume", key, m.Name)
			}
		}
	}
}

// A single address of type Hostname is what makes istiod leave the Deployment to us (contract G5); it must be the Service with the
// HBONE port, by which istiod finds the pods.
func gatewayNamesService(t *testing.T, g *gatewayv1.Gateway, s *corev1.Service) {
	t.Helper()
	if g.Spec.GatewayClassName != "istio-waypoint" || len(g.Spec.Addresses) != 1 {
		t.Fatalf("%s: class %s, addresses %v", g.Name, g.Spec.GatewayClassName, g.Spec.Addresses)
	}
	a := g.Spec.Addresses[0]
	want := fmt.Sprintf("%s.%s.svc.cluster.local", s.Name, s.Namespace)
	if a.Type == nil || *a.Type != gatewayv1.HostnameAddressType || a.Value != want {
		t.Errorf("%s: address %v, want Hostname %s", g.Name, a, want)
	}
	ports := map[string]string{}
	for _, p := range s.Spec.Ports {
		ports[p.Name] = fmt.Sprintf("%d %s %s", p.Port, p.Protocol, *p.AppProtocol)
	}
	if len(ports) != 2 || ports["mesh"] != "15008 TCP hbone" || ports["status-port"] != "15021 TCP tcp" {
		t.Errorf("%s: ports %v", s.Name, ports)
	}
	if l := g.Spec.Listeners; len(l) != 1 || l[0].Name != "mesh" || l[0].Port != 15008 || l[0].Protocol != "HBONE" {
		t.Errorf("%s: listeners %v", g.Name, l)
	}
	if s.Spec.Selector["gateway.networking.k8s.io/gateway-name"] != g.Name {
		t.Errorf("%s: istiod looks for pods by the Gateway's name, the Service by %v", g.Name, s.Spec.Selector)
	}
}

// What an entry of the list says wins over the defaults, also where it says false, 0 or nothing.
func TestOverrides(t *testing.T) {
	_, o := mustRender(t, `
defaults: {hpa: {enabled: true}, pdb: {enabled: true}, logging: {json: true, component: x}, podLabels: {a: b}, tolerations: [{operator: Exists}], replicas: 4}
waypoints:
  - name: a
  - {name: b, hpa: {enabled: false}, pdb: {enabled: false}, logging: {json: false, component: ""}, replicas: 0, tolerations: [], podLabels: {c: d}, namespace: other}
  - {name: c, namespace: other, serviceAccount: b, createServiceAccount: false, resources: {requests: {cpu: 1.5}}}
`)
	a, b, c := o.Deployments["shop/a"], o.Deployments["other/b"], o.Deployments["other/c"]
	if a == nil || b == nil || c == nil {
		t.Fatalf("got %v", o.Deployments)
	}
	if o.Autoscalers["shop/a"] == nil || o.Budgets["shop/a"] == nil || o.Autoscalers["other/b"] != nil || o.Budgets["other/b"] != nil {
		t.Error("hpa and pdb: a has both, b none")
	}
	if *b.Spec.Replicas != 0 {
		t.Errorf("b has %d replicas", *b.Spec.Replicas)
	}
	argsOf := func(d *appsv1.Deployment) string { return strings.Join(d.Spec.Template.Spec.Containers[0].Args, "|") }
	if !strings.Contains(argsOf(a), "--proxyComponentLogLevel|x|") || !strings.HasSuffix(argsOf(a), "|--log_as_json") {
		t.Error("a:", argsOf(a))
	}
	if !strings.Contains(argsOf(b), "--proxyComponentLogLevel||") || strings.Contains(argsOf(b), "--log_as_json") {
		t.Error("b:", argsOf(b))
	}
	if len(b.Spec.Template.Spec.Tolerations) != 0 || len(a.Spec.Template.Spec.Tolerations) != 1 {
		t.Error("lists are replaced")
	}
	if l := b.Spec.Template.Labels; l["a"] != "b" || l["c"] != "d" {
		t.Error("objects are merged:", l)
	}
	if o.Accounts["other/b"] == nil || o.Accounts["other/c"] != nil || c.Spec.Template.Spec.ServiceAccountName != "b" {
		t.Error("c runs as b, which b creates:", o.Accounts)
	}
	if r := c.Spec.Template.Spec.Containers[0].Resources; r.Requests.Cpu().String() != "1500m" || r.Limits.Cpu().String() != "2" {
		t.Error("c:", r)
	}
}
