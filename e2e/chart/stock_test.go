package chart

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	kdiff "k8s.io/apimachinery/pkg/util/diff"
	"sigs.k8s.io/yaml"
)

// istioDir is the source of the Istio that this module is pinned to, in the module cache. It is fetched if it is not there.
func istioDir(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "istio.io/istio").Output()
	var module struct{ Dir, Error string }
	if err := errors.Join(err, json.Unmarshal(out, &module)); err != nil || module.Dir == "" {
		t.Fatalf("no source of istio.io/istio: %v %s", err, module.Error)
	}
	return module.Dir
}

// stockObjects are the objects that Istio's own test expects of its waypoint template, for a Gateway default/namespace in network-1. That
// test gives the template no values; here they get the ones that a default installation has.
func stockObjects(t *testing.T, istio string) Objects {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(istio, "pilot/pkg/config/kube/gatewaycommon/testdata/deployment/waypoint.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, r := range [][2]string{
		{"$(POD_NAMESPACE).svc.<no value>", "$(POD_NAMESPACE).svc.cluster.local"},
		{"--proxyLogLevel\n        - <nil>", "--proxyLogLevel\n        - warning"},
		{"--proxyComponentLogLevel\n        - <nil>", "--proxyComponentLogLevel\n        - misc:error"},
		{"--log_output_level\n        - <nil>", "--log_output_level\n        - default:info"},
		{"PILOT_CERT_PROVIDER\n          value: <no value>", "PILOT_CERT_PROVIDER\n          value: istiod"},
		{"istiod-<no value>.<no value>.svc:15012", "istiod.istio-system.svc:15012"},
		{"emptyDir: null", "emptyDir: {}"},
		{"appProtocol: all", "appProtocol: hbone"}, // its Gateway's listener is of protocol ALL
	} {
		if !strings.Contains(text, r[0]) {
			t.Fatalf("Istio's rendered template no longer has %q: look at what changed", r[0])
		}
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	if strings.Contains(text, "<no value>") || strings.Contains(text, "<nil>") {
		t.Fatalf("Istio's rendered template takes values that are not filled in here:\n%s", text)
	}
	var manifests []string
	for _, m := range strings.Split(text, "\n---\n") {
		if m = strings.TrimSuffix(strings.TrimSpace(m), "---"); m != "" && !strings.Contains(m, "kind: Gateway\nmetadata:\n  annotations:\n    gateway.istio.io/controller-version") {
			manifests = append(manifests, m)
		}
	}
	objects, err := Decode(manifests)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// The pod is the one that istiod makes: an upgrade of the Istio that we test with shows here what its template has got or lost. The
// differences are named one by one.
func TestPodIsIstiods(t *testing.T) {
	istio := istioDir(t)
	const key = "default/namespace"
	stock := stockObjects(t, istio)
	_, ours := mustRender(t, "istio: {network: network-1}\nwaypoints: [{name: namespace, namespace: default}]")
	want, got := stock.Deployments[key].Spec.Template, ours.Deployments[key].Spec.Template

	wantC, gotC := &want.Spec.Containers[0], &got.Spec.Containers[0]
	take := func(c *corev1.Container, name string) string {
		i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name })
		if i < 0 {
			t.Fatalf("no env %s", name)
		}
		value := c.Env[i].Value
		c.Env = slices.Delete(c.Env, i, i+1)
		return value
	}
	// The mesh has a default ProxyConfig and Istio's ambient profile metadata in it; Istio's test has neither.
	take(wantC, "PROXY_CONFIG")
	take(gotC, "PROXY_CONFIG")
	if v := take(gotC, "ISTIO_META_ENABLE_HBONE"); v != ambientMetadata(t, istio)["ISTIO_META_ENABLE_HBONE"] {
		t.Errorf("ISTIO_META_ENABLE_HBONE is %q, unlike in Istio's ambient profile", v)
	}
	// Istio's test has no resources; its chart has.
	if diff := kdiff.Diff(stockResources(t, istio), gotC.Resources); !sameYAML(t, stockResources(t, istio), gotC.Resources) {
		t.Errorf("resources (-Istio +ours):\n%s", diff)
	}
	gotC.Resources = corev1.ResourceRequirements{}
	// Ours by purpose: another image, and what is Kubernetes' default said aloud.
	wantC.Image, wantC.ImagePullPolicy = gotC.Image, corev1.PullIfNotPresent
	thirty := int64(30)
	want.Spec.TerminationGracePeriodSeconds = &thirty

	if !sameYAML(t, want, got) {
		t.Errorf("the pod differs (-Istio +ours):\n%s", kdiff.Diff(want, got))
	}
	for name, pair := range map[string][2]any{
		"selector":            {stock.Deployments[key].Spec.Selector, ours.Deployments[key].Spec.Selector},
		"service spec":        {stock.Services[key].Spec, ours.Services[key].Spec},
		"service annotations": {stock.Services[key].Annotations, ours.Services[key].Annotations},
	} {
		if !sameYAML(t, pair[0], pair[1]) {
			t.Errorf("%s differs (-Istio +ours):\n%s", name, kdiff.Diff(pair[0], pair[1]))
		}
	}
	for _, label := range []string{"gateway.istio.io/managed", "gateway.networking.k8s.io/gateway-class-name", "gateway.networking.k8s.io/gateway-name"} {
		if w, g := stock.Deployments[key].Labels[label], ours.Deployments[key].Labels[label]; w != g {
			t.Errorf("Deployment label %s: Istio %q, ours %q", label, w, g)
		}
	}
}

// The rule by which istiod takes a Gateway for its own to deploy is read here: if it changes, the chart's Gateways must.
func TestIstiodLeavesHostnamesAlone(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(istioDir(t), "pilot/pkg/config/kube/gatewaycommon/gateway_utils.go"))
	if err != nil {
		t.Fatal(err)
	}
	rule := regexp.MustCompile(`(?s)\nfunc IsManaged\(.*?\n}\n`).FindString(string(raw))
	if strings.Join(strings.Fields(rule), " ") != `func IsManaged(gw *gatewayv1.GatewaySpec) bool { if !features.EnableGatewayAPIManualDeployment { return true } `+
		`if len(gw.Addresses) == 0 { return true } if len(gw.Addresses) > 1 { return false } `+
		`if t := gw.Addresses[0].Type; t == nil || *t == gatewayv1.IPAddressType { return true } return false }` {
		t.Errorf("istiod's rule has changed:\n%s", rule)
	}
}

func sameYAML(t *testing.T, a, b any) bool {
	t.Helper()
	x, errA := yaml.Marshal(a)
	y, errB := yaml.Marshal(b)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	return string(x) == string(y)
}

func stockResources(t *testing.T, istio string) corev1.ResourceRequirements {
	t.Helper()
	var values struct {
		Defaults struct {
			Global struct {
				Waypoint struct {
					Resources corev1.ResourceRequirements `json:"resources"`
				} `json:"waypoint"`
			} `json:"global"`
		} `json:"_internal_defaults_do_not_set"`
	}
	readYAML(t, filepath.Join(istio, "manifests/charts/istio-control/istio-discovery/values.yaml"), &values)
	if len(values.Defaults.Global.Waypoint.Resources.Limits) == 0 {
		t.Fatal("Istio's chart no longer has global.waypoint.resources")
	}
	return values.Defaults.Global.Waypoint.Resources
}

func ambientMetadata(t *testing.T, istio string) map[string]string {
	t.Helper()
	var profile struct {
		MeshConfig struct {
			DefaultConfig struct {
				ProxyMetadata map[string]string `json:"proxyMetadata"`
			} `json:"defaultConfig"`
		} `json:"meshConfig"`
	}
	readYAML(t, filepath.Join(istio, "manifests/helm-profiles/ambient.yaml"), &profile)
	return profile.MeshConfig.DefaultConfig.ProxyMetadata
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, into); err != nil {
		t.Fatal(file, err)
	}
}
