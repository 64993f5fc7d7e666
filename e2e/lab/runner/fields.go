package runner

import (
	"fmt"
	"math"
	"net/netip"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// allocatable is what the node claims to have. A container without a limit is
// told this, as a kubelet does.
var allocatable = corev1.ResourceList{
	corev1.ResourceCPU:              resource.MustParse("2"),
	corev1.ResourceMemory:           resource.MustParse("4Gi"),
	corev1.ResourceEphemeralStorage: resource.MustParse("10Gi"),
	corev1.ResourcePods:             resource.MustParse("250"),
}

// facts is what the downward API can speak of.
type facts struct {
	pod    *corev1.Pod
	podIP  netip.Addr
	hostIP netip.Addr
}

// field resolves a downward API path such as metadata.labels['app'].
func (f facts) field(path string) (string, error) {
	if name, ok := subscript(path, "metadata.labels"); ok {
		return f.pod.Labels[name], nil
	}
	if name, ok := subscript(path, "metadata.annotations"); ok {
		return f.pod.Annotations[name], nil
	}
	switch path {
	case "metadata.name":
		return f.pod.Name, nil
	case "metadata.namespace":
		return f.pod.Namespace, nil
	case "metadata.uid":
		return string(f.pod.UID), nil
	case "metadata.labels":
		return formatMap(f.pod.Labels), nil
	case "metadata.annotations":
		return formatMap(f.pod.Annotations), nil
	case "spec.nodeName":
		return f.pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return f.pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return f.podIP.String(), nil
	case "status.hostIP", "status.hostIPs":
		return f.hostIP.String(), nil
	}
	return "", fmt.Errorf("fieldRef %q is not known to the pod runner", path)
}

// subscript splits metadata.labels['name'].
func subscript(path, field string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(path, field+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

// formatMap writes one key="escaped value" line per entry, sorted, which is the
// form of the labels and annotations files.
func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for k, v := range m {
		lines = append(lines, k+"="+strconv.Quote(v))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// resource resolves a resourceFieldRef for container c: the quantity divided
// by the divisor, rounded up.
func (f facts) resource(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	kind, name, _ := strings.Cut(ref.Resource, ".")
	var list corev1.ResourceList
	switch kind {
	case "limits":
		list = c.Resources.Limits
	case "requests":
		list = c.Resources.Requests
	default:
		return "", fmt.Errorf("resourceFieldRef %q is not known to the pod runner", ref.Resource)
	}
	quantity, ok := list[corev1.ResourceName(name)]
	if !ok && kind == "limits" {
		if quantity, ok = allocatable[corev1.ResourceName(name)]; !ok {
			return "", fmt.Errorf("resourceFieldRef %q is not known to the pod runner", ref.Resource)
		}
	}
	divisor := ref.Divisor.AsApproximateFloat64()
	if divisor == 0 {
		divisor = 1
	}
	return strconv.FormatInt(int64(math.Ceil(quantity.AsApproximateFloat64()/divisor)), 10), nil
}

// expand replaces $(NAME) by the value of NAME; $$ stands for one dollar sign,
// and a name that is not defined is left as it is written.
func expand(s string, lookup func(string) (string, bool)) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			name, _, closed := strings.Cut(s[i+2:], ")")
			if value, ok := lookup(name); closed && ok {
				b.WriteString(value)
				i += len(name) + 2
				continue
			}
			b.WriteByte('$')
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}
