package runner

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestExpand(t *testing.T) {
	env := map[string]string{"NS": "default", "EMPTY": ""}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	for in, want := range map[string]string{
		"$(NS).svc.cluster.local": "default.svc.cluster.local",
		"waypoint.$(NS)":          "waypoint.default",
		"a$(EMPTY)b":              "ab",
		"$(UNKNOWN)":              "$(UNKNOWN)",
		"$$(NS)":                  "$(NS)",
		"$(NS":                    "$(NS",
		"cost: 5$":                "cost: 5$",
		"$NS":                     "$NS",
	} {
		if got := expand(in, lookup); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFields(t *testing.T) {
	f := facts{
		pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: "web-1", Namespace: "shop", UID: "u",
				Labels:      map[string]string{"b": "2", "a": "1"},
				Annotations: map[string]string{"note": "two\nlines \"quoted\""},
			},
			Spec: corev1.PodSpec{NodeName: "node", ServiceAccountName: "web"},
		},
		podIP: netip.MustParseAddr("10.244.0.9"), hostIP: netip.MustParseAddr("10.244.0.1"),
	}
	for path, want := range map[string]string{
		"metadata.name":                "web-1",
		"metadata.namespace":           "shop",
		"metadata.labels":              "a=\"1\"\nb=\"2\"",
		"metadata.labels['b']":         "2",
		"metadata.labels['none']":      "",
		"metadata.annotations":         `note="two\nlines \"quoted\""`,
		"spec.serviceAccountName":      "web",
		"spec.nodeName":                "node",
		"status.podIP":                 "10.244.0.9",
		"status.hostIP":                "10.244.0.1",
		"metadata.annotations['note']": "two\nlines \"quoted\"",
	} {
		if got, err := f.field(path); err != nil || got != want {
			t.Errorf("field(%q) = %q, %v, want %q", path, got, err, want)
		}
	}
	if _, err := f.field("status.phase"); err == nil {
		t.Error("an unknown field was resolved")
	}
}

func TestResourceFields(t *testing.T) {
	c := &corev1.Container{Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("1Gi"),
	}}}
	for _, test := range []struct {
		container         *corev1.Container
		resource, divisor string
		want              string
	}{
		{c, "limits.cpu", "1", "2"}, // rounded up
		{c, "limits.cpu", "1m", "1500"},
		{c, "limits.memory", "1", "1073741824"},
		{c, "limits.memory", "0", "1073741824"}, // no divisor
		{c, "limits.memory", "1Mi", "1024"},
		{&corev1.Container{}, "limits.cpu", "1", "2"}, // the node's
		{c, "requests.cpu", "1", "0"},
	} {
		got, err := facts{}.resource(test.container, &corev1.ResourceFieldSelector{
			Resource: test.resource, Divisor: resource.MustParse(test.divisor),
		})
		if err != nil || got != test.want {
			t.Errorf("%s / %s = %q, %v, want %q", test.resource, test.divisor, got, err, test.want)
		}
	}
	if _, err := (facts{}).resource(c, &corev1.ResourceFieldSelector{Resource: "limits.gpu"}); err == nil {
		t.Error("an unknown resource was resolved")
	}
}
