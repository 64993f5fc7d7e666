package fake

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// setDefaults fills in what an API server and a kubelet would, and istiod relies on.
func setDefaults(o *unstructured.Unstructured) error {
	switch o.GetKind() {
	case "Pod":
		return podStatus(o)
	case "HTTPRoute", "GRPCRoute":
		rules, _, err := unstructured.NestedSlice(o.Object, "spec", "rules")
		if err != nil {
			return err
		}
		for _, r := range rules {
			routeRule(r.(map[string]any), o.GetKind())
		}
		return unstructured.SetNestedSlice(o.Object, rules, "spec", "rules")
	}
	return nil
}

// routeRule sets the defaults of the CRDs of Gateway API.
func routeRule(rule map[string]any, kind string) {
	if kind == "HTTPRoute" && rule["matches"] == nil {
		rule["matches"] = []any{map[string]any{}}
	}
	for _, m := range list(rule["matches"]) {
		if kind == "HTTPRoute" {
			if m["path"] == nil {
				m["path"] = map[string]any{"value": "/"}
			}
			orElse(m["path"].(map[string]any), "type", "PathPrefix")
		} else if method, ok := m["method"].(map[string]any); ok {
			orElse(method, "type", "Exact")
		}
		for _, h := range append(list(m["headers"]), list(m["queryParams"])...) {
			orElse(h, "type", "Exact")
		}
	}
	for _, f := range list(rule["filters"]) {
		if redirect, ok := f["requestRedirect"].(map[string]any); ok {
			orElse(redirect, "statusCode", int64(302))
		}
	}
}

func list(v any) (out []map[string]any) {
	l, _ := v.([]any)
	for _, e := range l {
		out = append(out, e.(map[string]any))
	}
	return out
}

func orElse(m map[string]any, key string, value any) {
	if m[key] == nil {
		m[key] = value
	}
}

// podStatus says that a pod runs and is ready, unless its manifest says something else.
func podStatus(o *unstructured.Unstructured) error {
	pod, err := typed[corev1.Pod](o)
	if err != nil {
		return err
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	if pod.Status.Conditions == nil {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	o.Object, err = runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	return err
}
