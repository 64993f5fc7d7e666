package chart

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	meshv1 "istio.io/api/mesh/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/gowaypoint/gowaypoint/waypoint/bootstrap"
)

// start does what the kubelet does with a pod, and gives the result to our agent.
func start(t *testing.T, d *appsv1.Deployment) *bootstrap.Bootstrap {
	t.Helper()
	pod := d.Spec.Template
	c := pod.Spec.Containers[0]
	fields := map[string]string{
		"metadata.name": d.Name + "-5d9c-x7", "metadata.namespace": d.Namespace, "spec.serviceAccountName": pod.Spec.ServiceAccountName,
		"spec.nodeName": "node-1", "status.podIP": "10.244.1.7", "status.hostIP": "172.18.0.2", "metadata.labels['zone']": "a",
	}
	resources := map[string]string{"limits.cpu": fmt.Sprint(c.Resources.Limits.Cpu().Value()), "limits.memory": fmt.Sprint(c.Resources.Limits.Memory().Value())}
	o := bootstrap.Options{Root: t.TempDir(), Version: "0.1.0", Interfaces: func() ([]net.Addr, error) { return nil, nil }}
	env := map[string]string{}
	for _, e := range c.Env {
		value := e.Value
		if from := e.ValueFrom; from != nil {
			var ok bool
			if from.FieldRef != nil {
				value, ok = fields[from.FieldRef.FieldPath]
			} else if from.ResourceFieldRef != nil {
				value, ok = resources[from.ResourceFieldRef.Resource]
			}
			if !ok {
				t.Fatalf("env %s: where from? %+v", e.Name, from)
			}
		}
		env[e.Name] = value
		o.Env = append(o.Env, e.Name+"="+value)
	}
	for _, arg := range c.Args {
		for k, v := range env {
			arg = strings.ReplaceAll(arg, "$("+k+")", v)
		}
		o.Args = append(o.Args, arg)
	}
	info := mountOf(t, pod.Spec, "istio-podinfo")
	for _, item := range volumeOf(t, pod.Spec, "istio-podinfo").DownwardAPI.Items {
		var text strings.Builder
		of := map[string]map[string]string{"metadata.labels": pod.Labels, "metadata.annotations": pod.Annotations}[item.FieldRef.FieldPath]
		for k, v := range of {
			fmt.Fprintf(&text, "%s=%q\n", k, v)
		}
		file := filepath.Join(o.Root, info, item.Path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := bootstrap.Load(o)
	if err != nil {
		t.Fatalf("our agent does not take the pod: %v", err)
	}
	return b
}

func mountOf(t *testing.T, pod corev1.PodSpec, volume string) string {
	t.Helper()
	for _, m := range pod.Containers[0].VolumeMounts {
		if m.Name == volume {
			return m.MountPath
		}
	}
	t.Fatalf("volume %s is not mounted", volume)
	return ""
}

func volumeOf(t *testing.T, pod corev1.PodSpec, name string) corev1.Volume {
	t.Helper()
	for _, v := range pod.Volumes {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("there is no volume %s", name)
	return corev1.Volume{}
}

// Our agent takes the pod of every example, as the waypoint that the chart says, and has nothing to complain of.
func TestAgentTakesThePod(t *testing.T) {
	for name, values := range examples(t) {
		t.Run(name, func(t *testing.T) {
			_, objects := mustRender(t, values)
			for _, d := range objects.Deployments {
				b := start(t, d)
				account := d.Spec.Template.Spec.ServiceAccountName
				if want := fmt.Sprintf("waypoint~10.244.1.7~%s-5d9c-x7.%s~%s.svc.cluster.local", d.Name, d.Namespace, d.Namespace); b.Node.GetId() != want {
					t.Errorf("node %s, want %s", b.Node.GetId(), want)
				}
				if b.Node.GetCluster() != account+"."+d.Namespace {
					t.Errorf("cluster %s", b.Node.GetCluster())
				}
				if c := b.Identity.CSR; c.Namespace != d.Namespace || c.ServiceAccount != account {
					t.Errorf("identity %s/%s", c.Namespace, c.ServiceAccount)
				}
				for _, r := range b.Reports {
					if r.Loud {
						t.Errorf("our agent warns: %s", r)
					}
				}
				token := mountOf(t, d.Spec.Template.Spec, "istio-token") + "/" + volumeOf(t, d.Spec.Template.Spec, "istio-token").Projected.Sources[0].ServiceAccountToken.Path
				if strings.TrimPrefix(b.Discovery.TokenFile, b.Root) != token {
					t.Errorf("the agent reads the token from %s, the pod has it at %s", b.Discovery.TokenFile, token)
				}
				grace := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
				if b.Drain.Termination >= grace || b.Drain.Minimum >= grace {
					t.Errorf("the drain %+v does not end before the pod is killed after %s", b.Drain, grace)
				}
				knownProxyConfig(t, d)
			}
		})
	}
}

// knownProxyConfig: a misspelt field in PROXY_CONFIG would be reported by the agent; the examples must have none.
func knownProxyConfig(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	for _, e := range d.Spec.Template.Spec.Containers[0].Env {
		if e.Name == "PROXY_CONFIG" {
			if err := protojson.Unmarshal([]byte(e.Value), &meshv1.ProxyConfig{}); err != nil {
				t.Errorf("PROXY_CONFIG: %v in %s", err, e.Value)
			}
			return
		}
	}
	t.Error("there is no PROXY_CONFIG")
}

// What the values say of the mesh and of the drain is what the agent understands.
func TestAgentUnderstands(t *testing.T) {
	_, objects := mustRender(t, `
istio: {revision: canary, namespace: mesh, trustDomain: example.org, meshID: m, clusterName: east, network: n1, caAddress: "ca.example:443"}
waypoints:
  - name: waypoint
    serviceAccount: proxy
    drain: {exitOnZeroActiveConnections: true, minimumDrainSeconds: 7, terminationDrainSeconds: 11, terminationGracePeriodSeconds: 60}
    resources: {limits: {cpu: 2500m}}
    logging: {json: true, component: "", agent: "all:debug"}
    podLabels: {team: mesh}
    podAnnotations: {note: 'a "quoted" one: {}'}
`)
	d := objects.Deployments["shop/waypoint"]
	b := start(t, d)
	meta := b.Node.GetMetadata().GetFields()
	for what, pair := range map[string][2]string{
		"xDS":           {b.Discovery.Address, "istiod-canary.mesh.svc:15012"},
		"server name":   {b.Discovery.ServerName, "istiod-canary.mesh.svc"},
		"CA":            {b.Identity.CSR.Address, "ca.example:443"},
		"trust domain":  {b.Identity.CSR.TrustDomain, "example.org"},
		"account":       {b.Identity.CSR.ServiceAccount, "proxy"},
		"cluster":       {b.Discovery.ClusterID, "east"},
		"MESH_ID":       {meta["MESH_ID"].GetStringValue(), "m"},
		"NETWORK":       {meta["NETWORK"].GetStringValue(), "n1"},
		"WORKLOAD_NAME": {meta["WORKLOAD_NAME"].GetStringValue(), "waypoint"},
		"ENABLE_HBONE":  {meta["ENABLE_HBONE"].GetStringValue(), "true"},
		"label":         {b.Labels["team"], "mesh"},
		"annotation":    {b.Annotations["note"], `a "quoted" one: {}`},
		"revision":      {b.Annotations["istio.io/rev"], "canary"},
		"drain":         {fmt.Sprintf("%t %s %s", b.Drain.ExitOnZero, b.Drain.Minimum, b.Drain.Termination), "true 7s 11s"},
		"threads":       {fmt.Sprint(b.Concurrency), "3"}, // the CPU limit, rounded up
		"log":           {fmt.Sprintf("%t %q %q", b.Flags.LogAsJSON, b.Flags.LogOutputLevel, b.Flags.ProxyComponentLogLevel), `true "all:debug" ""`},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: the agent has %q, want %q", what, pair[0], pair[1])
		}
	}
	if g := objects.Gateways["shop/waypoint"]; g.Labels["istio.io/rev"] != "canary" {
		t.Errorf("the Gateway is for revision %q", g.Labels["istio.io/rev"])
	}
}
