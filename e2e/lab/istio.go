package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	node        = "lab-node"
	istioSystem = "istio-system"
	istiodPod   = "istiod-lab"
)

// left out of what istioctl would install: workloads, which run as processes
// or not at all, and webhooks, since the API server does not reach them.
var leftOut = map[string]bool{
	"Deployment": true, "DaemonSet": true, "HorizontalPodAutoscaler": true, "PodDisruptionBudget": true,
	"MutatingWebhookConfiguration": true, "ValidatingWebhookConfiguration": true,
	"CustomResourceDefinition": true, // applied before, from the same module
}

// installIstio applies the CRDs and what istioctl generates.
func (l *Lab) installIstio(ctx context.Context) error {
	definitions, err := crds(l.kubernetes.tools)
	if err != nil {
		return err
	}
	if err := l.manifests.apply(ctx, definitions...); err != nil {
		return err
	}
	text, err := l.Istioctl(ctx, "manifest", "generate", "--set", "profile=ambient",
		// The access log is part of what is tested; Istio's default is none.
		"--set", "meshConfig.accessLogFile=/dev/stdout")
	if err != nil {
		return err
	}
	objects, err := parse([]byte(text))
	if err != nil {
		return err
	}
	install := []*unstructured.Unstructured{{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": istioSystem},
	}}}
	for _, o := range objects {
		if !leftOut[o.GetKind()] {
			install = append(install, o)
		}
	}
	if err := l.manifests.apply(ctx, install...); err != nil {
		return err
	}

	// The process shows up as a pod: so its Service has an endpoint, and
	// istioctl finds a place to forward ports to.
	_, err = l.Kube.CoreV1().Pods(istioSystem).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:        istiodPod,
			Labels:      map[string]string{"app": "istiod", "istio": "pilot", "istio.io/rev": "default"},
			Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "lab"},
		},
		Spec: corev1.PodSpec{
			NodeName:   node,
			Containers: []corev1.Container{{Name: "discovery", Image: "pilot-discovery"}},
		},
	}, metav1.CreateOptions{})
	return err
}

// StartIstiod starts istiod, also again after KillIstiod, and waits until it
// is ready.
func (l *Lab) StartIstiod(ctx context.Context) error {
	cmd := l.kubernetes.command("pilot-discovery", "discovery", "--kubeconfig="+istiodKubeconfig,
		"--monitoringAddr=:15014", "--domain=cluster.local", "--keepaliveMaxServerConnectionAge=30m",
		"--log_output_level=default:info", "--ctrlz_port=0")
	// As in istiod's Deployment.
	cmd.Env = append(cmd.Env,
		"POD_NAME="+istiodPod, "POD_NAMESPACE="+istioSystem, "SERVICE_ACCOUNT=istiod", "REVISION=default",
		"CLUSTER_ID="+cluster, "PILOT_CERT_PROVIDER=istiod", "PILOT_ENABLE_AMBIENT=true", "PILOT_TRACE_SAMPLING=1",
		"PILOT_ENABLE_ANALYSIS=false", "CA_TRUSTED_NODE_ACCOUNTS=istio-system/ztunnel", "PLATFORM=")
	var err error
	if l.istiod, err = start("istiod", cmd); err != nil {
		return err
	}
	return l.istiod.waitHTTP(http.DefaultClient, "http://127.0.0.1:8080/ready", time.Minute)
}

// KillIstiod ends istiod as an accident would.
func (l *Lab) KillIstiod() { l.istiod.kill() }

// Istioctl runs istioctl and returns what it prints; on failure the error
// holds what it said.
func (l *Lab) Istioctl(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	template := l.kubernetes.command("istioctl", args...)
	cmd := exec.CommandContext(ctx, template.Path, args...)
	cmd.Dir, cmd.Env = template.Dir, template.Env
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("istioctl %s: %w: %s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), nil
}

// meshRoot waits for istiod's root certificate in a namespace.
func (l *Lab) meshRoot(ctx context.Context, namespace string) (pem []byte, err error) {
	err = poll(ctx, 30*time.Second, func() error {
		object, err := l.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
		if err == nil {
			pem = []byte(object.Data["root-cert.pem"])
		}
		return err
	})
	return pem, err
}
